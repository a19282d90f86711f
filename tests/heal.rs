//! The loop closes: one of three replicas turns bad, a finding names it, a hint ejects it, the clients are
//! well again while the fault persists, and when it is lifted the replica comes back.
//!
//! Real processes throughout: three `payments` applications and a `checkout` that calls them, a proxy beside
//! each, a client that measures, and one `weir serve`. Retries and the proxies' own breaking are off, and they
//! take turns, since least request leaves out by itself what fails fast: so what heals the mesh can only be a
//! hint, and the control run without hints shows that nothing else does.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Process, Server, until, weir};
use tokio::sync::Mutex;

/// Requests per second of the client.
const RATE: u32 = 80;
/// Seconds within which the clients must be well again.
const HEALED_WITHIN_S: u64 = 20;
/// The scenarios measure latencies, so they take turns on this machine.
static ONE_MESH: Mutex<()> = Mutex::const_new(());

/// How a mesh is set up.
struct Setup {
    hints: &'static str,
    local_breaker: &'static str,
    run_seconds: u32,
}

struct Mesh {
    dir: tempfile::TempDir,
    server: Option<Server>,
    checkout_admin: String,
    // Held for their lives only.
    _proxies: Vec<Process>,
    _apps: Vec<Process>,
    _client: Process,
}

/// One second as the client saw it.
#[derive(Debug, Clone, Copy)]
struct Second {
    ok: u64,
    errors: u64,
    p99_ms: f64,
}

impl Mesh {
    fn start(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&dir.path().join("data"), &["--hints", setup.hints, "--flush-age", "5s"]);
        let (mut apps, mut proxies) = (vec![], vec![]);
        for replica in 1..=3 {
            let instance = format!("payments-{replica}");
            let fault = fault_file(dir.path(), replica);
            std::fs::write(&fault, "").unwrap();
            let mut command = weir();
            command.args(["demo", "app", "--service", "payments", "--listen", "127.0.0.1:0"]);
            command.args(["--latency-ms", "5", "--fault-file"]).arg(&fault);
            let mut app = Process::start(&instance, &mut command);
            let address = app.ready().get("app");
            let mut proxy = Process::start(
                &format!("proxy of {instance}"),
                proxy(&server, setup, "payments", &instance).args(["--app", &address]),
            );
            proxy.ready();
            apps.push(app);
            proxies.push(proxy);
        }
        // The outbound listener is chosen by the proxy, the application must know it: so the port is
        // picked here, free a moment ago.
        let (app_port, out_port) = (free_port(), free_port());
        let mut checkout_proxy = Process::start(
            "proxy of checkout",
            proxy(&server, setup, "checkout", "checkout-1")
                .args(["--app", &format!("127.0.0.1:{app_port}")])
                .args(["--outbound", &format!("payments=127.0.0.1:{out_port}")])
                .args(["--admin", "127.0.0.1:0"]),
        );
        let ready = checkout_proxy.ready();
        let mut command = weir();
        command.args(["demo", "app", "--service", "checkout", "--listen", &format!("127.0.0.1:{app_port}")]);
        command.args(["--latency-ms", "1", "--upstream", &format!("payments=http://127.0.0.1:{out_port}")]);
        let mut checkout = Process::start("checkout", &mut command);
        checkout.ready();
        let mut command = weir();
        command.args(["demo", "drive", "--to", &format!("http://{}/", ready.get("inbound"))]);
        command.args(["--rate", &RATE.to_string(), "--duration", &format!("{}s", setup.run_seconds)]);
        command.arg("--json").arg(dir.path().join("seconds.json"));
        let client = Process::start("client", &mut command);
        apps.push(checkout);
        proxies.push(checkout_proxy);
        Self {
            checkout_admin: ready.get("admin"),
            dir,
            server: Some(server),
            _proxies: proxies,
            _apps: apps,
            _client: client,
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the server was killed by the test")
    }

    fn fault(&self, replica: u32, kind: &str) {
        let file = fault_file(self.dir.path(), replica);
        let next = file.with_extension("next");
        std::fs::write(&next, kind).unwrap();
        std::fs::rename(next, file).unwrap();
    }

    /// The seconds the client has finished, oldest first.
    fn seconds(&self) -> Vec<Second> {
        let text = std::fs::read_to_string(self.dir.path().join("seconds.json")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|second| Second {
                ok: second["ok"].as_u64().unwrap(),
                errors: second["errors"].as_u64().unwrap(),
                p99_ms: second["p99_ms"].as_f64().unwrap_or_default(),
            })
            .collect()
    }

