//! The account of an import: what was taken, what was rejected and why, and how much could not be read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use tokio::time::Instant;
use weir_collector::decode::Signal;
use weir_model::limits;

/// Running counts.
#[derive(Debug)]
pub(super) struct Summary {
    began: Instant,
    files: usize,
    signals: BTreeMap<Signal, Counts>,
    /// Rejected records by reason.
    reasons: BTreeMap<String, u64>,
    /// Places that could not be read.
    pub(super) faults: u64,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: u64,
    rejected: u64,
}

impl Summary {
    pub(super) fn new(files: usize) -> Self {
        Self { began: Instant::now(), files, signals: BTreeMap::new(), reasons: BTreeMap::new(), faults: 0 }
    }

    /// Counts a request that was stored.
    pub(super) fn taken(&mut self, signal: Signal, records: u64, rejected: Vec<(String, u64)>) {
        let counts = self.signals.entry(signal).or_default();
        let bad: u64 = rejected.iter().map(|(_, count)| count).sum();
        counts.accepted += records.saturating_sub(bad);
        counts.rejected += bad;
        for (why, count) in rejected {
            *self.reasons.entry(why).or_default() += count;
        }
    }

    /// Records stored.
    pub(super) fn accepted(&self) -> u64 {
        self.signals.values().map(|counts| counts.accepted).sum()
    }

    /// Counts a place that could not be read; what to say about it, for the first [`limits::IMPORT_FAULTS`].
    pub(super) fn fault(&mut self, place: &str, why: &str) -> Option<String> {
        self.faults += 1;
        let said = limits::IMPORT_FAULTS as u64;
        match self.faults {
            faults if faults <= said => Some(format!("{place}: {why}")),
            faults if faults == said + 1 => {
                Some("further places that cannot be read are only counted".to_owned())
            }
            _ => None,
        }
    }

    /// Writes the account.
    pub(super) fn print(&self, out: &mut (dyn Write + Send), bytes: u64, to: &str) -> io::Result<()> {
        let files = if self.files == 1 { "file" } else { "files" };
        let (read, took) = (indicatif::BinaryBytes(bytes), self.began.elapsed().as_secs_f64());
        writeln!(out, "imported {} {files} ({read}) into `{to}` in {took:.1} s", self.files)?;
        for (signal, name) in
            [(Signal::Traces, "spans"), (Signal::Metrics, "data points"), (Signal::Logs, "log records")]
        {
            let (accepted, rejected) =
                self.signals.get(&signal).map_or((0, 0), |counts| (counts.accepted, counts.rejected));
            writeln!(out, "{name}: {accepted} accepted, {rejected} rejected")?;
        }
        for (why, count) in &self.reasons {
            writeln!(out, "{count} rejected: {why}")?;
        }
        if self.faults > 0 {
            writeln!(out, "places that could not be read: {}", self.faults)?;
        }
        Ok(())
    }
}
