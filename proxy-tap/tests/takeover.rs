//! Real processes of `weir-proxy` that hand their listeners over under load, and that drain.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long anything here may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A process of `weir-proxy` beside `cart`, which calls `payments`.
struct Process {
    child: Child,
    payments: SocketAddr,
    admin: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    /// Ends with the last line.
    reading: JoinHandle<()>,
}

/// What the processes of one test share.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A place where `payments` is at `app`.
    fn new(app: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoints = serde_json::json!({ "payments": [{ "address": app.to_string() }] });
        std::fs::write(folder.path().join("endpoints.json"), endpoints.to_string()).unwrap();
        Self { folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("takeover.sock")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-proxy"));
        command
            .args(["--service", "cart", "--collector", "none", "--retries", "0", "--local-breaker", "off"])
            .args(["--outbound", "payments=127.0.0.1:0", "--admin", "127.0.0.1:0", "--endpoints"])
            .arg(self.folder.path().join("endpoints.json"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// A process that serves.
    async fn start(&self, more: &[&str]) -> Process {
        let mut child = self.command(more).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reading = async {
            while let Some(line) = stderr.next_line().await.unwrap() {
                kept.lock().unwrap().push(line.clone());
                if line.starts_with("ready ") {
                    return line;
                }
            }
            panic!("the proxy ended: {:?}", kept.lock().unwrap());
        };
        let ready = timeout(DEADLINE, reading).await.unwrap();
        let kept = Arc::clone(&lines);
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        let at = |what: &str| {
            let found = ready.split(' ').find_map(|word| word.strip_prefix(what)).unwrap();
            found.parse().unwrap()
        };
        Process { child, payments: at("outbound=payments="), admin: at("admin="), lines, reading }
    }

    async fn taking_over(&self, workers: &str) -> Process {
        self.start(&["--takeover", self.socket().to_str().unwrap(), "--workers", workers]).await
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits until it has ended and all its lines are there.
    async fn ended(&mut self) -> ExitStatus {
        let ending = async {
            let status = self.child.wait().await;
            (&mut self.reading).await.unwrap();
            status
        };
        let ended = timeout(DEADLINE, ending).await;
        ended.unwrap_or_else(|_| panic!("still there: {:?}", self.lines.lock().unwrap())).unwrap()
    }

    async fn drain_page(&self) -> Value {
        let mut answer = ask(self.admin, "GET", "/drain").await.unwrap();
        serde_json::from_slice(&std::mem::take(&mut answer.body)).unwrap()
    }
}

/// An answer over HTTP/1.
#[derive(Debug)]
struct Answer {
    status: u16,
    closes: bool,
    body: Vec<u8>,
}

/// Sends a request on a connection that may be used again, and reads its answer.
async fn exchange(stream: &mut TcpStream, method: &str, path: &str) -> std::io::Result<Answer> {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: payments\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    read_answer(stream).await
}

async fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&buffer[..n]);
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(read[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = &read[end + 4..];
        if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
            continue;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let closes = head.lines().any(|line| line == "connection: close");
        return Ok(Answer { status, closes, body: body.to_vec() });
    }
}

/// One request on a connection of its own.
async fn ask(address: SocketAddr, method: &str, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    exchange(&mut stream, method, path).await
}

/// An application that says `paid` at once, or after the milliseconds that the path names.
async fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| async move {
                let wait = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
                sleep(Duration::from_millis(wait)).await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"paid"))))
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// An application that answers one head with `101` and says everything back from then on.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let switch =
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                stream.write_all(switch).await.unwrap();
                let (mut from, mut to) = stream.split();
                // The proxy ends it as it likes.
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// Whether a GOAWAY said that the request was not taken.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.is_go_away() && error.is_remote())
}

/// What comes of an exchange that may hang.
async fn in_time<T>(exchange: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut));
    timeout(DEADLINE / 2, exchange).await.unwrap_or_else(late)
}

