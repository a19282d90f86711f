//! What a request to an endpoint is expected to cost: a latency that jumps to a peak, and failures that
//! count as time, so that a fast error attracts no traffic.
//!
//! Each number is one atomic word, a value and the millisecond it was written: no lock, and what is read
//! belongs together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A failure costs as much as a request that takes this long, as in Linkerd's load biaser.
const PENALTY: Duration = Duration::from_secs(5);

/// What is left of failures below this is none: it would lose against an endpoint without any, which in light
/// traffic is always there, and an endpoint that is mended would never be asked again.
const NEGLIGIBLE: f32 = 0.05;

/// After so long a peak counts for a third.
const LATENCY_TAU: Duration = Duration::from_secs(10);

/// What an endpoint is expected to take while nothing is known of it.
const UNKNOWN: Duration = Duration::from_millis(30);

/// How an attempt at an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Good,
    Failed,
    /// Nobody waited for it any longer: that it took so long at least is known, and nothing else.
    Abandoned,
}

/// The recent past of one endpoint.
#[derive(Debug)]
pub(crate) struct Load {
    since: Instant,
    /// Seconds.
    latency: Decaying,
    failures: Decaying,
}

impl Load {
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, latency: Decaying::guess(UNKNOWN.as_secs_f32()), failures: Decaying::default() }
    }

    pub(crate) fn record(&self, end: End, took: Duration, now: Instant) {
        let at = self.ms(now);
        let sample = match end {
            End::Failed => took.max(PENALTY),
            End::Good | End::Abandoned => took,
        };
        self.latency.observe(at, LATENCY_TAU, sample.as_secs_f32(), end == End::Abandoned);
        if end == End::Failed {
            self.failures.add(at, PENALTY, 1.0);
        }
    }

    /// Seconds that a request is expected to take: a moving average over [`LATENCY_TAU`] that takes a higher
    /// latency as it is (Finagle's PeakEwma). It decays while nothing is sent, so that an endpoint that was
    /// slow is asked again.
    pub(crate) fn latency_s(&self, now: Instant) -> f64 {
        f64::from(self.latency.at(self.ms(now), LATENCY_TAU))
    }

    /// Requests that failures weigh as much as. One decays over [`PENALTY`], which makes it a request that
    /// is under way for that long on average.
    pub(crate) fn failures(&self, now: Instant) -> f64 {
        let failures = self.failures.at(self.ms(now), PENALTY);
        if failures < NEGLIGIBLE { 0.0 } else { failures.into() }
    }

    /// Wraps after 49 days; differences below half of that are right.
    fn ms(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.since).as_millis() as u32
    }
}

/// A value that decays by `e^(-dt/tau)`, and when it was written: a time in ms in the upper half, a float
/// in the lower one. A negative value is a guess.
#[derive(Debug, Default)]
struct Decaying(AtomicU64);

impl Decaying {
    fn guess(value: f32) -> Self {
        Self(AtomicU64::new(pack(0, -value)))
    }

    fn at(&self, now: u32, tau: Duration) -> f32 {
        let (then, value) = unpack(self.0.load(Ordering::Relaxed));
        if value == 0.0 { 0.0 } else { value.abs() * kept(passed(then, now), tau) }
    }

    /// Adds `amount`.
    fn add(&self, now: u32, tau: Duration, amount: f32) {
        self.change(now, |value, passed| value.abs() * kept(passed, tau) + amount);
    }

    /// Moves towards `sample`, or to it at once if it is higher or nothing was known. If it is only a lower
    /// bound, a smaller one changes nothing.
    fn observe(&self, now: u32, tau: Duration, sample: f32, is_lower_bound: bool) {
        self.change(now, |value, passed| {
            let kept = kept(passed, tau);
            let old = value.abs() * kept;
            match sample {
                _ if sample > old => sample,
                _ if is_lower_bound => value * kept,
                _ if value.is_sign_negative() => sample,
                _ => value.abs() * kept + sample * (1.0 - kept),
            }
        });
    }

