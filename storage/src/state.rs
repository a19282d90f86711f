//! What is visible: per tenant and table the published files and the hot rows, always disjoint.
//!
//! Everything here is done under one lock that is held for moments: appending, taking a snapshot, and the
//! swap that turns hot rows into files. Whatever takes long (concatenating, encoding, committing) works on
//! clones outside and comes back for the swap.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use tokio::time::Instant;
use weir_model::{SeriesId, TenantId, limits};

use crate::hot::{HotRows, Run};
use crate::integrity::Integrity;
use crate::metrics::Metrics;
use crate::recent::Reads;
use crate::wal::frame::Part;
use crate::{Cursor, Damaged, DataFile, Labels, Snapshot, Table, TableSnapshot, TableStatus};

/// A write as it becomes visible.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) tenant: TenantId,
    pub(crate) parts: Vec<Part>,
    /// The series whose rows are among the parts, each with the day of its row.
    pub(crate) series: Vec<(SeriesId, Labels, i32)>,
}

impl Rows {
    /// Bytes of all parts.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Rows that a flush takes on.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) tenant: TenantId,
    pub(crate) table: Table,
    /// The rows, with the highest sequence number of each batch.
    pub(crate) batches: Vec<(u64, RecordBatch)>,
}

#[derive(Debug, Default)]
struct TableState {
    files: Arc<[DataFile]>,
    /// Files that were set aside.
    damaged: Arc<[Damaged]>,
    hot: HotRows,
    /// Runs that are in files by now, kept for cursors, with the moment they were flushed.
    flushed: VecDeque<(Instant, Run)>,
    flushed_bytes: usize,
}

#[derive(Debug, Default)]
struct TenantState {
    tables: HashMap<Table, TableState>,
    /// What the last reader got, while nothing has changed.
    snapshot: Option<Snapshot>,
}

/// All tenants.
#[derive(Debug, Default)]
pub(crate) struct State {
    integrity: Arc<Integrity>,
    reads: Arc<Reads>,
    tenants: HashMap<TenantId, TenantState>,
    /// The highest sequence number that is visible.
    last_seq: u64,
    /// Rows up to this one are being flushed: their runs stay as they are.
    barrier: u64,
    hot_rows: usize,
    hot_bytes: usize,
}

impl State {
    /// Nothing yet; snapshots check files with `integrity` and keep what is read of them in `reads`.
    pub(crate) fn new(integrity: Arc<Integrity>, reads: Arc<Reads>) -> Self {
        Self { integrity, reads, ..Self::default() }
    }

    /// Makes a write visible.
    pub(crate) fn append(&mut self, seq: u64, rows: Rows, now: Instant) {
        let tenant = self.tenants.entry(rows.tenant).or_default();
        tenant.snapshot = None;
        for Part { table, batch, bytes } in rows.parts {
            self.hot_rows += batch.num_rows();
            self.hot_bytes += bytes;
            tenant.tables.entry(table).or_default().hot.push(seq, batch, bytes, now);
        }
        self.last_seq = self.last_seq.max(seq);
    }

    /// Sets where sequence numbers continue after a restart.
    pub(crate) fn resume(&mut self, last_seq: u64) {
        self.last_seq = self.last_seq.max(last_seq);
    }

    /// Whether another tenant may have rows.
    pub(crate) fn has_room_for(&self, tenant: &TenantId) -> bool {
        self.tenants.contains_key(tenant) || self.tenants.len() < limits::TENANTS
    }

