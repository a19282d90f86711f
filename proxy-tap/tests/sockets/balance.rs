//! Which endpoint a request goes to, and what is said when there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;
use weir_proxy_tap::Config;
use weir_proxy_tap::config::Balancer;

use crate::support::*;

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
    let unknown = "`payments` is unknown: neither the registry nor --endpoints has it";
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
