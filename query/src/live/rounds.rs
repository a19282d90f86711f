//! A round: what is new in storage goes through the analysis, and what came of it goes out.
//!
//! The first half computes and runs off the async threads; the second half writes. Increments of the service
//! graph go back to the builder when storage has no room, changes of findings and hints wait in the outbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tokio::task;
use tokio::time::Instant;
use weir_model::hint::HintSet;
use weir_model::{UnixNanos, limits};
use weir_storage::{Cursor, Table, WriteBatch, WriteError};

use super::counters::{Active, Counters};
use super::examples::Examples;
use super::pairs::Pairs;
use super::points::Points;
use super::{Shared, restart, rows};
use crate::analysis::{FindingEvent, HintEvent, State, Tick, TickBuilder, step};

/// How often the service graph is written while nothing else is: every other round.
const WRITE_EVERY: Duration = Duration::from_millis(1_500);
/// How often the last write is tried, and how long apart.
const LAST_TRIES: u32 = 5;
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Everything the loop owns.
#[derive(Debug)]
pub(super) struct Rounds {
    shared: Arc<Shared>,
    /// The places in storage up to which its rows are known.
    points_at: Cursor,
    spans_at: Cursor,
    points: Points,
    pairs: Pairs,
    builder: TickBuilder,
    state: State,
    examples: Examples,
    published: HintSet,
    /// Rows of `findings` and `hints` that are not stored yet, oldest first.
    outbox: VecDeque<(Table, RecordBatch)>,
    /// The time of the last change that was noted: no two have the same, so that the latest is known.
    stamped: UnixNanos,
    written: UnixNanos,
    counters: Counters,
}

