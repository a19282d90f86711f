//! Rows that are acknowledged and not yet in a file: runs of batches in the order of the log.
//!
//! Writers send small batches, and a query over a thousand of them pays for each. Neighbouring runs are
//! therefore concatenated in tiers, as an LSM tree does: each copy of a row at least doubles the run it is
//! in, so that a row is copied a few times and a table has few runs. A run remembers which rows came with which write ([`Run::after`]).

use std::ops::Range;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tokio::time::Instant;

use crate::{Table, gather};

/// Runs of fewer rows than this are of that tier; larger ones are left alone.
const TIERS: [usize; 3] = [8, 64, 512];
/// How many neighbours of a tier are worth a copy.
const FAN_IN: usize = 8;
/// Rows of a run that concatenation makes, at most about.
const RUN_ROWS: usize = 16_384;

/// Neighbouring writes to one table.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Names the run among those of its table.
    id: u64,
    pub(crate) batch: RecordBatch,
    /// Bytes that its rows took in the log.
    pub(crate) bytes: usize,
    /// When the oldest row came.
    pub(crate) since: Instant,
    /// For each write in it: its sequence number, and the row behind its last.
    ends: Vec<(u64, usize)>,
}

impl Run {
    /// The highest sequence number in it.
    pub(crate) fn last_seq(&self) -> u64 {
        self.ends.last().map_or(0, |(seq, _)| *seq)
    }

    fn first_seq(&self) -> u64 {
        self.ends.first().map_or(0, |(seq, _)| *seq)
    }

    /// Its rows that came after `seq`.
    pub(crate) fn after(&self, seq: u64) -> Option<RecordBatch> {
        let seen = self.ends.partition_point(|(end_seq, _)| *end_seq <= seq);
        let from = seen.checked_sub(1).map_or(0, |last| self.ends[last].1);
        let rows = self.batch.num_rows() - from;
        (rows > 0).then(|| if from == 0 { self.batch.clone() } else { self.batch.slice(from, rows) })
    }
}

/// The runs of one table, oldest first.
#[derive(Debug, Default)]
pub(crate) struct HotRows {
    runs: Vec<Run>,
    next_id: u64,
}

impl HotRows {
    /// Appends a write's rows.
    pub(crate) fn push(&mut self, seq: u64, batch: RecordBatch, bytes: usize, since: Instant) {
        let ends = vec![(seq, batch.num_rows())];
        self.runs.push(Run { id: self.next_id, batch, bytes, since, ends });
        self.next_id += 1;
    }

    /// The runs, oldest first.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The batches of all runs, each with the highest sequence number in it.
    pub(crate) fn view(&self) -> Vec<(u64, RecordBatch)> {
        self.runs.iter().map(|run| (run.last_seq(), run.batch.clone())).collect()
    }

    /// Takes out the runs up to `seq`. No run reaches over a sequence number that is being flushed.
    pub(crate) fn take_through(&mut self, seq: u64) -> Vec<Run> {
        let count = self.runs.partition_point(|run| run.last_seq() <= seq);
        self.runs.drain(..count).collect()
    }

    /// Neighbours that are worth one run, none of them at or before `barrier`.
    pub(crate) fn small_neighbours(&self, barrier: u64) -> Option<Vec<Run>> {
        let start = self.runs.partition_point(|run| run.first_seq() <= barrier);
        let runs = &self.runs[start..];
        TIERS.iter().find_map(|tier| neighbours(runs, *tier)).map(|range| runs[range].to_vec())
    }

    /// Puts `merged` in the place of `parts`, unless they have been taken out since.
    pub(crate) fn replace(&mut self, parts: &[Run], merged: Run) {
        let first = parts.first().map(|part| part.id);
        let Some(at) = self.runs.iter().position(|run| Some(run.id) == first) else { return };
        let there = self.runs[at..].iter().map(|run| run.id);
        if there.take(parts.len()).eq(parts.iter().map(|part| part.id)) {
            self.runs.splice(at..at + parts.len(), [merged]);
        }
    }
}

/// The first stretch of at least [`FAN_IN`] runs below `tier` rows each, none of them more than half of it.
fn neighbours(runs: &[Run], tier: usize) -> Option<Range<usize>> {
    let (mut start, mut rows, mut largest) = (0, 0, 0);
    for (at, run) in runs.iter().enumerate() {
        let here = run.batch.num_rows();
        let small = here < tier && rows + here <= RUN_ROWS;
        if !small {
            if at - start >= FAN_IN && 2 * largest <= rows {
                return Some(start..at);
            }
            // A small run that did not fit begins the next stretch.
            (start, rows, largest) = if here < tier { (at, here, here) } else { (at + 1, 0, 0) };
        } else {
            rows += here;
            largest = largest.max(here);
        }
    }
    (runs.len() - start >= FAN_IN && 2 * largest <= rows).then_some(start..runs.len())
}

/// The rows of neighbouring runs as one.
pub(crate) fn merge(table: Table, parts: &[Run]) -> Result<Run, ArrowError> {
    let batches: Vec<_> = parts.iter().map(|part| &part.batch).collect();
    let batch = gather::all(table, &batches)?;
    let mut ends: Vec<(u64, usize)> = Vec::with_capacity(parts.len());
    let mut before = 0;
    for part in parts {
        for (seq, end) in &part.ends {
            match ends.last_mut() {
                Some(last) if last.0 == *seq => last.1 = before + end,
                _ => ends.push((*seq, before + end)),
            }
        }
        before += part.batch.num_rows();
    }
    let since = parts.iter().map(|part| part.since).min().unwrap_or_else(Instant::now);
    let id = parts.first().map_or(0, |part| part.id);
    Ok(Run { id, batch, bytes: parts.iter().map(|part| part.bytes).sum(), since, ends })
}

#[cfg(test)]
mod tests;
