//! Compaction: many small files of a day become few, in sort order, without the rows that came twice.
//!
//! Flushes leave a file per table every half minute. Neighbours in the order of the write-ahead log are
//! merged in tiers, as hot rows are: each copy at least doubles the file a row is in, so a row is copied a
//! few times a day; when the day is over, what is still small is merged regardless ([`pick`]). The merge
//! streams ([`merge`]), removes duplicates by identity and adds up the rows of the service graph ([`sums`]).
//! One Delta commit takes the inputs out of the table and puts the output in, marked as no change of data.
//! Readers that hold an older snapshot keep reading the inputs: files leave the disk an hour after they left
//! the table ([`vacuum`]).
//!
//! When a day is over its traces may be sampled ([`sample`]).
//!
//! A crash leaves either the old files or the new one in the log, and perhaps a file that nobody names.

mod merge;
mod pick;
mod sample;
mod sums;
mod vacuum;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use weir_model::TenantId;

use crate::delta::Change;
use crate::lock::STAGING;
use crate::retention::expire;
use crate::series::day_of;
use crate::shared::Shared;
use crate::{DataFile, FlushError, Table, integrity};
use merge::Merged;
use pick::pick;
pub(crate) use sample::sample;
pub(crate) use vacuum::sweep;

/// Pause between two looks for something to do.
const EVERY: Duration = Duration::from_secs(10);
/// Pause between two sweeps for files that no table names any more, and for days to sample.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How long after its end a day is over: late rows have come by then.
const DAY_GRACE: Duration = Duration::from_secs(3600);

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were merged.
    pub files: u64,
    /// Rows in the merged files.
    pub rows: u64,
    /// Rows that were there twice.
    pub duplicates: u64,
}

/// Files to merge.
#[derive(Debug)]
struct Job {
    tenant: TenantId,
    table: Table,
    root: PathBuf,
    staging: PathBuf,
    epoch: u64,
    inputs: Vec<DataFile>,
}

/// Compacts, drops what is kept no longer and sweeps until cancelled.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since_sweep = Duration::ZERO;
    loop {
        ticks.tick().await;
        loop {
            match round(&shared).await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) if shared.health.refusal().is_some() => return,
                Err(e) => {
                    shared.metrics.compaction_errors.add(1);
                    tracing::warn!(error = %e, "compaction failed; the files stay as they are");
                    break;
                }
            }
        }
        if let Err(e) = expire(&shared).await {
            tracing::warn!(error = %e, "rows that are too old or too many cannot be dropped");
        }
        since_sweep += EVERY;
        if since_sweep >= SWEEP_EVERY {
            since_sweep = Duration::ZERO;
            if let Err(e) = sample(&shared).await {
                tracing::warn!(error = %e, "days that are over cannot be sampled");
            }
            if let Err(e) = sweep(&shared).await {
                tracing::warn!(error = %e, "files that no table names cannot be removed");
            }
        }
    }
}

/// Merges the files that deserve it most; `None` where none do.
pub(crate) async fn round(shared: &Arc<Shared>) -> Result<Option<Compacted>, FlushError> {
    // In a task of its own: whoever loses interest must leave neither a file half written beside the next
    // merge nor a commit half known.
    let task = Arc::clone(shared);
    let round = tokio::spawn(async move {
        let _alone = task.compacting.lock().await;
        merge_next(&task).await
    });
    round.await.unwrap_or_else(|e| Err(FlushError::Stopped(format!("a merge ended early: {e}"))))
}

async fn merge_next(shared: &Arc<Shared>) -> Result<Option<Compacted>, FlushError> {
    let Some(job) = next(shared).await? else { return Ok(None) };
    let table = job.table;
    let task = Arc::clone(shared);
    let merging = tokio::task::spawn_blocking(move || {
        let checked = task.integrity.check(job.inputs.clone());
        let checked = checked.map_err(|source| FlushError::File { table, source })?;
        if !checked.damaged.is_empty() {
            return Ok(None);
        }
        let merged = merge::merge(&job)?;
        Ok(Some((job, merged)))
    });
    match merging.await.map_err(|e| FlushError::Encode { table, reason: e.to_string() })?? {
        Some((job, merged)) => commit(shared, &job, merged).await,
        None => {
            integrity::set_aside(shared).await?;
            Ok(Some(Compacted::default())) // there may be others to merge
        }
    }
}

/// Puts a merged file in the place of its inputs.
async fn commit(shared: &Shared, job: &Job, merged: Merged) -> Result<Option<Compacted>, FlushError> {
    let mut flusher = shared.flusher.lock().await;
    let open = flusher.as_mut().ok_or_else(|| FlushError::Stopped("it is closed".to_owned()))?;
    let key = (job.tenant.clone(), job.table);
    let output = std::slice::from_ref(&merged.file);
    if !open.exchange(shared, &key, &job.inputs, output, Change::Merge).await? {
        return Ok(None);
    }
    drop(flusher);

    let rows = job.inputs.iter().map(|file| file.rows).sum();
    let done = Compacted { files: job.inputs.len() as u64, rows, duplicates: merged.duplicates };
    shared.metrics.compactions.add(1);
    shared.metrics.compacted_at.set(shared.clock.now());
    shared.metrics.compacted_files.add(done.files);
    shared.metrics.compacted_rows.add(done.rows);
    shared.metrics.duplicate_rows.add(done.duplicates);
    tracing::debug!(table = job.table.name(), ?done, "compacted");
    Ok(Some(done))
}

async fn next(shared: &Arc<Shared>) -> Result<Option<Job>, FlushError> {
    let flusher = shared.flusher.lock().await;
    let open = flusher.as_ref().ok_or_else(|| FlushError::Stopped("it is closed".to_owned()))?;
    let today = today(shared);
    for (key, log) in &open.logs {
        if let Some(inputs) = pick(&log.files, today) {
            return Ok(Some(Job {
                tenant: key.0.clone(),
                table: key.1,
                root: open.root(&key.0, key.1),
                staging: open.lock.dir.join(STAGING),
                epoch: open.lock.epoch,
                inputs,
            }));
        }
    }
    Ok(None)
}

/// The first day that is not over.
fn today(shared: &Shared) -> i32 {
    let micros = (shared.clock.now() - DAY_GRACE).0 / 1_000;
    day_of(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
