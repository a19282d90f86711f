//! HTTP/2 connections to one endpoint, of one worker: many requests share one, up to its bounds.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::client::conn::http2::SendRequest;
use tokio::time::Instant;

use super::terms::Terms;
use crate::body::RequestBody;

pub(super) type Http2 = SendRequest<RequestBody>;

/// The connections, oldest first.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Vec<Connection>>);

#[derive(Debug)]
struct Connection {
    sender: Http2,
    streams: Arc<Streams>,
    /// Requests it was given.
    served: u32,
    /// Since when it was seen without a stream, and what it had served by then.
    idle: Option<(Instant, u32)>,
}

/// The streams of one connection.
#[derive(Debug)]
struct Streams {
    open: AtomicU32,
    terms: Arc<Terms>,
}

/// A request has a stream of a connection while this lives.
#[derive(Debug)]
pub(crate) struct Stream(Arc<Streams>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.terms.freed();
    }
}

impl Connection {
    fn has_streams(&self) -> bool {
        self.streams.open.load(Ordering::SeqCst) > 0
    }
}

impl Shared {
    /// A stream of the first connection that has room for one. A connection that has served enough is let go of: it
    /// ends with its streams.
    pub(super) fn join(&self, terms: &Terms) -> Option<(Http2, Stream)> {
        let (max_streams, max_requests) = (terms.max_streams(), terms.max_requests());
        let mut all = self.lock();
        let mut i = 0;
        while i < all.len() {
            let one = &mut all[i];
            if one.sender.is_closed() || one.served >= max_requests {
                all.remove(i);
                continue;
            }
            if one.streams.open.load(Ordering::SeqCst) < max_streams {
                one.streams.open.fetch_add(1, Ordering::SeqCst);
                one.served += 1;
                let stream = Stream(Arc::clone(&one.streams));
                let is_last = one.served >= max_requests;
                let sender = if is_last { all.remove(i).sender } else { one.sender.clone() };
                return Some((sender, stream));
            }
            i += 1;
        }
        None
    }

    /// Adds a new connection of this generation, of which the first stream is returned. Where another one has room by
    /// now, as when many requests come at once to an endpoint without any, it serves that stream alone.
    pub(super) fn add(&self, sender: &Http2, generation: u32, terms: &Arc<Terms>) -> Stream {
        let streams = Arc::new(Streams { open: AtomicU32::new(1), terms: Arc::clone(terms) });
        let stream = Stream(Arc::clone(&streams));
        let max_streams = terms.max_streams();
        let mut all = self.lock();
        let has_room = |one: &Connection| one.streams.open.load(Ordering::SeqCst) < max_streams;
        let serves_more = terms.max_requests() > 1 && terms.generation() == generation;
        if serves_more && !all.iter().any(|one| !one.sender.is_closed() && has_room(one)) {
            all.push(Connection { sender: sender.clone(), streams, served: 1, idle: None });
            terms.shared();
        }
        stream
    }

    /// Closes connections that had no stream for too long, and lets go of those that have ended.
    pub(super) fn expire(&self, now: Instant, terms: &Terms) {
        self.lock().retain_mut(|one| {
            if one.sender.is_closed() {
                return false;
            }
            one.idle = match one.idle {
                _ if one.has_streams() => None,
                Some(known) if known.1 == one.served => Some(known),
                _ => Some((now, one.served)),
            };
            one.idle.is_none_or(|(since, _)| now.saturating_duration_since(since) < terms.idle())
        });
    }

    /// Closes one that has no stream; whether there is one.
    pub(super) fn close_one(&self) -> bool {
        let mut all = self.lock();
        let idle = all.iter().position(|one| !one.has_streams());
        idle.map(|i| all.remove(i)).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