impl Rounds {
    /// Rows from now on count.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let epoch = shared.storage.epoch();
        let cursor = shared.storage.cursor();
        Self {
            points_at: cursor,
            spans_at: cursor,
            points: Points::default(),
            pairs: Pairs::default(),
            builder: TickBuilder::default(),
            state: State::new(epoch),
            examples: Examples::default(),
            published: HintSet::default(),
            outbox: VecDeque::new(),
            stamped: UnixNanos::default(),
            written: UnixNanos::default(),
            counters: Counters::default(),
            shared,
        }
    }

    /// Announces this run, and closes what an earlier one left open.
    pub(super) async fn begin(&mut self) {
        self.publish();
        let Shared { storage, tenant, clock, .. } = &*self.shared;
        match restart::resolved(storage, tenant, clock).await {
            Ok(rows) => self.post(Table::Findings, rows),
            Err(error) => tracing::warn!(%error, "findings of an earlier run stay open in the table"),
        }
    }

    /// One round, at `now`.
    pub(super) async fn round(self, now: UnixNanos) -> Self {
        let began = Instant::now();
        let mut rounds = self;
        let advanced = task::spawn_blocking(move || {
            rounds.advance(now);
            rounds
        });
        let mut rounds = match advanced.await {
            Ok(rounds) => rounds,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going down, and every task with it.
            Err(_) => return std::future::pending().await,
        };
        if !rounds.outbox.is_empty() || now.since(rounds.written) >= WRITE_EVERY {
            rounds.written = now;
            rounds.write().await;
        }
        rounds.counters.rounds += 1;
        rounds.counters.round_took = began.elapsed();
        rounds.shared.show(&rounds.counters);
        rounds
    }

    /// Takes in what is left and stores it; what storage refuses to the end is dropped and counted.
    pub(super) async fn finish(self, now: UnixNanos) {
        let mut rounds = self.round(now).await;
        for _ in 0..LAST_TRIES {
            if rounds.write().await {
                break;
            }
            tokio::time::sleep(LAST_PAUSE).await;
        }
        let left = rounds.builder.take_increments().len() + rounds.waiting();
        if left > 0 {
            tracing::warn!(rows = left, "storage refused the last rows of the analysis");
            rounds.counters.unused.add("stopped", left as u64);
        }
        rounds.shared.show(&rounds.counters);
    }

    /// From new rows to new hints.
    fn advance(&mut self, now: UnixNanos) {
        let shared = Arc::clone(&self.shared);
        let Shared { storage, tenant, config, .. } = &*shared;
        let (points, at) = storage.rows_since(tenant, Table::Histograms, self.points_at);
        self.points_at = at;
        let index = storage.series(tenant);
        let unused = &mut self.counters.unused;
        self.counters.points += self.points.observe(&points, &index, &mut self.builder, now, unused);
        let (spans, at) = storage.rows_since(tenant, Table::Spans, self.spans_at);
        self.spans_at = at;
        self.examples.note(now, at);
        self.pairs.observe(&spans, &self.points, &mut self.builder, now, unused);

        let ticks = self.builder.close(now, config.close_after);
        let (mut findings, mut hints) = (vec![], vec![]);
        self.counters.ticks += ticks.len() as u64;
        for tick in &ticks {
            let outcome = step(&mut self.state, tick, config);
            findings.extend(outcome.findings);
            hints.extend(outcome.hints);
        }
        self.note(ticks.last());
        if !findings.is_empty() || !hints.is_empty() {
            self.examples.fill(&mut findings, &mut hints, storage, tenant);
            self.announce(findings, hints, now);
        }
    }

    fn note(&mut self, last: Option<&Tick>) {
        let counters = &mut self.counters;
        if let Some(last) = last {
            counters.closed_until = UnixNanos((last.second + 1) * SECOND);
        }
        let dropped = self.builder.dropped();
        counters.late_points = dropped.late;
        counters.unused.set("edges", dropped.edges);
        counters.unused.set("watched_edges", self.state.dropped_edges());
        counters.edges_watched = self.state.edges();
        counters.active = self.state.findings().map(Active::from).collect();
        counters.active.sort();
        counters.active.dedup();
    }

    fn announce(&mut self, mut findings: Vec<FindingEvent>, mut hints: Vec<HintEvent>, now: UnixNanos) {
        let times = findings.iter_mut().map(|event| &mut event.time);
        for time in times.chain(hints.iter_mut().map(|event| &mut event.time)) {
            self.stamped = now.max(self.stamped + Duration::from_nanos(1));
            *time = self.stamped;
        }
        if !hints.is_empty() {
            self.publish();
        }
        for FindingEvent { state, finding, .. } in &findings {
            tracing::info!(id = finding.id, state = state.name(), "{}", finding.message);
        }
        for HintEvent { change, hint, reason, .. } in &hints {
            tracing::info!(id = hint.id, change = change.name(), action = hint.action.name(), "{reason}");
        }
        self.post_made(Table::Findings, findings.len(), rows::findings(&findings));
        self.post_made(Table::Hints, hints.len(), rows::hints(&hints));
    }

    /// Tells the collector which hints are in force, if that has changed.
    fn publish(&mut self) {
        let mut hints = self.state.hints();
        hints.sort_by(|a, b| a.id.cmp(&b.id));
        for hint in &mut hints {
            hint.evidence.trace_ids = self.examples.of(&hint.evidence.finding);
        }
        let epoch = self.shared.storage.epoch();
        if self.published.epoch != epoch || self.published.hints != hints {
            self.published = HintSet { epoch, revision: self.published.revision + 1, hints };
            self.counters.hints = self.published.hints.len();
            self.shared.hints.send_replace(self.published.clone());
        }
    }

    fn post_made(&mut self, table: Table, events: usize, made: Result<RecordBatch, ArrowError>) {
        match made {
            Ok(rows) => self.post(table, rows),
            Err(error) => {
                tracing::error!(%error, table = table.name(), "rows could not be made");
                self.counters.unused.add("unfit", events as u64);
            }
        }
    }

    /// Puts rows into the outbox; what is oldest there makes room.
    fn post(&mut self, table: Table, rows: RecordBatch) {
        if rows.num_rows() == 0 {
            return;
        }
        self.outbox.push_back((table, rows));
        while self.waiting() > limits::LIVE_EVENTS && self.outbox.len() > 1 {
            let oldest = self.outbox.pop_front().map_or(0, |(_, rows)| rows.num_rows());
            self.counters.unused.add("outbox_full", oldest as u64);
        }
    }

    /// Rows in the outbox.
    fn waiting(&self) -> usize {
        self.outbox.iter().map(|(_, rows)| rows.num_rows()).sum()
    }

    /// Stores what there is, all of it or nothing; false where it must be tried again.
    async fn write(&mut self) -> bool {
        let increments = self.builder.take_increments();
        let mut parts: Vec<(Table, RecordBatch)> = self.outbox.iter().cloned().collect();
        for (table, seconds) in Table::GRAPH {
            match rows::edges(table, seconds, &increments) {
                Ok(edges) => parts.push((table, edges)),
                Err(error) => {
                    tracing::error!(%error, "rows of `{}` could not be made", table.name());
                    self.counters.unused.add("unfit", increments.len() as u64);
                }
            }
        }
        let stored: Vec<(Table, usize)> =
            parts.iter().map(|(table, rows)| (*table, rows.num_rows())).collect();
        if stored.iter().all(|(_, rows)| *rows == 0) {
            return true;
        }
        let batch = WriteBatch { tenant: self.shared.tenant.clone(), parts };
        match self.shared.storage.writer().write(batch).await {
            Ok(_) => {
                self.outbox.clear();
                stored.into_iter().for_each(|(table, rows)| self.counters.stored(table, rows));
                true
            }
            Err(WriteError::Overloaded { .. } | WriteError::DiskFull { .. }) => {
                self.counters.writes_refused += 1;
                self.builder.put_back(increments);
                false
            }
            Err(error @ (WriteError::Refused(_) | WriteError::Stopped(_))) => {
                let rows: usize = stored.iter().map(|(_, rows)| rows).sum();
                tracing::error!(%error, rows, "what the analysis found could not be stored");
                self.counters.unused.add("not_stored", rows as u64);
                self.outbox.clear();
                true
            }
        }
    }
}
