//! The connections to a service's endpoints: how many, for how long, for how many requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use weir_proxy_tap::config::Protocol;
use weir_proxy_tap::{Config, Running};

use crate::support::*;

/// A policy of `payments` with these bounds on connections.
fn bounds(told: &str) -> String {
    format!("[[service]]\nhost = \"payments\"\n[service.destination.connections]\n{told}\n")
}

/// A proxy with these bounds, whose endpoints speak this.
async fn bounded(told: &str, protocol: Protocol, endpoints: &[SocketAddr]) -> Running {
    let mut config = cart(endpoints);
    config.endpoints.values_mut().flatten().for_each(|one| one.protocol = protocol);
    let policy = toml::from_str(&bounds(told)).unwrap();
    start(Config { policy, timeout: DEADLINE, ..config }).await
}

/// An application that answers nothing before it is let.
async fn held() -> (App, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let let_go = Arc::clone(&gate);
    let app = App::start(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            answer(200, "")
        }
    })
    .await;
    (app, let_go)
}

fn asking(proxy: &Running) -> JoinHandle<Answer> {
    tokio::spawn(get(to_payments(proxy), "/"))
}

async fn open(proxy: &Running) -> f64 {
    metric(proxy, "weir_proxy_endpoint_connections", &["payments"]).await
}

async fn over_limit(proxy: &Running) -> f64 {
    metric(proxy, "weir_proxy_requests_over_limit_total", &["payments"]).await
}

async fn until_waiting(proxy: &Running, n: f64) {
    until("requests that wait", async || {
        (metric(proxy, "weir_proxy_requests_pending", &["payments"]).await >= n).then_some(())
    })
    .await;
}

async fn until_asked(app: &App, n: usize) {
    until("the application to be asked", async || (app.count() >= n).then_some(())).await;
}

#[tokio::test]
async fn requests_wait_for_one_of_the_connections_that_all_endpoints_may_have() {
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let watched = || {
        let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
        App::start(move |_| {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(20)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                answer(200, "")
            }
        })
    };
    let apps = [watched().await, watched().await];
    let proxy = bounded("max_connections = 2", Protocol::Http, &apps.each_ref().map(|app| app.address)).await;
    let asked: Vec<_> = (0..20).map(|_| asking(&proxy)).collect();
    for one in asked {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert!(peak.load(Ordering::SeqCst) <= 2, "{peak:?}");
    assert!(apps[0].count() > 0 && apps[1].count() > 0, "an idle connection makes room for another endpoint");
    assert!(open(&proxy).await <= 2.0);
    assert!(over_limit(&proxy).await < 0.5);
}

