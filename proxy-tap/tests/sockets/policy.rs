//! Routes and destinations of a policy, each seen from a caller's and an application's side.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::time::{Instant, sleep};
use weir_proxy_tap::Config;
use weir_proxy_tap::config::Outbound;

use crate::support::*;

fn got(path: &str) -> http::request::Builder {
    request(Method::GET, path)
}

async fn send(proxy: &weir_proxy_tap::Running, request: http::request::Builder) -> Answer {
    ask(to_payments(proxy), request.body(empty()).unwrap()).await
}

#[tokio::test]
async fn the_first_route_that_matches_decides_and_none_is_not_found() {
    let app = App::start(|seen: Arc<Seen>| async move { answer(200, seen.parts.uri.to_string()) }).await;
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        [[service.route]]
        name = "admin"
        match = [{ path = { prefix = "/admin" }, headers = { x-role = { exact = "root" } } }]
        rewrite = { path = "/internal" }
        headers = { request = { set = { x-by = "route" }, remove = ["x-role"] }, response = { add = { x-seen = "1" } } }
        [[service.route]]
        match = [{ path = { exact = "/pay" }, method = { exact = "GET" } }, { query = { debug = { present = true } } }]
        "#,
        &[app.address],
    )
    .await;
    let answer = send(&proxy, got("/admin/users?x=1").header("x-role", "root")).await;
    assert_eq!(
        (answer.status, answer.text(), answer.header("x-seen")),
        (200, "/internal/users?x=1", Some("1"))
    );
    let seen = &app.seen()[0];
    assert_eq!((seen.header("x-by"), seen.header("x-role")), (Some("route"), None));
    assert_eq!(send(&proxy, got("/admin/users")).await.status, 404);
    assert_eq!(send(&proxy, got("/pay")).await.text(), "/pay");
    assert_eq!(send(&proxy, request(Method::POST, "/pay")).await.status, 404);
    assert_eq!(send(&proxy, got("/else?debug")).await.text(), "/else?debug");
    let labels = ["response_flags=\"NR\"", "response_code=\"404\""];
    assert!((metric(&proxy, "istio_requests_total", &labels).await - 2.0).abs() < 1e-9);
}

#[tokio::test]
async fn redirects_direct_answers_and_preflights_need_no_endpoint() {
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        [[service.route]]
        match = [{ path = { prefix = "/old" } }]
        redirect = { scheme = "https", authority = "new.example.com", prefix = "/new", status = 308 }
        [[service.route]]
        match = [{ path = { exact = "/status" } }]
        respond = { status = 418, body = "short and stout" }
        [[service.route]]
        cors = { allow_origins = [{ exact = "https://shop.example.com" }], allow_methods = ["PUT"], max_age = "1m" }
        "#,
        &[],
    )
    .await;
    let moved = send(&proxy, got("/old/a?b=c")).await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("https://new.example.com/new/a?b=c")));
    let own = send(&proxy, got("/status")).await;
    assert_eq!((own.status, own.text()), (418, "short and stout"));
    let preflight = request(Method::OPTIONS, "/x")
        .header("origin", "https://shop.example.com")
        .header("access-control-request-method", "PUT");
    let allowed = send(&proxy, preflight).await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://shop.example.com"));
    assert_eq!(allowed.header("access-control-max-age"), Some("60"));
    assert_eq!(send(&proxy, got("/x")).await.status, 503);
}

/// A browser would hide them from the page otherwise.
#[tokio::test]
async fn a_page_sees_the_proxys_own_refusals_too() {
    let app = App::always(200, "").await;
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        [[service.route]]
        match = [{ path = { prefix = "/limited" } }]
        cors = { allow_origins = [{ exact = "https://shop.example.com" }] }
        rate_limit = [{ requests = 1, per = "1h" }]
        [[service.route]]
        cors = { allow_origins = [{ exact = "https://shop.example.com" }] }
        fault = { abort = { status = 503, percent = 100 } }
        "#,
        &[app.address],
    )
    .await;
    let seen_by = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    let mut statuses = vec![];
    for path in ["/limited", "/limited", "/broken"] {
        let answer = send(&proxy, got(path).header("origin", "https://shop.example.com")).await;
        assert_eq!(seen_by(&answer).as_deref(), Some("https://shop.example.com"), "{path}");
        statuses.push(answer.status);
        let other = send(&proxy, got("/broken").header("origin", "https://elsewhere.example.com")).await;
        assert_eq!(seen_by(&other), None);
    }
    assert_eq!(statuses, [200, 429, 503]);
}

