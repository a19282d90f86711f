//! Streams whose callers take nothing of their responses: a window that stays closed would hold the endpoint's
//! connection, and what was read of the response, for as long as the caller likes.
//!
//! hyper asks a body for more when there is room for what it had before. So a stream is stalled when its body had
//! something to give and is not asked again; one whose endpoint has nothing to say is not.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep_until};
use weir_model::limits;

use crate::body::{BodyError, ReplyBody};

/// What is taken of a response at once: as much as a frame holds, so that a caller that takes a little now and then
/// is seen to, and little is left when the stream's task has given its last.
const PIECE: usize = 16 << 10;

/// How far a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    /// Frames that were taken of it.
    frames: u64,
    /// The last time it was asked it had one.
    gave: bool,
}

tokio::task_local! {
    /// Of the response that this task sends.
    static PROGRESS: Cell<Progress>;
}

/// A response body that is taken piece by piece, and says when.
#[derive(Debug)]
pub(super) struct Watched {
    body: ReplyBody,
    /// What was too much for one piece.
    rest: Bytes,
}

impl Watched {
    pub(super) fn new(body: ReplyBody) -> Self {
        Self { body, rest: Bytes::new() }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => self.rest = data,
                Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.poll_piece(cx);
        let gave = frame.is_ready();
        let note = |progress: &Cell<Progress>| {
            let frames = progress.get().frames + u64::from(gave);
            progress.set(Progress { frames, gave });
        };
        // Streams are polled by their tasks alone.
        let _ = PROGRESS.try_with(note);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        self.body.size_hint().exact().map_or_else(SizeHint::default, |more| SizeHint::with_exact(more + rest))
    }
}

/// Runs each stream in a task of its own, which ends when the stream stalls; that resets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(PROGRESS.scope(Cell::default(), unless_stalled(stream)));
    }
}

async fn unless_stalled(stream: impl Future) {
    let mut stream = pin!(stream);
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut waiting = None;
    std::future::poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let progress = PROGRESS.with(Cell::get);
        if !progress.gave {
            waiting = None;
            return Poll::Pending;
        }
        if waiting.replace(progress) != Some(progress) {
            timer.as_mut().reset(Instant::now() + limits::HTTP2_STALLED);
        }
        ready!(timer.as_mut().poll(cx));
        tracing::debug!("a caller takes nothing of its response; stream reset");
        Poll::Ready(())
    })
    .await;
}