#[tokio::test]
async fn more_than_may_wait_are_refused_as_an_overflow() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let (app, let_go) = held().await;
        let told = "max_connections = 1\nmax_pending = 1\nmax_concurrent_streams = 1";
        let proxy = bounded(told, protocol, &[app.address]).await;
        let first = asking(&proxy);
        until_asked(&app, 1).await;
        let second = asking(&proxy);
        until_waiting(&proxy, 1.0).await;
        let refused = get(to_payments(&proxy), "/").await;
        assert_eq!(refused.status, 503);
        assert!(refused.header("x-weir-refused").unwrap().contains("max_pending"), "{refused:?}");
        assert!(metric(&proxy, "istio_requests_total", &["response_flags=\"UO\""]).await > 0.5);
        assert!((over_limit(&proxy).await - 1.0).abs() < 1e-9);
        let_go.add_permits(2);
        for one in [first, second] {
            assert_eq!(one.await.unwrap().status, 200);
        }
        assert_eq!(app.accepted(), 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_stream_that_comes_free_is_for_whoever_can_use_it() {
    let (held, let_go) = held().await;
    let other = App::always(200, "other").await;
    let policy = "max_connections = 1\nmax_concurrent_streams = 2";
    let proxy = bounded(policy, Protocol::Http2, &[held.address, other.address]).await;
    let asked: Vec<_> = (0..8).map(|_| asking(&proxy)).collect();
    until_asked(&held, 1).await;
    let_go.add_permits(8);
    for one in asked {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!((held.count(), other.count()), (4, 4));
}

#[tokio::test]
async fn a_stream_more_than_a_connection_may_have_gets_another_connection() {
    let (app, let_go) = held().await;
    let proxy = bounded("max_concurrent_streams = 2", Protocol::Http2, &[app.address]).await;
    let mut asked = vec![];
    for n in 1..=5 {
        asked.push(asking(&proxy));
        until_asked(&app, n).await;
    }
    assert_eq!(app.accepted(), 3);
    let_go.add_permits(6);
    for one in asked {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    assert_eq!(app.accepted(), 3, "and its place is free afterwards");
}

#[tokio::test]
async fn a_connection_serves_so_many_requests_and_no_more() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let app = App::always(200, "").await;
        let proxy = bounded("max_requests_per_connection = 3", protocol, &[app.address]).await;
        for _ in 0..7 {
            assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
        }
        assert_eq!(app.accepted(), 3, "{protocol:?}");
        until("the spent ones to close", async || (open(&proxy).await < 1.5).then_some(())).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let app = App::always(200, "").await;
        let proxy = bounded("idle_timeout = \"1s\"", protocol, &[app.address]).await;
        for _ in 0..3 {
            assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
        }
        assert_eq!((open(&proxy).await, app.accepted()), (1.0, 1), "{protocol:?}");
        until("it to close", async || (open(&proxy).await < 0.5).then_some(())).await;
        assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    }
}

#[tokio::test]
async fn a_connection_has_so_long_to_come_about() {
    let authority = Authority::new();
    // It takes connections and never ends a handshake.
    let silent = TcpListener::bind(any_port()).await.unwrap();
    let policy = toml::from_str(&bounds("connect_timeout = \"100ms\"")).unwrap();
    let config = cart(&[silent.local_addr().unwrap()]);
    let proxy = start(Config { tls: tls(authority.identity("cart")), policy, ..config }).await;
    let begun = Instant::now();
    assert_eq!(get(to_payments(&proxy), "/").await.status, 503);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(metric(&proxy, "istio_requests_total", &["response_flags=\"UF\""]).await > 0.5);
}

#[tokio::test]
async fn a_connection_of_bytes_beyond_the_bound_is_refused_at_once() {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let proxy = bounded("max_connections = 1", Protocol::Tcp, &[listener.local_addr().unwrap()]).await;
    let mut first = TcpStream::connect(to_payments(&proxy)).await.unwrap();
    let (mut served, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut second = TcpStream::connect(to_payments(&proxy)).await.unwrap();
    let ended = timeout(DEADLINE, second.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let refused = ["request_protocol=\"tcp\"", "response_flags=\"UO\""];
    until("it to be counted", async || {
        (metric(&proxy, "istio_tcp_connections_closed_total", &refused).await > 0.5).then_some(())
    })
    .await;
    assert!((over_limit(&proxy).await - 1.0).abs() < 1e-9);
    served.write_all(b"x").await.unwrap();
    assert_eq!(timeout(DEADLINE, first.read(&mut [0; 8])).await.unwrap().unwrap(), 1);
    drop((first, served));
    until("the place to be free", async || (open(&proxy).await < 0.5).then_some(())).await;
    let _third = TcpStream::connect(to_payments(&proxy)).await.unwrap();
    timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_bound_that_a_new_policy_widens_lets_those_go_that_wait() {
    let (app, let_go) = held().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, bounds("max_connections = 1")).unwrap();
    let policy = toml::from_str(&bounds("max_connections = 1")).unwrap();
    let config = cart(&[app.address]);
    let proxy = start(Config { policy, policy_file: Some(file.clone()), timeout: DEADLINE, ..config }).await;
    let first = asking(&proxy);
    until_asked(&app, 1).await;
    let second = asking(&proxy);
    until_waiting(&proxy, 1.0).await;
    assert_eq!(app.count(), 1);
    std::fs::write(&file, bounds("max_connections = 2")).unwrap();
    until_asked(&app, 2).await;
    let_go.add_permits(2);
    for one in [first, second] {
        assert_eq!(one.await.unwrap().status, 200);
    }
}

/// Whether the kernel is to ask the other end of a connection from `from` to `to` whether it is still there (proc(5),
/// `/proc/net/tcp`: a running timer of kind 2).
fn is_kept_alive(to: SocketAddr, from: SocketAddr) -> bool {
    let all = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = [to, from].map(|end| format!("0100007F:{:04X}", end.port()));
    let fields = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = fields.filter(|fields| fields[1..3] == ends);
    found.any(|fields| fields[5].starts_with("02:"))
}

#[tokio::test]
async fn a_caller_that_is_silent_is_asked_whether_it_is_still_there() {
    let app = App::always(200, "").await;
    let config = Config { http_proxy: Some(any_port()), ..payments(app.address) };
    let proxy = start(Config { outbound: cart(&[]).outbound, ..config }).await;
    for listener in [proxy.inbound.unwrap(), to_payments(&proxy), proxy.http_proxy.unwrap()] {
        let caller = TcpStream::connect(listener).await.unwrap();
        let from = caller.local_addr().unwrap();
        until("the timer", async || is_kept_alive(listener, from).then_some(())).await;
    }
}
