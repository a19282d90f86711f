//! Which endpoint a request goes to, and what is said when there is none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;
use weir_proxy_tap::config::{Balancer, Policy};
use weir_proxy_tap::{Config, Running};

use crate::support::*;

/// A proxy whose endpoints have these weights and zones, with these lines on the destination.
async fn balancing(lines: &str, endpoints: &[(SocketAddr, u32, &str)]) -> Running {
    let policy = format!("[[service]]\nhost = \"payments\"\n[service.destination]\n{lines}");
    let policy: Policy = toml::from_str(&policy).unwrap();
    assert_eq!(policy.check(), []);
    let mut config = Config { policy, ..cart(&endpoints.iter().map(|one| one.0).collect::<Vec<_>>()) };
    for (endpoint, (_, weight, zone)) in
        config.endpoints.get_mut("payments").unwrap().iter_mut().zip(endpoints)
    {
        (endpoint.weight, endpoint.zone) = (*weight, (*zone).to_owned());
    }
    start(config).await
}

/// Sends so many requests one after the other; how many were answered well.
async fn good_of(proxy: &Running, requests: usize) -> usize {
    let mut good = 0;
    for _ in 0..requests {
        good += usize::from(get(to_payments(proxy), "/").await.status == 200);
    }
    good
}

/// An application whose checks find it healthy or not.
async fn checked(healthy: &Arc<AtomicBool>) -> App {
    let healthy = Arc::clone(healthy);
    App::start(move |seen| {
        let is_check = seen.parts.uri.path() == "/health";
        let status = if is_check && !healthy.load(Ordering::Relaxed) { 500 } else { 200 };
        std::future::ready(answer(status, ""))
    })
    .await
}

const CHECKS: &str = r#"
balancer = "round_robin"
health_check = { kind = { http = { path = "/health" } }, interval = "20ms", unhealthy_threshold = 1 }
"#;

/// Waits until so many endpoints are unhealthy.
async fn unhealthy(proxy: &Running, count: usize) {
    until("the checks to find it", async || {
        let shown = json(proxy, "/endpoints").await;
        let all = shown["endpoints"].as_array().unwrap();
        (all.iter().filter(|one| one["healthy"] == false).count() == count).then_some(())
    })
    .await;
}

/// What came to the application, checks aside.
fn calls(app: &App) -> usize {
    app.seen().iter().filter(|seen| seen.parts.uri.path() != "/health").count()
}

#[tokio::test]
async fn weights_share_out_turns_and_draws() {
    for (balancer, exact) in [("round_robin", true), ("random", false)] {
        let apps = [App::always(200, "").await, App::always(200, "").await];
        let endpoints = [(apps[0].address, 1, ""), (apps[1].address, 3, "")];
        let proxy = balancing(&format!("balancer = \"{balancer}\""), &endpoints).await;
        assert_eq!(good_of(&proxy, 200).await, 200);
        let first = apps[0].count();
        // One in four of 200, which by chance is off by more than 25 once in 20,000 times.
        assert!(if exact { first == 50 } else { (25..=75).contains(&first) }, "{balancer}: {first} of 200");
    }
}

#[tokio::test]
async fn peak_ewma_keeps_away_from_an_endpoint_that_is_slow() {
    let slow = App::start(|_| async {
        sleep(Duration::from_millis(30)).await;
        answer(200, "")
    })
    .await;
    let fast = [App::always(200, "").await, App::always(200, "").await];
    let endpoints = [(slow.address, 1, ""), (fast[0].address, 1, ""), (fast[1].address, 1, "")];
    let proxy = balancing("balancer = \"peak_ewma\"", &endpoints).await;
    assert_eq!(good_of(&proxy, 90).await, 90);
    assert!(slow.count() < 15, "{} of 90", slow.count());
}

