//! Checks over real sockets. Intervals are short, and what is waited for is a condition with a deadline.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use ::http::{HeaderMap, HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use weir_model::hint::BreakerState;
use weir_model::policy;
use weir_model::policy::{Length, Protocol};

use super::*;
use crate::breaker::{Kind, Outcome};

/// A server of HTTP/1.1 and HTTP/2 whose answer tests change.
struct Server {
    address: SocketAddr,
    state: Arc<Answer>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Answer {
    /// HTTP status, or with `grpc` set 200 and this status in the message or above 100 in the trailers.
    status: AtomicU16,
    hangs: std::sync::atomic::AtomicBool,
    asked: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    last: Mutex<String>,
}

const GRPC: u16 = 1_000;
const GRPC_FAILS: u16 = 2_000;

impl Server {
    async fn start(status: u16) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), status).await
    }

    async fn at(address: SocketAddr, status: u16) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let state = Arc::new(Answer { status: AtomicU16::new(status), ..Answer::default() });
        let server = Self { address: listener.local_addr().unwrap(), state, stop: CancellationToken::new() };
        let (state, stop) = (Arc::clone(&server.state), server.stop.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                let state = Arc::clone(&state);
                let answer = service_fn(move |request| respond(Arc::clone(&state), request));
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        server
    }

    fn set(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    fn last(&self) -> String {
        self.state.last.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn respond(
    state: Arc<Answer>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let host = head.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
    let host = host.or_else(|| head.uri.authority().map(ToString::to_string)).unwrap_or_default();
    *state.last.lock().unwrap() =
        format!("{} {} {:?} {host} {body:?}", head.method, head.uri.path(), head.version);
    state.asked.fetch_add(1, Ordering::SeqCst);
    let under_way = state.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_under_way.fetch_max(under_way, Ordering::SeqCst);
    while state.hangs.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    state.under_way.fetch_sub(1, Ordering::SeqCst);
    let status = state.status.load(Ordering::SeqCst);
    if status < GRPC {
        let body = Full::new(Bytes::from_static(b"so it is")).boxed();
        return Ok(Response::builder().status(status).body(body).unwrap());
    }
    let response = Response::builder().header("content-type", "application/grpc");
    if status >= GRPC_FAILS {
        let response = response.header("grpc-status", status - GRPC_FAILS);
        return Ok(response.body(Empty::new().boxed()).unwrap());
    }
    let answer = grpc::frame(&grpc::HealthCheckResponse { status: i32::from(status - GRPC) });
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(answer).with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(response.body(body.boxed()).unwrap())
}

fn told(instance: &str, address: SocketAddr, protocol: Protocol) -> policy::Endpoint {
    policy::Endpoint {
        instance: instance.to_owned(),
        address: address.to_string(),
        protocol,
        ..policy::Endpoint::default()
    }
}

fn policy(kind: CheckKind) -> HealthCheck {
    HealthCheck {
        kind,
        interval: Length::millis(20),
        timeout: Length::millis(2_000),
        unhealthy_threshold: 3,
        healthy_threshold: 2,
        port: None,
    }
}

fn http_check() -> CheckKind {
    CheckKind::Http { path: "/healthz".to_owned(), host: String::new(), statuses: vec![] }
}

/// A service whose endpoints are being checked.
struct Checked {
    upstream: Arc<Upstream>,
    checks: Arc<Checks>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Checked {
    fn start(policy: HealthCheck, endpoints: Vec<policy::Endpoint>) -> Self {
        let (upstream, checks, stop) =
            (Upstream::alone("payments", endpoints), Arc::default(), CancellationToken::new());
        let chance = Arc::new(Chance::new(1, "t"));
        let task =
            tokio::spawn(run(Arc::clone(&upstream), policy, Arc::clone(&checks), chance, stop.clone()));
        Self { upstream, checks, stop, task }
    }

    fn is_healthy(&self, instance: &str) -> bool {
        let endpoints = self.upstream.endpoints();
        let endpoint = endpoints.iter().find(|endpoint| *endpoint.party.instance == *instance).unwrap();
        endpoint.healthy.load(Ordering::Relaxed)
    }

    fn view(&self, instance: &str) -> Option<Health> {
        self.checks.views().into_iter().find(|(name, _)| **name == *instance).map(|(_, health)| health)
    }

    /// Waits until the view of `instance` is like this.
    async fn until(&self, instance: &str, what: &str, is: impl Fn(&Health) -> bool) -> Health {
        eventually(what, || self.view(instance).filter(|health| is(health))).await
    }
}

async fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} within 20 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn an_endpoint_turns_unhealthy_and_healthy_after_as_many_checks_as_the_policy_says() {
    let server = Server::start(200).await;
    let checked = Checked::start(policy(http_check()), vec![told("p1", server.address, Protocol::Http)]);
    let first = checked.until("p1", "a good check", |health| health.good >= 1).await;
    assert!(first.healthy && first.problem.is_none() && first.checked.is_some(), "{first:?}");
    assert_eq!(server.last(), "GET /healthz HTTP/1.1 payments b\"\"");

    server.set(503);
    let bad = checked.until("p1", "a bad check", |health| health.bad >= 1).await;
    assert!(bad.bad >= 3 || bad.healthy, "{bad:?}");
    let bad = checked.until("p1", "unhealthy", |health| !health.healthy).await;
    assert!(bad.bad >= 3 && bad.good == 0 && bad.since > first.since, "{bad:?}");
    assert_eq!(bad.problem.as_deref(), Some("status 503"));
    assert!(!checked.is_healthy("p1"));

    server.set(204);
    let well = checked.until("p1", "healthy", |health| health.healthy).await;
    assert!(well.good >= 2 && well.bad == 0 && well.problem.is_none(), "{well:?}");
    assert!(checked.is_healthy("p1"));
}

#[test]
fn thresholds_count_checks_in_a_row() {
    let (now, policy) = (Instant::now(), policy(CheckKind::Tcp));
    let mut health = Health::new(now);
    let mut states = String::new();
    for good in "bbgbbbgbgg".chars() {
        let result = if good == 'g' { Ok(()) } else { Err(Failure::Status(500)) };
        health.note(now, &policy, &result);
        states.push(if health.healthy { '+' } else { '-' });
    }
    assert_eq!(states, "+++++----+");
}

#[tokio::test]
async fn the_statuses_and_the_host_of_the_policy_hold() {
    let server = Server::start(404).await;
    let kind = CheckKind::Http { path: String::new(), host: "h.example".to_owned(), statuses: vec![404] };
    for protocol in [Protocol::Http, Protocol::Http2] {
        let checked = Checked::start(policy(kind.clone()), vec![told("p1", server.address, protocol)]);
        checked.until("p1", "a good check", |health| health.good >= 1).await;
        let version = if protocol == Protocol::Http { "HTTP/1.1" } else { "HTTP/2.0" };
        assert_eq!(server.last(), format!("GET / {version} h.example b\"\""));
        server.set(200);
        let bad = checked.until("p1", "unhealthy", |health| !health.healthy).await;
        assert_eq!(bad.problem.as_deref(), Some("status 200"));
        server.set(404);
        checked.stop.cancel();
        checked.task.await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_bad_check() {
    let server = Server::start(200).await;
    server.state.hangs.store(true, Ordering::SeqCst);
    for (kind, protocol) in [
        (http_check(), Protocol::Http),
        (http_check(), Protocol::Http2),
        (CheckKind::Grpc { service: String::new() }, Protocol::Grpc),
    ] {
        let policy = HealthCheck { timeout: Length::millis(30), unhealthy_threshold: 2, ..policy(kind) };
        let checked = Checked::start(policy, vec![told("p1", server.address, protocol)]);
        let bad = checked.until("p1", "unhealthy", |health| !health.healthy).await;
        assert_eq!(bad.problem.as_deref(), Some("no answer within 30ms"));
        checked.stop.cancel();
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_unhealthy_until_somebody_does() {
    let address = Server::start(200).await.address;
    eventually("the port is free", || std::net::TcpStream::connect(address).is_err().then_some(())).await;
    let checked = Checked::start(policy(CheckKind::Tcp), vec![told("p1", address, Protocol::Tcp)]);
    let bad = checked.until("p1", "unhealthy", |health| !health.healthy).await;
    assert!(bad.problem.as_deref().unwrap().starts_with("cannot connect"), "{bad:?}");
    let _server = Server::at(address, 200).await;
    checked.until("p1", "healthy", |health| health.healthy).await;
}

#[tokio::test]
async fn checks_may_go_to_a_port_of_their_own() {
    let (traffic, health) = (Server::start(500).await, Server::start(200).await);
    let policy = HealthCheck { port: Some(health.address.port()), ..policy(http_check()) };
    let checked = Checked::start(policy, vec![told("p1", traffic.address, Protocol::Http)]);
    checked.until("p1", "three good checks", |health| health.good >= 3).await;
    assert!(health.asked() >= 3 && traffic.asked() == 0);
    assert_eq!(address("[::1]:80", Some(9)), "[::1]:9");
}

#[tokio::test]
async fn grpc_servers_say_themselves_whether_they_serve() {
    let server = Server::start(GRPC + 1).await;
    let kind = CheckKind::Grpc { service: "shop.Cart".to_owned() };
    let checked = Checked::start(policy(kind), vec![told("p1", server.address, Protocol::Grpc)]);
    checked.until("p1", "a good check", |health| health.good >= 1).await;
    let asked = server.last();
    assert!(asked.starts_with("POST /grpc.health.v1.Health/Check HTTP/2.0 payments"), "{asked}");
    assert!(asked.ends_with("\\n\\tshop.Cart\""), "{asked}");
    for (answer, problem) in [
        (GRPC + 2, "it says that it is NOT_SERVING"),
        (GRPC, "it says that it is UNKNOWN"),
        (GRPC + 3, "it says that it is SERVICE_UNKNOWN"),
        (GRPC_FAILS + 5, "gRPC status 5"),
        (GRPC_FAILS + 12, "gRPC status 12: the server does not implement grpc.health.v1"),
        (200, "the answer is no grpc.health.v1.HealthCheckResponse"),
        (503, "status 503"),
    ] {
        server.set(answer);
        let is = |health: &Health| health.problem.as_deref().is_some_and(|said| said.starts_with(problem));
        let bad = checked.until("p1", problem, is).await;
        assert!(bad.bad >= 1, "{bad:?}");
    }
    checked.until("p1", "unhealthy", |health| !health.healthy).await;
    server.set(GRPC + 1);
    checked.until("p1", "healthy", |health| health.healthy).await;
}

#[tokio::test]
async fn endpoints_that_come_are_checked_and_those_that_go_are_not() {
    let (one, other) = (Server::start(200).await, Server::start(500).await);
    let checked = Checked::start(policy(http_check()), vec![told("p1", one.address, Protocol::Http)]);
    checked.until("p1", "a good check", |health| health.good >= 1).await;
    checked
        .upstream
        .set(vec![told("p1", one.address, Protocol::Http), told("p2", other.address, Protocol::Http)]);
    assert!(checked.is_healthy("p2"), "an endpoint starts healthy");
    checked.until("p2", "unhealthy", |health| !health.healthy).await;
    assert!(checked.is_healthy("p1") && !checked.is_healthy("p2"));
    checked.upstream.set(vec![told("p1", one.address, Protocol::Http)]);
    eventually("p2 is gone", || checked.view("p2").is_none().then_some(())).await;
    // What was under way then has ended when p1 was asked twice more.
    let (before, at_one) = (other.asked(), one.asked());
    eventually("p1 is asked on", || (one.asked() >= at_one + 5).then_some(())).await;
    assert!(other.asked() <= before + 1, "{} then {}", before, other.asked());
    checked.upstream.set(vec![told("p2", other.address, Protocol::Http)]);
    assert!(checked.is_healthy("p2"), "a new process under an old name starts healthy");
}

#[tokio::test]
async fn without_the_task_everybody_is_healthy() {
    let server = Server::start(500).await;
    let checked = Checked::start(policy(http_check()), vec![told("p1", server.address, Protocol::Http)]);
    checked.until("p1", "unhealthy", |health| !health.healthy).await;
    checked.stop.cancel();
    checked.task.await.unwrap();
    let healthy = checked.upstream.endpoints()[0].healthy.load(Ordering::Relaxed);
    assert!(healthy && checked.checks.views().is_empty());
}

/// The state of the first endpoint's breaker.
fn state(checked: &Checked) -> BreakerState {
    checked.upstream.breaker_views(Instant::now())[1].state
}

#[tokio::test]
async fn good_checks_end_no_ejection_and_a_recovery_that_they_saw_does() {
    let servers = [Server::start(200).await, Server::start(200).await];
    let endpoints = ["p1", "p2"].iter().zip(&servers);
    let endpoints = endpoints.map(|(name, server)| told(name, server.address, Protocol::Http)).collect();
    let checked = Checked::start(policy(http_check()), endpoints);
    let endpoint = Arc::clone(&checked.upstream.endpoints()[0]);
    let failed = Outcome { ok: false, latency: Duration::ZERO, probe: false, kind: Kind::Http(500) };
    (0..5).for_each(|_| checked.upstream.result(&endpoint, failed));
    assert_eq!(state(&checked), BreakerState::Open);
    let before = checked.view("p1").map_or(0, |health| health.good);
    checked.until("p1", "good checks", |health| health.good >= before + 5).await;
    assert_eq!(state(&checked), BreakerState::Open, "they do not see what requests fail by");
    servers[0].set(500);
    checked.until("p1", "unhealthy", |health| !health.healthy).await;
    servers[0].set(200);
    // The ejection would last ten seconds, and nobody ticks.
    eventually("half-open", || (state(&checked) == BreakerState::HalfOpen).then_some(())).await;
    assert!(endpoint.gate.share() <= 0.0, "probes decide");
}

#[tokio::test]
async fn an_endpoint_that_is_well_again_begins_slowly() {
    let server = Server::start(500).await;
    let checked = Checked::start(policy(http_check()), vec![told("p1", server.address, Protocol::Http)]);
    checked.until("p1", "unhealthy", |health| !health.healthy).await;
    let endpoint = Arc::clone(&checked.upstream.endpoints()[0]);
    let old = endpoint.age(Instant::now());
    server.set(200);
    let well = checked.until("p1", "healthy", |health| health.healthy).await;
    let now = Instant::now();
    assert!(endpoint.age(now) <= now - well.since + Duration::from_millis(1), "{:?}", endpoint.age(now));
    assert!(now - endpoint.since > old);
}

#[tokio::test]
async fn no_more_checks_are_under_way_than_the_limit() {
    let server = Server::start(200).await;
    server.state.hangs.store(true, Ordering::SeqCst);
    let policy = HealthCheck { timeout: Length::secs(30), ..policy(http_check()) };
    let n = limits::HEALTH_CHECKS + 8;
    let endpoints = (0..n).map(|i| told(&format!("p{i}"), server.address, Protocol::Http)).collect();
    let checked = Checked::start(policy, endpoints);
    eventually("as many as may", || (server.asked() == limits::HEALTH_CHECKS).then_some(())).await;
    server.state.hangs.store(false, Ordering::SeqCst);
    let all = || checked.checks.views().iter().all(|(_, health)| health.good > 0).then_some(());
    eventually("all were checked", all).await;
    assert_eq!(server.state.most_under_way.load(Ordering::SeqCst), limits::HEALTH_CHECKS);
}