#[tokio::test]
async fn traffic_is_split_by_weight_between_subsets_and_other_services() {
    let (one, two, other) =
        (App::always(200, "v1").await, App::always(200, "v2").await, App::always(200, "other").await);
    let policy = format!(
        r#"
        [[service]]
        host = "payments"
        resolve = "static"
        [[service.endpoint]]
        address = "{}"
        version = "1"
        [[service.endpoint]]
        address = "{}"
        labels = {{ version = "2" }}
        [[service.route]]
        to = [{{ subset = "v1", weight = 6 }}, {{ subset = "v2", weight = 3 }}, {{ host = "ledger", weight = 1 }}]
        [service.destination]
        subset = [{{ name = "v1", labels = {{ version = "1" }} }}, {{ name = "v2", labels = {{ version = "2" }} }}]
        [[service]]
        host = "ledger"
        resolve = "static"
        [[service.endpoint]]
        address = "{}"
        "#,
        one.address, two.address, other.address
    );
    let proxy = start(Config {
        policy: toml::from_str(&policy).unwrap(),
        endpoints: Default::default(),
        ..cart(&[])
    })
    .await;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for _ in 0..300 {
        *counts.entry(send(&proxy, got("/")).await.text().to_owned()).or_default() += 1;
    }
    let share = |name: &str| counts.get(name).copied().unwrap_or_default();
    assert!((150..210).contains(&share("v1")), "{counts:?}");
    assert!((60..120).contains(&share("v2")), "{counts:?}");
    assert!((12..50).contains(&share("other")), "{counts:?}");
    assert_eq!(other.seen()[0].header("host"), Some("ledger"));
}

#[tokio::test]
async fn faults_delay_and_abort_and_say_so() {
    let app = App::always(200, "").await;
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        [[service.route]]
        match = [{ path = { exact = "/slow" } }]
        fault = { delay = { fixed = "150ms" } }
        [[service.route]]
        match = [{ path = { prefix = "/shop.Payments" } }]
        fault = { abort = { grpc_status = 14 } }
        [[service.route]]
        fault = { abort = { status = 555, percent = 100 } }
        "#,
        &[app.address],
    )
    .await;
    let begun = Instant::now();
    assert_eq!(send(&proxy, got("/slow")).await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert_eq!(send(&proxy, got("/")).await.status, 555);
    let failed = ask2(to_payments(&proxy), grpc("/shop.Payments/Pay", b"")).await;
    assert_eq!((failed.status, failed.header("grpc-status")), (200, Some("14")));
    assert_eq!(app.count(), 1);
    for flag in ["DI", "FI"] {
        let labels = [&*format!("response_flags=\"{flag}\"")];
        assert!(metric(&proxy, "istio_requests_total", &labels).await >= 1.0, "{flag}");
    }
}

