//! Whether a server says by gRPC's health protocol that it is serving: `grpc.health.v1.Health/Check`, in
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use prost::Message;
use weir_model::limits;
use weir_model::semconv::{HEALTH_CHECK_PEER, PEER_HEADER};

use super::Failure;
use super::http::{AGENT, scheme, send_http2};
use crate::call::grpc_status;
use crate::tls::Carries;
use crate::upstream::Endpoint;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub(super) status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

pub(super) async fn check(endpoint: &Endpoint, address: &str, service: &str) -> Result<(), Failure> {
    let question = frame(&HealthCheckRequest { service: service.to_owned() });
    let (scheme, host) = (scheme(endpoint), &endpoint.party.service);
    let request = Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, AGENT)
        .header(PEER_HEADER, HEALTH_CHECK_PEER)
        .body(Full::new(question))
        .map_err(|error| Failure::Request(host.to_string(), error))?;
    let stream = TokioIo::new(super::connect(endpoint, address, Carries::Http2).await?);
    let response = send_http2(stream, request).await?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(Failure::Status(status));
    }
    // An answer without a message has its status in the headers.
    if let Some(code) = grpc_status(response.headers()).filter(|code| *code != 0) {
        return Err(failed(code));
    }
    let body = Limited::new(response.into_body(), limits::HEALTH_ANSWER_BYTES);
    let answer = body.collect().await.map_err(|_| Failure::Malformed)?;
    match answer.trailers().and_then(grpc_status) {
        Some(0) => {}
        Some(code) => return Err(failed(code)),
        None => return Err(Failure::Malformed),
    }
    match unframe(&answer.to_bytes()).map(|answer| answer.status()) {
        Some(ServingStatus::Serving) => Ok(()),
        Some(ServingStatus::NotServing) => Err(Failure::NotServing("NOT_SERVING")),
        Some(ServingStatus::ServiceUnknown) => Err(Failure::NotServing("SERVICE_UNKNOWN")),
        Some(ServingStatus::Unknown) => Err(Failure::NotServing("UNKNOWN")),
        None => Err(Failure::Malformed),
    }
}

fn failed(code: u16) -> Failure {
    if code == 12 { Failure::Unimplemented } else { Failure::Grpc(code) }
}

/// A message as gRPC sends it: a byte that says it is not compressed, its length, itself.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

fn unframe(bytes: &[u8]) -> Option<HealthCheckResponse> {
    let (head, message) = bytes.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    let whole = head[0] == 0 && usize::try_from(length).ok()? == message.len();
    whole.then(|| HealthCheckResponse::decode(message).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_the_protocol_says() {
        assert_eq!(&frame(&HealthCheckRequest { service: String::new() })[..], [0, 0, 0, 0, 0]);
        let named = frame(&HealthCheckRequest { service: "ab".to_owned() });
        assert_eq!(&named[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let status = |bytes: &[u8]| unframe(bytes).map(|answer| answer.status());
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(ServingStatus::Serving));
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 2]), Some(ServingStatus::NotServing));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(ServingStatus::Unknown));
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 77]), Some(ServingStatus::Unknown), "a status of the future");
        for bad in
            [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 3, 8, 1], &[0, 0, 0, 0, 1, 8]]
        {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }
}
