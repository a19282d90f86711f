//! Limits on the rate of requests: token buckets, each of them one number.
//!
//! A bucket is the *theoretical arrival time* of the generic cell rate algorithm (ITU-T I.371): the moment at
//! which it will be full again. A request moves it on by one interval, and is refused where that would be further
//! ahead than the burst allows. This is a token bucket that fills continuously, without a timer and a second number.

mod buckets;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use weir_model::policy::route::RateLimit;

pub(crate) use buckets::Buckets;

use super::compile::Mistakes;
use super::condition::View;

/// What a limit says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may go on; where the policy wants responses to say so, this is left of the limit that is nearest.
    Allowed(Option<Standing>),
    /// It is to be answered with 429.
    Refused(Standing),
}

/// How a bucket stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Requests that it holds when it is full.
    pub(crate) limit: u32,
    /// Requests that it holds now.
    pub(crate) remaining: u32,
    /// Until it is full.
    pub(crate) reset: Duration,
    /// Until it holds the next, where it is empty.
    pub(crate) retry_after: Duration,
}

impl Standing {
    /// Tells it in a response: `x-ratelimit-*` as Envoy, in whole seconds, and `Retry-After` where it refuses.
    pub(crate) fn tell(&self, response: &mut HeaderMap) {
        let seconds = |time: Duration| HeaderValue::from(time.as_nanos().div_ceil(1_000_000_000) as u64);
        for (name, value) in [
            ("x-ratelimit-limit", HeaderValue::from(self.limit)),
            ("x-ratelimit-remaining", HeaderValue::from(self.remaining)),
            ("x-ratelimit-reset", seconds(self.reset)),
        ] {
            response.insert(HeaderName::from_static(name), value);
        }
        if !self.retry_after.is_zero() {
            response.insert(RETRY_AFTER, seconds(self.retry_after));
        }
    }
}

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// As it is written: so many requests …
    requests: u32,
    /// … in so many nanoseconds.
    per: u64,
    burst: u32,
    /// Nanoseconds for one request.
    interval: u64,
    /// Nanoseconds for all that it holds.
    room: u64,
}

impl Shape {
    fn new(written: &RateLimit) -> Self {
        let burst = written.burst.unwrap_or(written.requests).max(1);
        let (requests, per) = (written.requests.max(1), written.per.0.as_nanos());
        let per = u64::try_from(per).unwrap_or(u64::MAX);
        let interval = (per / u64::from(requests)).max(1);
        Self { requests, per, burst, interval, room: interval.saturating_mul(u64::from(burst)) }
    }

    /// The part of it that admits so many requests in a second, and as large a part of the burst.
    fn part(self, per_s: f64) -> Self {
        let share = per_s * self.per as f64 / 1e9 / f64::from(self.requests);
        // A whole that was added up from parts may be off by a little.
        if share > 1.0 - 1e-9 {
            return self;
        }
        let burst = ((f64::from(self.burst) * share).round() as u32).max(1);
        // No more than a few decades, so that sums stay below what is counted with.
        let interval = ((self.interval as f64 / share) as u64).min(1 << 60);
        Self { burst, interval, room: interval.saturating_mul(u64::from(burst)), ..self }
    }

    /// When the bucket that is full at `full` will be after one more request; `None` where it is empty.
    fn take(self, full: u64, now: u64) -> Option<u64> {
        let next = full.max(now).saturating_add(self.interval);
        (next - now <= self.room).then_some(next)
    }

    fn standing(self, full: u64, now: u64) -> Standing {
        let until_full = full.saturating_sub(now);
        let held = self.room.saturating_sub(until_full);
        Standing {
            limit: self.burst,
            remaining: (held / self.interval).try_into().unwrap_or(u32::MAX),
            reset: Duration::from_nanos(until_full),
            retry_after: Duration::from_nanos(self.interval.saturating_sub(held)),
        }
    }
}

/// What has its own bucket.
#[derive(Debug)]
enum Scope {
    All(Arc<AtomicU64>),
    Each { rule: u64, header: Option<HeaderName>, by_source: bool },
}

/// A limit that this proxy keeps itself.
#[derive(Debug)]
struct Local {
    shape: Shape,
    scope: Scope,
    tell: bool,
}

impl Local {
    fn take(&self, view: &View<'_>, now: u64, buckets: &Buckets) -> Result<Standing, Standing> {
        let take = |full: &mut u64| match self.shape.take(*full, now) {
            Some(next) => {
                *full = next;
                Ok(Standing { retry_after: Duration::ZERO, ..self.shape.standing(next, now) })
            }
            None => Err(self.shape.standing(*full, now)),
        };
        self.update(view, buckets, take)
    }

