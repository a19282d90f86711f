//! Bodies on their way through: from either protocol, requests that can be sent again, responses whose end is
//! noticed.
//!
//! Nothing is collected; the only bytes kept are the first [`limits::RETRY_BODY_BYTES`] of a request that
//! may be retried.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use weir_model::limits;

use crate::attempt::Ending;
use crate::call::flag;
use crate::http1::client::{Client, ResponseBody};
use crate::http1::decode::may_trail;
use crate::http1::encode::Source;
use crate::http1::{Malformed, server};
use crate::pool::Stream;
use crate::telemetry::Messages;
use crate::tunnel::Tunnel;

/// How long an endpoint may take to say that a body has ended all of which it has sent.
const END: Duration = Duration::from_secs(1);

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the other side broke off: {0}")]
    Http2(#[from] hyper::Error),
    #[error("the other side broke off: {0}")]
    Broken(#[from] std::io::Error),
    #[error("malformed body: {0}")]
    Malformed(#[from] Malformed),
    #[error("the connection ended before the body did")]
    Truncated,
    #[error("it was not over in time")]
    Late,
    #[error("a newer attempt took the request over")]
    Superseded,
}

/// A body as it comes from the other side.
#[derive(Debug)]
pub(crate) enum Incoming {
    Empty,
    /// Of a request over HTTP/1.
    Request(server::RequestBody),
    /// Of a response over HTTP/1.
    Response(Box<ResponseBody>),
    /// Of a response with the stream that it takes.
    Http2(hyper::body::Incoming, #[allow(dead_code, reason = "it ends with the body")] Option<Stream>),
    /// It broke off before it was passed on.
    Broken,
    /// None: the connection speaks another protocol from here on.
    Upgraded(Box<Client>),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty | Self::Upgraded(_) => Poll::Ready(None),
            Self::Broken => Poll::Ready(Some(Err(BodyError::Truncated))),
            Self::Request(body) => Pin::new(body).poll_frame(cx),
            Self::Response(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body, _) => match std::task::ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(frame) => Poll::Ready(Some(frame.map(proper_trailers).map_err(BodyError::from))),
                // A reset without an error is no end (RFC 9113 section 8.1), unless one came before it.
                None if !body.is_end_stream() => Poll::Ready(Some(Err(BodyError::Truncated))),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Upgraded(_) => true,
            Self::Broken => false,
            Self::Request(body) => body.is_end_stream(),
            Self::Response(body) => body.is_end_stream(),
            Self::Http2(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Upgraded(_) => SizeHint::with_exact(0),
            Self::Broken => SizeHint::default(),
            Self::Request(body) => body.size_hint(),
            Self::Response(body) => body.size_hint(),
            Self::Http2(body, _) => body.size_hint(),
        }
    }
}

/// Counts what goes by of a request.
#[derive(Debug)]
pub(crate) struct Counter {
    bytes: Arc<AtomicU64>,
    /// gRPC messages, where it is gRPC.
    messages: Option<(Arc<AtomicU64>, Messages)>,
}

impl Counter {
    pub(crate) fn new(bytes: Arc<AtomicU64>, messages: Option<Arc<AtomicU64>>) -> Self {
        Self { bytes, messages: messages.map(|count| (count, Messages::default())) }
    }

    fn saw(&mut self, data: &[u8]) {
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some((count, messages)) = &mut self.messages {
            count.fetch_add(messages.feed(data), Ordering::Relaxed);
        }
    }
}

/// Of trailers those that may be.
fn proper_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            let improper: Vec<_> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
            for name in improper {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(other) => other,
    }
}

/// A request body as an upstream connection sends it.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// Passed on as it comes, and counted.
    Once(Incoming, Counter),
    /// All of it, at once.
    Whole(Option<Bytes>),
    /// Passed on and remembered.
    Again { source: Arc<Replay>, attempt: u32, next: usize },
}

/// A request body that is remembered while it is short.
#[derive(Debug)]
pub(crate) struct Replay {
    inner: Mutex<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    body: Incoming,
    counter: Counter,
    frames: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    /// More came than is remembered, so there is no second attempt.
    overflowed: bool,
    ended: bool,
    attempt: u32,
}

impl Replay {
    pub(crate) fn new(body: Incoming, counter: Counter) -> Arc<Self> {
        let inner = Remembered {
            body,
            counter,
            frames: Vec::new(),
            trailers: None,
            size: 0,
            overflowed: false,
            ended: false,
            attempt: 0,
        };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// Whether all that has gone by is remembered.
    pub(crate) fn is_whole(&self) -> bool {
        !self.inner.lock().unwrap_or_else(PoisonError::into_inner).overflowed
    }

    /// The body for one more attempt, or `None` where too much of it has gone by. Earlier attempts end.
    pub(crate) fn body(self: &Arc<Self>) -> Option<RequestBody> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.overflowed {
            return None;
        }
        inner.attempt += 1;
        Some(RequestBody::Again { source: Arc::clone(self), attempt: inner.attempt, next: 0 })
    }
}

