//! What the tests stand around a proxy: applications that record what they are asked, clients that read an
//! answer to its end, and a way to wait for a condition.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use weir_model::{Clock, UnixNanos};
use weir_proxy_tap::config::{
    Balancer, Endpoint, Outbound, Policy, Protocol, RetryPolicy, TlsConfig, TlsFiles,
};
use weir_proxy_tap::{Config, Running};

/// How long anything here may take before the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) type Reply = BoxBody<Bytes, Infallible>;

/// A request as an application received it, to its end.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// An application on a port of its own, for HTTP/1.1 and HTTP/2.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Arc<Seen>>>>,
    accepted: Arc<AtomicUsize>,
}

impl App {
    pub(crate) async fn start<F>(answer: impl Fn(Arc<Seen>) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Reply>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app =
            Self { address: listener.local_addr().unwrap(), seen: Arc::default(), accepted: Arc::default() };
        let (seen, accepted) = (Arc::clone(&app.seen), Arc::clone(&app.accepted));
        let service = service_fn(move |request: Request<Incoming>| {
            let (answer, seen) = (answer.clone(), Arc::clone(&seen));
            async move {
                let (parts, body) = request.into_parts();
                // A request that breaks off has no answer.
                let body = body.collect().await?;
                let trailers = body.trailers().cloned();
                let request = Arc::new(Seen { parts, body: body.to_bytes(), trailers });
                seen.lock().unwrap().push(Arc::clone(&request));
                Ok::<_, hyper::Error>(answer(request).await)
            }
        });
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::Relaxed);
                let service = service.clone();
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // Proxies close connections as they like.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        app
    }

    /// Answers everything with this status and text.
    pub(crate) async fn always(status: u16, text: &'static str) -> Self {
        Self::start(move |_| async move { answer(status, text) }).await
    }

    pub(crate) fn seen(&self) -> Vec<Arc<Seen>> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

