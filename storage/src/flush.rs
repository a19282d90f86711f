//! Hot rows into files: encode, sync, commit, swap, and only then forget the write-ahead log.
//!
//! A table is flushed on its own, so a crash or a full disk between two tables leaves each either before
//! or after its commit; the position in the commit tells replay which.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use deltalake_core::ObjectStore;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::Instrument;
use weir_model::{TenantId, UnixNanos, limits};

use crate::delta::{Change, TableLog};
use crate::files::{self, Target};
use crate::lock::{DirLock, STAGING};
#[cfg(test)]
use crate::shared::Stage;
use crate::shared::{Shared, lock};
use crate::state::Work;
use crate::wal::log::Command;
use crate::{DataFile, FlushError, Table, durable};

/// How long the flusher waits after a failure, doubled each time …
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// … up to this: on a full disk it is also how late new space is noticed.
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// What only one flush at a time may use.
pub(crate) struct Flusher {
    pub(crate) lock: Arc<DirLock>,
    pub(crate) queue: mpsc::Sender<Command>,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The logs that are known to be as they are on disk.
    pub(crate) logs: HashMap<(TenantId, Table), TableLog>,
    /// Files that left their table, and when: older snapshots still name them.
    pub(crate) departed: HashMap<PathBuf, UnixNanos>,
}

impl Flusher {
    /// Where a table of a tenant is.
    pub(crate) fn root(&self, tenant: &TenantId, table: Table) -> PathBuf {
        self.lock.dir.join(tenant.as_str()).join(table.name())
    }

