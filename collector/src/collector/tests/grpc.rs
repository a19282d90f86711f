//! OTLP over gRPC.

use ::http::uri::PathAndQuery;
use bytes::{BufMut, Bytes};
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::*;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

impl Running {
    async fn channel(&self) -> Channel {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Calls as a sender's SDK does.
    async fn export(
        &self,
        request: ExportTraceServiceRequest,
        compressed: bool,
    ) -> Result<ExportTraceServiceResponse, Status> {
        let mut client = tonic::client::Grpc::new(self.channel().await);
        if compressed {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.ready().await.unwrap();
        let codec = ProstCodec::<ExportTraceServiceRequest, ExportTraceServiceResponse>::default();
        let request = tonic::Request::new(request);
        Ok(client.unary(request, PathAndQuery::from_static(EXPORT), codec).await?.into_inner())
    }

    /// Calls with these bytes as the body; gives the answer's status, wherever it stands.
    async fn call(&self, path: &str, encoding: Option<&str>, body: Vec<u8>) -> (Code, String) {
        let mut request = Request::post(format!("http://{}{path}", self.grpc))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let request = request.body(Body::new(Full::new(Bytes::from(body)))).unwrap();
        let mut channel = self.channel().await;
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        let response = channel.call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
        let status = Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers));
        let status = status.unwrap();
        (status.code(), status.message().to_owned())
    }
}

fn frame(compressed: bool, message: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::from(compressed)];
    out.put_u32(message.len() as u32);
    out.extend_from_slice(message);
    out
}

#[tokio::test]
async fn spans_are_stored_when_the_answer_arrives() {
    let running = Running::start().await;
    for (number, compressed) in [(1, false), (2, true)] {
        let answer = running.export(spans(vec![span(number)]), compressed).await.unwrap();
        assert_eq!(answer, ExportTraceServiceResponse::default());
        assert_eq!(running.count(Table::Spans), usize::from(number));
    }
    let message = spans(vec![span(3)]).encode_to_vec();
    let zstd = zstd::encode_all(message.as_slice(), 1).unwrap();
    assert_eq!(running.call(EXPORT, Some("zstd"), frame(true, &zstd)).await.0, Code::Ok);
    // An encoding that is named need not be used.
    assert_eq!(running.call(EXPORT, Some("gzip"), frame(false, &message)).await.0, Code::Ok);
    assert_eq!(running.count(Table::Spans), 4);
}

#[tokio::test]
async fn an_empty_request_of_every_signal_succeeds_and_stores_nothing() {
    let running = Running::start().await;
    for service in ["trace.v1.TraceService", "metrics.v1.MetricsService", "logs.v1.LogsService"] {
        let path = format!("/opentelemetry.proto.collector.{service}/Export");
        // A field 1 of no bytes is a resource with nothing in it.
        for message in [&[][..], &[0x0a, 0]] {
            let answer = running.call(&path, None, frame(false, message)).await;
            assert_eq!(answer, (Code::Ok, String::new()), "{service}");
        }
    }
    running.stores_nothing();
    for signal in ["traces", "metrics", "logs"] {
        assert_eq!(running.metric(&format!("weir_collector_requests_total{{signal=\"{signal}\"}}")), 2);
    }
}

#[tokio::test]
async fn many_spans_at_once_arrive_in_pieces() {
    let running = Running::start().await;
    let many = (0..3_000_u32).map(|n| Span { name: format!("{n:0500}"), ..span(n as u8 | 1) }).collect();
    running.export(spans(many), false).await.unwrap();
    assert_eq!(running.count(Table::Spans), 3_000);
}

#[tokio::test]
async fn a_bad_span_is_a_partial_success() {
    let running = Running::start().await;
    let partial = running.export(one_bad_span(), false).await.unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert_eq!(partial.error_message, "1 rejected: trace id is not 16 bytes or all zero");
    assert_eq!(running.count(Table::Spans), 2);
}

#[tokio::test]
async fn a_full_collector_says_when_to_come_back() {
    let running = Running::start().await;
    let full = running.overload();
    let status = running.export(spans(vec![span(1)]), false).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let details = RpcStatus::decode(status.details()).unwrap();
    assert_eq!((details.code, details.retry_delay()), (14, Some(1)));
    assert_eq!(details.message, status.message());
    drop(full);
    assert!(running.export(spans(vec![span(1)]), false).await.is_ok());
}

#[tokio::test]
async fn bad_calls_are_refused_and_not_to_be_repeated() {
    let running = Running::start().await;
    let message = spans(vec![span(1)]).encode_to_vec();
    let two = [frame(false, &message), frame(false, &message)].concat();
    let bomb = vec![0; limits::OTLP_REQUEST_BYTES + 1];
    let bomb = zstd::encode_all(bomb.as_slice(), 1).unwrap();
    let cases = [
        (None, frame(false, &message[..9]), Code::InvalidArgument, "malformed message at byte 1"),
        (None, vec![], Code::InvalidArgument, "malformed gRPC frame: cut short"),
        (None, two, Code::InvalidArgument, "malformed gRPC frame: length does not fit"),
        (None, frame(true, &message), Code::InvalidArgument, "`grpc-encoding` is missing"),
        (Some("gzip"), frame(true, &message), Code::InvalidArgument, "body does not decompress"),
        (Some("snappy"), frame(true, &message), Code::Unimplemented, "`grpc-encoding` is none of"),
        (Some("zstd"), frame(true, &bomb), Code::ResourceExhausted, "request is larger than 64 MiB"),
    ];
    for (encoding, body, code, said) in cases {
        let status = running.call(EXPORT, encoding, body).await;
        assert_eq!(status.0, code, "{said}");
        assert!(status.1.contains(said), "{}", status.1);
    }
    let (code, said) = running.call("/weir.Nothing/Here", None, frame(false, &message)).await;
    assert_eq!((code, said.as_str()), (Code::Unimplemented, "no method `/weir.Nothing/Here` here"));
    assert_eq!(running.count(Table::Spans), 0);
}

#[tokio::test]
async fn a_storage_that_has_stopped_is_unavailable() {
    let running = Running::start().await;
    running.storage.clone().close().await.unwrap();
    let status = running.export(spans(vec![span(1)]), false).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(RpcStatus::decode(status.details()).unwrap().retry_delay(), None);
}