#[tokio::test]
async fn a_limit_on_the_rate_refuses_what_is_beyond_it() {
    let app = App::always(200, "").await;
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        [[service.route]]
        rate_limit = [{ requests = 2, per = "1h", header = "x-user", headers = true }]
        "#,
        &[app.address],
    )
    .await;
    let ask = async |user: &str| send(&proxy, got("/").header("x-user", user)).await;
    let first = ask("a").await;
    assert_eq!((first.status, first.header("x-ratelimit-remaining")), (200, Some("1")));
    assert_eq!(ask("a").await.status, 200);
    let refused = ask("a").await;
    assert_eq!((refused.status, refused.header("x-ratelimit-limit")), (429, Some("2")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(ask("b").await.status, 200);
    assert_eq!(app.count(), 3);
    assert!(metric(&proxy, "istio_requests_total", &["response_flags=\"RL\""]).await >= 1.0);
}

#[tokio::test]
async fn copies_go_to_the_mirror_with_their_body_and_its_answer_to_nobody() {
    let (app, shadow) = (App::always(200, "real").await, App::always(500, "shadow").await);
    let policy = format!(
        r#"
        [[service]]
        host = "payments"
        [[service.route]]
        mirror = [{{ host = "ledger" }}]
        [[service]]
        host = "ledger"
        resolve = "static"
        [[service.endpoint]]
        address = "{}"
        "#,
        shadow.address
    );
    let proxy = with(&policy, &[app.address]).await;
    let body = Full::new(Bytes::from_static(b"three coins")).boxed();
    let answer = ask(to_payments(&proxy), request(Method::POST, "/pay").body(body).unwrap()).await;
    assert_eq!((answer.status, answer.text()), (200, "real"));
    until("the copy to arrive", async || (shadow.count() == 1).then_some(())).await;
    let copy = &shadow.seen()[0];
    assert_eq!((copy.header("host"), &copy.body[..]), (Some("payments-shadow"), &b"three coins"[..]));
    assert_eq!(&app.seen()[0].body[..], b"three coins");
}

#[tokio::test]
async fn a_retry_waits_as_long_as_it_is_told_and_a_try_has_its_own_bound() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let app = App::start(move |seen: Arc<Seen>| {
        let n = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            match (seen.parts.uri.path(), n) {
                ("/later", 0) => {
                    let mut busy = answer(503, "");
                    busy.headers_mut().insert("retry-after", "1".parse().unwrap());
                    busy
                }
                ("/stuck", 0) => {
                    sleep(Duration::from_secs(60)).await;
                    answer(200, "late")
                }
                _ => answer(200, "good"),
            }
        }
    })
    .await;
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        [[service.route]]
        timeout = "5s"
        retries = { attempts = 2, per_try_timeout = "100ms", on = ["503", "try-timeout"] }
        "#,
        &[app.address],
    )
    .await;
    let begun = Instant::now();
    assert_eq!(send(&proxy, got("/later")).await.text(), "good");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    asked.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    assert_eq!(send(&proxy, got("/stuck")).await.text(), "good");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_hedge_answers_when_the_first_endpoint_is_slow() {
    let slow = App::start(|_| async {
        sleep(Duration::from_secs(30)).await;
        answer(200, "slow")
    })
    .await;
    let fast = App::always(200, "fast").await;
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        destination = { balancer = "round_robin", retry_budget = { percent = 100 } }
        [[service.route]]
        hedge = { after = "50ms" }
        "#,
        &[slow.address, fast.address],
    )
    .await;
    for _ in 0..4 {
        let begun = Instant::now();
        assert_eq!(send(&proxy, got("/")).await.text(), "fast");
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_hedge_uses_up_no_retry() {
    let bad = || {
        App::start(|_| async {
            sleep(Duration::from_millis(100)).await;
            answer(503, "bad")
        })
    };
    let (one, two, good) = (bad().await, bad().await, App::always(200, "good").await);
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        destination = { balancer = "round_robin", retry_budget = { percent = 100 }, outlier_detection = { enabled = false } }
        [[service.route]]
        match = [{ path = { exact = "/both" } }]
        hedge = { after = "20ms" }
        retries = { attempts = 1 }
        "#,
        &[one.address, two.address, good.address],
    )
    .await;
    for _ in 0..6 {
        assert_eq!(send(&proxy, got("/both")).await.text(), "good");
    }
    assert!(one.count() + two.count() > 6, "some were asked beside each other");
}

