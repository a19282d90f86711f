//! Services answer over real sockets, fail as they are told, and say so over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Method};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weir_model::{Clock, UnixNanos};

use super::control::FaultVerb;
use super::upstream::{CallFailed, Upstream};
use super::*;

fn clock() -> Clock {
    let since = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Clock::new(move || UnixNanos(since().as_nanos() as u64))
}

fn app_args(service: &str, grpc: bool, upstreams: Vec<(String, String)>) -> AppArgs {
    AppArgs {
        service: service.to_owned(),
        instance: Some(format!("{service}-1")),
        listen: "127.0.0.1:0".parse().unwrap(),
        upstreams,
        grpc,
        latency_ms: 0.1,
        fault_file: None,
        seed: 1,
    }
}

/// Lines that a task writes, and a way to wait for the first.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn until<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = ready().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Starts an app as the hidden verb does; its address.
async fn start(args: AppArgs) -> SocketAddr {
    let lines = Lines::default();
    let mut out = lines.clone();
    tokio::spawn(async move { app(args, CancellationToken::new(), &mut out).await });
    until("the address", async || {
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.strip_prefix("ready app=")?.trim().parse().ok()
    })
    .await
}

async fn call(addr: SocketAddr, grpc: bool, path: &str) -> Result<(), CallFailed> {
    let method = if grpc { Method::POST } else { Method::GET };
    Upstream::new("it", &format!("http://{addr}"), grpc).call(&method, path, &HeaderMap::new()).await
}

#[tokio::test]
async fn a_grpc_service_answers_with_trailers_and_fails_with_a_status() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("faults");
    let addr = start(AppArgs { fault_file: Some(file.clone()), ..app_args("catalog", true, vec![]) }).await;
    assert_eq!(call(addr, true, "/shop.Catalog/List").await, Ok(()));
    let plain = call(addr, false, "/shop.Catalog/List").await;
    assert!(matches!(plain, Err(CallFailed::Answered { status, .. }) if status == 415), "{plain:?}");
    std::fs::write(&file, "errors").unwrap();
    let failed = until("the fault", async || call(addr, true, "/x").await.err()).await;
    assert_eq!(failed, CallFailed::Grpc { upstream: "it".to_owned(), status: grpc::INTERNAL });
}

#[tokio::test]
async fn an_outage_cuts_connections_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("faults");
    let addr = start(AppArgs { fault_file: Some(file.clone()), ..app_args("payments", false, vec![]) }).await;
    assert_eq!(call(addr, false, "/call").await, Ok(()));
    std::fs::write(&file, "outage\n").unwrap();
    let failed = until("the outage", async || call(addr, false, "/call").await.err()).await;
    assert!(matches!(failed, CallFailed::Silent { .. }), "{failed}");
    std::fs::write(&file, "").unwrap();
    until("its end", async || call(addr, false, "/call").await.ok()).await;
}