    /// Waits until the client has finished `n` more seconds and returns those.
    async fn next_seconds(&self, n: usize) -> Vec<Second> {
        let before = self.seconds().len();
        until("next second of the client", n as u64 + 20, async || {
            let all = self.seconds();
            (all.len() >= before + n).then(|| all[before..before + n].to_vec())
        })
        .await
    }

    /// Traffic until the client succeeds and the graph shows all three replicas.
    async fn warm_up(&self) -> Vec<Second> {
        until("graph with three replicas", 40, async || {
            let rows = self
                .server()
                .sql("select distinct endpoint from edges where server = 'payments' and endpoint <> ''")
                .await;
            (rows.len() == 3).then_some(())
        })
        .await;
        let seconds = self.next_seconds(10).await;
        assert!(success_rate(&seconds) > 0.999, "the mesh is unwell before any fault: {seconds:?}");
        seconds
    }

    async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.process.stop();
        }
    }
}

fn proxy(server: &Server, setup: &Setup, service: &str, instance: &str) -> std::process::Command {
    let mut command = weir();
    command.args(["proxy", "--service", service, "--instance", instance, "--inbound", "127.0.0.1:0"]);
    command.args(["--collector", &server.otlp_grpc, "--retries", "0"]);
    command.args(["--local-breaker", setup.local_breaker, "--balancer", "round-robin"]);
    command
}

fn fault_file(dir: &Path, replica: u32) -> PathBuf {
    dir.join(format!("fault-{replica}"))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn success_rate(seconds: &[Second]) -> f64 {
    let (ok, errors) = seconds.iter().fold((0, 0), |(ok, errors), s| (ok + s.ok, errors + s.errors));
    ok as f64 / ((ok + errors) as f64).max(1.0)
}

/// The middle one of the seconds' p99: one probe of a slow replica moves one second, not the middle.
fn p99_ms(seconds: &[Second]) -> f64 {
    let mut all: Vec<f64> = seconds.iter().map(|second| second.p99_ms).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

const HEALING: Setup = Setup { hints: "enforce", local_breaker: "off", run_seconds: 240 };
const CONTROL: Setup = Setup { hints: "dry_run", local_breaker: "off", run_seconds: 120 };
const LOCAL: Setup = Setup { hints: "enforce", local_breaker: "on", run_seconds: 240 };

/// Findings about payments-2 and nobody else; an ejection of payments-2, applied by checkout's proxy.
async fn assert_story_of_ejection(server: &Server, kind: &str) {
    let findings = server
        .sql("select distinct service, endpoint, kind, level from findings where state = 'opened'")
        .await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0]["service"], "payments");
    assert_eq!(findings[0]["endpoint"], "payments-2");
    assert_eq!(findings[0]["kind"], kind);
    assert_eq!(findings[0]["level"], "endpoint");
    let applied = server
        .sql(
            "select a.proxy from hints a join hints i on a.id = i.id \
             where i.event = 'issued' and i.action = 'eject' and i.target = 'payments-2' \
             and a.event = 'ack' and a.verdict = 'applied' and a.proxy_service = 'checkout'",
        )
        .await;
    assert!(
        !applied.is_empty(),
        "no proxy applied the ejection: {:?}",
        server.sql("select * from hints").await
    );
}

/// The evidence of a finding is a query that anyone can run.
async fn assert_evidence_runs(server: &Server) {
    let rows = server.sql("select query from findings where state = 'opened' limit 1").await;
    let evidence = server.sql(rows[0]["query"].as_str().unwrap()).await;
    assert!(!evidence.is_empty(), "the evidence query finds nothing: {rows:?}");
}

/// Waits until the last `window` seconds satisfy `well`, and returns how long after `onset` that was.
async fn healed(mesh: &Mesh, onset: Instant, window: usize, well: impl Fn(&[Second]) -> bool) -> Duration {
    let faulty_from = mesh.seconds().len();
    until("recovery of the clients", HEALED_WITHIN_S + window as u64, async || {
        let all = mesh.seconds();
        let last = &all[all.len().saturating_sub(window).max(faulty_from)..];
        (last.len() == window && well(last)).then_some(())
    })
    .await;
    // The window ends now; the clients were well from its start on.
    onset.elapsed().saturating_sub(Duration::from_secs(window as u64))
}

