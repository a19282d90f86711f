//! What came of a run: counts per second and in all, and the latency of the answers.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use weir_model::Sketch;

use super::{LoadArgs, Signal};

/// Seconds that the summary lists one by one: a day.
const SECONDS: usize = 86_400;

/// Running counts.
#[derive(Debug)]
pub(super) struct Tally {
    started: Instant,
    signal: Signal,
    rate: u64,
    total: Second,
    running: Second,
    seconds: Vec<u64>,
    /// When the last answer came.
    last: Instant,
    latency: Sketch,
    latency_most: Duration,
    last_failure: Option<String>,
}

/// Counts of one second, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Second {
    /// Records acknowledged.
    pub(super) acknowledged: u64,
    /// Records that the collector rejected by partial success.
    pub(super) rejected: u64,
    /// Acknowledged requests.
    pub(super) requests: u64,
    /// Requests refused with a delay, and sent again.
    pub(super) overloaded: u64,
    /// Requests that failed.
    pub(super) failed: u64,
    /// Records in them.
    pub(super) failed_records: u64,
    /// Bytes of the acknowledged requests.
    pub(super) bytes: u64,
}

/// The result of a run, as `--json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    /// `spans`, `metrics` or `logs`.
    pub(crate) signal: &'static str,
    /// Records per second that were asked for; 0 for as many as possible.
    pub(crate) rate: u64,
    /// From the start to the last answer, in seconds.
    pub(crate) elapsed_s: f64,
    /// Records acknowledged.
    pub(crate) acknowledged: u64,
    /// Records acknowledged per second.
    pub(crate) acknowledged_per_s: f64,
    /// Records rejected by partial success.
    pub(crate) rejected: u64,
    /// Requests acknowledged.
    pub(crate) requests: u64,
    /// Requests refused with a delay and sent again.
    pub(crate) overloaded: u64,
    /// Requests that failed, whose records may or may not be stored.
    pub(crate) failed: u64,
    /// Records in failed requests.
    pub(crate) failed_records: u64,
    /// Bytes of acknowledged requests.
    pub(crate) bytes: u64,
    /// Latency of the answers in milliseconds.
    pub(crate) latency_ms: Latency,
    /// Records acknowledged in each whole second.
    pub(crate) per_second: Vec<u64>,
    /// The last failure, where there was one.
    pub(crate) last_failure: Option<String>,
}

/// Quantiles in milliseconds, within 2.2 %; the largest is exact.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    /// Median.
    pub(crate) p50: f64,
    /// 90 % were faster.
    pub(crate) p90: f64,
    /// 99 % were faster.
    pub(crate) p99: f64,
    /// The slowest.
    pub(crate) max: f64,
}

impl Tally {
    pub(super) fn new(started: Instant, args: &LoadArgs) -> Self {
        Self {
            started,
            signal: args.signal,
            rate: args.rate,
            total: Second::default(),
            running: Second::default(),
            seconds: Vec::new(),
            last: started,
            latency: Sketch::default(),
            latency_most: Duration::ZERO,
            last_failure: None,
        }
    }

    /// A request was answered.
    pub(super) fn acknowledged(&mut self, records: u64, rejected: u64, bytes: u64, took: Duration) {
        for counts in [&mut self.total, &mut self.running] {
            counts.acknowledged += records.saturating_sub(rejected);
            counts.rejected += rejected.min(records);
            counts.requests += 1;
            counts.bytes += bytes;
        }
        self.last = Instant::now();
        self.latency.record(took.as_secs_f64());
        self.latency_most = self.latency_most.max(took);
    }

    /// A request was refused with a delay.
    pub(super) fn overloaded(&mut self) {
        self.total.overloaded += 1;
        self.running.overloaded += 1;
    }

    /// A request failed.
    pub(super) fn failed(&mut self, records: u64, why: String) {
        for counts in [&mut self.total, &mut self.running] {
            counts.failed += 1;
            counts.failed_records += records;
        }
        self.last_failure = Some(why);
    }

    /// Ends the running second.
    pub(super) fn close_second(&mut self) -> Second {
        if self.seconds.len() < SECONDS {
            self.seconds.push(self.running.acknowledged);
        }
        std::mem::take(&mut self.running)
    }

    /// Everything so far.
    pub(super) fn summary(&self, now: Instant) -> Summary {
        let end = if self.total.requests > 0 { self.last } else { now };
        let elapsed_s = end.duration_since(self.started).as_secs_f64();
        let quantile = |q| self.latency.quantile(q).unwrap_or(0.0) * 1_000.0;
        let max = self.latency_most.as_secs_f64() * 1_000.0;
        Summary {
            signal: match self.signal {
                Signal::Spans => "spans",
                Signal::Metrics => "metrics",
                Signal::Scrapes => "samples",
                Signal::Logs => "logs",
            },
            rate: self.rate,
            elapsed_s,
            acknowledged: self.total.acknowledged,
            acknowledged_per_s: self.total.acknowledged as f64 / elapsed_s.max(1e-9),
            rejected: self.total.rejected,
            requests: self.total.requests,
            overloaded: self.total.overloaded,
            failed: self.total.failed,
            failed_records: self.total.failed_records,
            bytes: self.total.bytes,
            latency_ms: Latency {
                p50: quantile(0.5).min(max),
                p90: quantile(0.9).min(max),
                p99: quantile(0.99).min(max),
                max,
            },
            per_second: self.seconds.clone(),
            last_failure: self.last_failure.clone(),
        }
    }
}

/// One line for one second.
pub(super) fn progress(out: &mut (dyn Write + Send), second: &Second) -> io::Result<()> {
    write!(out, "{:>9} acknowledged/s {:>7.1} MB/s", second.acknowledged, second.bytes as f64 / 1e6)?;
    for (count, what) in
        [(second.rejected, "rejected"), (second.overloaded, "refused"), (second.failed, "requests failed")]
    {
        if count > 0 {
            write!(out, "  {count} {what}")?;
        }
    }
    writeln!(out)?;
    out.flush()
}

impl Summary {
    /// Prints it, as text or as one line of JSON.
    pub(super) fn print(&self, out: &mut (dyn Write + Send), json: bool) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        let ms = &self.latency_ms;
        writeln!(
            out,
            "acknowledged {} {} in {:.1} s: {:.0} per second, {:.1} MB in {} requests",
            self.acknowledged,
            self.signal,
            self.elapsed_s,
            self.acknowledged_per_s,
            self.bytes as f64 / 1e6,
            self.requests,
        )?;
        writeln!(
            out,
            "latency       p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            ms.p50, ms.p90, ms.p99, ms.max
        )?;
        writeln!(
            out,
            "otherwise     {} rejected, {} requests refused for now, {} failed with {} {}",
            self.rejected, self.overloaded, self.failed, self.failed_records, self.signal,
        )?;
        match &self.last_failure {
            Some(why) => writeln!(out, "last failure  {why}"),
            None => Ok(()),
        }
    }
}
