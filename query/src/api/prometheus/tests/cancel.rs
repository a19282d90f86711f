//! Queries that are many, long, or no longer waited for, over real connections.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A thousand million samples to look at.
const ENDLESS: &str = "max_over_time(max_over_time(vector(1)[1h:1s])[10d:1s])";
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of one query at a time, and of `waiting` that wait.
async fn serve(waiting: usize) -> (SocketAddr, Arc<Engine>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { threads: 2, queries: 1, waiting, ..EngineOptions::new(testdata::clock()) };
    let engine = Arc::new(Engine::new(open(&folder).await, options).unwrap());
    let state = State::new(Arc::clone(&engine), TenantId::default(), testdata::clock());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, api::router(state)).await.unwrap() });
    (address, engine, folder)
}

async fn ask(address: SocketAddr, pairs: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /api/v1/query?{} HTTP/1.0\r\n\r\n", encoded(pairs));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(PATIENCE, read).await.expect("an answer in time").unwrap();
    text
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_query_ends_when_its_client_goes() {
    let (address, engine, _folder) = serve(10).await;
    let stream = ask(address, &[("query", ENDLESS)]).await;
    until("it runs", || engine.running() == 1).await;
    drop(stream);
    until("it has ended", || engine.running() == 0).await;
    let next = answer(ask(address, &[("query", "1"), ("time", "0")]).await).await;
    assert!(next.starts_with("HTTP/1.0 200 OK"), "{next}");
}

#[tokio::test]
async fn queries_wait_for_their_turn_and_no_more_than_may() {
    let (address, engine, _folder) = serve(1).await;
    let running = ask(address, &[("query", ENDLESS)]).await;
    until("it runs", || engine.running() == 1).await;
    let impatient = answer(ask(address, &[("query", "1"), ("timeout", "50ms")]).await).await;
    assert!(impatient.starts_with("HTTP/1.0 503 Service Unavailable"), "{impatient}");
    let body = r#"{"error":"query timed out in query queue","errorType":"timeout","status":"error"}"#;
    assert!(impatient.ends_with(body), "{impatient}");

    // One waits; the next is refused at once, whenever it comes.
    let patient = ask(address, &[("query", "1"), ("time", "0")]).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let body = r#"{"error":"1 queries wait for their turn already; ask again later","errorType":"unavailable","status":"error"}"#;
    loop {
        let refused = answer(ask(address, &[("query", "1"), ("timeout", "50ms")]).await).await;
        if refused.ends_with(body) {
            assert!(refused.starts_with("HTTP/1.0 503 Service Unavailable"), "{refused}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{refused}");
    }
    drop(running);
    let patient = answer(patient).await;
    assert!(patient.starts_with("HTTP/1.0 200 OK"), "{patient}");
}