async fn assert_comes_back(mesh: &Mesh) {
    mesh.fault(2, "");
    let server = mesh.server();
    for state in ["half-open", "ramp", "closed"] {
        until(&format!("answer with state `{state}`"), 90, async || {
            let query = format!("select 1 from hints where event = 'ack' and state = '{state}' limit 1");
            (!server.sql(&query).await.is_empty()).then_some(())
        })
        .await;
    }
    until("resolution of the finding", 60, async || {
        (!server.sql("select 1 from findings where state = 'resolved' limit 1").await.is_empty())
            .then_some(())
    })
    .await;
    until("traffic to the replica", 30, async || {
        let query = "select 1 from edges where server = 'payments' and endpoint = 'payments-2' \
                     and time > now() - interval '20 seconds' and calls - probes > 50";
        (!server.sql(query).await.is_empty()).then_some(())
    })
    .await;
    assert!(success_rate(&mesh.next_seconds(5).await) > 0.99);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_answers_errors_is_ejected_and_comes_back() {
    let _turn = ONE_MESH.lock().await;
    let mesh = Mesh::start(&HEALING);
    mesh.warm_up().await;
    let onset = Instant::now();
    mesh.fault(2, "errors");
    let after = healed(&mesh, onset, 6, |last| success_rate(last) > 0.99).await;
    println!("errors: success above 99 % again {:.1} s after the onset", after.as_secs_f64());
    assert!(after < Duration::from_secs(HEALED_WITHIN_S));
    let persisting = mesh.next_seconds(15).await;
    assert!(success_rate(&persisting) > 0.99, "relapse while the fault persists: {persisting:?}");
    assert_story_of_ejection(mesh.server(), "errors").await;
    assert_evidence_runs(mesh.server()).await;
    assert_comes_back(&mesh).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_turns_slow_is_ejected_and_comes_back() {
    let _turn = ONE_MESH.lock().await;
    let mesh = Mesh::start(&HEALING);
    let old = p99_ms(&mesh.warm_up().await);
    let onset = Instant::now();
    mesh.fault(2, "latency");
    let after = healed(&mesh, onset, 7, |last| p99_ms(last) < 2.0 * old).await;
    println!("latency: p99 below twice {old:.1} ms again {:.1} s after the onset", after.as_secs_f64());
    assert!(after < Duration::from_secs(HEALED_WITHIN_S));
    let persisting = mesh.next_seconds(15).await;
    assert!(p99_ms(&persisting) < 2.0 * old, "relapse while the fault persists: {persisting:?}");
    assert_story_of_ejection(mesh.server(), "latency").await;
    assert_comes_back(&mesh).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_hints_nothing_heals() {
    let _turn = ONE_MESH.lock().await;
    let mesh = Mesh::start(&CONTROL);
    let old = p99_ms(&mesh.warm_up().await);
    mesh.fault(2, "errors");
    mesh.next_seconds(HEALED_WITHIN_S as usize).await;
    let last = mesh.next_seconds(6).await;
    assert!(success_rate(&last) < 0.9, "errors: healed without hints: {last:?}");
    mesh.fault(2, "latency");
    mesh.next_seconds(HEALED_WITHIN_S as usize).await;
    let last = mesh.next_seconds(7).await;
    assert!(p99_ms(&last) > 2.0 * old, "latency: healed without hints: {last:?}, before {old} ms");
    let shadowed = mesh.server().sql("select 1 from hints where verdict = 'shadowed' limit 1").await;
    assert!(!shadowed.is_empty(), "dry run: the proxies should say what they would have done");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_collector_the_lease_lapses_and_the_local_breaker_ejects() {
    let _turn = ONE_MESH.lock().await;
    let mut mesh = Mesh::start(&LOCAL);
    mesh.warm_up().await;
    mesh.fault(2, "errors");
    let server = mesh.server();
    until("applied ejection", HEALED_WITHIN_S, async || {
        let query = "select 1 from hints where event = 'ack' and verdict in ('applied', 'clamped') limit 1";
        (!server.sql(query).await.is_empty()).then_some(())
    })
    .await;
    mesh.server.take().unwrap().process.kill();
    let admin = mesh.checkout_admin.clone();
    let breaker = async || -> Value {
        let all: Value =
            reqwest::get(format!("http://{admin}/breakers")).await.unwrap().json().await.unwrap();
        let mut found = all["breakers"].as_array().unwrap().iter();
        found.find(|b| b["endpoint"] == "payments-2").cloned().unwrap_or_default()
    };
    until("lapse of the hint", 40, async || breaker().await["hint"].is_null().then_some(())).await;
    until("ejection by the proxy's own breaker", 40, async || {
        let breaker = breaker().await;
        (breaker["state"] == "open" && breaker["cause"] == "local").then_some(())
    })
    .await;
    let seconds = mesh.next_seconds(10).await;
    let total: u64 = seconds.iter().map(|second| second.ok + second.errors).sum();
    assert!(total > u64::from(RATE) * 8, "traffic stopped with the collector: {seconds:?}");
    assert!(success_rate(&seconds) > 0.98, "{seconds:?}");
    mesh.stop().await;
}
