//! One attempt of a call at one endpoint, and how it ends: counted on the edge, told to the breaker, its
//! connection given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;
use tokio::time::Instant;
use weir_model::semconv::edge;

use crate::breaker::Outcome;
use crate::call::{Call, Direction, Party, class, flag, grpc_status};
use crate::config::Protocol;
use crate::pool::Lease;
use crate::telemetry::{EdgeKey, Tap};
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
    started: Instant,
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
            server: Arc::clone(&call.facts.server),
            protocol: call.facts.protocol,
            direction: call.facts.direction,
            probe,
            started: Instant::now(),
            over: false,
        }
    }

    /// The attempt is over: with this answer, or with this flag and none.
    pub(crate) fn end(&mut self, status: u16, grpc: Option<u16>, flags: &str) {
        if self.over {
            return;
        }
        self.over = true;
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        let took = self.started.elapsed();
        let class = class(self.protocol, status, grpc, flags);
        let key = EdgeKey {
            client: Arc::clone(&self.client.service),
            server: Arc::clone(&self.server.service),
            endpoint: Arc::clone(&self.server.instance),
            protocol: self.protocol,
            class,
            direction: self.direction,
            probe: self.probe,
        };
        self.tap.edge(key, took);
        if let Some(upstream) = &self.upstream
            && flags != flag::CALLER_GONE
        {
            let ok = class != edge::ERROR;
            upstream.result(&self.endpoint, Outcome { ok, latency: took, probe: self.probe });
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
    pub(crate) lease: Lease,
}

impl Ending {
    /// More of the response went by.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.call.facts.response_bytes += bytes as u64;
    }

    /// The response ended as it should, with these trailers.
    pub(crate) fn complete(self: Box<Self>, trailers: Option<&HeaderMap>) {
        let Self { mut call, mut attempt, lease } = *self;
        let facts = &mut call.facts;
        facts.grpc_status = trailers.and_then(grpc_status).or(facts.grpc_status);
        attempt.end(facts.status, facts.grpc_status, facts.flags);
        call.finish();
        lease.release();
    }

    /// The response was cut off.
    pub(crate) fn broke_off(mut self: Box<Self>) {
        self.call.facts.flags = flag::RESET;
        self.attempt.end(self.call.facts.status, None, flag::RESET);
        self.call.finish();
    }
}