    fn give_back(&self, view: &View<'_>, buckets: &Buckets) {
        self.update(view, buckets, |full| *full = full.saturating_sub(self.shape.interval));
    }

    /// Changes the bucket of a request.
    fn update<R>(&self, view: &View<'_>, buckets: &Buckets, mut change: impl FnMut(&mut u64) -> R) -> R {
        let bucket = match &self.scope {
            Scope::All(bucket) => bucket,
            Scope::Each { rule, header, by_source } => {
                let values = header.iter().flat_map(|name| view.headers.get_all(name));
                let source = if *by_source { view.source } else { "" };
                return buckets.with(buckets.key(*rule, values, source), change);
            }
        };
        let mut seen = bucket.load(Ordering::Relaxed);
        loop {
            let mut full = seen;
            let result = change(&mut full);
            match bucket.compare_exchange_weak(seen, full, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return result,
                Err(other) => seen = other,
            }
        }
    }
}

/// A limit that all proxies share.
#[derive(Debug)]
struct Global {
    shape: Shape,
    name: Box<str>,
    header: Option<HeaderName>,
    by_source: bool,
    /// The one bucket, where there is one.
    single: Option<shared::Key>,
    tell: bool,
}

impl Global {
    fn key(&self, view: &View<'_>) -> shared::Key {
        self.single.unwrap_or_else(|| {
            let values = self.header.iter().flat_map(|name| view.headers.get_all(name));
            shared::key(&self.name, values, if self.by_source { view.source } else { "" })
        })
    }
}

/// The limits of one route; all of them hold.
#[derive(Debug)]
pub(super) struct Limits {
    buckets: Arc<Buckets>,
    local: Box<[Local]>,
    global: Box<[Global]>,
}

impl Limits {
    /// What is written. `identity` says of which route: its buckets are found again by it.
    pub(super) fn new(
        written: &[RateLimit],
        identity: &str,
        buckets: &Arc<Buckets>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let (mut local, mut global) = (Vec::new(), Vec::new());
        for (i, rule) in written.iter().enumerate() {
            let name = format!("{identity} {i} {rule:?}");
            let what = format!("rate_limit[{i}].header");
            let header = Some(rule.header.as_bytes()).filter(|name| !name.is_empty());
            let header = header.and_then(|name| mistakes.keep(&what, HeaderName::from_bytes(name)));
            let is_single = header.is_none() && !rule.by_source;
            if rule.global {
                let single = is_single.then(|| shared::key(&name, [].iter(), ""));
                let (shape, name, by_source) = (Shape::new(rule), name.into(), rule.by_source);
                global.push(Global { shape, name, header, by_source, single, tell: rule.headers });
                continue;
            }
            let scope = match is_single {
                true => Scope::All(buckets.single(&name)),
                false => Scope::Each { rule: buckets.rule(&name), header, by_source: rule.by_source },
            };
            local.push(Local { shape: Shape::new(rule), scope, tell: rule.headers });
        }
        (!written.is_empty()).then(|| Self {
            buckets: Arc::clone(buckets),
            local: local.into(),
            global: global.into(),
        })
    }

    /// Takes one request from every bucket, or from none where one is empty.
    pub(super) fn admit(&self, view: &View<'_>, now: Instant) -> Verdict {
        let (buckets, now) = (&*self.buckets, self.buckets.nanos(now));
        let mut nearest: Option<Standing> = None;
        let mut tell = |standing: Standing| {
            if nearest.is_none_or(|nearest| standing.remaining < nearest.remaining) {
                nearest = Some(standing);
            }
        };
        for (i, limit) in self.local.iter().enumerate() {
            match limit.take(view, now, buckets) {
                Ok(standing) if limit.tell => tell(standing),
                Ok(_) => {}
                Err(standing) => {
                    self.local[..i].iter().for_each(|taken| taken.give_back(view, buckets));
                    return Verdict::Refused(standing);
                }
            }
        }
        let shared = buckets.shared();
        for (i, limit) in self.global.iter().enumerate() {
            match shared.take(&limit.key(view), limit.shape, now) {
                Ok(standing) if limit.tell => tell(standing),
                Ok(_) => {}
                Err(standing) => {
                    self.local.iter().for_each(|taken| taken.give_back(view, buckets));
                    self.global[..i].iter().for_each(|taken| shared.give_back(&taken.key(view)));
                    shared.decided(false);
                    return Verdict::Refused(standing);
                }
            }
        }
        if !self.global.is_empty() {
            shared.decided(true);
        }
        Verdict::Allowed(nearest)
    }
}

#[cfg(test)]
mod tests;