#[tokio::test]
async fn a_routes_timeout_ends_a_response_that_has_begun_and_the_proxys_does_not() {
    let app = App::start(|_| async {
        let ticks = futures::stream::iter(0..8).then(async |_| {
            sleep(Duration::from_millis(100)).await;
            Ok(Frame::data(Bytes::from_static(b"tick ")))
        });
        http::Response::new(BodyExt::boxed(StreamBody::new(ticks)))
    })
    .await;
    let policy: weir_proxy_tap::config::Policy = toml::from_str(
        r#"
        [[service]]
        host = "payments"
        [[service.route]]
        match = [{ path = { path_prefix = "/bounded" } }]
        timeout = "300ms"
        [[service.route]]
        "#,
    )
    .unwrap();
    let proxy = start(Config { policy, timeout: Duration::from_millis(300), ..cart(&[app.address]) }).await;
    assert_eq!(send(&proxy, got("/")).await.text(), "tick ".repeat(8), "it streams");
    let mut sender = http1(to_payments(&proxy)).await;
    let asked = got("/bounded/orders").header("host", "payments").body(empty()).unwrap();
    let response = sender.send_request(asked).await.unwrap();
    assert_eq!(response.status(), 200);
    let begun = Instant::now();
    assert!(response.into_body().collect().await.is_err(), "it is cut off");
    assert!(begun.elapsed() < Duration::from_millis(700), "{:?}", begun.elapsed());
    until("the flag", async || {
        (metric(&proxy, "istio_requests_total", &["response_flags=\"UT\""]).await > 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn more_requests_than_the_bound_are_refused_and_high_priority_has_room() {
    let app = App::start(|_| async {
        sleep(Duration::from_millis(300)).await;
        answer(200, "")
    })
    .await;
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        [service.destination.connections]
        max_requests = 3
        reserved_for_high_priority = 2
        [[service.route]]
        match = [{ headers = { x-urgent = { present = true } } }]
        priority = "high"
        [[service.route]]
        "#,
        &[app.address],
    )
    .await;
    let proxy = Arc::new(proxy);
    let send = |urgent: bool| {
        let address = to_payments(&proxy);
        tokio::spawn(async move {
            let mut request = got("/");
            if urgent {
                request = request.header("x-urgent", "1");
            }
            ask(address, request.body(empty()).unwrap()).await
        })
    };
    let first: Vec<_> = (0..2).map(|_| send(false)).collect();
    until("two requests to be under way", async || (app.accepted() == 2).then_some(())).await;
    let refused = send(false).await.unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.header("x-weir-refused").unwrap().contains("reserved_for_high_priority"), "{refused:?}");
    assert_eq!(send(true).await.unwrap().status, 200);
    for one in first {
        assert_eq!(one.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn the_same_key_goes_to_the_same_endpoint_and_a_cookie_is_set_where_it_is_missing() {
    let apps = [App::always(200, "0").await, App::always(200, "1").await, App::always(200, "2").await];
    let addresses: Vec<_> = apps.iter().map(|app| app.address).collect();
    for balancer in ["ring_hash", "maglev"] {
        let policy = format!(
            r#"
            [[service]]
            host = "payments"
            destination = {{ balancer = {{ {balancer} = {{ key = {{ cookie = {{ name = "at", ttl = "0s" }} }} }} }} }}
            [[service.route]]
            "#
        );
        let proxy = with(&policy, &addresses).await;
        let first = send(&proxy, got("/")).await;
        let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        for _ in 0..5 {
            let again = send(&proxy, got("/").header("cookie", &cookie)).await;
            assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None), "{balancer}");
        }
        let policy = policy.replace("cookie = { name = \"at\", ttl = \"0s\" }", "header = \"x-user\"");
        let proxy = with(&policy, &addresses).await;
        let mut reached = std::collections::HashSet::new();
        for user in 0..30 {
            let user = user.to_string();
            let one = send(&proxy, got("/").header("x-user", &user)).await;
            let two = send(&proxy, got("/").header("x-user", &user)).await;
            assert_eq!(one.text(), two.text(), "{balancer}");
            reached.insert(one.text().to_owned());
        }
        assert_eq!(reached.len(), 3, "{balancer}");
    }
}

#[tokio::test]
async fn an_endpoint_that_its_checks_find_unhealthy_gets_no_requests() {
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let state = Arc::clone(&healthy);
    let sick = App::start(move |seen: Arc<Seen>| {
        let ok = seen.parts.uri.path() != "/health" || state.load(Ordering::Relaxed);
        async move { answer(if ok { 200 } else { 500 }, "sick") }
    })
    .await;
    let well = App::always(200, "well").await;
    let proxy = with(
        r#"
        [[service]]
        host = "payments"
        [service.destination]
        balancer = "round_robin"
        [service.destination.health_check]
        kind = { http = { path = "/health" } }
        interval = "20ms"
        unhealthy_threshold = 2
        healthy_threshold = 2
        "#,
        &[sick.address, well.address],
    )
    .await;
    let only_well = async || {
        let mut texts = vec![];
        for _ in 0..4 {
            texts.push(send(&proxy, got("/")).await.text().to_owned());
        }
        texts.iter().all(|text| text == "well").then_some(())
    };
    until("the sick endpoint to be left out", only_well).await;
    let shown = json(&proxy, "/endpoints").await;
    let sick_one = shown["endpoints"].as_array().unwrap().iter().find(|one| one["instance"] == "p1").unwrap();
    assert_eq!((&sick_one["healthy"], &sick_one["check"]["problem"]), (&false.into(), &"status 500".into()));
    healthy.store(true, Ordering::Relaxed);
    until("it to come back", async || (send(&proxy, got("/")).await.text() == "sick").then_some(())).await;
}

#[tokio::test]
async fn a_policy_file_that_changes_is_in_force_and_a_broken_one_changes_nothing() {
    let app = App::always(200, "app").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    let answering = |text: &str| {
        format!("[[service]]\nhost = \"payments\"\n[[service.route]]\nrespond = {{ body = \"{text}\" }}\n")
    };
    std::fs::write(&file, answering("one")).unwrap();
    let policy = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let config = Config { policy, policy_file: Some(file.clone()), ..cart(&[app.address]) };
    let proxy = start(config).await;
    assert_eq!(send(&proxy, got("/")).await.text(), "one");
    let becomes = async |text: &str| {
        until(text, async || (send(&proxy, got("/")).await.text() == text).then_some(())).await;
    };
    std::fs::write(&file, answering("two")).unwrap();
    becomes("two").await;
    std::fs::write(&file, "[[service]]\nhost = 7").unwrap();
    until("the mistake to be told", async || {
        (metric(&proxy, "weir_proxy_policy_file_mistakes", &[]).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(send(&proxy, got("/")).await.text(), "two");
    std::fs::write(&file, "").unwrap();
    becomes("app").await;
}

#[tokio::test]
async fn the_file_of_endpoints_goes_before_the_policy_at_the_start_and_after_changes() {
    let (of_file, of_policy, later) =
        (App::always(200, "file").await, App::always(200, "policy").await, App::always(200, "later").await);
    let folder = tempfile::tempdir().unwrap();
    let (policy_file, endpoints_file) = (folder.path().join("policy.toml"), folder.path().join("e.json"));
    let policy = |name: &str, address| {
        let listed = |host| {
            format!(
                "[[service]]\nhost = \"{host}\"\nresolve = \"static\"\nendpoint = [{{ address = \"{address}\" }}]"
            )
        };
        let route =
            format!("[[service.route]]\nheaders = {{ response = {{ set = {{ x-policy = \"{name}\" }} }} }}");
        format!("{}\n{}\n{route}\n", listed("search"), listed("payments"))
    };
    let endpoints = |address| format!("{{\"payments\": [{{\"address\": \"{address}\"}}]}}");
    std::fs::write(&policy_file, policy("one", of_policy.address)).unwrap();
    std::fs::write(&endpoints_file, endpoints(of_file.address)).unwrap();
    let search = Outbound { name: "search".into(), listen: "127.0.0.1:0".parse().unwrap() };
    let both = cart(&[of_file.address]);
    let proxy = start(Config {
        policy: toml::from_str(&policy("one", of_policy.address)).unwrap(),
        policy_file: Some(policy_file.clone()),
        endpoints_file: Some(endpoints_file.clone()),
        outbound: [both.outbound.clone(), vec![search]].concat(),
        ..both
    })
    .await;
    let searched = proxy.outbound.iter().find(|(name, _)| name == "search").unwrap().1;
    let answers = async || (send(&proxy, got("/")).await, get(searched, "/").await);
    let (paid, found) = answers().await;
    assert_eq!((paid.text(), paid.header("x-policy"), found.text()), ("file", Some("one"), "policy"));
    std::fs::write(&policy_file, policy("second", later.address)).unwrap();
    let (paid, _) = until("the policy to change", async || {
        Some(answers().await)
            .filter(|(paid, found)| paid.header("x-policy") == Some("second") && found.text() == "later")
    })
    .await;
    assert_eq!(paid.text(), "file", "each has the source it had");
    std::fs::write(&endpoints_file, endpoints(later.address) + "\n").unwrap();
    until("the file to change", async || (send(&proxy, got("/")).await.text() == "later").then_some(()))
        .await;
}

#[tokio::test]
async fn a_request_may_not_exceed_the_time_of_its_route() {
    let app = App::start(|_| async {
        sleep(Duration::from_secs(30)).await;
        answer(200, "")
    })
    .await;
    let policy = r#"
        [[service]]
        host = "payments"
        [[service.route]]
        timeout = "100ms"
        retries = { attempts = 0 }
    "#;
    let proxy = with(policy, &[app.address]).await;
    let begun = Instant::now();
    let answer = send(&proxy, got("/")).await;
    assert_eq!(answer.status, 504);
    assert!(begun.elapsed() < Duration::from_secs(2));
}
