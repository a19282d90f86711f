//! What a reader sees: an immutable table version and the hot rows after it.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::integrity::Integrity;
use crate::recent::Reads;
use crate::{BlockFilters, Checked, Damaged, Table, files};

/// A consistent view of all tables of one tenant; cheap to clone, never changes.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    tables: Arc<HashMap<Table, TableSnapshot>>,
}

/// One table within a snapshot. Files and hot rows are disjoint.
#[derive(Debug, Clone, Default)]
pub struct TableSnapshot {
    /// Published Parquet files.
    pub files: Arc<[DataFile]>,
    /// Rows that are acknowledged and not yet in a file, each batch with its WAL sequence number,
    /// ascending. The schema is [`Table::schema`].
    pub hot: Arc<[(u64, RecordBatch)]>,
    /// Files that were set aside because they are damaged.
    pub damaged: Arc<[Damaged]>,
    pub(crate) integrity: Arc<Integrity>,
    pub(crate) reads: Arc<Reads>,
}

impl TableSnapshot {
    /// Compares each of `files` with its length and checksum, unless that was done before: to be asked before they
    /// are read. An error is one of the disk or the system.
    pub async fn check(&self, files: Vec<DataFile>) -> io::Result<Checked> {
        if self.integrity.are_sound(&files) {
            return Ok(Checked { sound: files, damaged: Vec::new() });
        }
        let integrity = Arc::clone(&self.integrity);
        tokio::task::spawn_blocking(move || integrity.check(files))
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    /// The block filters of each of `files`, which are sound and `table`'s; none of those that have none.
    pub async fn block_filters(
        &self,
        table: Table,
        files: &[DataFile],
    ) -> io::Result<Vec<Option<Arc<BlockFilters>>>> {
        let known: Vec<_> = files.iter().map_while(|file| self.reads.filters.known(&file.path)).collect();
        if known.len() == files.len() {
            return Ok(known);
        }
        let (reads, files) = (Arc::clone(&self.reads), files.to_vec());
        let read = move |file: &DataFile| reads.filters_of(table, file);
        tokio::task::spawn_blocking(move || files.iter().map(read).collect())
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
    }
}

/// A published Parquet file.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// The partition: days since 1970-01-01.
    pub date: i32,
    /// Smallest and largest value of the table's statistics columns.
    pub bounds: Arc<HashMap<&'static str, (Bound, Bound)>>,
}

impl DataFile {
    /// The partition as text: `2026-11-18`.
    pub fn day(&self) -> String {
        files::date_text(self.date)
    }
}

/// A value of a statistics column.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum Bound {
    /// `bigint`
    Long(i64),
    /// `timestamp`, microseconds
    Micros(i64),
    /// text
    Text(String),
}

/// A place in the sequence of writes; rows after it have not been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor(pub u64);

impl Snapshot {
    /// A snapshot of the given hot rows and no files.
    pub fn of_rows(rows: impl IntoIterator<Item = (Table, RecordBatch)>) -> Self {
        let mut hot: HashMap<Table, Vec<(u64, RecordBatch)>> = HashMap::new();
        for (seq, (table, batch)) in rows.into_iter().enumerate() {
            hot.entry(table).or_default().push((seq as u64 + 1, batch));
        }
        let table = |batches: Vec<_>| TableSnapshot { hot: batches.into(), ..TableSnapshot::default() };
        Self { tables: Arc::new(hot.into_iter().map(|(name, batches)| (name, table(batches))).collect()) }
    }

    /// A snapshot of the given tables.
    pub(crate) fn new(tables: HashMap<Table, TableSnapshot>) -> Self {
        Self { tables: Arc::new(tables) }
    }

    /// The files and hot rows of `table`.
    pub fn table(&self, table: Table) -> TableSnapshot {
        self.tables.get(&table).cloned().unwrap_or_default()
    }
}
