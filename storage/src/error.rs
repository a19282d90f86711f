//! What can go wrong with a data directory, each in one sentence that says what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use deltalake_core::DeltaTableError;

use crate::{Table, durable};

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written.
    #[error("cannot write to the data directory `{}`: {source}; choose another with --data-dir", path.display())]
    Unwritable {
        /// What was tried.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file in it cannot be read or written.
    #[error("cannot use `{}` in the data directory: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A newer program wrote it. Nothing was changed.
    #[error(
        "the data directory `{}` has format {found}, this program reads up to {supported}: \
         run the newer program, or choose another directory with --data-dir",
        path.display()
    )]
    Newer {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this program knows.
        supported: u64,
    },
    /// An older program wrote it. Nothing was changed.
    #[error(
        "the data directory `{}` has format {found}, this program reads {supported} alone: \
         run the older program, or choose another directory with --data-dir",
        path.display()
    )]
    Older {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format of this program.
        supported: u64,
    },
    /// Another process has it open. Nothing was changed.
    #[error(
        "the data directory `{}` is in use by {}: stop it, or choose another directory with --data-dir",
        path.display(), owner(*pid)
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that has it open, where its id could be read.
        pid: Option<u32>,
    },
    /// A file of it does not hold what it must.
    #[error("`{}` is damaged: {reason}; restore it from a copy, or choose another directory with --data-dir", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A table's Delta log cannot be read.
    #[error("the Delta log of `{}` cannot be read: {source}", path.display())]
    Table {
        /// The table's folder.
        path: PathBuf,
        /// Why.
        source: Box<DeltaTableError>,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Why rows could not be flushed. They stay in memory and in the write-ahead log.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// A Parquet file could not be written.
    #[error("cannot write a file of `{}`: {source}", table.name())]
    File {
        /// The table.
        table: Table,
        /// Why.
        source: io::Error,
    },
    /// Rows could not be encoded.
    #[error("cannot encode rows of `{}`: {reason}", table.name())]
    Encode {
        /// The table.
        table: Table,
        /// Why.
        reason: String,
    },
    /// The Delta log could not be read or committed to.
    #[error("cannot commit to the Delta log of `{}`: {source}", table.name())]
    Commit {
        /// The table.
        table: Table,
        /// Why.
        source: Box<DeltaTableError>,
    },
    /// A sync failed earlier, or the storage is closed.
    #[error("storage has stopped: {0}")]
    Stopped(String),
}

impl FlushError {
    /// Whether more space on the disk would have helped.
    pub(crate) fn is_full(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if error.downcast_ref::<io::Error>().is_some_and(durable::is_full) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

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
    /// The batch can never be stored as it is.
    #[error("the batch cannot be stored: {0}")]
    Refused(String),
    /// A sync failed: nothing more can be promised, and the process must stop.
    #[error("storage has stopped: {0}")]
    Stopped(String),
}
