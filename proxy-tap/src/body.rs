//! Bodies on their way through: requests that can be sent again, responses whose end is noticed.
//!
//! Nothing is collected; the only bytes kept are the first [`limits::RETRY_BODY_BYTES`] of a request that
//! may be retried.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use weir_model::limits;

use crate::attempt::Ending;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the other side broke off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("a newer attempt took the request over")]
    Superseded,
}

/// A request body as an upstream connection sends it.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// Passed on as it comes, and counted.
    Once(Incoming, Arc<AtomicU64>),
    /// Passed on and remembered.
    Again { source: Arc<Replay>, attempt: u32, next: usize },
}

/// A request body that is remembered while it is short.
#[derive(Debug)]
pub(crate) struct Replay {
    inner: Mutex<Remembered>,
    counter: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Remembered {
    body: Incoming,
    frames: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    /// More came than is remembered, so there is no second attempt.
    overflowed: bool,
    ended: bool,
    attempt: u32,
}

impl Replay {
    pub(crate) fn new(body: Incoming, counter: Arc<AtomicU64>) -> Arc<Self> {
        let inner = Remembered {
            body,
            frames: Vec::new(),
            trailers: None,
            size: 0,
            overflowed: false,
            ended: false,
            attempt: 0,
        };
        Arc::new(Self { inner: Mutex::new(inner), counter })
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
        counter: &AtomicU64,
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
            counter.fetch_add(data.len() as u64, Ordering::Relaxed);
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
            Self::Once(body, counter) => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
                if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
                    counter.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Self::Again { source, attempt, next } => {
                let mut inner = source.inner.lock().unwrap_or_else(PoisonError::into_inner);
                if inner.attempt != *attempt {
                    return Poll::Ready(Some(Err(BodyError::Superseded)));
                }
                inner.poll(cx, next, &source.counter)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body, _) => body.is_end_stream(),
            Self::Again { source, next, .. } => {
                let inner = source.inner.lock().unwrap_or_else(PoisonError::into_inner);
                *next >= inner.frames.len() && inner.trailers.is_none() && inner.body.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
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
    Observed { body: Incoming, ending: Option<Box<Ending>> },
}

impl ReplyBody {
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(text.into()))
    }

    /// Passes `body` on and tells `ending` when it is over.
    pub(crate) fn observed(body: Incoming, ending: Box<Ending>) -> Self {
        if body.is_end_stream() {
            ending.complete(None);
            return Self::Observed { body, ending: None };
        }
        Self::Observed { body, ending: Some(ending) }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (body, ending) = match self.get_mut() {
            Self::Full(full) => {
                return Pin::new(full).poll_frame(cx).map_err(|never| match never {});
            }
            Self::Observed { body, ending } => (body, ending),
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        let Some(open) = ending else {
            return Poll::Ready(frame);
        };
        match &frame {
            Some(Ok(part)) => {
                if let Some(data) = part.data_ref() {
                    open.received(data.len());
                }
                let last = part.is_trailers() || body.is_end_stream();
                if last && let Some(open) = ending.take() {
                    open.complete(part.trailers_ref());
                }
            }
            Some(Err(_)) => {
                if let Some(open) = ending.take() {
                    open.broke_off();
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
            Self::Observed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Observed { body, .. } => body.size_hint(),
        }
    }
}
