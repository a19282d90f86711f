//! One OTLP/gRPC export: bytes out, and what the collector said about them.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Acknowledged, but for `rejected` records.
    Acknowledged {
        /// Records that the collector named as bad.
        rejected: u64,
        /// What it said about them.
        message: String,
    },
    /// Nothing was taken; the collector said when to send the same again.
    Overloaded {
        /// Its wish.
        retry_after: Duration,
    },
    /// Failed. Whether anything was stored is unknown, unless the code says it.
    Failed {
        /// What kind of failure.
        code: Code,
        /// What the collector, or the connection to it, said.
        why: String,
    },
}

/// The answer to an export of any signal: all three have the same shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportReply {
    #[prost(message, optional, tag = "1")]
    pub(crate) partial_success: Option<PartialSuccess>,
}

/// Which part of a request was not taken.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(crate) rejected: i64,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// `google.rpc.Status`, as `grpc-status-details-bin` carries it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyDetail>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyDetail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Where `to`, as `host:port` or a URL, leads; `None` where it is no address.
pub(crate) fn endpoint(to: &str) -> Option<Endpoint> {
    let url = if to.contains("://") { to.to_owned() } else { format!("http://{to}") };
    let endpoint = Endpoint::from_shared(url).ok()?;
    endpoint.uri().port()?;
    Some(
        endpoint
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20),
    )
}

/// Sends `body` to the export method at `path`.
pub(crate) async fn export(channel: &Channel, path: &'static str, body: Bytes) -> Outcome {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    if let Err(error) = grpc.ready().await {
        return Outcome::Failed { code: Code::Unavailable, why: error.to_string() };
    }
    let path = http::uri::PathAndQuery::from_static(path);
    match grpc.unary(Request::new(body), path, RawCodec).await {
        Ok(reply) => {
            let partial = reply.into_inner().partial_success.unwrap_or_default();
            Outcome::Acknowledged { rejected: partial.rejected.max(0) as u64, message: partial.message }
        }
        Err(status) => outcome_of(&status),
    }
}

/// What a failed call means. Only a refusal that names a delay is known to have stored nothing.
fn outcome_of(status: &Status) -> Outcome {
    let overloaded = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
    match retry_after(status.details()) {
        Some(retry_after) if overloaded => Outcome::Overloaded { retry_after },
        _ => Outcome::Failed { code: status.code(), why: status.message().to_owned() },
    }
}

/// The delay in a status' details, if there is one.
fn retry_after(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let detail = status.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(detail.value.as_slice()).ok()?.delay?;
    let nanos = u32::try_from(delay.nanos).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, nanos))
}

/// A codec whose requests are encoded already.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = ExportReply;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.len());
        dst.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = ExportReply;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<ExportReply>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        let reply = ExportReply::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(seconds: i64, nanos: i32) -> Bytes {
        let info = RetryInfo { delay: Some(Delay { seconds, nanos }) };
        let detail = AnyDetail {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        RpcStatus { details: vec![detail] }.encode_to_vec().into()
    }

    #[test]
    fn a_refusal_with_a_delay_is_overload_and_one_without_is_a_failure() {
        let busy = Status::with_details(Code::Unavailable, "busy", details(1, 500_000_000));
        assert_eq!(outcome_of(&busy), Outcome::Overloaded { retry_after: Duration::from_millis(1500) });
        let gone = Status::unavailable("gone");
        assert!(matches!(outcome_of(&gone), Outcome::Failed { .. }));
        let bad = Status::with_details(Code::InvalidArgument, "bad", details(1, 0));
        assert!(matches!(outcome_of(&bad), Outcome::Failed { .. }));
    }

    #[test]
    fn delays_out_of_range_are_no_delays() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(retry_after(&details(seconds, nanos)), None, "{seconds} {nanos}");
        }
        assert_eq!(retry_after(b"\xff\xff"), None);
    }
}