pub(crate) fn answer(status: u16, text: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Full::new(text.into()).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// An answer in a gRPC caller's or another client's hands, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) async fn of(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let body = timeout(DEADLINE, body.collect()).await.unwrap().unwrap();
        let trailers = body.trailers().cloned();
        Self { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes(), trailers }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn request(method: Method, target: &str) -> http::request::Builder {
    Request::builder().method(method).uri(target)
}

pub(crate) fn empty() -> Reply {
    Empty::new().boxed()
}

/// A connection with HTTP/1.1.
pub(crate) async fn http1(address: SocketAddr) -> hyper::client::conn::http1::SendRequest<Reply> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A connection with HTTP/2 and prior knowledge.
pub(crate) async fn http2(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<Reply> {
    let stream = TcpStream::connect(address).await.unwrap();
    let executor = TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, mut request: Request<Reply>) -> Answer {
    request.headers_mut().entry("host").or_insert(http::HeaderValue::from_static("localhost"));
    let mut sender = http1(address).await;
    let response = timeout(DEADLINE, sender.send_request(request)).await.unwrap().unwrap();
    Answer::of(response).await
}

/// The same over HTTP/2.
pub(crate) async fn ask2(address: SocketAddr, request: Request<Reply>) -> Answer {
    let mut sender = http2(address).await;
    let response = timeout(DEADLINE, sender.send_request(request)).await.unwrap().unwrap();
    Answer::of(response).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, request(Method::GET, path).body(empty()).unwrap()).await
}

/// A gRPC request of one message.
pub(crate) fn grpc(path: &str, message: &[u8]) -> Request<Reply> {
    let body = Full::new(Bytes::from(framed(message))).boxed();
    request(Method::POST, &format!("http://payments{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

/// A message with gRPC's prefix: not compressed, and how long it is.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// A gRPC answer of one message, with this status in its trailers.
pub(crate) fn grpc_answer(message: &[u8], status: &'static str) -> Response<Reply> {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
    let body = Full::new(Bytes::from(framed(message))).with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

/// A proxy beside `cart` that calls `payments`, with everything optional off.
pub(crate) fn cart(endpoints: &[SocketAddr]) -> Config {
    let told = |(i, address): (usize, &SocketAddr)| Endpoint {
        instance: format!("p{}", i + 1),
        address: address.to_string(),
        version: "v2".into(),
        ..Endpoint::default()
    };
    Config {
        service: "cart".into(),
        instance: "cart-1".into(),
        version: "v3".into(),
        zone: "z1".into(),
        app: None,
        inbound: None,
        advertise: None,
        protocol: Protocol::Http,
        outbound: vec![Outbound { name: "payments".into(), listen: any_port() }],
        endpoints: [("payments".to_owned(), endpoints.iter().enumerate().map(told).collect())].into(),
        collector: None,
        admin: Some(any_port()),
        balancer: Balancer::RoundRobin,
        timeout: Duration::from_secs(2),
        retry: RetryPolicy { limit: 0, budget_pct: 0.0 },
        local_breaker: false,
        ..Config::default()
    }
}

/// A proxy beside `cart` that calls `payments` at these endpoints, by this policy.
pub(crate) async fn with(policy: &str, endpoints: &[SocketAddr]) -> Running {
    let policy: Policy = toml::from_str(policy).unwrap();
    assert_eq!(policy.check(), []);
    start(Config { policy, ..cart(endpoints) }).await
}

/// A proxy beside `payments`, before the application at `app`.
pub(crate) fn payments(app: SocketAddr) -> Config {
    Config {
        service: "payments".into(),
        instance: "payments-1".into(),
        app: Some(app.to_string()),
        inbound: Some(any_port()),
        outbound: vec![],
        endpoints: Default::default(),
        ..cart(&[])
    }
}

pub(crate) fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A port that nobody listens on.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind(any_port()).await.unwrap().local_addr().unwrap()
}

pub(crate) async fn start(config: Config) -> Running {
    let clock = Clock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixNanos(u64::try_from(since.as_nanos()).unwrap())
    });
    weir_proxy_tap::start(config, clock, 7).await.unwrap()
}

/// Where calls of `payments` go.
pub(crate) fn to_payments(proxy: &Running) -> SocketAddr {
    proxy.outbound[0].1
}

/// A page of the admin listener, which is there.
pub(crate) async fn page(proxy: &Running, path: &str) -> String {
    let answer = get(proxy.admin.unwrap(), path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text().to_owned()
}

pub(crate) async fn json(proxy: &Running, path: &str) -> Value {
    serde_json::from_str(&page(proxy, path).await).unwrap()
}

/// The sum of the samples of a metric whose labels contain all of `labels`.
pub(crate) async fn metric(proxy: &Running, name: &str, labels: &[&str]) -> f64 {
    let page = page(proxy, "/metrics").await;
    let samples = page.lines().filter(|line| {
        let of = line.split(['{', ' ']).next() == Some(name);
        of && labels.iter().all(|label| line.contains(label))
    });
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Asks `probe` again and again until it has something; fails at the deadline.
pub(crate) async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come about within {DEADLINE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// An authority, and files of identities that it vouches for.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Certificate and key of `name`, beside the authority's own certificate.
    pub(crate) fn identity(&self, name: &str) -> TlsFiles {
        self.identity_of(name, &[])
    }

    /// As `identity`, with these URIs as further names.
    pub(crate) fn identity_of(&self, name: &str, uris: &[&str]) -> TlsFiles {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |suffix: &str| self.folder.path().join(format!("{name}{suffix}"));
        std::fs::write(file(".pem"), cert.pem()).unwrap();
        std::fs::write(file(".key"), key.serialize_pem()).unwrap();
        TlsFiles { cert: file(".pem"), key: file(".key"), ca: self.folder.path().join("ca.pem") }
    }
}

pub(crate) fn tls(files: TlsFiles) -> Option<TlsConfig> {
    Some(TlsConfig { files, plaintext: false })
}
