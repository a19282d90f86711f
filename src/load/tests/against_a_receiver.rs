//! Whole runs against a receiver on a real socket.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio_util::sync::CancellationToken;
use weir_model::{Clock, UnixNanos};

use super::super::{LoadArgs, LoadError, Signal, run};
use super::spans_of;
use crate::export::{ExportReply, PartialSuccess};

/// What the receiver does with its `n`th request.
type Script = fn(usize) -> Answer;

#[derive(Clone, Copy)]
enum Answer {
    Take,
    RejectOne,
    /// `UNAVAILABLE` with a RetryInfo of 1 ms.
    Busy,
    /// `UNAVAILABLE` without one.
    Fail,
}

/// A receiver of spans on a free port, and the ids it took.
async fn receiver(script: Script) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let ids = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (ids, seen) = (Arc::clone(&ids), Arc::clone(&seen));
            let service = hyper::service::service_fn(move |request| {
                let n = seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                answer(request, script(n), Arc::clone(&ids))
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service);
            tokio::spawn(connection);
        }
    });
    (addr, taken)
}

type Reply =
    http::Response<StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>>;

async fn answer(
    request: http::Request<Incoming>,
    answer: Answer,
    taken: Arc<Mutex<Vec<String>>>,
) -> Result<Reply, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let spans = spans_of(&body[5..]);
    let ids = spans.iter().map(|span| format!("{} {}", hex(&span.trace_id), hex(&span.span_id)));
    let mut trailers = http::HeaderMap::new();
    let mut reply = ExportReply::default();
    match answer {
        Answer::Take => taken.lock().unwrap().extend(ids),
        Answer::RejectOne => {
            taken.lock().unwrap().extend(ids.skip(1));
            reply.partial_success = Some(PartialSuccess { rejected: 1, message: "one".to_owned() });
        }
        Answer::Busy => {
            trailers.insert("grpc-status", "14".parse().unwrap());
            // google.rpc.Status { details: [Any { RetryInfo { 1 ms } }] }
            let url = b"type.googleapis.com/google.rpc.RetryInfo";
            let mut any = vec![0x0a, url.len() as u8];
            any.extend_from_slice(url);
            any.extend_from_slice(&[0x12, 0x06, 0x0a, 0x04, 0x10, 0xc0, 0x84, 0x3d]);
            let mut status = vec![0x1a, any.len() as u8];
            status.extend(any);
            trailers.insert("grpc-status-details-bin", base64(&status).parse().unwrap());
        }
        Answer::Fail => drop(trailers.insert("grpc-status", "14".parse().unwrap())),
    }
    let mut frames = Vec::new();
    if trailers.is_empty() {
        trailers.insert("grpc-status", "0".parse().unwrap());
        let message = reply.encode_to_vec();
        let mut data = BytesMut::new();
        data.put_u8(0);
        data.put_u32(message.len() as u32);
        data.put(&message[..]);
        frames.push(Ok(Frame::data(data.freeze())));
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let response = http::Response::builder().header("content-type", "application/grpc");
    Ok(response.body(StreamBody::new(futures::stream::iter(frames))).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (i, &b)| word | u32::from(b) << (16 - 8 * i));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

fn clock() -> Clock {
    let since = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Clock::new(move || UnixNanos(since().as_nanos() as u64))
}

fn args(to: SocketAddr) -> LoadArgs {
    LoadArgs {
        signal: Signal::Spans,
        to: to.to_string(),
        rate: 0,
        connections: 2,
        batch: 50,
        attributes: 11,
        duration: Some(Duration::from_secs(60)),
        count: Some(1_000),
        give_up: Duration::from_secs(10),
        seed: 1,
        services: 20,
        operations: 200,
        users: 1_000,
        history: Duration::from_secs(3 * 3600),
        ledger: None,
        json: true,
    }
}

/// Runs against `script` with a ledger; the summary as printed, the ledger, what the receiver took.
async fn run_with_ledger(script: Script) -> (serde_json::Value, Vec<String>, Vec<String>) {
    let (addr, taken) = receiver(script).await;
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let args = LoadArgs { ledger: Some(ledger.clone()), ..args(addr) };
    let mut out = Vec::new();
    run(args, clock(), CancellationToken::new(), &mut out).await.unwrap();
    let lines = std::fs::read_to_string(ledger).unwrap().lines().map(str::to_owned).collect();
    let mut taken = taken.lock().unwrap().clone();
    taken.sort();
    (serde_json::from_slice(&out).unwrap(), lines, taken)
}

#[tokio::test]
async fn the_count_is_acknowledged_and_the_ledger_is_what_was_taken() {
    let (summary, mut ledger, taken) = run_with_ledger(|_| Answer::Take).await;
    ledger.sort();
    assert_eq!(ledger, taken);
    assert_eq!(ledger.iter().collect::<HashSet<_>>().len(), 1_000);
    assert_eq!(summary["acknowledged"], 1_000);
    assert_eq!(summary["requests"], 20);
    assert_eq!(summary["failed"], 0);
    assert!(summary["latency_ms"]["max"].as_f64() > Some(0.0));
}

#[tokio::test]
async fn a_refused_batch_is_sent_again_and_a_failed_one_is_not() {
    let script = |n| match n {
        3 | 4 => Answer::Busy,
        6 => Answer::Fail,
        _ => Answer::Take,
    };
    let (summary, mut ledger, taken) = run_with_ledger(script).await;
    ledger.sort();
    assert_eq!(ledger, taken);
    assert_eq!(summary["acknowledged"], 1_000);
    assert_eq!(summary["overloaded"], 2);
    assert_eq!((&summary["failed"], &summary["failed_records"]), (&1.into(), &50.into()));
}

#[tokio::test]
async fn a_batch_with_rejected_spans_is_counted_and_not_in_the_ledger() {
    let (summary, ledger, taken) =
        run_with_ledger(|n| if n == 2 { Answer::RejectOne } else { Answer::Take }).await;
    assert_eq!(summary["rejected"], 1);
    assert_eq!(summary["acknowledged"], 999);
    assert_eq!(taken.len(), 999);
    assert_eq!(ledger.len(), 950);
    assert!(ledger.iter().all(|line| taken.binary_search(line).is_ok()));
}

#[tokio::test]
async fn a_run_without_any_acknowledgement_is_an_error() {
    let (addr, _) = receiver(|_| Answer::Fail).await;
    let args = LoadArgs { give_up: Duration::from_millis(10), ..args(addr) };
    let ended = run(args, clock(), CancellationToken::new(), &mut Vec::new()).await;
    assert!(matches!(ended, Err(LoadError::Nothing { .. })), "{ended:?}");
    let nowhere = LoadArgs { to: "nowhere".to_owned(), ..super::against_a_receiver::args(addr) };
    let ended = run(nowhere, clock(), CancellationToken::new(), &mut Vec::new()).await;
    assert!(matches!(ended, Err(LoadError::Address { .. })), "{ended:?}");
}
