//! A limit that follows the latency: Gradient2 of Netflix' concurrency-limits
//! (<https://github.com/Netflix/concurrency-limits>, `Gradient2Limit` within a `WindowedLimit`).
//!
//! Once per window, with `short` the mean latency of the window and `long` its exponential mean over 600 windows:
//!
//! ```text
//! gradient = clamp(tolerance · long / short, 0.5, 1)
//! limit    = clamp(0.8 · limit + 0.2 · (gradient · limit + 4), min, max)
//! ```
//!
//! So the limit grows by 0.8 a window while the latency is usual and falls by a tenth at most when it is not; 4 is
//! the queue that is wanted. A window in which less than half of the limit was used says nothing about it. Where
//! `long` is more than twice `short` it is forgotten faster, so that it does not stay high after an overload.
//!
//! Known weakness, of the original too: `long` learns from whatever there is, so under an overload that lasts many
//! hundreds of windows the latency of the overload becomes the usual one. `max` is the bound then.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_model::policy::destination::AdaptiveConcurrency;

/// A window lasts at least so long …
const WINDOW: Duration = Duration::from_millis(100);
/// … and has at least so many samples, or fewer after this time.
const SAMPLES: u32 = 10;
const LONGEST_WINDOW: Duration = Duration::from_secs(1);
/// Windows of the long mean, and those in which it is a plain mean.
const LONG: u32 = 600;
const WARM_UP: u32 = 10;
/// How fast the limit follows.
const SMOOTHING: f64 = 0.2;
/// The queue that is wanted.
const QUEUE: f64 = 4.0;
/// The limit before anything is known.
const START: f64 = 20.0;

/// An adaptive limit. Samples are added by any thread; the one that ends a window computes the next limit.
#[derive(Debug)]
pub(super) struct Gradient {
    min: f64,
    max: f64,
    tolerance: f64,
    started: Instant,
    /// The limit in whole requests, which is read for every request.
    limit: AtomicU32,
    /// Bits of the limit.
    exact: AtomicU64,
    /// Bits of the long mean in nanoseconds, and the windows that it has seen.
    long_ns: AtomicU64,
    windows: AtomicU32,
    /// The window: its beginning in nanoseconds after the start, and its samples.
    since_ns: AtomicU64,
    sum_ns: AtomicU64,
    samples: AtomicU32,
    most_in_flight: AtomicU32,
    /// A thread computes a limit.
    busy: AtomicBool,
}

impl Gradient {
    pub(super) fn new(policy: &AdaptiveConcurrency, now: Instant) -> Self {
        let min = f64::from(policy.min_limit.max(1));
        let max = f64::from(policy.max_limit).max(min);
        let start = START.clamp(min, max);
        Self {
            min,
            max,
            tolerance: policy.tolerance.max(1.0),
            started: now,
            limit: AtomicU32::new(start as u32),
            exact: AtomicU64::new(start.to_bits()),
            long_ns: AtomicU64::new(0),
            windows: AtomicU32::new(0),
            since_ns: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
            samples: AtomicU32::new(0),
            most_in_flight: AtomicU32::new(0),
            busy: AtomicBool::new(false),
        }
    }

    /// Requests that may be under way.
    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// A request is over that made `in_flight` with itself.
    pub(super) fn sample(&self, now: Instant, latency: Duration, ok: bool, in_flight: u32) {
        let latency_ns = nanos(latency);
        // A failure that came fast says that something is broken, not that there is room for more.
        if !ok && (latency_ns as f64) < self.long() {
            return;
        }
        self.sum_ns.fetch_add(latency_ns, Ordering::Relaxed);
        self.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        let samples = self.samples.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ns = nanos(now.saturating_duration_since(self.started));
        let open_for = now_ns.saturating_sub(self.since_ns.load(Ordering::Relaxed));
        let is_over = open_for >= nanos(WINDOW) && (samples >= SAMPLES || open_for >= nanos(LONGEST_WINDOW));
        if is_over && !self.busy.swap(true, Ordering::Acquire) {
            self.end_window(now_ns);
            self.busy.store(false, Ordering::Release);
        }
    }

    /// Computes the limit from a window's samples. Those that other threads add meanwhile may be split between this
    /// window and the next: a mean of many does not mind.
    fn end_window(&self, now_ns: u64) {
        self.since_ns.store(now_ns, Ordering::Relaxed);
        let samples = self.samples.swap(0, Ordering::Relaxed);
        let sum = self.sum_ns.swap(0, Ordering::Relaxed);
        let most = self.most_in_flight.swap(0, Ordering::Relaxed);
        if samples == 0 || sum == 0 {
            return;
        }
        let short = sum as f64 / f64::from(samples);
        let long = self.learn(short);
        let exact = f64::from_bits(self.exact.load(Ordering::Relaxed));
        if f64::from(most) < exact / 2.0 {
            return;
        }
        let gradient = (self.tolerance * long / short).clamp(0.5, 1.0);
        let next = (1.0 - SMOOTHING) * exact + SMOOTHING * (gradient * exact + QUEUE);
        let next = next.clamp(self.min, self.max);
        self.exact.store(next.to_bits(), Ordering::Relaxed);
        self.limit.store(next as u32, Ordering::Relaxed);
    }

    /// Adds a window's mean to the long one; returns what it was taken to be for this window.
    fn learn(&self, short: f64) -> f64 {
        let windows = self.windows.load(Ordering::Relaxed).saturating_add(1);
        self.windows.store(windows, Ordering::Relaxed);
        let before = self.long();
        let weight = if windows <= WARM_UP { 1.0 / f64::from(windows) } else { 2.0 / f64::from(LONG + 1) };
        let long = before + (short - before) * weight;
        let kept = if long > 2.0 * short { 0.95 * long } else { long };
        self.long_ns.store(kept.to_bits(), Ordering::Relaxed);
        long
    }

    fn long(&self) -> f64 {
        f64::from_bits(self.long_ns.load(Ordering::Relaxed))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
