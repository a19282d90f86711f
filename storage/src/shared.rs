//! What the parts of an open storage share: writers, the log's thread, the flusher, readers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::Instrument;
use weir_model::{Clock, TenantId, limits};

use crate::flush::Flusher;
use crate::health::Health;
use crate::integrity::Integrity;
use crate::metrics::Metrics;
use crate::recent::Reads;
use crate::reserve::Reserve;
use crate::state::{Rows, State};
use crate::wal::replay::Closed;
use crate::{Acks, FlushError, Options, Retention, Samplings, SeriesIndex, Status};

/// Locks what no panic leaves half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a write on its way, counted until it is answered whichever way.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Pending {
    pub(crate) fn new(shared: &Shared, bytes: usize) -> Self {
        shared.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, all: Arc::clone(&shared.pending_bytes) }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The shared parts.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) flush_age: Duration,
    pub(crate) flush_bytes: usize,
    pub(crate) retention: Retention,
    pub(crate) samplings: Samplings,
    pub(crate) acks: Acks,
    pub(crate) epoch: u64,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reserve: Reserve,
    pub(crate) integrity: Arc<Integrity>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) state: Mutex<State>,
    /// Bytes of writes that are on their way.
    pending_bytes: Arc<AtomicUsize>,
    /// Bytes of hot rows, as last seen.
    hot_bytes: AtomicUsize,
    series: Mutex<HashMap<TenantId, Arc<SeriesIndex>>>,
    /// WAL segments that are no longer written.
    pub(crate) closed: Mutex<Vec<Closed>>,
    /// One flush at a time; `None` once storage is closed.
    pub(crate) flusher: tokio::sync::Mutex<Option<Flusher>>,
    /// One merge at a time.
    pub(crate) compacting: tokio::sync::Mutex<()>,
    /// Rows were appended.
    pub(crate) appended: Notify,
    /// There are enough hot rows for a flush.
    pub(crate) filled: Notify,
    /// Somebody waits for a flush.
    flush_asked: AtomicBool,
    /// The last write that is in files, as are all before it.
    pub(crate) flushed: watch::Sender<u64>,
    /// What a test does at a stage of a flush.
    #[cfg(test)]
    pub(crate) at_stage: Mutex<Option<AtStage>>,
}

/// What a test does at a stage of a flush.
#[cfg(test)]
pub(crate) type AtStage = Box<dyn FnMut(Stage) + Send>;

/// A moment within a flush.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The table's files are on disk, not yet in its log.
    Written(crate::Table),
    /// They are in its log, not yet in snapshots.
    Committed(crate::Table),
}

impl Shared {
    pub(crate) fn new(
        options: &Options,
        epoch: u64,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        reserve: Reserve,
        flusher: Flusher,
    ) -> Self {
        let (integrity, reads) = (Arc::new(Integrity::default()), Arc::new(Reads::default()));
        Self {
            clock: options.clock.clone(),
            flush_age: options.flush_age,
            flush_bytes: options.flush_bytes,
            retention: options.retention.clone(),
            samplings: options.samplings.clone(),
            acks: options.acks.clone(),
            epoch,
            health,
            metrics,
            reserve,
            state: Mutex::new(State::new(Arc::clone(&integrity), Arc::clone(&reads))),
            integrity,
            reads,
            pending_bytes: Arc::default(),
            hot_bytes: AtomicUsize::new(0),
            series: Mutex::default(),
            closed: Mutex::default(),
            flusher: tokio::sync::Mutex::new(Some(flusher)),
            compacting: tokio::sync::Mutex::new(()),
            appended: Notify::new(),
            filled: Notify::new(),
            flush_asked: AtomicBool::new(false),
            flushed: watch::Sender::new(0),
            #[cfg(test)]
            at_stage: Mutex::default(),
        }
    }

