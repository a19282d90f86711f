//! What clients saw, second by second: successes, errors, latency.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_model::{Sketch, UnixNanos, limits};

/// Counts of calls by the second in which they ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Seconds>>);

#[derive(Debug, Default)]
struct Seconds {
    done: VecDeque<Second>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    t: u64,
    ok: u64,
    errors: u64,
    latency: Sketch,
    most: Duration,
}

/// One second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Its start, in Unix seconds.
    pub(crate) t: u64,
    /// Calls that succeeded.
    pub(crate) ok: u64,
    /// Calls that did not, or that could not be sent.
    pub(crate) errors: u64,
    /// Median latency of all calls in milliseconds, within 2.2 %; 0 where there were none.
    pub(crate) p50_ms: f64,
    /// 90 % were faster.
    pub(crate) p90_ms: f64,
    /// 99 % were faster.
    pub(crate) p99_ms: f64,
    /// The slowest, exactly.
    pub(crate) max_ms: f64,
}

impl Recorder {
    /// Notes a call that ended at `now` after `took`.
    pub(super) fn record(&self, now: UnixNanos, ok: bool, took: Duration) {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = seconds.at(now);
        running.ok += u64::from(ok);
        running.errors += u64::from(!ok);
        running.latency.record(took.as_secs_f64());
        running.most = running.most.max(took);
    }

    /// The seconds that are over at `now`, oldest first, at most [`limits::DEMO_SECONDS`].
    pub(super) fn seconds(&self, now: UnixNanos) -> Vec<Second> {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seconds.running.is_some() {
            seconds.at(now);
        }
        seconds.done.iter().copied().collect()
    }
}

impl Seconds {
    /// The running second at `now`, after closing those before it. Seconds without calls are listed
    /// too; a clock that went back adds to the running second.
    fn at(&mut self, now: UnixNanos) -> &mut Running {
        let t = now.0 / 1_000_000_000;
        if let Some(running) = self.running.take_if(|running| running.t < t) {
            self.push(running.close());
            let first = (running.t + 1).max(t.saturating_sub(limits::DEMO_SECONDS as u64));
            (first..t).for_each(|t| self.push(Running::new(t).close()));
        }
        self.running.get_or_insert_with(|| Running::new(t))
    }

    fn push(&mut self, second: Second) {
        if self.done.len() == limits::DEMO_SECONDS {
            self.done.pop_front();
        }
        self.done.push_back(second);
    }
}

impl Running {
    fn new(t: u64) -> Self {
        Self { t, ok: 0, errors: 0, latency: Sketch::default(), most: Duration::ZERO }
    }

    fn close(&self) -> Second {
        let max_ms = self.most.as_secs_f64() * 1_000.0;
        let quantile_ms = |q| (self.latency.quantile(q).unwrap_or(0.0) * 1_000.0).min(max_ms);
        Second {
            t: self.t,
            ok: self.ok,
            errors: self.errors,
            p50_ms: quantile_ms(0.5),
            p90_ms: quantile_ms(0.9),
            p99_ms: quantile_ms(0.99),
            max_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> UnixNanos {
        UnixNanos(ms * 1_000_000)
    }

    #[test]
    fn calls_count_in_the_second_they_end_in_and_gaps_are_listed() {
        let recorder = Recorder::default();
        assert_eq!(recorder.seconds(at(9_000)), []);
        recorder.record(at(10_100), true, Duration::from_millis(4));
        recorder.record(at(10_900), false, Duration::from_millis(8));
        recorder.record(at(12_000), true, Duration::from_millis(2));
        let seconds = recorder.seconds(at(13_500));
        let counts: Vec<_> = seconds.iter().map(|s| (s.t, s.ok, s.errors)).collect();
        assert_eq!(counts, [(10, 1, 1), (11, 0, 0), (12, 1, 0)]);
        assert_eq!(seconds[0].max_ms, 8.0);
        assert!((3.9..4.1).contains(&seconds[0].p50_ms) || (7.8..=8.0).contains(&seconds[0].p50_ms));
        assert_eq!(seconds[1].p99_ms, 0.0);
    }

    #[test]
    fn only_the_last_seconds_are_kept_and_a_clock_may_jump() {
        let recorder = Recorder::default();
        recorder.record(at(1_000), true, Duration::ZERO);
        recorder.record(at(500), true, Duration::ZERO);
        recorder.record(at(1_000_000_000), true, Duration::ZERO);
        let seconds = recorder.seconds(at(1_000_001_000));
        assert_eq!(seconds.len(), limits::DEMO_SECONDS);
        assert_eq!(seconds.last().map(|s| (s.t, s.ok)), Some((1_000_000, 1)));
    }
}
