//! Receivers that listen, refuse and are away.

use std::sync::Mutex;
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;

/// What a receiver was sent: its `Authorization` header and the body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver that answers the first requests with `refusals` and takes all others.
async fn listening(refusals: Vec<StatusCode>) -> (String, Seen) {
    let seen = Seen::default();
    let left = Arc::new(Mutex::new(refusals.into_iter()));
    let take = async move |State(seen): State<Seen>, headers: HeaderMap, Json(body): Json<Value>| {
        let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
        seen.lock().unwrap().push((authorization.to_owned(), body));
        left.lock().unwrap().next().unwrap_or(StatusCode::OK)
    };
    let app = Router::new().route("/api/v2/alerts", post(take)).with_state(Arc::clone(&seen));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v2/alerts", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

fn alert(name: &str, instance: &str, resolved: bool) -> Notification {
    Notification {
        labels: Labels::new([("alertname", name), ("instance", instance)]),
        annotations: Labels::new([("summary", "it is so")]),
        starts_at_ms: 1_795_521_600_000,
        ends_at_ms: 1_795_521_840_500,
        resolved,
        generator_url: "http://weir/graph?g0.expr=up&g0.tab=1".to_owned(),
    }
}

fn client() -> Arc<dyn Post> {
    Arc::new(reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap())
}

/// Tells `receiver` alone.
fn telling(receiver: Receiver) -> Notifier {
    let notifier = Notifier::default();
    notifier.follow(Told { receivers: vec![Arc::new(receiver)], ..Told::default() });
    notifier
}

/// Tells everything and waits until it has been sent.
async fn told(notifier: &Notifier, alerts: Vec<Notification>) {
    notifier.notify(alerts);
    let stop = CancellationToken::new();
    let running = notifier.run(stop.clone());
    let sent = async {
        let done =
            || notifier.told().receivers.iter().all(|r| r.waiting() == 0 && r.sent() + r.dropped() > 0);
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(running, sent) })
        .await
        .expect("in time");
}

#[tokio::test]
async fn an_alertmanager_is_told_in_its_own_words() {
    let (url, seen) = listening(vec![]).await;
    let bearer = [(AUTHORIZATION, HeaderValue::from_static("Bearer x"))].into_iter().collect();
    let client = reqwest::Client::builder().default_headers(bearer).build().unwrap();
    let receivers = vec![Arc::new(Receiver::new(Kind::Alertmanager, url, Arc::new(client)))];
    let external_labels = Labels::new([("region", "eu"), ("instance", "never")]);
    let notifier = Notifier::default();
    notifier.follow(Told { receivers, external_labels, ..Told::default() });
    told(&notifier, vec![alert("Down", "a", false), alert("Down", "b", true)]).await;
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0].0, "Bearer x");
    insta::assert_json_snapshot!(seen[0].1);
}

#[tokio::test]
async fn a_webhook_is_told_of_what_has_changed() {
    let (url, seen) = listening(vec![]).await;
    let notifier = telling(Receiver::new(Kind::Webhook, url, client()));
    told(&notifier, vec![alert("Down", "a", false), alert("Down", "b", false), alert("Slow", "a", false)])
        .await;
    told(&notifier, vec![alert("Down", "a", false), alert("Down", "b", true), alert("Never", "c", true)])
        .await;
    let bodies: Vec<Value> = seen.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(bodies.len(), 3, "two names, then one end");
    insta::assert_json_snapshot!(bodies);
}

#[tokio::test]
async fn alerts_are_sent_in_batches_and_again_where_that_helps() {
    let (url, seen) = listening(vec![StatusCode::SERVICE_UNAVAILABLE]).await;
    let notifier = telling(Receiver::new(Kind::Alertmanager, url, client()));
    told(&notifier, (0..150).map(|n| alert("Down", &n.to_string(), false)).collect()).await;
    let sizes: Vec<usize> =
        seen.lock().unwrap().iter().map(|(_, body)| body.as_array().unwrap().len()).collect();
    assert_eq!(sizes, [64, 64, 64, 22], "the first batch twice");
    let mut metrics = String::new();
    notifier.write_prometheus(&mut metrics);
    assert!(metrics.contains("\nweir_notifications_sent_total{receiver=\"http://127.0.0.1:"));
    let (sent, errors) = (notifier.told().receivers[0].sent(), notifier.told().receivers[0].errors());
    assert_eq!((sent, errors, notifier.told().receivers[0].dropped()), (150, 1, 0));
}

#[tokio::test]
async fn what_is_refused_is_dropped_and_counted() {
    let (url, seen) = listening(vec![StatusCode::BAD_REQUEST]).await;
    let notifier = telling(Receiver::new(Kind::Alertmanager, url, client()));
    told(&notifier, vec![alert("Down", "a", false)]).await;
    assert_eq!(seen.lock().unwrap().len(), 1, "asking again would not help");
    assert_eq!(notifier.told().receivers[0].dropped(), 1);
}

#[test]
fn the_oldest_go_where_too_many_wait() {
    let receiver = Receiver::new(Kind::Alertmanager, "http://127.0.0.1:1/".to_owned(), client());
    let notifier = telling(receiver);
    notifier.notify((0..NOTIFY_QUEUE + 5).map(|n| alert("Down", &n.to_string(), false)).collect());
    let receiver = &Arc::clone(&notifier.told().receivers[0]);
    assert_eq!((receiver.waiting(), receiver.dropped()), (NOTIFY_QUEUE, 5));
    assert_eq!(receiver.batch()[0].labels.get("instance"), Some("5"));
}

#[tokio::test]
async fn others_are_told_from_now_on_and_what_waits_is_not_lost() {
    let ((first, seen_first), (second, seen_second)) = (listening(vec![]).await, listening(vec![]).await);
    let receiver = |url: &String| Arc::new(Receiver::new(Kind::Alertmanager, url.clone(), client()));
    let notifier = Notifier::default();
    notifier.follow(Told { receivers: vec![receiver(&first)], ..Told::default() });
    notifier.notify(vec![alert("Down", "a", false)]);
    // The same address under other settings, and another one, before anything was sent.
    let receivers = vec![receiver(&first), receiver(&second)];
    notifier.follow(Told { receivers, ..Told::default() });
    told(&notifier, vec![alert("Down", "b", false)]).await;
    let alerts = |seen: &Seen| -> Vec<Value> {
        let bodies = seen.lock().unwrap();
        let all = bodies.iter().flat_map(|(_, body)| body.as_array().unwrap().clone());
        all.map(|alert| alert["labels"]["instance"].clone()).collect()
    };
    assert_eq!((alerts(&seen_first), alerts(&seen_second)), (vec!["a".into(), "b".into()], vec!["b".into()]));
}

#[tokio::test]
async fn whoever_joins_while_alerts_are_sent_is_told() {
    let (url, seen) = listening(vec![]).await;
    let (notifier, stop) = (Notifier::default(), CancellationToken::new());
    let (running, stopped) = (notifier.clone(), stop.clone());
    let running = tokio::spawn(async move { running.run(stopped).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let receivers = vec![Arc::new(Receiver::new(Kind::Alertmanager, url, client()))];
    notifier.follow(Told { receivers, ..Told::default() });
    notifier.notify(vec![alert("Down", "a", false)]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while seen.lock().unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nothing was sent");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    running.await.unwrap();
}