#[tokio::test]
async fn an_endpoint_that_is_new_begins_slowly() {
    let apps = [App::always(200, "").await, App::always(200, "").await];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endpoints.json");
    let list = |apps: &[App]| {
        let all: Vec<_> =
            apps.iter().map(|app| serde_json::json!({"address": app.address.to_string()})).collect();
        std::fs::write(&path, serde_json::json!({"payments": all}).to_string()).unwrap();
    };
    list(&apps[..1]);
    let warmup = "[[service]]\nhost = \"payments\"\n[service.destination]\nbalancer = \"round_robin\"\n\
        warmup = { duration = \"2s\", minimum = 10 }";
    let policy = toml::from_str(warmup).unwrap();
    let proxy =
        start(Config { policy, endpoints_file: Some(path.clone()), ..cart(&[apps[0].address]) }).await;
    sleep(Duration::from_millis(2_100)).await;
    list(&apps);
    until("the new endpoint is known", async || {
        (json(&proxy, "/endpoints").await["endpoints"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    assert_eq!(good_of(&proxy, 40).await, 40);
    let early = apps[1].count();
    assert!(early <= 14, "{early} of 40 at once");
    sleep(Duration::from_millis(2_100)).await;
    assert_eq!(good_of(&proxy, 40).await, 40);
    assert!((18..=22).contains(&(apps[1].count() - early)), "{} then", apps[1].count() - early);
}

#[tokio::test]
async fn another_zone_takes_what_the_own_cannot() {
    let healthy = Arc::new(AtomicBool::new(true));
    let (near, far) = (checked(&healthy).await, checked(&Arc::new(AtomicBool::new(true))).await);
    let lines = format!("{CHECKS}\nlocality = {{ prefer = true }}");
    let proxy = balancing(&lines, &[(near.address, 1, "z1"), (far.address, 1, "z2")]).await;
    assert_eq!(good_of(&proxy, 20).await, 20);
    assert_eq!((calls(&near), calls(&far)), (20, 0), "the proxy is in z1");
    healthy.store(false, Ordering::Relaxed);
    unhealthy(&proxy, 1).await;
    // The shares are counted anew every tenth of a second.
    until("the other zone to take all", async || {
        let before = (calls(&near), calls(&far));
        assert_eq!(good_of(&proxy, 20).await, 20);
        ((calls(&near), calls(&far)) == (before.0, before.1 + 20)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_too_few_are_healthy_all_are_taken_unless_that_is_forbidden() {
    for (threshold, all_are_taken) in [(50, true), (0, false)] {
        let sick = Arc::new(AtomicBool::new(false));
        let apps =
            [checked(&sick).await, checked(&sick).await, checked(&Arc::new(AtomicBool::new(true))).await];
        let endpoints = apps.each_ref().map(|app| (app.address, 1, ""));
        let proxy = balancing(&format!("{CHECKS}\npanic_threshold = {threshold}"), &endpoints).await;
        unhealthy(&proxy, 2).await;
        until("the healthy one to take its part", async || {
            let before = calls(&apps[2]);
            assert_eq!(good_of(&proxy, 30).await, 30);
            (calls(&apps[2]) - before == if all_are_taken { 10 } else { 30 }).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_adaptive_limit_refuses_what_is_too_much_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let app = App::start(move |_| {
        let held = Arc::clone(&held);
        async move {
            let _permit = held.acquire().await.unwrap();
            answer(200, "")
        }
    })
    .await;
    let proxy =
        balancing("adaptive_concurrency = { min_limit = 2, max_limit = 2 }", &[(app.address, 1, "")]).await;
    let address = to_payments(&proxy);
    let asked: Vec<_> = (0..6).map(|_| tokio::spawn(async move { get(address, "/").await.status })).collect();
    until("four refusals", async || {
        (asked.iter().filter(|one| one.is_finished()).count() == 4).then_some(())
    })
    .await;
    gate.add_permits(6);
    let mut statuses = vec![];
    for one in asked {
        statuses.push(one.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503, 503, 503]);
}

#[tokio::test]
async fn round_robin_gives_each_endpoint_its_turn() {
    let apps = [App::always(200, "").await, App::always(200, "").await, App::always(200, "").await];
    let proxy = start(cart(&apps.each_ref().map(|app| app.address))).await;
    for _ in 0..30 {
        assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    }
    assert_eq!(apps.each_ref().map(App::count), [10, 10, 10]);
}

#[tokio::test]
async fn least_request_keeps_away_from_an_endpoint_that_is_busy() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let busy = App::start(move |_| {
        let held = Arc::clone(&held);
        async move {
            let _permit = held.acquire().await.unwrap();
            answer(200, "late")
        }
    })
    .await;
    let idle = [App::always(200, "").await, App::always(200, "").await];
    let balancer = Balancer::LeastRequest;
    let proxy = start(Config { balancer, ..cart(&[busy.address, idle[0].address, idle[1].address]) }).await;
    let address = to_payments(&proxy);
    let mut calls = vec![];
    for n in 1..=90 {
        let answered = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&answered);
        let stuck_before = busy.count();
        calls.push(tokio::spawn(async move {
            let status = get(address, "/").await.status;
            told.store(true, Ordering::Relaxed);
            status
        }));
        until("the answer of an idle endpoint, or a call that is stuck", async || {
            (answered.load(Ordering::Relaxed) || busy.count() > stuck_before).then_some(())
        })
        .await;
        assert_eq!(busy.count() + idle[0].count() + idle[1].count(), n);
    }
    // The busy one is chosen where both draws are it: once in nine.
    let stuck = busy.count();
    assert!((1..=25).contains(&stuck), "{stuck} of 90");
    gate.add_permits(100);
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_service_without_endpoints_is_answered_for_with_503() {
    let proxy = start(cart(&[])).await;
    let unknown = "`payments` has no endpoint: its list of them is empty";
    let answer = get(to_payments(&proxy), "/").await;
    assert_eq!((answer.status, answer.text().trim_end()), (503, unknown));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("x-weir-refused"), None, "no breaker refused it");
    let answer = ask2(to_payments(&proxy), grpc("/a.B/C", b"")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("14")));
    assert_eq!((answer.header("grpc-message"), answer.body.len()), (Some(unknown), 0));
    assert!((metric(&proxy, "istio_requests_total", &["response_flags=\"NR\""]).await - 2.0).abs() < 1e-9);
}

#[tokio::test]
async fn an_endpoint_that_nobody_listens_on_is_told_from_one_that_breaks_off() {
    let silent = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let breaking = silent.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(silent.accept().await.unwrap());
        }
    });
    for (address, status, flags, says) in [
        (nobody().await, 503, "UF", "cannot connect to"),
        (breaking, 502, "UC", "broke off before it answered"),
    ] {
        let proxy = start(cart(&[address])).await;
        let answer = get(to_payments(&proxy), "/").await;
        assert_eq!(answer.status, status);
        assert!(
            answer.text().contains(says) && answer.text().contains(&address.to_string()),
            "{}",
            answer.text()
        );
        let flags = format!("response_flags=\"{flags}\"");
        assert!(metric(&proxy, "istio_requests_total", &[&flags]).await > 0.5, "{flags}");
    }
}
