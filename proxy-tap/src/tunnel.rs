//! Bytes passed both ways between a caller and an endpoint, counted, until both have ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use crate::attempt::Ending;
use crate::io::{Broke, Conn, Passing};

/// Whoever counts what goes by.
pub(crate) trait Count {
    /// Bytes came from the caller.
    fn received(&self, bytes: usize);
    /// Bytes went to the caller.
    fn sent(&self, bytes: usize);
}

/// Bytes that went by.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// From the caller to the endpoint.
    pub(crate) to_endpoint: AtomicU64,
    /// From the endpoint to the caller.
    pub(crate) to_caller: AtomicU64,
}

impl Count for Counts {
    fn received(&self, bytes: usize) {
        self.to_endpoint.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn sent(&self, bytes: usize) {
        self.to_caller.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Who broke a connection off that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The caller.
    Down,
    /// The endpoint.
    Up,
}

/// Passes bytes until both directions have ended, or one of them broke: then so does the other side when it is
/// dropped.
pub(crate) async fn pass<C: Count>(down: &mut Conn, up: &mut Conn, counts: &C) -> Result<(), Broken> {
    let passed = until_over(down, up, counts).await;
    match passed {
        Ok(()) => {}
        Err(Broken::Down) => up.reset_on_drop(),
        Err(Broken::Up) => down.reset_on_drop(),
    }
    passed
}

async fn until_over<C: Count>(down: &mut Conn, up: &mut Conn, counts: &C) -> Result<(), Broken> {
    let (mut to, mut from) = (Passing::Open, Passing::Open);
    let mut broken = None;
    std::future::poll_fn(|cx| {
        // What was to be written before goes first.
        let _ = down.poll_flush(cx).map_err(|_| Broken::Down)?;
        let _ = up.poll_flush(cx).map_err(|_| Broken::Up)?;
        let sent = match down.output.is_empty() && up.output.is_empty() {
            _ if broken.is_some() => Poll::Ready(()),
            true => match down.poll_pass(up, &mut to, |n| counts.received(n), cx) {
                // One that takes no more may have said something last, such as why.
                Poll::Ready(Err(Broke::To)) => {
                    broken = Some(Broken::Up);
                    Poll::Ready(())
                }
                Poll::Ready(Err(Broke::From)) => return Poll::Ready(Err(Broken::Down)),
                Poll::Ready(Ok(())) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            },
            false => Poll::Pending,
        };
        let received = match down.output.is_empty() {
            true => up.poll_pass(down, &mut from, |n| counts.sent(n), cx).map_err(|broke| match broke {
                Broke::From => Broken::Up,
                Broke::To => Broken::Down,
            })?,
            false => Poll::Pending,
        };
        match (sent, received) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(broken.map_or(Ok(()), Err)),
            _ => Poll::Pending,
        }
    })
    .await
}

/// A connection that a request opened to an endpoint.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) up: Conn,
    pub(crate) ending: Box<Ending>,
}

impl Tunnel {
    /// Serves the caller's connection until it ends.
    pub(crate) async fn run(mut self: Box<Self>, mut down: Conn) {
        let counts = Counts::default();
        let passed = pass(&mut down, &mut self.up, &counts).await;
        self.ending.tunnelled(&counts, passed);
    }
}
