//! A script run twice on a real store: on rows that are in no file yet, and on files that were flushed, opened
//! again and compacted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use weir_model::Clock;
use weir_storage::{FlushError, OpenError, Storage, WriteError};

use super::{Report, ScriptError, Stored};
use crate::engine::{Engine, EngineError, EngineOptions};
use crate::promql::plan::Options;

/// Why a script could not be run.
#[derive(Debug, thiserror::Error)]
pub enum TwiceError {
    /// It is no script.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// Its series make no rows.
    #[error("its series cannot be stored: {0}")]
    Rows(#[from] arrow::error::ArrowError),
    /// The store did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store did not take the rows.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store did not make files of them.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Runs the script `text` on a store below `folder`, which is empty. What passes passes both times.
pub async fn run_twice(
    text: &str,
    folder: &Path,
    clock: &Clock,
    options: &Options,
) -> Result<Report, TwiceError> {
    let script = Stored::new(text)?;
    let storage = open(&folder.join("hot"), clock).await?;
    write(&script, &storage, 0, 1).await?;
    let hot = script.run(&engine(&storage, clock)?, options).await;
    storage.close().await?;

    let files = folder.join("files");
    let storage = open(&files, clock).await?;
    // Two files of each table, with every other sample each, so that there is something to merge.
    write(&script, &storage, 0, 2).await?;
    storage.flush().await?;
    write(&script, &storage, 1, 2).await?;
    storage.close().await?;
    let storage = open(&files, clock).await?;
    storage.compact().await?;
    let compacted = script.run(&engine(&storage, clock)?, options).await;
    storage.close().await?;
    Ok(both(hot, compacted))
}

async fn open(folder: &Path, clock: &Clock) -> Result<Storage, OpenError> {
    // No flush but those asked for.
    let (flush_age, flush_bytes) = (Duration::from_secs(86_400), 1 << 40);
    let options = weir_storage::Options::new(folder.to_owned(), clock.clone());
    Storage::open(weir_storage::Options { flush_age, flush_bytes, ..options }).await
}

async fn write(script: &Stored, storage: &Storage, round: usize, of: usize) -> Result<(), TwiceError> {
    for batch in script.writes(round, of) {
        storage.writer().write(batch?).await?;
    }
    Ok(())
}

fn engine(storage: &Storage, clock: &Clock) -> Result<Engine, EngineError> {
    Engine::new(storage.clone(), EngineOptions { threads: 2, ..EngineOptions::new(clock.clone()) })
}

/// What passed both times passed; what failed is told once, and when it did.
fn both(hot: Report, compacted: Report) -> Report {
    let evaluations = hot.passed + hot.failed.len();
    let mut failed = BTreeMap::new();
    for (when, report) in [("on hot rows", hot), ("after flush and compaction", compacted)] {
        for mut failure in report.failed {
            failure.got.push_str(&format!(" ({when})"));
            failed.entry(failure.line).or_insert(failure);
        }
    }
    Report { passed: evaluations - failed.len(), failed: failed.into_values().collect() }
}
