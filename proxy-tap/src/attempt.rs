//! One attempt of a call at one endpoint, and how it ends: counted on the edge, told to the breaker, its
//! connection given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;
use tokio::time::Instant;
use weir_model::semconv::edge;

use crate::balance::End;
use crate::breaker::{Kind, Outcome};
use crate::call::{Call, Direction, Party, class, flag, grpc_status};
use crate::concurrency::Permit;
use crate::config::Protocol;
use crate::telemetry::{EdgeKey, Messages, Tap};
use crate::tunnel::{Broken, Counts};
use crate::upstream::{Endpoint, Upstream};

/// A request that was sent to an endpoint and is not over.
#[derive(Debug)]
pub(crate) struct Attempt {
    tap: Arc<Tap>,
    upstream: Option<Arc<Upstream>>,
    endpoint: Arc<Endpoint>,
    client: Arc<Party>,
    server: Arc<Party>,
    protocol: Protocol,
    direction: Direction,
    probe: bool,
    /// Not counted on the edge.
    hidden: bool,
    pub(crate) started: Instant,
    /// Counts it against the bounds of the service.
    permit: Option<Permit>,
    over: bool,
}

impl Attempt {
    /// Counts the request as in flight at `endpoint`. Without an `upstream` it goes to the application.
    pub(crate) fn begin(
        tap: &Arc<Tap>,
        call: &Call,
        upstream: Option<&Arc<Upstream>>,
        endpoint: &Arc<Endpoint>,
        probe: bool,
    ) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            tap: Arc::clone(tap),
            upstream: upstream.cloned(),
            endpoint: Arc::clone(endpoint),
            client: Arc::clone(&call.facts.client),
            server: if upstream.is_some() {
                Arc::clone(&endpoint.party)
            } else {
                Arc::clone(&call.facts.server)
            },
            protocol: call.facts.protocol,
            direction: call.facts.direction,
            probe,
            hidden: call.is_hidden(),
            started: Instant::now(),
            permit: None,
            over: false,
        }
    }

    /// Keeps the permit until the attempt is over.
    pub(crate) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// The attempt was not made.
    pub(crate) fn cancel(mut self) {
        self.over = true;
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// The attempt is over: with this answer, or with this flag and none.
    pub(crate) fn end(&mut self, status: u16, grpc: Option<u16>, flags: &str) {
        if self.over {
            return;
        }
        self.over = true;
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        let now = Instant::now();
        let took = now - self.started;
        let class = class(self.protocol, status, grpc, flags);
        let end = match class {
            _ if flags == flag::CALLER_GONE => End::Abandoned,
            edge::ERROR => End::Failed,
            _ => End::Good,
        };
        self.endpoint.done(end, took, now);
        if let Some(permit) = self.permit.take().filter(|_| flags != flag::CALLER_GONE) {
            permit.end(now, took, class != edge::ERROR);
        }
        if !self.hidden {
            let key = EdgeKey {
                client: &self.client,
                server: &self.server,
                speaks: self.protocol.into(),
                class,
                direction: self.direction,
                probe: self.probe,
            };
            self.tap.edge(key, took);
        }
        if let Some(upstream) = &self.upstream
            && flags != flag::CALLER_GONE
        {
            let ok = class != edge::ERROR;
            let kind = match (flags, grpc) {
                (flag::NO_CONNECTION, _) => Kind::NoConnection,
                (flag::TIMEOUT, _) => Kind::TimedOut,
                (flag::RESET, _) => Kind::Reset,
                (_, Some(code)) if status == 200 => Kind::Grpc(code),
                // A gRPC answer that ends without a status was cut off.
                (_, None) if status == 200 && !ok => Kind::Reset,
                _ => Kind::Http(status),
            };
            upstream.result(&self.endpoint, Outcome { ok, latency: took, probe: self.probe, kind });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end(0, None, flag::CALLER_GONE);
    }
}

/// What is still owed when the head of a response has been passed on: dropped early, it means that the
/// caller went away.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) call: Call,
    pub(crate) attempt: Attempt,
    /// Of a gRPC response.
    pub(crate) messages: Messages,
}

impl Ending {
    /// More of the response went by.
    pub(crate) fn received(&mut self, data: &[u8]) {
        let facts = &mut self.call.facts;
        facts.response_bytes += data.len() as u64;
        if facts.protocol == Protocol::Grpc {
            facts.response_messages += self.messages.feed(data);
        }
    }

    /// The response ended as it should, with these trailers.
    pub(crate) fn complete(self, trailers: Option<&HeaderMap>) {
        let Self { mut call, mut attempt, .. } = self;
        let facts = &mut call.facts;
        facts.grpc_status = trailers.and_then(grpc_status).or(facts.grpc_status);
        attempt.end(facts.status, facts.grpc_status, facts.flags);
        call.finish();
    }

    /// The connection that the request opened has ended, as it should or not.
    pub(crate) fn tunnelled(mut self, counts: &Counts, passed: Result<(), Broken>) {
        let facts = &mut self.call.facts;
        facts.request_bytes.fetch_add(counts.to_endpoint.load(Ordering::Relaxed), Ordering::Relaxed);
        facts.response_bytes += counts.to_caller.load(Ordering::Relaxed);
        match passed {
            Ok(()) => {}
            // No fault of the endpoint.
            Err(Broken::Down) => facts.flags = flag::CALLER_GONE,
            Err(Broken::Up) => facts.flags = flag::RESET,
        }
        self.attempt.end(self.call.facts.status, None, self.call.facts.flags);
        self.call.finish();
    }

    /// The response was cut off, for the reason that the flag gives.
    pub(crate) fn broke_off(mut self, flag: &'static str) {
        self.call.facts.flags = flag;
        self.attempt.end(self.call.facts.status, None, flag);
        self.call.finish();
    }
}
