//! Limits on the rate of requests that proxies share: real proxies, and a collector that is killed.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use support::{Process, Server, until, weir};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What all proxies together may admit in a second.
const LIMIT_PER_S: f64 = 20.0;
const POLICY: &str = r#"
[[service]]
host = "ledger"
[[service.route]]
rate_limit = [{ requests = 20, per = "1s", burst = 4, global = true }]
"#;
/// Between two requests to one proxy: five times what the limit admits.
const EVERY: Duration = Duration::from_millis(10);

/// A service that always answers.
async fn service() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || "the ledger"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    at
}

/// A proxy beside one of the callers of `ledger`.
struct Caller {
    _process: Process,
    door: String,
}

impl Caller {
    fn start(name: &str, folder: &Path, server: &Server) -> Self {
        let mut proxy = weir();
        proxy.args(["proxy", "--service", "web", "--instance", name, "--collector", &server.otlp_grpc]);
        proxy.args(["--outbound", "ledger=127.0.0.1:0", "--local-breaker", "off"]);
        proxy.arg("--endpoints").arg(folder.join("endpoints.json"));
        proxy.arg("--policy").arg(folder.join("policy.toml"));
        let mut process = Process::start(&format!("weir proxy {name}"), &mut proxy);
        let outbound = process.ready().get("outbound");
        let door = format!("http://{}/", outbound.strip_prefix("ledger=").unwrap());
        Self { _process: process, door }
    }
}

/// A server, and two proxies that it is to part a limit among.
async fn mesh(folder: &Path) -> (Server, [Caller; 2]) {
    let endpoints = serde_json::json!({ "ledger": [{ "address": service().await.to_string() }] });
    std::fs::write(folder.join("endpoints.json"), endpoints.to_string()).unwrap();
    std::fs::write(folder.join("policy.toml"), POLICY).unwrap();
    let server = Server::start(&folder.join("data"), &[]);
    let callers = ["web-1", "web-2"].map(|name| Caller::start(name, folder, &server));
    (server, callers)
}

/// Asks each of `callers` much more often than the limit admits for `time`: what each admits in a second. Whatever is
/// not admitted is refused by the limit.
async fn admitted(callers: &[&Caller], time: Duration) -> Vec<f64> {
    let client = reqwest::Client::new();
    let drives = callers.iter().map(|caller| {
        let (client, door) = (client.clone(), caller.door.clone());
        tokio::spawn(async move {
            let (started, mut count) = (Instant::now(), 0.0);
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while started.elapsed() < time {
                ticks.tick().await;
                match client.get(&door).send().await.unwrap().status().as_u16() {
                    200 => count += 1.0,
                    status => assert_eq!(status, 429),
                }
            }
            count / started.elapsed().as_secs_f64()
        })
    });
    let mut rates = Vec::new();
    for drive in drives.collect::<Vec<_>>() {
        rates.push(drive.await.unwrap());
    }
    rates
}

/// Asks until each of `callers` admits what it should in a second, within a quarter of it.
async fn until_each(what: &str, callers: &[&Caller], expected_per_s: f64) {
    until(&format!("{what}; each {expected_per_s} in a second"), 60, async || {
        let seen = admitted(callers, Duration::from_secs(2)).await;
        eprintln!("{what}: {seen:.1?}");
        seen.iter().all(|rate| (rate - expected_per_s).abs() < expected_per_s / 4.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_proxies_share_what_each_alone_may_admit() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, [one, other]) = mesh(folder.path()).await;
    until_each("one alone", &[&one], LIMIT_PER_S).await;
    until_each("both", &[&one, &other], LIMIT_PER_S / 2.0).await;
    let together: f64 = admitted(&[&one, &other], Duration::from_secs(5)).await.iter().sum();
    assert!((together - LIMIT_PER_S).abs() < LIMIT_PER_S / 5.0, "{together} in a second");
    until_each("the other alone", &[&other], LIMIT_PER_S).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_when_the_collector_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (server, [one, other]) = mesh(folder.path()).await;
    until_each("both", &[&one, &other], LIMIT_PER_S / 2.0).await;
    server.process.kill();
    // What was granted holds until its lease is over; then each has the whole limit.
    until_each("both without a collector", &[&one, &other], LIMIT_PER_S).await;
}
