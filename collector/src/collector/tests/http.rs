//! OTLP over HTTP.

use std::io::Write as _;

use ::http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

impl Running {
    async fn post(&self, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
        self.post_to("/v1/traces", headers, body).await
    }

    async fn post_to(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.http)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    }

    async fn post_protobuf(&self, body: Vec<u8>) -> Response {
        self.post(&[("content-type", PROTOBUF)], body).await
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn content_type(response: &Response) -> &str {
    response.headers()["content-type"].to_str().unwrap()
}

/// The status, `Retry-After` and `google.rpc.Status` of a refusal in protobuf.
async fn refusal(response: Response) -> (StatusCode, Option<String>, RpcStatus) {
    assert_eq!(content_type(&response), PROTOBUF);
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let status = StatusCode::from_u16(response.status().as_u16()).unwrap();
    (status, retry_after, RpcStatus::decode(response.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn every_encoding_is_taken_and_answered_in_kind() {
    let running = Running::start().await;
    let plain = spans(vec![span(1)]).encode_to_vec();
    let json = serde_json::to_vec(&spans(vec![span(1)])).unwrap();
    let mut expected = 0;
    for (content_type_sent, plain) in [(PROTOBUF, plain), (JSON, json)] {
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        let bodies =
            [("identity", plain.clone()), ("gzip", gzip(&plain)), ("zstd", zstd), ("GZIP", gzip(&plain))];
        for (encoding, body) in bodies {
            let headers = [("content-type", content_type_sent), ("content-encoding", encoding)];
            let response = running.post(&headers, body).await;
            assert_eq!(response.status(), 200, "{encoding}");
            assert_eq!(content_type(&response), content_type_sent);
            let empty: &[u8] = if content_type_sent == JSON { b"{}" } else { b"" };
            assert_eq!(response.bytes().await.unwrap(), empty);
            expected += 1;
            assert_eq!(running.count(Table::Spans), expected);
        }
    }
    assert_eq!(running.metric("weir_collector_requests_total{signal=\"traces\"}"), expected as u64);
    assert_eq!(running.metric("weir_collector_accepted_total{signal=\"traces\"}"), expected as u64);
}

#[tokio::test]
async fn an_answer_means_that_the_rows_are_on_disk() {
    let running = Running::start().await;
    for number in 1..=20 {
        let response = running.post_protobuf(spans(vec![span(number)]).encode_to_vec()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(running.count(Table::Spans), usize::from(number), "visible when the answer arrives");
    }
    // The files as they are now, with the collector still running: what a kill would leave.
    let left = tempfile::tempdir().unwrap();
    copy(running.dir.path(), left.path());
    let storage = open(left.path()).await;
    let rows = rows_of(&storage, Table::Spans);
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn an_empty_request_succeeds_and_stores_nothing() {
    let running = Running::start().await;
    let of = |json: &str| (JSON, json.as_bytes().to_vec());
    for (path, name) in
        [("/v1/traces", "resourceSpans"), ("/v1/metrics", "resourceMetrics"), ("/v1/logs", "resourceLogs")]
    {
        let none = format!("{{\"{name}\":[]}}");
        let hollow = format!("{{\"{name}\":[{{}}]}}");
        // A field 1 of no bytes is a resource with nothing in it.
        let bodies = [(PROTOBUF, vec![]), (PROTOBUF, vec![0x0a, 0]), of("{}"), of(&none), of(&hollow)];
        for (content_type_sent, body) in bodies {
            let response = running.post_to(path, &[("content-type", content_type_sent)], body).await;
            assert_eq!((response.status(), content_type(&response)), (StatusCode::OK, content_type_sent));
            let empty: &[u8] = if content_type_sent == JSON { b"{}" } else { b"" };
            assert_eq!(response.bytes().await.unwrap(), empty, "{path}");
        }
    }
    running.stores_nothing();
}

#[tokio::test]
async fn a_bad_span_is_a_partial_success() {
    let running = Running::start().await;
    let response = running.post_protobuf(one_bad_span().encode_to_vec()).await;
    assert_eq!(response.status(), 200);
    let answer = ExportTraceServiceResponse::decode(response.bytes().await.unwrap()).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert_eq!(partial.error_message, "1 rejected: trace id is not 16 bytes or all zero");

    let json = serde_json::to_vec(&one_bad_span()).unwrap();
    let response = running.post(&[("content-type", JSON)], json).await;
    let answer: serde_json::Value = response.json().await.unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1");
    assert_eq!(answer["partialSuccess"]["errorMessage"], partial.error_message);
    assert_eq!(running.count(Table::Spans), 4);
    let series = "weir_collector_rejected_total{signal=\"traces\",reason=\"bad_trace_id\"}";
    assert_eq!(running.metric(series), 2);
}

#[tokio::test]
async fn malformed_requests_are_refused_with_the_place_in_their_encoding() {
    let running = Running::start().await;
    let cut = spans(vec![span(1)]).encode_to_vec();
    let (status, retry_after, said) =
        refusal(running.post_protobuf(cut[..cut.len() - 3].to_vec()).await).await;
    assert_eq!((status, retry_after, said.code), (StatusCode::BAD_REQUEST, None, 3));
    assert_eq!(said.message, "malformed message at byte 1: length goes beyond the end");

    let response = running.post(&[("content-type", JSON)], b"{\"resourceSpans\":7}".to_vec()).await;
    assert_eq!((response.status().as_u16(), content_type(&response)), (400, JSON));
    let said: serde_json::Value = response.json().await.unwrap();
    assert_eq!(said["code"], 3);
    let message = "malformed JSON: field `resourceSpans` is a number, expected an array at line 1 column 18";
    assert_eq!(said["message"], message);

    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    let (status, _, said) = refusal(running.post(&headers, b"no gzip".to_vec()).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(said.message.starts_with("body does not decompress: "), "{}", said.message);
    assert_eq!(running.count(Table::Spans), 0);
    assert_eq!(running.metric("weir_collector_refused_total{signal=\"traces\",reason=\"malformed\"}"), 3);
}

#[tokio::test]
async fn what_is_not_spoken_here_is_said() {
    let running = Running::start().await;
    let body = spans(vec![span(1)]).encode_to_vec();
    for headers in [
        &[("content-type", "text/plain")][..],
        &[],
        &[("content-type", PROTOBUF), ("content-encoding", "br")],
        &[("content-type", JSON), ("content-encoding", "gzip, gzip")],
    ] {
        let response = running.post(headers, body.clone()).await;
        assert_eq!(response.status(), 415, "{headers:?}");
        assert!(response.text().await.unwrap().contains("none of `gzip`") || headers.len() < 2);
    }
    let with_charset = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(running.post(&with_charset, b"{}".to_vec()).await.status(), 200);
    let client = reqwest::Client::new();
    let get = client.get(format!("http://{}/v1/traces", running.http)).send().await.unwrap();
    assert_eq!(get.status(), 405);
    let elsewhere = client.post(format!("http://{}/v1/profiles", running.http)).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
}

#[tokio::test]
async fn sixty_four_mebibytes_are_the_limit_before_and_after_decompression() {
    let running = Running::start().await;
    // An unknown field that is filled up to the limit: valid, and nothing to store.
    let payload = limits::OTLP_REQUEST_BYTES - 6;
    let mut largest = vec![0xfa, 0x01];
    prost::encoding::encode_varint(payload as u64, &mut largest);
    largest.resize(limits::OTLP_REQUEST_BYTES, 0);
    assert_eq!(running.post_protobuf(largest.clone()).await.status(), 200);
    largest.push(0);
    let zipped = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    let bomb = gzip(&largest);
    for response in [running.post_protobuf(largest).await, running.post(&zipped, bomb).await] {
        let (status, retry_after, said) = refusal(response).await;
        assert_eq!((status, retry_after, said.code), (StatusCode::PAYLOAD_TOO_LARGE, None, 8));
        assert_eq!(said.message, "request is larger than 64 MiB");
        assert_eq!(said.retry_delay(), None, "which would ask for the same again");
    }
}

#[tokio::test]
async fn a_full_collector_says_when_to_come_back() {
    let running = Running::start().await;
    let full = running.overload();
    let body = spans(vec![span(1)]).encode_to_vec();
    let (status, retry_after, said) = refusal(running.post_protobuf(body.clone()).await).await;
    assert_eq!((status, retry_after.as_deref()), (StatusCode::TOO_MANY_REQUESTS, Some("1")));
    assert_eq!((said.code, said.retry_delay()), (14, Some(1)));
    let json = serde_json::to_vec(&spans(vec![span(1)])).unwrap();
    let said: serde_json::Value = running.post(&[("content-type", JSON)], json).await.json().await.unwrap();
    assert_eq!(said["details"][0]["@type"], "type.googleapis.com/google.rpc.RetryInfo");
    assert_eq!(said["details"][0]["retryDelay"], "1.000s");
    drop(full);
    assert_eq!(running.post_protobuf(body).await.status(), 200);
    assert_eq!(running.metric("weir_collector_refused_total{signal=\"traces\",reason=\"overloaded\"}"), 2);
}

#[tokio::test]
async fn a_storage_that_has_stopped_is_unavailable() {
    let running = Running::start().await;
    running.storage.clone().close().await.unwrap();
    let (status, retry_after, said) =
        refusal(running.post_protobuf(spans(vec![span(1)]).encode_to_vec()).await).await;
    assert_eq!((status, retry_after), (StatusCode::SERVICE_UNAVAILABLE, None));
    assert_eq!((said.code, said.retry_delay()), (14, None));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let running = Running::start().await;
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: 10\r\n\r\n{{"
    );
    tokio::time::pause();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request did not arrive within 30 s"), "{answer}");
}

#[tokio::test]
async fn a_body_cut_short_stores_nothing() {
    let running = Running::start().await;
    let body = spans(vec![span(1)]).encode_to_vec();
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    let length = body.len() + 1;
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    let malformed = "weir_collector_refused_total{signal=\"traces\",reason=\"malformed\"}";
    until("the request is refused", || running.metric(malformed) == 1).await;
    assert_eq!(running.count(Table::Spans), 0);
}

#[tokio::test]
async fn zipkin_spans_are_stored_like_all_others() {
    let running = Running::start().await;
    let post = |content_type: &'static str, body: &str| {
        let request = reqwest::Client::new().post(format!("http://{}/api/v2/spans", running.http));
        request.header("content-type", content_type).body(body.to_owned()).send()
    };
    let good = r#"{"traceId":"463ac35c9f6413ad","id":"a2fb4a1d1a96d312","name":"get","kind":"CLIENT","timestamp":1795000000000000,
        "duration":1431,"localEndpoint":{"serviceName":"web"},"remoteEndpoint":{"serviceName":"db"},"tags":{"sql":"select"}}"#;
    let response = post(JSON, &format!(r#"[{good}, {{"traceId":"no hex","id":"1"}}]"#)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.bytes().await.unwrap().len()), (202, 0));
    assert_eq!(running.count(Table::Spans), 1, "the other one has no trace id");
    assert_eq!(running.metric("weir_collector_accepted_total{signal=\"traces\"}"), 1);
    let rows = running.rows(Table::Spans).remove(0);
    let shown = |name: &str| {
        arrow::util::display::array_value_to_string(rows.column_by_name(name).unwrap(), 0).unwrap()
    };
    assert_eq!(
        (shown("service"), shown("name"), shown("duration_ns")),
        ("web".into(), "get".into(), "1431000".into())
    );
    assert_eq!(shown("trace_id"), "0000000000000000463ac35c9f6413ad");

    let mistyped = r#"{"traceId":"1","id":"2","name":3}"#;
    let response = post(JSON, &format!("[{mistyped},{}]", good.replace("312", "313"))).await.unwrap();
    assert_eq!((response.status().as_u16(), running.count(Table::Spans)), (202, 2));
    let rejected = |reason| format!("weir_collector_rejected_total{{signal=\"traces\",reason=\"{reason}\"}}");
    assert_eq!(running.metric(&rejected("bad_form")), 1);

    let response = post(JSON, "[{").await.unwrap();
    assert_eq!(response.status().as_u16(), 400);
    assert!(response.text().await.unwrap().contains("line 1 column 2"));
    assert_eq!(post(PROTOBUF, "").await.unwrap().status().as_u16(), 415);
    assert_eq!(post(JSON, "[]").await.unwrap().status().as_u16(), 202);
}
