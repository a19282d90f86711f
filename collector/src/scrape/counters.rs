//! What scraping counts of itself, by job.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::append::Counted;
use super::pool::Pool;

/// Counters of one job.
#[derive(Debug, Default)]
pub(super) struct JobCounters {
    scrapes: AtomicU64,
    failures: AtomicU64,
    samples: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    nanos: AtomicU64,
}

impl JobCounters {
    /// A scrape has ended.
    pub(super) fn scraped(&self, counted: &Counted, bytes: usize, failed: bool, took: Duration) {
        let add = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
        add(&self.scrapes, 1);
        add(&self.failures, u64::from(failed));
        add(&self.samples, if failed { 0 } else { counted.kept });
        add(&self.refused, counted.refused);
        add(&self.bytes, bytes as u64);
        add(&self.nanos, took.as_nanos() as u64);
    }

    /// What a scrape gave could not be stored.
    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Appends the counters of `pools` in the Prometheus text format.
pub(super) fn write_prometheus(pools: &[std::sync::Arc<Pool>], out: &mut String) {
    type Pick = fn(&JobCounters) -> &AtomicU64;
    let counters: [(&str, &str, Pick); 6] = [
        ("scrapes_total", "Scrapes.", |c| &c.scrapes),
        ("scrape_failures_total", "Scrapes that failed.", |c| &c.failures),
        ("scrape_samples_total", "Samples stored from scrapes.", |c| &c.samples),
        ("scrape_samples_refused_total", "Samples too far ahead, or of too many series.", |c| &c.refused),
        ("scrape_bytes_total", "Bytes of expositions, uncompressed.", |c| &c.bytes),
        ("scrapes_lost_total", "Scrapes that could not be stored.", |c| &c.lost),
    ];
    if pools.is_empty() {
        return;
    }
    for (name, help, pick) in counters {
        head(out, name, help, "counter");
        for pool in pools {
            line(out, name, &pool.job.job_name, pick(&pool.counters).load(Ordering::Relaxed) as f64);
        }
    }
    head(out, "scrape_seconds_total", "Time that scrapes took.", "counter");
    for pool in pools {
        let seconds = pool.counters.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        line(out, "scrape_seconds_total", &pool.job.job_name, seconds);
    }
    head(out, "scrape_targets", "Targets that are scraped.", "gauge");
    for pool in pools {
        line(out, "scrape_targets", &pool.job.job_name, pool.active().len() as f64);
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP weir_collector_{name} {help}\n# TYPE weir_collector_{name} {kind}");
}

fn line(out: &mut String, name: &str, job: &str, value: f64) {
    let job = job.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let _ = writeln!(out, "weir_collector_{name}{{job=\"{job}\"}} {value}");
}
