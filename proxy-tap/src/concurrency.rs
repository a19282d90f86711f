//! How many requests may be under way to a service at once.
//!
//! Two kinds of bounds, and the lower holds. Fixed ones come from the policy's connections. An adaptive one follows
//! the latency ([`gradient`]): it grows while more requests under way cost no latency, and shrinks when they only
//! wait. [`Limits::admit`] decides before a request is sent, in a few atomic operations; whoever is refused is told
//! which bound it was.

mod gradient;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_model::policy::destination::{AdaptiveConcurrency, Connections};
use weir_model::policy::route::Priority;

use crate::call::Refusal;
use gradient::Gradient;

/// What a refused request is answered with, and when it may try again.
const STATUS: u16 = 503;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which bound a request would have exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    MaxRequests,
    /// There is room, but for requests of high priority.
    Reserved,
    Adaptive,
    MaxPending,
    MaxConnections,
}

impl Refused {
    /// The name of the rule, as the policy writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MaxRequests => "max_requests",
            Self::Reserved => "reserved_for_high_priority",
            Self::Adaptive => "adaptive_concurrency",
            Self::MaxPending => "max_pending",
            Self::MaxConnections => "max_connections",
        }
    }

    /// The refusal as the caller and the telemetry get it; `limit` is the bound that held.
    pub(crate) fn refusal(self, limit: u32) -> Refusal {
        let what = match self {
            Self::MaxPending => "requests wait for a connection",
            Self::MaxConnections => "connections are open",
            _ => "requests are under way",
        };
        Refusal {
            by: self.name().into(),
            is_hint: false,
            reason: format!("{limit} {what} already").into(),
            status: STATUS,
            retry_after: Some(RETRY_AFTER),
        }
    }
}

/// The bounds of one service, and how many requests count against them.
#[derive(Debug)]
pub(crate) struct Limits {
    max_requests: u32,
    /// What requests of default priority may fill.
    unreserved: u32,
    max_pending: u32,
    max_connections: u32,
    adaptive: Option<Gradient>,
    in_flight: AtomicU32,
    pending: AtomicU32,
    refused: AtomicU64,
}

impl Limits {
    pub(crate) fn new(
        connections: &Connections,
        adaptive: Option<&AdaptiveConcurrency>,
        now: Instant,
    ) -> Arc<Self> {
        let bound = |told: Option<u32>| told.unwrap_or(u32::MAX);
        Arc::new(Self {
            max_requests: bound(connections.max_requests),
            unreserved: bound(connections.reserved_for_high_priority),
            max_pending: bound(connections.max_pending),
            max_connections: bound(connections.max_connections),
            adaptive: adaptive.map(|policy| Gradient::new(policy, now)),
            in_flight: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Counts a request as under way, if there is room for one of this priority.
    pub(crate) fn admit(self: &Arc<Self>, priority: Priority) -> Result<Permit, Refused> {
        let (limit, why) = self.bound(priority);
        match enter(&self.in_flight, limit) {
            Some(in_flight) => Ok(Permit { limits: Arc::clone(self), in_flight }),
            None => Err(self.refuse(why)),
        }
    }

    /// Counts a request as waiting for a connection until the result is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Result<Waiting, Refused> {
        match enter(&self.pending, self.max_pending) {
            Some(_) => Ok(Waiting { limits: Arc::clone(self) }),
            None => Err(self.refuse(Refused::MaxPending)),
        }
    }

    /// The bound that holds for a request of this priority now: `u32::MAX` is none.
    pub(crate) fn limit(&self, why: Refused) -> u32 {
        match why {
            Refused::MaxRequests => self.max_requests,
            Refused::Reserved => self.unreserved,
            Refused::Adaptive => self.adaptive.as_ref().map_or(u32::MAX, Gradient::limit),
            Refused::MaxPending => self.max_pending,
            Refused::MaxConnections => self.max_connections,
        }
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that wait for a connection.
    pub(crate) fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Requests that were refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The lowest bound, and its name.
    fn bound(&self, priority: Priority) -> (u32, Refused) {
        let reserved = match priority {
            Priority::Default => self.unreserved,
            Priority::High => u32::MAX,
        };
        let all = [
            (self.max_requests, Refused::MaxRequests),
            (reserved, Refused::Reserved),
            (self.limit(Refused::Adaptive), Refused::Adaptive),
        ];
        all.into_iter().min_by_key(|(limit, _)| *limit).unwrap_or(all[0])
    }

    /// Counts a request or a connection as refused.
    pub(crate) fn refuse(&self, why: Refused) -> Refused {
        self.refused.fetch_add(1, Ordering::Relaxed);
        why
    }
}

/// Counts one more, if that is within `limit`; returns how many there are then.
fn enter(count: &AtomicU32, limit: u32) -> Option<u32> {
    // Added first and taken back where it was too much: one operation for each request that is admitted. Requests
    // that are refused at the same moment can make others be refused, never admitted.
    let before = count.fetch_add(1, Ordering::Relaxed);
    if before < limit {
        return Some(before + 1);
    }
    count.fetch_sub(1, Ordering::Relaxed);
    None
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
#[must_use = "a request counts as under way while this lives"]
pub(crate) struct Permit {
    limits: Arc<Limits>,
    /// How many were under way with this one.
    in_flight: u32,
}

impl Permit {
    /// The request is over, after so long. One that is dropped without this call (its caller went away) says
    /// nothing about the latency.
    pub(crate) fn end(self, now: Instant, latency: Duration, ok: bool) {
        if let Some(adaptive) = &self.limits.adaptive {
            adaptive.sample(now, latency, ok, self.in_flight);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that waits for a connection until this is dropped.
#[derive(Debug)]
#[must_use = "a request counts as waiting while this lives"]
pub(crate) struct Waiting {
    limits: Arc<Limits>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.limits.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