    /// The highest sequence number that is visible.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(crate) fn hot_rows(&self) -> usize {
        self.hot_rows
    }

    pub(crate) fn hot_bytes(&self) -> usize {
        self.hot_bytes
    }

    /// When the oldest hot row came.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.tables().filter_map(|table| table.hot.runs().first()).map(|run| run.since).min()
    }

    /// What each table holds, over all tenants.
    pub(crate) fn tables_status(&self) -> Vec<TableStatus> {
        let status = |table| {
            let mut status = TableStatus { table, files: 0, rows: 0, bytes: 0, hot_rows: 0 };
            for state in self.tenants.values().filter_map(|tenant| tenant.tables.get(&table)) {
                status.files += state.files.len();
                status.rows += state.files.iter().map(|file| file.rows).sum::<u64>();
                status.bytes += state.files.iter().map(|file| file.size).sum::<u64>();
                let hot = state.hot.runs().iter().map(|run| run.batch.num_rows() as u64);
                status.hot_rows += hot.sum::<u64>();
            }
            status
        };
        Table::ALL.map(status).into()
    }

    /// The published files of all tenants.
    pub(crate) fn files(&self) -> Vec<(TenantId, Table, DataFile)> {
        let mut all = Vec::new();
        for (tenant, state) in &self.tenants {
            for (table, of_table) in &state.tables {
                all.extend(of_table.files.iter().map(|file| (tenant.clone(), *table, file.clone())));
            }
        }
        all
    }

    fn tables(&self) -> impl Iterator<Item = &TableState> {
        self.tenants.values().flat_map(|tenant| tenant.tables.values())
    }

    /// What a reader of `tenant` sees now.
    pub(crate) fn snapshot(&mut self, tenant: &TenantId) -> Snapshot {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return Snapshot::default() };
        let tables = &tenant.tables;
        tenant
            .snapshot
            .get_or_insert_with(|| {
                let view = |(table, state): (&Table, &TableState)| {
                    (*table, state.view(&self.integrity, &self.reads))
                };
                Snapshot::new(tables.iter().map(view).collect())
            })
            .clone()
    }

    /// The rows of a table after `cursor`, and the cursor after them.
    pub(crate) fn rows_since(
        &self,
        tenant: &TenantId,
        table: Table,
        cursor: Cursor,
    ) -> (Vec<RecordBatch>, Cursor) {
        let state = self.tenants.get(tenant).and_then(|tenant| tenant.tables.get(&table));
        let rows = state.map_or_else(Vec::new, |state| {
            let flushed = state.flushed.iter().map(|(_, run)| run);
            flushed.chain(state.hot.runs()).filter_map(|run| run.after(cursor.0)).collect()
        });
        (rows, Cursor(self.last_seq))
    }

    /// Begins a flush of every row that is visible now: gives the highest sequence number among them and
    /// the rows. Until [`State::end_flush`], no run will reach over that number.
    pub(crate) fn begin_flush(&mut self) -> (u64, Vec<Work>) {
        self.barrier = self.last_seq;
        let mut work: Vec<Work> = Vec::new();
        for (tenant, state) in &self.tenants {
            for (table, rows) in &state.tables {
                let batches: Vec<_> = rows.hot.view();
                if !batches.is_empty() {
                    work.push(Work { tenant: tenant.clone(), table: *table, batches });
                }
            }
        }
        work.sort_by(|a, b| (&a.tenant, a.table).cmp(&(&b.tenant, b.table)));
        (self.last_seq, work)
    }

    /// Lets all runs be concatenated again.
    pub(crate) fn end_flush(&mut self) {
        self.barrier = 0;
    }

    /// The swap: rows up to `through` leave memory as `files` become visible, in one step.
    pub(crate) fn publish(
        &mut self,
        (tenant, table): (&TenantId, Table),
        through: u64,
        files: Arc<[DataFile]>,
        now: Instant,
    ) {
        let tenant = self.tenants.entry(tenant.clone()).or_default();
        tenant.snapshot = None;
        let state = tenant.tables.entry(table).or_default();
        state.files = files;
        for run in state.hot.take_through(through) {
            self.hot_rows -= run.batch.num_rows();
            self.hot_bytes -= run.bytes;
            state.flushed_bytes += run.bytes;
            state.flushed.push_back((now, run));
        }
    }

    /// The swap of damaged files: they leave their table, whose files are `files` now, and are known to be aside.
    pub(crate) fn quarantine(
        &mut self,
        (tenant, table): (&TenantId, Table),
        files: Arc<[DataFile]>,
        damaged: Vec<Damaged>,
    ) {
        let tenant = self.tenants.entry(tenant.clone()).or_default();
        tenant.snapshot = None;
        let state = tenant.tables.entry(table).or_default();
        state.files = files;
        state.damaged = state.damaged.iter().cloned().chain(damaged).collect();
    }

    /// The damaged files of all tenants that were set aside.
    pub(crate) fn damaged(&self) -> Vec<(TenantId, Table, Damaged)> {
        let mut all = Vec::new();
        for (tenant, state) in &self.tenants {
            for (table, of_table) in &state.tables {
                all.extend(of_table.damaged.iter().map(|damaged| (tenant.clone(), *table, damaged.clone())));
            }
        }
        all
    }

    /// Drops flushed rows that no cursor may reach any more.
    pub(crate) fn forget(&mut self, now: Instant, metrics: &Metrics) {
        for state in self.tenants.values_mut().flat_map(|tenant| tenant.tables.values_mut()) {
            while let Some((at, run)) = state.flushed.front() {
                let old = now.duration_since(*at) >= limits::FLUSHED_ROWS_AGE;
                if !old && state.flushed_bytes <= limits::FLUSHED_ROWS_BYTES {
                    break;
                }
                if !old {
                    metrics.evicted_rows.add(run.batch.num_rows() as u64);
                }
                state.flushed_bytes -= run.bytes;
                state.flushed.pop_front();
            }
        }
    }

    /// Neighbouring small runs of some table.
    pub(crate) fn small_neighbours(&self) -> Option<(TenantId, Table, Vec<Run>)> {
        self.tenants.iter().find_map(|(tenant, state)| {
            state.tables.iter().find_map(|(table, rows)| {
                rows.hot.small_neighbours(self.barrier).map(|runs| (tenant.clone(), *table, runs))
            })
        })
    }

    /// Puts one run in the place of its parts.
    pub(crate) fn replace(&mut self, (tenant, table): (&TenantId, Table), parts: &[Run], merged: Run) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        tenant.snapshot = None;
        if let Some(state) = tenant.tables.get_mut(&table) {
            state.hot.replace(parts, merged);
        }
    }
}

impl TableState {
    fn view(&self, integrity: &Arc<Integrity>, reads: &Arc<Reads>) -> TableSnapshot {
        TableSnapshot {
            files: Arc::clone(&self.files),
            hot: self.hot.view().into(),
            damaged: Arc::clone(&self.damaged),
            integrity: Arc::clone(integrity),
            reads: Arc::clone(reads),
        }
    }
}

#[cfg(test)]
mod tests;