#[tokio::test]
async fn a_failure_further_down_is_told_upwards_and_slowness_is_felt() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("faults");
    let db = start(AppArgs { fault_file: Some(file.clone()), ..app_args("db", true, vec![]) }).await;
    let cart = start(app_args("cart", false, vec![("db".to_owned(), format!("grpc://{db}"))])).await;
    assert_eq!(call(cart, false, "/").await, Ok(()));
    std::fs::write(&file, "errors").unwrap();
    let failed = until("the failure", async || call(cart, false, "/").await.err()).await;
    assert!(matches!(failed, CallFailed::Answered { status, .. } if status == 502), "{failed}");
    std::fs::write(&file, "latency").unwrap();
    until("slowness", async || {
        let sent = Instant::now();
        let ok = call(cart, false, "/").await.is_ok();
        (ok && sent.elapsed() >= Duration::from_millis(50)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_trace_of_a_request_goes_on_to_the_next_service() {
    let seen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let db = seen.local_addr().unwrap();
    let cart = start(app_args("cart", false, vec![("db".to_owned(), format!("http://{db}"))])).await;
    let mut context = HeaderMap::new();
    let sent = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "weir=1"),
        ("x-request-id", "r1"),
    ];
    for (name, value) in sent {
        context.insert(name, HeaderValue::from_static(value));
    }
    let caller = Upstream::new("cart", &format!("http://{cart}"), false);
    let called = tokio::spawn(async move { caller.call(&Method::GET, "/", &context).await });
    let (mut socket, _) = seen.accept().await.unwrap();
    let mut request = vec![0; 4096];
    let read = tokio::io::AsyncReadExt::read(&mut socket, &mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    for (name, value) in sent {
        assert!(request.contains(&format!("{name}: {value}\r\n")), "{request}");
    }
    drop(socket);
    let failed = called.await.unwrap().unwrap_err();
    assert!(matches!(failed, CallFailed::Answered { status, .. } if status == 502), "{failed}");
}

#[tokio::test]
async fn the_driver_writes_a_line_a_second() {
    let addr = start(app_args("payments", false, vec![])).await;
    let dir = tempfile::tempdir().unwrap();
    let args = DriveArgs {
        to: format!("http://{addr}/call").parse().unwrap(),
        method: Method::POST,
        rate: 100.0,
        duration: Some(Duration::from_millis(1_500)),
        json: dir.path().join("seconds"),
        seed: 1,
    };
    let file = args.json.clone();
    drive(args, clock(), CancellationToken::new()).await.unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let seconds: Vec<stats::Second> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((2..=3).contains(&seconds.len()), "{text}");
    let ok: u64 = seconds.iter().map(|second| second.ok).sum();
    assert!((80..=240).contains(&ok), "{text}");
    assert!(seconds.iter().all(|second| second.errors == 0 && second.p50_ms <= second.p99_ms), "{text}");
    assert!(seconds.windows(2).all(|pair| pair[0].t + 1 == pair[1].t), "{text}");
}

#[tokio::test]
async fn faults_are_switched_over_http_by_the_verb() {
    let shop = Shop::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = listener.local_addr().unwrap().to_string();
    let routes = router(shop.clone(), clock());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let verb = |kind, target: Option<&str>, off| FaultArgs {
        kind,
        target: target.map(str::to_owned),
        off,
        data_dir: None,
        http: Some(http.clone()),
    };
    let say = async |args| {
        let mut out = Vec::new();
        fault(args, &mut out).await.map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(
        say(verb(FaultVerb::Errors, Some("payments/2"), false)).await.unwrap(),
        "errors on payments/2\n"
    );
    assert!(shop.faults.of("payments-2").unwrap().borrow().errors);
    let both = say(verb(FaultVerb::Latency, Some("payments"), false)).await.unwrap();
    assert_eq!(both, "latency on payments\nerrors on payments/2\n");
    let one = say(verb(FaultVerb::Errors, Some("payments/2"), true)).await.unwrap();
    assert_eq!(one, "latency on payments\n");
    assert_eq!(say(verb(FaultVerb::Clear, None, false)).await.unwrap(), "no faults\n");
    let refused = say(verb(FaultVerb::Outage, Some("bank"), false)).await.unwrap_err();
    assert!(refused.to_string().contains("bank-api"), "{refused}");

    let stats: serde_json::Value =
        reqwest::get(format!("http://{http}/api/demo/stats")).await.unwrap().json().await.unwrap();
    assert_eq!(stats, serde_json::json!({ "seconds": [] }));
    let bad = reqwest::Client::new().post(format!("http://{http}/api/demo/faults")).json(&1).send();
    let bad = bad.await.unwrap();
    assert!(bad.status().is_client_error());
    let body: serde_json::Value = bad.json().await.unwrap();
    assert!(body["error"]["message"].is_string(), "{body}");
}

#[test]
fn the_command_line_of_the_demo_is_sound() {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        demo: DemoArgs,
    }
    <Cli as clap::CommandFactory>::command().debug_assert();
    let parse = |line: &str| <Cli as clap::Parser>::try_parse_from(line.split(' ')).map(|cli| cli.demo);
    assert!(parse("demo --duration 30s --seed 7 --no-open --http 127.0.0.1:0 --local-breaker off").is_ok());
    assert!(matches!(parse("demo fault latency payments/2").unwrap().verb, Some(DemoVerb::Fault(_))));
    assert!(parse("demo fault clear").is_ok());
    assert!(parse("demo fault outage").is_err());
    assert!(parse("demo --rate 0").is_err());
    assert!(parse("demo app --service payments --upstream bank=http://127.0.0.1:1 --grpc").is_ok());
    assert!(parse("demo app --service payments --upstream bank").is_err());
    assert!(parse("demo drive --to http://127.0.0.1:1/x --rate 5 --duration 3 --json out").is_ok());
}

mod open_shop;