    /// Flushes every row that is visible when it begins.
    pub(crate) async fn flush(&mut self, shared: &Shared) -> Result<(), FlushError> {
        let began = Instant::now();
        self.rotate(shared).await?;
        let (through, work) = lock(&shared.state).begin_flush();
        let mut result = Ok(());
        let wrote = !work.is_empty();
        for item in work {
            let rows: usize = item.batches.iter().map(|(_, batch)| batch.num_rows()).sum();
            let span = tracing::info_span!("flush_table", table = item.table.name(), rows);
            let done = self.flush_table(shared, item, through).instrument(span).await;
            result = result.and(done);
        }
        {
            let mut state = lock(&shared.state);
            // After a failure, whether rows are in a file may be unknown: their runs stay as they are.
            if result.is_ok() {
                state.end_flush();
            }
            state.forget(Instant::now(), &shared.metrics);
            shared.note_hot_bytes(&state);
        }
        match &result {
            Ok(()) => {
                self.remove_segments(shared, through);
                shared.flushed.send_replace(through);
                if wrote {
                    shared.metrics.flushes.add(1);
                    shared.metrics.flushed_at.set(shared.clock.now());
                    shared
                        .metrics
                        .flush_nanos
                        .add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
            }
            Err(_) => shared.metrics.flush_errors.add(1),
        }
        result
    }

    /// Begins a new WAL segment, so that the ones before it hold nothing that this flush leaves out.
    async fn rotate(&self, shared: &Shared) -> Result<(), FlushError> {
        let stopped = |reason: String| FlushError::Stopped(shared.health.stopped().unwrap_or(reason));
        if let Some(reason) = shared.health.stopped() {
            return Err(FlushError::Stopped(reason));
        }
        let (answer, rotated) = oneshot::channel();
        let gone = || stopped("it is closed".to_owned());
        self.queue.send(Command::Rotate(answer)).await.map_err(|_| gone())?;
        let Err(e) = rotated.await.map_err(|_| gone())? else { return Ok(()) };
        if durable::is_full(&e) && shared.give_up_reserve() {
            return Box::pin(self.rotate(shared)).await;
        }
        // The old segment merely stays longer.
        tracing::warn!(error = %e, "no new WAL segment can be begun; the current one goes on");
        Ok(())
    }

    async fn flush_table(&mut self, shared: &Shared, work: Work, through: u64) -> Result<(), FlushError> {
        let Work { tenant, table, mut batches } = work;
        let key = (tenant, table);
        let failed = |source| FlushError::Commit { table, source: Box::new(source) };
        let root = self.root(&key.0, table);
        if !self.logs.contains_key(&key) {
            let log = match TableLog::load(table, &root, &self.store).await.map_err(failed)? {
                Some(log) => log,
                None => TableLog::create(table, &root, &self.store).await.map_err(failed)?,
            };
            // Nobody's are files of a commit whose outcome was not known and that has not happened.
            files::remove_leftovers(&root, log.through)
                .map_err(|source| FlushError::File { table, source })?;
            self.logs.insert(key.clone(), log);
        }
        let Some(log) = self.logs.get_mut(&key) else { return Ok(()) };
        if batches.first().is_some_and(|(seq, _)| *seq <= log.through) {
            // Rows of a commit that had happened although it was not known to: they are in files.
            let files = Arc::clone(&log.files);
            lock(&shared.state).publish((&key.0, table), log.through, files, Instant::now());
            batches.retain(|(seq, _)| *seq > log.through);
            if batches.is_empty() {
                return Ok(());
            }
        }
        let target = Target { root, staging: self.lock.dir.join(STAGING), through, epoch: self.lock.epoch };
        let write = move || {
            let batches: Vec<RecordBatch> = batches.into_iter().map(|(_, batch)| batch).collect();
            files::write(table, &batches, &target)
        };
        let written = tokio::task::spawn_blocking(write).await;
        let written = written.map_err(|e| FlushError::Encode { table, reason: e.to_string() })?;
        let new = written.map_err(|e| match e {
            FlushError::File { source, .. } if durable::is_unsynced(&source) => {
                FlushError::Stopped(shared.health.stop(format!("a file of `{}`: {source}", table.name())))
            }
            e => e,
        })?;
        shared.integrity.trust(&new);
        #[cfg(test)]
        shared.reach(Stage::Written(table));

        if let Err(e) = log.append(&new, through, shared.clock.now()).await {
            self.logs.remove(&key); // what is on disk is to be read again before anything else is tried
            return Err(failed(e));
        }
        if let Some(reason) = shared.health.stopped() {
            return Err(FlushError::Stopped(reason));
        }
        #[cfg(test)]
        shared.reach(Stage::Committed(table));

        shared.metrics.flushed_rows.add(new.iter().map(|file| file.rows).sum());
        shared.metrics.flushed_bytes.add(new.iter().map(|file| file.size).sum());
        lock(&shared.state).publish((&key.0, table), through, Arc::clone(&log.files), Instant::now());
        Ok(())
    }

    /// Puts `new` in the place of `old` in the log of `key`'s table; false, with `new` deleted, where a flush failed
    /// meanwhile, so that what the log says is unknown until it is read again, or where one of `old` is gone.
    pub(crate) async fn exchange(
        &mut self,
        shared: &Shared,
        key: &(TenantId, Table),
        old: &[DataFile],
        new: &[DataFile],
        change: Change,
    ) -> Result<bool, FlushError> {
        let is_there = |log: &&mut TableLog| {
            old.iter().all(|input| log.files.iter().any(|file| file.path == input.path))
        };
        let Some(log) = self.logs.get_mut(key).filter(is_there) else {
            for file in new {
                let _ = fs::remove_file(&file.path); // as far as the disk lets us; a sweep does else
            }
            return Ok(false);
        };
        let now = shared.clock.now();
        if let Err(source) = log.replace(old, new, change, now).await {
            self.logs.remove(key); // what is on disk is to be read again before anything else is tried
            return Err(FlushError::Commit { table: key.1, source: Box::new(source) });
        }
        lock(&shared.state).publish((&key.0, key.1), 0, Arc::clone(&log.files), Instant::now());
        shared.integrity.trust(new);
        shared.integrity.forget(old);
        shared.reads.forget(old);
        self.departed.extend(old.iter().map(|file| (file.path.clone(), now)));
        Ok(true)
    }

    /// Deletes the closed segments that hold nothing behind `through`.
    fn remove_segments(&self, shared: &Shared, through: u64) {
        let mut closed = lock(&shared.closed);
        closed.retain(|segment| {
            if segment.last_seq > through {
                return true;
            }
            match fs::remove_file(&segment.path) {
                Ok(()) => {
                    shared.metrics.wal_bytes.sub(segment.bytes);
                    false
                }
                Err(e) => {
                    tracing::warn!(segment = %segment.path.display(), error = %e, "a flushed WAL segment cannot be deleted");
                    true
                }
            }
        });
    }
}

/// Flushes by age and size until cancelled.
pub(crate) async fn run(shared: Arc<Shared>) {
    let tick = (shared.flush_age / 4).clamp(Duration::from_millis(5), limits::FLUSH_GAP);
    let mut retry = RETRY_FIRST;
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = shared.filled.notified() => {}
            () = sleep(tick) => {}
        }
        let rested = last.elapsed() >= limits::FLUSH_GAP;
        let due = {
            let mut state = lock(&shared.state);
            state.forget(Instant::now(), &shared.metrics);
            let old = state.oldest().is_some_and(|since| since.elapsed() >= shared.flush_age);
            old || state.hot_bytes() >= shared.flush_bytes || rested && shared.was_flush_asked()
        };
        if !due {
            shared.reserve.refill();
            continue;
        }
        last = Instant::now();
        match Shared::flush(&shared).await {
            Ok(()) => retry = RETRY_FIRST,
            Err(_) if shared.health.refusal().is_some() => return,
            Err(e) => {
                tracing::warn!(error = %e, retry_ms = retry.as_millis(), "flush failed; the rows stay in memory and in the log");
                sleep(retry).await;
                retry = (retry * 2).min(RETRY_LONGEST);
            }
        }
    }
}