/// Callers that never rest, and what they have to say.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    requests: AtomicU64,
    again: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    fn start(payments: SocketAddr, admin: SocketAddr) -> (Arc<Self>, tokio::task::JoinSet<()>) {
        let load = Arc::new(Self::default());
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            callers.spawn(Arc::clone(&load).on_new_connections(payments, "/"));
            callers.spawn(Arc::clone(&load).on_kept_connections(payments));
        }
        callers.spawn(Arc::clone(&load).on_new_connections(admin, "/readyz"));
        callers.spawn(Arc::clone(&load).over_http2(payments));
        (load, callers)
    }

    fn record(&self, how: &str, answer: Result<u16, String>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(200) => {}
            other => self.failures.lock().unwrap().push(format!("{how}: {other:?}")),
        }
    }

    async fn on_new_connections(self: Arc<Self>, address: SocketAddr, path: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            let answer = in_time(ask(address, "GET", path)).await;
            self.record(path, answer.map(|answer| answer.status).map_err(|error| error.to_string()));
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn on_kept_connections(self: Arc<Self>, address: SocketAddr) {
        let mut kept: Option<TcpStream> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => match TcpStream::connect(address).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        self.record("kept, new", Err(error.to_string()));
                        continue;
                    }
                },
            };
            let answer = in_time(exchange(&mut stream, "GET", "/2")).await;
            if answer.as_ref().is_ok_and(|answer| !answer.closes) {
                kept = Some(stream);
            }
            self.record("kept", answer.map(|answer| answer.status).map_err(|error| error.to_string()));
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// A request that the other side did not take, as it said by GOAWAY, is sent again (RFC 9113, section 6.8).
    async fn over_http2(self: Arc<Self>, address: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            let stream = TcpStream::connect(address).await.unwrap();
            let io = TokioIo::new(stream);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            while !self.stop.load(Ordering::Relaxed) && sender.ready().await.is_ok() {
                let request = Request::get("http://payments/1").body(Empty::<Bytes>::new()).unwrap();
                let answer = match timeout(DEADLINE / 2, sender.send_request(request)).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(error)) if error.is_canceled() || is_unprocessed(&error) => {
                        self.again.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    failed => {
                        self.record("http2", Err(format!("{failed:?}")));
                        break;
                    }
                };
                let status = answer.status().as_u16();
                let whole = answer.into_body().collect().await.map(|_| status);
                self.record("http2", whole.map_err(|error| format!("{error:?}")));
            }
        }
    }

    /// Waits until `more` further requests were answered.
    async fn goes_on(&self, more: u64) {
        let (from, end) = (self.requests.load(Ordering::Relaxed), Instant::now() + DEADLINE);
        while self.requests.load(Ordering::Relaxed) < from + more {
            assert!(Instant::now() < end, "the load stands still: {:?}", self.failures.lock().unwrap());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn until(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !probe().await {
        assert!(Instant::now() < end, "{what} did not come about within {DEADLINE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_takeovers_under_load_lose_nothing() {
    let place = Place::new(app().await);
    let mut serving = place.taking_over("1").await;
    let (payments, admin) = (serving.payments, serving.admin);
    let (load, mut callers) = Load::start(payments, admin);
    load.goes_on(300).await;
    for workers in ["2", "1", "2"] {
        let next = place.taking_over(workers).await;
        let said = |process: &Process| process.lines.lock().unwrap().join("\n");
        assert_eq!(
            (next.payments, next.admin),
            (payments, admin),
            "the same listeners; it said\n{}\nand the one before\n{}",
            said(&next),
            said(&serving)
        );
        load.goes_on(300).await;
        assert!(serving.ended().await.success(), "{:?}", serving.lines.lock().unwrap());
        load.goes_on(100).await;
        serving = next;
    }
    load.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = timeout(DEADLINE, callers.join_next()).await.unwrap() {
        ended.unwrap();
    }
    let failures = std::mem::take(&mut *load.failures.lock().unwrap());
    let requests = load.requests.load(Ordering::Relaxed);
    assert!(
        failures.is_empty(),
        "{} of {requests} failed: {:?}",
        failures.len(),
        &failures[..failures.len().min(10)]
    );
    let page = ask(admin, "GET", "/metrics").await.unwrap();
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("weir_proxy_connections_accepted_total{listener=\"outbound/payments\"}"), "{page}");
    serving.signal(Signal::TERM);
    assert!(serving.ended().await.success());
    assert!(!place.socket().exists(), "the last one tidies up");
}

/// Everybody who was given a listener of a group has to be served, or their connections are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_workers_serve_all_sockets_of_an_address() {
    let place = Place::new(app().await);
    let mut two = place.taking_over("2").await;
    let one = place.taking_over("1").await;
    assert!(two.ended().await.success());
    // The kernel spreads connections over both sockets by a hash.
    for _ in 0..50 {
        assert_eq!(timeout(DEADLINE, ask(one.payments, "GET", "/")).await.unwrap().unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_fails_leaves_everything_as_it_was() {
    let place = Place::new(app().await);
    let mut serving = place.taking_over("1").await;
    let (load, mut callers) = Load::start(serving.payments, serving.admin);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let taken = TcpListener::bind(taken).await.unwrap();
    let http_proxy = taken.local_addr().unwrap().to_string();
    let socket = place.socket();
    let more = ["--takeover", socket.to_str().unwrap(), "--workers", "2", "--http-proxy", &http_proxy];
    let failed = timeout(DEADLINE, place.command(&more).output()).await.unwrap().unwrap();
    let told = String::from_utf8(failed.stderr).unwrap();
    assert!(!failed.status.success() && told.contains("--http-proxy"), "{told}");
    load.goes_on(300).await;
    assert!(serving.child.try_wait().unwrap().is_none());
    assert_eq!(serving.drain_page().await["state"], "serving");
    let mut next = place.taking_over("1").await;
    assert!(serving.ended().await.success());
    load.goes_on(100).await;
    load.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = timeout(DEADLINE, callers.join_next()).await.unwrap() {
        ended.unwrap();
    }
    assert_eq!(*load.failures.lock().unwrap(), Vec::<String>::new());
    next.signal(Signal::TERM);
    assert!(next.ended().await.success());
}

#[tokio::test]
async fn a_path_with_a_file_or_without_a_folder_is_one_clear_error() {
    let place = Place::new(app().await);
    let file = place.folder.path().join("endpoints.json");
    for (path, problem) in [(file.as_path(), "no socket"), (Path::new("/nowhere/at/all"), "No such file")] {
        let more = ["--takeover", path.to_str().unwrap()];
        let failed = timeout(DEADLINE, place.command(&more).output()).await.unwrap().unwrap();
        let told = String::from_utf8(failed.stderr).unwrap();
        assert!(told.contains("--takeover") && told.contains(problem), "{told}");
        assert_eq!(failed.status.code(), Some(1));
    }
}

#[tokio::test]
async fn a_request_under_way_ends_and_is_the_last_while_idle_connections_are_closed() {
    let place = Place::new(app().await);
    let mut proxy = place.start(&[]).await;
    let mut stream = TcpStream::connect(proxy.payments).await.unwrap();
    assert!(!exchange(&mut stream, "GET", "/").await.unwrap().closes);
    let slow = tokio::spawn(async move { exchange(&mut stream, "GET", "/3000").await });
    let mut idle = TcpStream::connect(proxy.payments).await.unwrap();
    assert!(!exchange(&mut idle, "GET", "/").await.unwrap().closes);
    until("the request", async || proxy.drain_page().await["connections"] == 2).await;
    proxy.signal(Signal::TERM);
    assert_eq!(timeout(DEADLINE, idle.read(&mut [0])).await.unwrap().unwrap(), 0, "the idle one is closed");
    assert!(!slow.is_finished(), "before the other one ends");
    let answer = slow.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.closes, answer.body.as_slice()), (200, true, &b"paid"[..]));
    assert!(proxy.ended().await.success());
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_a_tunnel_has_the_time_of_the_drain() {
    let place = Place::new(echo().await);
    let mut proxy = place.start(&["--drain", "3s", "--drain-delay", "0s"]).await;
    let mut tunnel = TcpStream::connect(proxy.payments).await.unwrap();
    let ask_switch = "GET / HTTP/1.1\r\nhost: payments\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    tunnel.write_all(ask_switch.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut tunnel).await.unwrap().status, 101);
    // One that never asks anything.
    let mut silent = TcpStream::connect(proxy.payments).await.unwrap();
    until("both connections", async || proxy.drain_page().await["connections"] == 2).await;
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    let mut byte = [0];
    assert_eq!(timeout(DEADLINE, silent.read(&mut byte)).await.unwrap().unwrap(), 0, "closed");
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    until("the count", async || proxy.drain_page().await["connections"] == 1).await;
    tunnel.write_all(b"x").await.unwrap();
    assert_eq!(timeout(DEADLINE, tunnel.read(&mut byte)).await.unwrap().unwrap(), 1, "still open");
    // A connection that is cut may look like one or the other.
    let cut = timeout(DEADLINE, tunnel.read(&mut byte)).await.unwrap();
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(proxy.ended().await.success());
    let told = proxy.lines.lock().unwrap().join("\n");
    assert!(told.contains("connections are cut"), "{told}");
}

#[tokio::test]
async fn http2_connections_are_told_to_go_away() {
    const GOAWAY: u8 = 7;
    let place = Place::new(app().await);
    let mut proxy = place.start(&[]).await;
    let mut stream = TcpStream::connect(proxy.payments).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await.unwrap();
    let mut frames = Vec::new();
    let mut told = false;
    loop {
        let mut head = [0; 9];
        if timeout(DEADLINE, stream.read_exact(&mut head)).await.unwrap().is_err() {
            break;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        frames.push(head[3]);
        match head[3] {
            // Pings are answered: the last GOAWAY waits for that.
            6 if head[4] & 1 == 0 => {
                stream.write_all(&[&[0, 0, 8, 6, 1, 0, 0, 0, 0], &payload[..]].concat()).await.unwrap();
            }
            4 if !told => {
                told = true;
                proxy.signal(Signal::TERM);
            }
            _ => {}
        }
    }
    assert!(frames.contains(&GOAWAY), "{frames:?}");
    assert!(proxy.ended().await.success());
}

#[tokio::test]
async fn it_goes_on_accepting_for_the_delay_and_is_not_ready() {
    let place = Place::new(app().await);
    let mut proxy = place.start(&["--drain-delay", "1s"]).await;
    assert_eq!(ask(proxy.admin, "GET", "/readyz").await.unwrap().status, 200);
    proxy.signal(Signal::TERM);
    until("503", async || ask(proxy.admin, "GET", "/readyz").await.unwrap().status == 503).await;
    let page = proxy.drain_page().await;
    assert_eq!((&page["state"], &page["cause"]), (&"withdrawing".into(), &"shutdown".into()), "{page}");
    assert_eq!(ask(proxy.payments, "GET", "/").await.unwrap().status, 200);
    assert_eq!(ask(proxy.admin, "GET", "/healthz").await.unwrap().status, 200);
    assert!(proxy.ended().await.success());
    assert!(TcpStream::connect(proxy.payments).await.is_err());
}

#[tokio::test]
async fn the_admin_page_begins_it_and_tells_who_is_left() {
    let place = Place::new(app().await);
    let mut proxy = place.start(&["--drain-delay", "0s", "--drain", "60s"]).await;
    let page = proxy.drain_page().await;
    assert_eq!(
        (&page["state"], &page["cause"], &page["connections"]),
        (&"serving".into(), &Value::Null, &0.into())
    );
    let payments = proxy.payments;
    let slow = tokio::spawn(async move { ask(payments, "GET", "/1500").await });
    until("the request", async || proxy.drain_page().await["connections"] == 1).await;
    assert_eq!(ask(proxy.admin, "POST", "/drain").await.unwrap().status, 202);
    until("draining", async || proxy.drain_page().await["state"] == "draining").await;
    let page = proxy.drain_page().await;
    assert_eq!((&page["cause"], &page["drain_ms"]), (&"admin".into(), &60_000.into()), "{page}");
    assert_eq!(page["listeners"]["outbound/payments"], 1, "{page}");
    assert_eq!(slow.await.unwrap().unwrap().status, 200);
    assert!(proxy.ended().await.success());
}

#[tokio::test]
async fn the_second_signal_ends_at_once() {
    let place = Place::new(app().await);
    let mut proxy = place.start(&["--drain", "60s"]).await;
    let payments = proxy.payments;
    let slow = tokio::spawn(async move { ask(payments, "GET", "/10000").await });
    until("the request", async || proxy.drain_page().await["connections"] == 1).await;
    proxy.signal(Signal::TERM);
    until("draining", async || proxy.drain_page().await["state"] == "draining").await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().await.code(), Some(130));
    assert!(slow.await.unwrap().is_err());
}
