//! An export over gRPC, in the parts that it has: nothing is put together or copied on the way.
//!
//! Format: github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::client::GrpcService;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::outbox::Batch;

/// Bytes of an answer that are read. One to an export has few, and nobody looks at them.
const ANSWER_BYTES: usize = 1 << 20;

/// Sends a batch; the status is the collector's, or says why there is none.
pub(super) async fn send(mut channel: Channel, batch: Batch) -> Result<(), Status> {
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let is_ready = poll_fn(|cx| GrpcService::<tonic::body::Body>::poll_ready(&mut channel, cx)).await;
    is_ready.map_err(unavailable)?;
    let mut request = Request::new(tonic::body::Body::new(Parts::of(batch.parts)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(batch.signal.path());
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let (head, mut body) = channel.call(request).await.map_err(unavailable)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(Status::new(code(head.status), format!("the collector answered {}", head.status)));
    }
    if let Some(status) = Status::from_header_map(&head.headers) {
        return told(status);
    }
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > ANSWER_BYTES {
            return Err(Status::out_of_range(format!("the answer is longer than {ANSWER_BYTES} bytes")));
        }
        if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
            return told(status);
        }
    }
    Err(Status::unknown("the answer has no status"))
}

fn told(status: Status) -> Result<(), Status> {
    if status.code() == Code::Ok { Ok(()) } else { Err(status) }
}

/// What an HTTP status without a gRPC one means, as gRPC has it.
fn code(status: StatusCode) -> Code {
    match status.as_u16() {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// A body that is there already.
#[derive(Debug)]
struct Parts {
    parts: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl Parts {
    fn of(parts: Vec<Bytes>) -> Self {
        Self { left: parts.iter().map(|part| part.len() as u64).sum(), parts: parts.into_iter() }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.parts.next();
        self.left -= next.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(next.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