impl Remembered {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        next: &mut usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(data) = self.frames.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if self.ended {
            let trailers = self.trailers.clone().filter(|_| *next == self.frames.len());
            *next = self.frames.len() + 1;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let Some(frame) = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            self.ended = true;
            *next = self.frames.len() + 1;
            return Poll::Ready(None);
        };
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            self.counter.saw(data);
            self.remember(data);
            *next = self.frames.len();
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.ended = true;
            *next = self.frames.len() + 1;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn remember(&mut self, data: &Bytes) {
        self.size = self.size.saturating_add(data.len());
        if self.size > limits::RETRY_BODY_BYTES || self.frames.len() >= limits::RETRY_BODY_BYTES / 16 {
            self.overflowed = true;
            self.frames = Vec::new();
        }
        if !self.overflowed {
            self.frames.push(data.clone());
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Once(body, counter) => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
                if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
                    counter.saw(data);
                }
                Poll::Ready(frame)
            }
            Self::Again { source, attempt, next } => {
                let mut inner = source.inner.lock().unwrap_or_else(PoisonError::into_inner);
                if inner.attempt != *attempt {
                    return Poll::Ready(Some(Err(BodyError::Superseded)));
                }
                inner.poll(cx, next)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(None) => true,
            Self::Whole(Some(bytes)) => bytes.is_empty(),
            Self::Once(body, _) => body.is_end_stream(),
            Self::Again { source, next, .. } => {
                let inner = source.inner.lock().unwrap_or_else(PoisonError::into_inner);
                *next >= inner.frames.len() && inner.trailers.is_none() && inner.body.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Once(body, _) => body.size_hint(),
            Self::Again { source, next, .. } => {
                let inner = source.inner.lock().unwrap_or_else(PoisonError::into_inner);
                let rest: usize = inner.frames.iter().skip(*next).map(Bytes::len).sum();
                match inner.body.size_hint().exact() {
                    Some(more) => SizeHint::with_exact(more + rest as u64),
                    None => SizeHint::default(),
                }
            }
        }
    }
}

/// A response body as a listener sends it.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// Made here.
    Full(Full<Bytes>),
    /// From upstream; reports how the call ended.
    Observed { body: Incoming, ending: Option<Box<Ending>>, end: Option<Pin<Box<Sleep>>> },
    /// None: caller and endpoint speak another protocol from here on.
    Tunnel(Box<Tunnel>),
}

impl ReplyBody {
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(text.into()))
    }

    /// Passes `body` on until `end`, and tells `ending` when it is over.
    pub(crate) fn observed(body: Incoming, ending: Box<Ending>, end: Option<Instant>) -> Self {
        if body.is_end_stream() {
            ending.complete(None);
            return Self::Observed { body, ending: None, end: None };
        }
        Self::Observed { body, ending: Some(ending), end: end.map(|end| Box::pin(sleep_until(end))) }
    }

    /// Its bytes are passed on, and whoever reads them needs no more. An endpoint may say over HTTP/2 that they were
    /// the last with a frame of its own: a stream that is dropped before that is reset, and its call not whole.
    pub(crate) fn let_end(mut self) {
        if matches!(&self, Self::Observed { body: body @ Incoming::Http2(..), .. } if !body.is_end_stream()) {
            let rest = async move { while let Some(Ok(_)) = self.frame().await {} };
            tokio::spawn(timeout(END, rest));
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (body, ending, end) = match self.get_mut() {
            Self::Tunnel(_) => return Poll::Ready(None),
            Self::Full(full) => {
                return Pin::new(full).poll_frame(cx).map_err(|never| match never {});
            }
            Self::Observed { body, ending, end } => (body, ending, end),
        };
        if let Some(end) = end
            && let Some(late) = ending.take_if(|_| end.as_mut().poll(cx).is_ready())
        {
            late.broke_off(flag::TIMEOUT);
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        let Some(open) = ending else {
            return Poll::Ready(frame);
        };
        match &frame {
            Some(Ok(part)) => {
                if let Some(data) = part.data_ref() {
                    open.received(data);
                }
                let last = part.is_trailers() || body.is_end_stream();
                if last && let Some(open) = ending.take() {
                    open.complete(part.trailers_ref());
                }
            }
            Some(Err(_)) => {
                if let Some(open) = ending.take() {
                    open.broke_off(flag::RESET);
                }
            }
            None => {
                if let Some(open) = ending.take() {
                    open.complete(None);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Tunnel(_) => true,
            Self::Observed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Tunnel(_) => SizeHint::with_exact(0),
            Self::Observed { body, .. } => body.size_hint(),
        }
    }
}

impl Source for RequestBody {
    fn progress(&mut self, _cx: &mut Context<'_>) {}
}

impl Source for ReplyBody {
    /// A server may read a request only as far as its response is read.
    fn progress(&mut self, cx: &mut Context<'_>) {
        if let Self::Observed { body: Incoming::Response(body), .. } = self {
            body.progress(cx);
        }
    }
}
