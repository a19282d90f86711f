//! The proxy's own breaking, by what it sees itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use serde_json::Value;
use weir_proxy_tap::{Config, Running};

use crate::support::*;

/// The breaker of an endpoint, as the admin page shows it.
async fn breaker(proxy: &Running, endpoint: &str) -> Value {
    let page = json(proxy, "/breakers").await;
    let all = page["breakers"].as_array().unwrap();
    all.iter().find(|breaker| breaker["endpoint"] == endpoint).unwrap().clone()
}

#[tokio::test]
async fn an_endpoint_that_fails_five_times_in_a_row_gets_nothing_but_probes() {
    let (bad, good) = (App::always(500, "").await, App::always(200, "").await);
    let proxy = start(Config { local_breaker: true, ..cart(&[bad.address, good.address]) }).await;
    let started = tokio::time::Instant::now();
    let mut failed = 0;
    for _ in 0..60 {
        failed += usize::from(get(to_payments(&proxy), "/").await.status == 500);
    }
    // A probe a second, each a real request.
    let probes = started.elapsed().as_secs() as usize;
    assert!((5..=5 + probes).contains(&failed), "{failed} failed, {probes} probes");
    assert_eq!(bad.count(), failed);
    let open = breaker(&proxy, "p1").await;
    let shown = (&open["state"], &open["cause"], &open["share"], &open["ejections"]);
    assert_eq!(shown, (&"open".into(), &"local".into(), &0.0.into(), &1.into()), "{open}");
    assert_eq!(breaker(&proxy, "p2").await["state"], "closed");
    let labels = ["endpoint=\"p1\"", "state=\"open\"", "cause=\"local\""];
    assert!((metric(&proxy, "weir_proxy_breaker_state", &labels).await - 1.0).abs() < 1e-9);
    let endpoints = json(&proxy, "/endpoints").await;
    assert_eq!(
        (&endpoints["endpoints"][0]["share"], &endpoints["endpoints"][1]["share"]),
        (&0.0.into(), &1.0.into())
    );
}

#[tokio::test]
async fn an_endpoint_that_fails_every_other_request_is_told_from_its_peers() {
    let asked = Arc::new(AtomicUsize::new(0));
    let bad = App::start(move |_| {
        let n = asked.fetch_add(1, Ordering::Relaxed);
        std::future::ready(answer(if n.is_multiple_of(2) { 500 } else { 200 }, ""))
    })
    .await;
    let good = [App::always(200, "").await, App::always(200, "").await, App::always(200, "").await];
    // A success rate below the mean by one standard deviation: 1, 1, 1 and 0.5 have 0.875 and 0.217.
    let policy = r#"
        [[service]]
        host = "payments"
        [service.destination]
        balancer = "round_robin"
        [service.destination.outlier_detection]
        interval = "500ms"
        base_ejection_time = "60s"
        consecutive_5xx_errors = 0
        compare_with_peers = false
        success_rate = { minimum_hosts = 4, request_volume = 4, stdev_factor = 1000 }
        "#;
    let policy = toml::from_str(policy).unwrap();
    let endpoints = cart(&[bad.address, good[0].address, good[1].address, good[2].address]);
    let proxy = start(Config { policy, local_breaker: true, ..endpoints }).await;
    until("its ejection", async || {
        for _ in 0..20 {
            get(to_payments(&proxy), "/").await;
        }
        (breaker(&proxy, "p1").await["state"] == "open").then_some(())
    })
    .await;
    for peer in ["p2", "p3", "p4"] {
        assert_eq!(breaker(&proxy, peer).await["state"], "closed");
    }
}

#[tokio::test]
async fn errors_that_are_the_callers_fault_eject_nobody() {
    let (denying, good) = (App::always(403, "").await, App::always(200, "").await);
    let proxy = start(Config { local_breaker: true, ..cart(&[denying.address, good.address]) }).await;
    for _ in 0..30 {
        get(to_payments(&proxy), "/").await;
    }
    assert_eq!((denying.count(), good.count()), (15, 15));
    assert_eq!(breaker(&proxy, "p1").await["state"], "closed");
}

#[tokio::test]
async fn the_last_endpoint_is_never_ejected() {
    let bad = App::always(500, "why").await;
    let proxy = start(Config { local_breaker: true, ..cart(&[bad.address]) }).await;
    for _ in 0..15 {
        let answer = get(to_payments(&proxy), "/").await;
        assert_eq!((answer.status, answer.text(), answer.header("x-weir-refused")), (500, "why", None));
    }
    assert_eq!((bad.count(), &breaker(&proxy, "p1").await["state"]), (15, &"closed".into()));
}

#[tokio::test]
async fn with_local_breaking_off_an_endpoint_may_fail_as_often_as_it_likes() {
    let (bad, good) = (App::always(500, "").await, App::always(200, "").await);
    let proxy = start(cart(&[bad.address, good.address])).await;
    for _ in 0..30 {
        let sent = request(Method::GET, "/").body(empty()).unwrap();
        ask(to_payments(&proxy), sent).await;
    }
    assert_eq!((bad.count(), good.count()), (15, 15));
}
