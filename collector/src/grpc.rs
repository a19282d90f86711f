//! OTLP over gRPC: unary calls framed here, so that bytes are admitted as they arrive and the request is
//! handed to the decoder as it came.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Full};
use tonic::Status;
use tonic::body::Body;
use weir_model::limits;

use crate::body::{self, Encoding};
use crate::decode::Signal;
use crate::ingest::{Format, Ingest, Request};
use crate::status::{Refusal, response_protobuf};

/// Flag and length before each message.
const PREFIX: usize = 5;

/// The signal that is exported to this path.
pub(crate) fn signal(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        _ => None,
    }
}

/// Answers one `Export` call.
pub(crate) async fn export(
    ingest: Arc<Ingest>,
    signal: Signal,
    request: http::Request<Body>,
) -> Response<Body> {
    ingest.counters.request(signal);
    match take(&ingest, signal, request).await {
        Ok(message) => success(message),
        Err(refusal) => {
            ingest.counters.refused(signal, &refusal);
            tracing::debug!(signal = signal.name(), %refusal, "export refused");
            failure(&refusal)
        }
    }
}

/// The answer to a call of a method that does not exist.
pub(crate) fn unknown_method(path: &str) -> Response<Body> {
    Status::unimplemented(format!("no method `{path}` here")).into_http()
}

async fn take(ingest: &Arc<Ingest>, signal: Signal, request: http::Request<Body>) -> Result<Bytes, Refusal> {
    let encoding = encoding(request.headers())?;
    let mut admitted = ingest.admission.begin();
    let limit = PREFIX + limits::OTLP_REQUEST_BYTES;
    let framed = body::read(request.into_body(), limit, &mut admitted).await?;
    let (compressed, body) = unframe(framed)?;
    let encoding = match (compressed, encoding) {
        (false, _) => None,
        (true, Some(encoding)) => Some(encoding),
        (true, None) => {
            return Err(Refusal::Malformed("message is compressed but `grpc-encoding` is missing".into()));
        }
    };
    let rejected =
        ingest.take(Request { signal, body, encoding, format: Format::Protobuf, admitted }).await?;
    Ok(response_protobuf(&rejected))
}

fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(None),
        Some(b"gzip") => Ok(Some(Encoding::Gzip)),
        Some(b"zstd") => Ok(Some(Encoding::Zstd)),
        Some(_) => Err(Refusal::Unsupported("`grpc-encoding` is none of `gzip`, `zstd`, `identity`".into())),
    }
}

/// Takes the one message of a unary call out of its frame, and says whether it is compressed.
fn unframe(mut framed: Bytes) -> Result<(bool, Bytes), Refusal> {
    let malformed = |reason: &str| Refusal::Malformed(format!("malformed gRPC frame: {reason}"));
    let Some((prefix, _)) = framed.split_first_chunk::<PREFIX>() else {
        return Err(malformed("cut short"));
    };
    let [flag, a, b, c, d] = *prefix;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if framed.len() - PREFIX != len {
        return Err(malformed("length does not fit, one message is expected"));
    }
    let message = framed.split_off(PREFIX);
    match flag {
        0 => Ok((false, message)),
        1 => Ok((true, message)),
        _ => Err(malformed("unknown flag")),
    }
}

fn success(message: Bytes) -> Response<Body> {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn failure(refusal: &Refusal) -> Response<Body> {
    let mut response: Response<Body> = refusal.to_grpc().into_http();
    if matches!(refusal, Refusal::Unsupported(_)) {
        let accepted = HeaderValue::from_static("identity,gzip,zstd");
        response.headers_mut().insert("grpc-accept-encoding", accepted);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_checked() {
        let good = Bytes::from_static(&[1, 0, 0, 0, 2, 8, 9]);
        assert_eq!(unframe(good).unwrap(), (true, Bytes::from_static(&[8, 9])));
        for bad in [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 2, 8], &[0, 0, 0, 0, 0, 1], &[2, 0, 0, 0, 0]] {
            assert!(matches!(unframe(bad.to_vec().into()), Err(Refusal::Malformed(_))), "{bad:?}");
        }
    }
}
