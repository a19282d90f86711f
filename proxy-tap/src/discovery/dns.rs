//! Endpoints from the DNS: asked for again whenever their TTL ends, and kept while nobody answers.
//!
//! [`run`] is one task for one [`Target`]. A host's endpoints are its IPv4 addresses, or its IPv6 addresses
//! where it has no others: both at once would be every replica twice, half of them out of reach on a host
//! without IPv6. An SRV name's endpoints are the addresses of its records' hosts, with their priority and weight
//! (RFC 2782).
//!
//! | the DNS | the endpoints |
//! |---|---|
//! | answers | are what it says, until the shortest TTL of the answer ends (1 s to 5 min) |
//! | fails: SERVFAIL, REFUSED, no answer, no network | stay for an hour since the last good answer, and go then |
//! | says that there are none: NXDOMAIN, no such records, the SRV target `.` | stay for 30 s of that, and go then |
//!
//! The half minute is for what is gone for a moment and not meant: a zone that is loaded anew, a headless service
//! between two of its only pod. Whoever is really gone refuses connections meanwhile, which breakers see at once.

mod answer;
mod ask;
mod kept;
mod marked;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use weir_model::limits;

use super::Target;
use crate::chance::Chance;
use ask::Asker;
use kept::{Heard, Kept};
use weir_model::policy::Endpoint;

/// Whom to ask, and how patiently.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolver {
    /// The server to ask (`--dns-server`); without it those of the system, with its search list. The system's
    /// file of hosts counts in both cases.
    pub(crate) server: Option<SocketAddr>,
    /// The mark of the proxy's own sockets.
    pub(crate) mark: Option<u32>,
    pub(crate) bounds: Bounds,
}

/// How long everything may take; [`limits`] unless a test says otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) ttl_least: Duration,
    pub(crate) ttl_most: Duration,
    pub(crate) patience: Duration,
    pub(crate) pause_first: Duration,
    pub(crate) pause_longest: Duration,
    pub(crate) stale: Duration,
    pub(crate) absent: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            ttl_least: limits::DNS_TTL_LEAST,
            ttl_most: limits::DNS_TTL_MOST,
            patience: limits::DNS_PATIENCE,
            pause_first: limits::DNS_PAUSE_FIRST,
            pause_longest: limits::DNS_PAUSE_LONGEST,
            stale: limits::DNS_STALE,
            absent: limits::DNS_ABSENT,
        }
    }
}

/// How asking for one target fares, for the admin page.
#[derive(Debug)]
pub(crate) struct Status {
    begun: Instant,
    lookups: AtomicU64,
    failures: AtomicU64,
    endpoints: AtomicU64,
    /// When the answer in force was given, in milliseconds since the beginning, plus one; 0 is never.
    answered: AtomicU64,
}

impl Status {
    pub(crate) fn new(now: Instant) -> Self {
        let zero = AtomicU64::default;
        Self { begun: now, lookups: zero(), failures: zero(), endpoints: zero(), answered: zero() }
    }

    /// Times the DNS was asked, times it failed at least in part, and endpoints that it named.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 3] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("lookups", get(&self.lookups)),
            ("failures", get(&self.failures)),
            ("endpoints", get(&self.endpoints)),
        ]
    }

    /// How old the answer is that is in force, if one is.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        let answered = self.answered.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(self.begun + Duration::from_millis(answered)))
    }

    fn asked(&self, failed: bool) {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    fn is(&self, answered: Option<Instant>, endpoints: usize) {
        let ms = |at: Instant| at.saturating_duration_since(self.begun).as_millis() as u64 + 1;
        self.answered.store(answered.map_or(0, ms), Ordering::Relaxed);
        self.endpoints.store(endpoints as u64, Ordering::Relaxed);
    }
}

/// Asks for `name` until `stop`; `apply` gets all endpoints each time they change, named by their `address:port`.
/// It is not called before the first answer.
pub(crate) async fn run(
    name: Target,
    resolver: Resolver,
    apply: impl Fn(Vec<Endpoint>),
    chance: Arc<Chance>,
    status: Arc<Status>,
    stop: CancellationToken,
) {
    let mut kept = Kept::new(name.to_string(), resolver.bounds);
    let mut asker = Asker::new(name, resolver);
    loop {
        let Some(heard) = stop.run_until_cancelled(asker.ask()).await else { return };
        status.asked(matches!(heard, Heard::Failed(_) | Heard::Found { partial: true, .. }));
        let step = kept.heard(Instant::now(), heard, chance.f64());
        status.is(kept.good_at(), kept.endpoints());
        if let Some(endpoints) = step.set {
            apply(endpoints);
        }
        if stop.run_until_cancelled(sleep(step.wait)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod nsd;
#[cfg(test)]
mod tests;