    /// The label sets of a tenant. Beyond the limit of tenants, one that stays empty.
    pub(crate) fn series(&self, tenant: &TenantId) -> Arc<SeriesIndex> {
        let mut series = lock(&self.series);
        if !series.contains_key(tenant) && series.len() >= limits::TENANTS {
            return Arc::default();
        }
        Arc::clone(series.entry(tenant.clone()).or_default())
    }

    /// Makes synced writes visible, in order.
    pub(crate) fn publish(&self, writes: Vec<(u64, Rows)>) {
        // Series first: whoever sees a sample finds its labels.
        for (_, rows) in &writes {
            if !rows.series.is_empty() {
                let collisions = self.series(&rows.tenant).add(rows.series.iter().cloned());
                self.metrics.series_collisions.add(collisions);
            }
        }
        let now = Instant::now();
        {
            let mut state = lock(&self.state);
            for (seq, rows) in writes {
                state.append(seq, rows, now);
            }
            self.note_hot_bytes(&state);
            if state.hot_bytes() >= self.flush_bytes {
                self.filled.notify_one();
            }
        }
        self.appended.notify_one();
    }

    /// Keeps the figure that writers are admitted by.
    pub(crate) fn note_hot_bytes(&self, state: &State) {
        self.hot_bytes.store(state.hot_bytes(), Ordering::Relaxed);
    }

    /// Bytes in memory or on their way there.
    pub(crate) fn held_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed) + self.hot_bytes.load(Ordering::Relaxed)
    }

    /// Flushes in a task of its own: a caller that loses interest must not leave a commit half known.
    pub(crate) async fn flush(shared: &Arc<Self>) -> Result<(), FlushError> {
        let task = Arc::clone(shared);
        let flushing = async move {
            let mut flusher = task.flusher.lock().await;
            let Some(open) = flusher.as_mut() else {
                return Err(FlushError::Stopped("it is closed".to_owned()));
            };
            let mut result = open.flush(&task).await;
            if result.as_ref().is_err_and(FlushError::is_full) && task.give_up_reserve() {
                result = open.flush(&task).await;
            }
            if result.is_ok() {
                task.reserve.refill();
            }
            if task.health.is_closed() {
                *flusher = None; // the last owner has gone meanwhile: release the directory
            }
            result
        };
        let flush = tokio::spawn(flushing.instrument(tracing::info_span!("flush")));
        flush.await.unwrap_or_else(|e| Err(FlushError::Stopped(format!("a flush ended early: {e}"))))
    }

    /// Frees the disk space that is kept for a flush; whether there was any.
    pub(crate) fn give_up_reserve(&self) -> bool {
        let freed = self.reserve.release();
        if freed {
            tracing::warn!(
                "the disk is full: the space kept for flushing is used now, and no write is taken"
            );
        }
        freed
    }

    /// Has everything flushed soon: somebody waits for it, or the disk is full and a flush frees what the log holds.
    pub(crate) fn ask_flush(&self) {
        self.flush_asked.store(true, Ordering::Relaxed);
        self.filled.notify_one();
    }

    /// Whether a flush was asked for since the last call.
    pub(crate) fn was_flush_asked(&self) -> bool {
        self.flush_asked.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn status(&self) -> Status {
        let series = lock(&self.series).values().map(|index| index.len() as u64).sum();
        let state = lock(&self.state);
        Status {
            wal_bytes: self.metrics.wal_bytes.get(),
            hot_rows: state.hot_rows() as u64,
            hot_bytes: state.hot_bytes() as u64,
            hot_age: state.oldest().map_or(Duration::ZERO, |oldest| oldest.elapsed()),
            tables: state.tables_status(),
            quarantined: state.damaged().len(),
            series,
            flushed_at: self.metrics.flushed_at.get(),
            compacted_at: self.metrics.compacted_at.get(),
            disk_full: !self.reserve.is_held(),
            stopped: self.health.stopped(),
        }
    }

    #[cfg(test)]
    pub(crate) fn reach(&self, stage: Stage) {
        if let Some(hook) = lock(&self.at_stage).as_mut() {
            hook(stage);
        }
    }
}