    fn change(&self, now: u32, new: impl Fn(f32, u32) -> f32) {
        let changed = |word| {
            let (then, value) = unpack(word);
            let passed = passed(then, now);
            Some(pack(then.wrapping_add(passed), new(value, passed)))
        };
        // It gives the old word back; the change never declines.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

/// Milliseconds from `then` to `now`; none where another thread's clock was read later than ours.
fn passed(then: u32, now: u32) -> u32 {
    u32::try_from(now.wrapping_sub(then).cast_signed()).unwrap_or(0)
}

fn kept(passed_ms: u32, tau: Duration) -> f32 {
    match passed_ms {
        0 => 1.0,
        ms => (-(ms as f32) / (tau.as_secs_f32() * 1e3)).exp(),
    }
}

fn pack(ms: u32, value: f32) -> u64 {
    u64::from(ms) << 32 | u64::from(value.to_bits())
}

fn unpack(word: u64) -> (u32, f32) {
    ((word >> 32) as u32, f32::from_bits(word as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn latency_jumps_to_a_peak_and_comes_down_with_the_time() {
        let start = Instant::now();
        let load = Load::new(start);
        assert!((load.latency_s(start) - 0.030).abs() < 1e-6, "a guess");
        load.record(End::Good, ms(10), start);
        assert!((load.latency_s(start) - 0.010).abs() < 1e-6, "the first sample replaces it");
        load.record(End::Good, ms(400), start + ms(5));
        assert!((load.latency_s(start + ms(5)) - 0.400).abs() < 1e-6, "at once");
        let later = start + ms(10_005);
        assert!((load.latency_s(later) - 0.400 / std::f64::consts::E).abs() < 1e-4, "without a sample");
        load.record(End::Good, ms(10), later);
        let expected = 0.400 / std::f64::consts::E + 0.010 * (1.0 - 1.0 / std::f64::consts::E);
        assert!((load.latency_s(later) - expected).abs() < 1e-4);
    }

    #[test]
    fn a_failure_costs_five_seconds() {
        let start = Instant::now();
        let load = Load::new(start);
        load.record(End::Failed, ms(1), start);
        assert!((load.latency_s(start) - 5.0).abs() < 1e-6);
        assert!((load.failures(start) - 1.0).abs() < 1e-6);
        // Ten failures a second are as many requests under way as ten a second of five seconds each.
        for i in 0..600 {
            load.record(End::Failed, ms(1), start + ms(100 * i));
        }
        let failures = load.failures(start + ms(60_000));
        assert!((failures - 50.0).abs() < 1.0, "{failures}");
    }

    #[test]
    fn a_failure_of_long_ago_is_none() {
        let start = Instant::now();
        let load = Load::new(start);
        load.record(End::Failed, ms(1), start);
        assert!(load.failures(start + ms(14_900)) > 0.0, "e^-3 is left after 15 s");
        let later = load.failures(start + ms(15_100));
        assert!(later.abs() < f64::EPSILON, "{later}");
    }

    #[test]
    fn an_abandoned_attempt_raises_and_never_lowers() {
        let start = Instant::now();
        let load = Load::new(start);
        load.record(End::Abandoned, ms(1), start);
        assert!((load.latency_s(start) - 0.030).abs() < 1e-6);
        load.record(End::Abandoned, ms(900), start);
        assert!((load.latency_s(start) - 0.900).abs() < 1e-6);
        assert!(load.failures(start).abs() < 1e-6);
    }

    #[test]
    fn a_clock_read_earlier_by_another_thread_does_no_harm() {
        let start = Instant::now();
        let load = Load::new(start);
        load.record(End::Good, ms(50), start + ms(20));
        load.record(End::Good, ms(10), start + ms(10));
        assert!((load.latency_s(start + ms(15)) - 0.050).abs() < 1e-6);
    }
}
