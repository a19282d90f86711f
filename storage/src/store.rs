//! Opening, writing, flushing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use weir_model::{Clock, TenantId};

use crate::{Cursor, SeriesIndex, Snapshot, Table};

/// How to open a data directory.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; made if absent.
    pub data_dir: PathBuf,
    /// The wall clock.
    pub clock: Clock,
    /// Age at which hot rows are flushed.
    pub flush_age: Duration,
    /// Size in bytes at which hot rows are flushed.
    pub flush_bytes: usize,
}

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {}

/// Why rows could not be flushed.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {}

/// Why a write was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Too much is waiting; try again.
    #[error("storage is overloaded, try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When.
        retry_after: Duration,
    },
    /// No space is left; reads go on, and so will writes when there is space.
    #[error("the disk is full, try again in {} ms", retry_after.as_millis())]
    DiskFull {
        /// When.
        retry_after: Duration,
    },
    /// A sync failed: nothing more can be promised, and the process must stop.
    #[error("storage has stopped: {0}")]
    Stopped(String),
}

/// Rows to store together: all or none of them survive a crash.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// Whose they are.
    pub tenant: TenantId,
    /// Batches in the schema of their table.
    pub parts: Vec<(Table, RecordBatch)>,
}

/// The rows are on disk and visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// The WAL sequence number of the batch.
    pub seq: u64,
}

/// Figures for the status page.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Bytes of WAL segments on disk.
    pub wal_bytes: u64,
    /// Rows and bytes in memory.
    pub hot_rows: u64,
    /// Bytes in memory.
    pub hot_bytes: u64,
    /// Published files per table.
    pub files: Vec<(Table, usize)>,
}

/// An open data directory. Clones share it; [`Storage::close`] or dropping the last one releases it.
#[derive(Debug, Clone)]
pub struct Storage {}

/// The one door through which everything that is stored comes in.
#[derive(Debug, Clone)]
pub struct Writer {}

impl Storage {
    /// Opens `options.data_dir`: takes its lock, checks its format, loads the tables, replays the WAL and
    /// starts the flusher on the current tokio runtime.
    pub async fn open(_options: Options) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// The number of this run: persisted, raised at each open.
    pub fn epoch(&self) -> u64 {
        unimplemented!()
    }

    /// The way in.
    pub fn writer(&self) -> Writer {
        unimplemented!()
    }

    /// The label sets of a tenant.
    pub fn series(&self, _tenant: &TenantId) -> Arc<SeriesIndex> {
        unimplemented!()
    }

    /// What a reader sees now.
    pub fn snapshot(&self, _tenant: &TenantId) -> Snapshot {
        unimplemented!()
    }

    /// The rows of `table` that were acknowledged after `cursor`, and the cursor after them. Rows stay
    /// within reach for at least 30 s after they are flushed.
    pub fn rows_since(
        &self,
        _tenant: &TenantId,
        _table: Table,
        _cursor: Cursor,
    ) -> (Vec<RecordBatch>, Cursor) {
        unimplemented!()
    }

    /// Writes all hot rows to Parquet and commits them.
    pub async fn flush(&self) -> Result<(), FlushError> {
        unimplemented!()
    }

    /// Figures for the status page.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// Flushes, stops the background tasks, releases the lock.
    pub async fn close(self) -> Result<(), FlushError> {
        unimplemented!()
    }
}

impl Writer {
    /// Stores `batch`; returns when it is synced to disk and visible to the next snapshot.
    pub async fn write(&self, _batch: WriteBatch) -> Result<Acked, WriteError> {
        unimplemented!()
    }
}
