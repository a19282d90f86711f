//! One request on a connection to an endpoint, and its response, whose body brings the connection home.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::decode::{Decoded, Decoder};
use super::encode::{self, Cut, Writer};
use super::head::{self, ResponseHead};
use super::{Length, Malformed};
use crate::body::{BodyError, Incoming, RequestBody};
use crate::forward::Head;
use crate::io::Conn;
use crate::pool::Pool;

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) conn: Conn,
    /// Of the service's encryption when it was made.
    pub(crate) generation: u32,
    /// Requests it has served.
    pub(crate) served: u32,
    /// Idle since then.
    pub(crate) since: Instant,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoResponse {
    #[error("{0}")]
    Broken(#[from] io::Error),
    #[error("connection closed")]
    Closed,
    #[error("malformed response: {0}")]
    Malformed(#[from] Malformed),
    #[error("the request broke off")]
    RequestCut,
}

/// A request that brought no response.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) error: NoResponse,
    /// The body, where none of it was taken and nothing was heard of the endpoint.
    pub(crate) body: Option<RequestBody>,
}

/// The body of a request on its way.
#[derive(Debug)]
struct Upload {
    body: RequestBody,
    writer: Writer,
}

impl Upload {
    /// Ready when nothing more is to be sent.
    fn poll(&mut self, mut conn: &mut Conn, cx: &mut Context<'_>) -> Poll<Result<(), Cut<BodyError>>> {
        self.writer.poll(&mut self.body, &mut conn, cx)
    }
}

/// Sends a request and waits for the head of its response.
pub(crate) async fn send(
    mut client: Box<Client>,
    head: &Head,
    body: RequestBody,
    home: &Arc<Pool>,
) -> Result<Response<Incoming>, Unanswered> {
    let length = match (body.is_end_stream(), body.size_hint().exact()) {
        (true, _) | (_, Some(0)) => Length::None,
        (false, Some(length)) => Length::Exact(length),
        (false, None) => Length::Chunked,
    };
    encode::request(&mut client.conn.output, head, length);
    let mut upload = Some(Upload { body, writer: Writer::new(length) });
    let mut seen = 0;
    let received = std::future::poll_fn(|cx| {
        if let Some(sending) = &mut upload {
            match sending.poll(&mut client.conn, cx) {
                Poll::Ready(Ok(())) if length != Length::None => upload = None,
                // A body that was never asked for is kept for another connection.
                Poll::Ready(Ok(())) | Poll::Pending => {}
                // A server may answer and close without reading all of a request.
                Poll::Ready(Err(Cut::Write(_))) if length != Length::None => upload = None,
                Poll::Ready(Err(Cut::Write(error))) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Err(Cut::Body(_) | Cut::Length)) => {
                    return Poll::Ready(Err(NoResponse::RequestCut));
                }
            }
        }
        poll_head(&mut client.conn, &mut seen, head, cx)
    })
    .await;
    let received = match received {
        Ok(received) => received,
        Err(error) => {
            let silent = client.conn.input.is_empty() && !matches!(error, NoResponse::Malformed(_));
            let body = upload.filter(|_| silent && length == Length::None).map(|upload| upload.body);
            return Err(Unanswered { error, body });
        }
    };
    // One that is taken to its end and not sent to its end goes on beside the response.
    let upload = upload.filter(|_| length != Length::None);
    let ResponseHead { parts, length, keep_alive } = received;
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Response::from_parts(parts, Incoming::Upgraded(client)));
    }
    client.served = client.served.saturating_add(1);
    let decoder = Decoder::new(length);
    let mut body = ResponseBody { client: Some(client), decoder, upload, keep_alive, home: Arc::clone(home) };
    if decoder.is_done() {
        body.bring_home();
        return Ok(Response::from_parts(parts, Incoming::Empty));
    }
    Ok(Response::from_parts(parts, Incoming::Response(Box::new(body))))
}

fn poll_head(
    conn: &mut Conn,
    seen: &mut usize,
    request: &Head,
    cx: &mut Context<'_>,
) -> Poll<Result<ResponseHead, NoResponse>> {
    loop {
        if conn.input.len() > *seen
            && let Some(head) = head::response(&mut conn.input, seen, &request.method)?
        {
            let status = head.parts.status;
            if status == StatusCode::SWITCHING_PROTOCOLS && request.upgrade.is_none() {
                let reason = "protocol change that was not asked for";
                return Poll::Ready(Err(Malformed { status: 502, reason }.into()));
            }
            // Interim responses end here.
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Ok(head));
            }
            continue;
        }
        if std::task::ready!(conn.poll_fill(cx))? == 0 {
            return Poll::Ready(Err(NoResponse::Closed));
        }
    }
}

/// The body of a response, as it comes.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    client: Option<Box<Client>>,
    decoder: Decoder,
    upload: Option<Upload>,
    keep_alive: bool,
    home: Arc<Pool>,
}

impl ResponseBody {
    /// The connection may serve another request, if nothing is left on it.
    fn bring_home(&mut self) {
        let Some(client) = self.client.take() else { return };
        let clean = self.upload.is_none() && client.conn.input.is_empty() && client.conn.output.is_empty();
        if self.keep_alive && clean {
            self.home.put(client);
        }
    }

    pub(crate) fn progress(&mut self, cx: &mut Context<'_>) {
        if let (Some(upload), Some(client)) = (&mut self.upload, &mut self.client) {
            match upload.poll(&mut client.conn, cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.upload = None,
                Poll::Ready(Err(_)) => {
                    self.upload = None;
                    self.keep_alive = false;
                }
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress(cx);
        let this = &mut *self;
        loop {
            let Some(client) = &mut this.client else { return Poll::Ready(None) };
            let decoded = match this.decoder.decode(&mut client.conn.input) {
                Ok(decoded) => decoded,
                Err(error) => {
                    this.client = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            };
            match decoded {
                Decoded::Data(data) => {
                    if this.decoder.is_done() {
                        this.bring_home();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Decoded::End(trailers) => {
                    this.bring_home();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Decoded::NeedMore => match std::task::ready!(client.conn.poll_fill(cx)) {
                    Ok(0) if this.decoder.ends_with_connection() => {
                        this.client = None;
                        this.decoder = Decoder::Done;
                        return Poll::Ready(None);
                    }
                    Ok(0) => {
                        this.client = None;
                        return Poll::Ready(Some(Err(BodyError::Truncated)));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        this.client = None;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
