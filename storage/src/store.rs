//! Opening, writing, flushing.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use weir_model::{Clock, TenantId, UnixNanos, limits};

use crate::compact::Compacted;
use crate::open::{self, Opened};
use crate::series::series_of;
use crate::shared::{Pending, Shared, lock};
use crate::state::Rows;
use crate::wal::frame::{self, Part};
use crate::wal::log::{self, Append, Command};
use crate::{
    Ack, Acks, Cursor, Damaged, DataFile, FlushError, OpenError, Retention, Samplings, SeriesIndex, Snapshot,
    Table, WriteError,
};
use crate::{coalesce, compact, flush, integrity, metrics};

/// When a refused writer may try again: about one flush of a full memory.
const OVERLOADED_RETRY: Duration = Duration::from_secs(1);
/// The microseconds of the years 1 to 9999, which every reader of Parquet and Delta can name.
const MICROS: Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

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
    /// How long rows are kept.
    pub retention: Retention,
    /// Which traces stay when their day is over.
    pub samplings: Samplings,
    /// When writes are acknowledged.
    pub acks: Acks,
}

impl Options {
    /// The defaults for `data_dir`: what `weir serve` does unless it is told otherwise.
    pub fn new(data_dir: PathBuf, clock: Clock) -> Self {
        Self {
            data_dir,
            clock,
            flush_age: limits::FLUSH_AGE,
            flush_bytes: limits::FLUSH_BYTES,
            retention: Retention::default(),
            samplings: Samplings::default(),
            acks: Acks::default(),
        }
    }
}

/// Rows to store together: all or none of them survive a crash.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// Whose they are.
    pub tenant: TenantId,
    /// Batches in the schema of their table.
    pub parts: Vec<(Table, RecordBatch)>,
}

/// The rows are as safe as their tenant asks for ([`crate::Ack`]), and visible.
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
    /// Rows in memory that are not yet in a file.
    pub hot_rows: u64,
    /// Their bytes.
    pub hot_bytes: u64,
    /// How long the oldest of them has been there.
    pub hot_age: Duration,
    /// What each table holds, over all tenants.
    pub tables: Vec<TableStatus>,
    /// Damaged files that were set aside.
    pub quarantined: usize,
    /// Series in the label indexes.
    pub series: u64,
    /// When the last flush of this run ended that wrote rows.
    pub flushed_at: Option<UnixNanos>,
    /// When the last merge of this run ended.
    pub compacted_at: Option<UnixNanos>,
    /// Whether writes are refused because there is no space to flush them.
    pub disk_full: bool,
    /// Why storage has stopped, if it has: the process must end.
    pub stopped: Option<String>,
}

/// What a table holds.
#[derive(Debug, Clone, Copy)]
pub struct TableStatus {
    /// The table.
    pub table: Table,
    /// Published files.
    pub files: usize,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that are not yet in a file.
    pub hot_rows: u64,
}

/// An open data directory. Clones share it; [`Storage::close`] or dropping the last one releases it.
#[derive(Debug, Clone)]
pub struct Storage {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
    tasks: CancellationToken,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// The one door through which everything that is stored comes in.
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
}

impl Storage {
    /// Opens `options.data_dir`: takes its lock, checks its format, loads the tables, replays the WAL and
    /// starts the flusher on the current tokio runtime.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        Self::open_with(options, log::files()).await
    }

    pub(crate) async fn open_with(options: Options, create: log::Create) -> Result<Self, OpenError> {
        let Opened { shared, queue, thread } = open::open(options, create).await?;
        let tasks = CancellationToken::new();
        tokio::spawn(tasks.clone().run_until_cancelled_owned(flush::run(Arc::clone(&shared))));
        tokio::spawn(tasks.clone().run_until_cancelled_owned(coalesce::run(Arc::clone(&shared))));
        tokio::spawn(tasks.clone().run_until_cancelled_owned(compact::run(Arc::clone(&shared))));
        tokio::spawn(tasks.clone().run_until_cancelled_owned(integrity::run(Arc::clone(&shared))));
        let handle = Handle { shared, queue, tasks, thread: Mutex::new(Some(thread)) };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// The number of this run: persisted, raised at each open.
    pub fn epoch(&self) -> u64 {
        self.handle.shared.epoch
    }

    /// The way in.
    pub fn writer(&self) -> Writer {
        Writer { shared: Arc::clone(&self.handle.shared), queue: self.handle.queue.clone() }
    }

    /// The label sets of a tenant.
    pub fn series(&self, tenant: &TenantId) -> Arc<SeriesIndex> {
        self.handle.shared.series(tenant)
    }

    /// What a reader sees now.
    pub fn snapshot(&self, tenant: &TenantId) -> Snapshot {
        lock(&self.handle.shared.state).snapshot(tenant)
    }

    /// The place after everything that is visible now.
    pub fn cursor(&self) -> Cursor {
        Cursor(lock(&self.handle.shared.state).last_seq())
    }

    /// The rows of `table` that were acknowledged after `cursor`, and the cursor after them. Rows stay
    /// within reach for 30 s after they are flushed, unless more than
    /// [`limits::FLUSHED_ROWS_BYTES`] of them have been since.
    pub fn rows_since(&self, tenant: &TenantId, table: Table, cursor: Cursor) -> (Vec<RecordBatch>, Cursor) {
        lock(&self.handle.shared.state).rows_since(tenant, table, cursor)
    }

    /// Writes all hot rows to Parquet and commits them.
    pub async fn flush(&self) -> Result<(), FlushError> {
        Shared::flush(&self.handle.shared).await
    }

    /// Merges small files until none are left that are worth it; the background does the same all the time.
    pub async fn compact(&self) -> Result<Compacted, FlushError> {
        let mut all = Compacted::default();
        while let Some(done) = compact::round(&self.handle.shared).await? {
            all.files += done.files;
            all.rows += done.rows;
            all.duplicates += done.duplicates;
        }
        Ok(all)
    }

    /// Removes files that no table has named for an hour; returns how many. The background does the same
    /// every ten minutes.
    pub async fn vacuum(&self) -> Result<u64, FlushError> {
        compact::sweep(&self.handle.shared).await
    }

    /// All published files.
    pub fn files(&self) -> Vec<(TenantId, Table, DataFile)> {
        lock(&self.handle.shared.state).files()
    }

    /// Reads every published file to the end; those that are damaged are set aside. Returns how many are sound.
    pub async fn check(&self) -> Result<usize, FlushError> {
        let shared = Arc::clone(&self.handle.shared);
        let files = self.files();
        let checking = tokio::task::spawn_blocking(move || {
            let mut sound = 0;
            for (_, table, file) in files {
                let checked = shared.integrity.check(vec![file]);
                sound += checked.map_err(|source| FlushError::File { table, source })?.sound.len();
            }
            Ok(sound)
        });
        let sound = checking.await.unwrap_or_else(|e| Err(FlushError::Stopped(e.to_string())))?;
        integrity::set_aside(&self.handle.shared).await?;
        Ok(sound)
    }

    /// The damaged files that were set aside.
    pub fn damaged(&self) -> Vec<(TenantId, Table, Damaged)> {
        lock(&self.handle.shared.state).damaged()
    }

    /// Figures for the status page.
    pub fn status(&self) -> Status {
        self.handle.shared.status()
    }

    /// Appends storage's metrics in the Prometheus text format.
    pub fn write_prometheus(&self, out: &mut String) {
        metrics::write_prometheus(&self.handle.shared.metrics, &self.status(), out);
    }

    /// Flushes, stops the background tasks, releases the lock. Writes that come meanwhile are either
    /// acknowledged, and in the log for the next open, or refused.
    pub async fn close(self) -> Result<(), FlushError> {
        let handle = &self.handle;
        handle.tasks.cancel();
        let flushed = self.flush().await;
        handle.shared.health.close();
        let _ = handle.queue.send(Command::Close).await; // it has ended already where this fails
        *handle.shared.flusher.lock().await = None;
        let thread = lock(&handle.thread).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await; // a panic in it has been reported
        }
        flushed
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tasks.cancel();
        self.shared.health.close();
        // A flush that is running releases the directory itself when it ends.
        if let Ok(mut flusher) = self.shared.flusher.try_lock() {
            *flusher = None;
        }
        let _ = self.queue.try_send(Command::Close); // a full queue means it is awake and sees the health
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join(); // for one group commit at most
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("epoch", &self.shared.epoch).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Stores `batch`; returns when it is as safe as its tenant asks for, and visible to the next snapshot.
    pub async fn write(&self, batch: WriteBatch) -> Result<Acked, WriteError> {
        if let Some(reason) = self.shared.health.refusal() {
            return Err(WriteError::Stopped(reason));
        }
        let rows = self.rows(batch)?;
        if rows.parts.is_empty() {
            return Ok(Acked { seq: lock(&self.shared.state).last_seq() });
        }
        self.enqueue(rows).await
    }

    /// The rows of `batch`, checked; the sizes of parts are not known yet.
    fn rows(&self, batch: WriteBatch) -> Result<Rows, WriteError> {
        let WriteBatch { tenant, parts } = batch;
        if open::is_reserved(tenant.as_str()) {
            return Err(WriteError::Refused(format!("no tenant may be called `{tenant}`")));
        }
        if !lock(&self.shared.state).has_room_for(&tenant) {
            let reason =
                format!("there are {} tenants already, tenant `{tenant}` is one too many", limits::TENANTS);
            return Err(WriteError::Refused(reason));
        }
        let mut series = Vec::new();
        for (table, rows) in &parts {
            check(*table, rows)?;
            if *table == Table::Series {
                series.extend(series_of(rows));
            }
        }
        let filled = parts.into_iter().filter(|(_, batch)| batch.num_rows() > 0);
        let parts = filled.map(|(table, batch)| Part { table, batch, bytes: 0 }).collect();
        Ok(Rows { tenant, parts, series })
    }

    async fn enqueue(&self, mut rows: Rows) -> Result<Acked, WriteError> {
        if self.shared.held_bytes() > limits::HOT_BYTES {
            return Err(self.overloaded());
        }
        if !self.shared.reserve.is_held() {
            self.shared.metrics.disk_full.add(1);
            self.shared.ask_flush();
            return Err(WriteError::DiskFull { retry_after: log::DISK_FULL_RETRY });
        }
        let parts: Vec<_> = rows.parts.iter().map(|part| (part.table, part.batch.clone())).collect();
        let (payload, sizes) =
            frame::encode(&rows.tenant, &parts).map_err(|e| WriteError::Refused(e.to_string()))?;
        for (part, size) in rows.parts.iter_mut().zip(sizes) {
            part.bytes = size;
        }
        let pending = Pending::new(&self.shared, rows.bytes());
        if self.shared.held_bytes() > limits::HOT_BYTES {
            return Err(self.overloaded());
        }
        let ack = self.shared.acks.of(&rows.tenant);
        let (answer, answered) = oneshot::channel();
        let append = Append { payload, rows, pending, synced: ack != Ack::Os, answer };
        match self.queue.try_send(Command::Append(append)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(self.overloaded()),
            Err(TrySendError::Closed(_)) => return Err(self.gone()),
        }
        let answer = answered.await.unwrap_or_else(|_| Err(self.gone()));
        match answer {
            Ok(seq) if ack == Ack::Object => self.flushed(seq).await?,
            Err(WriteError::DiskFull { .. }) => self.shared.ask_flush(),
            _ => {}
        }
        answer.map(|seq| Acked { seq })
    }

    /// Returns when the write `seq` is in the files of its tables.
    async fn flushed(&self, seq: u64) -> Result<(), WriteError> {
        let mut flushed = self.shared.flushed.subscribe();
        self.shared.ask_flush();
        let done =
            flushed.wait_for(|through| *through >= seq || self.shared.health.refusal().is_some()).await;
        match done {
            Ok(through) if *through >= seq => Ok(()),
            _ => Err(self.gone()),
        }
    }

    fn overloaded(&self) -> WriteError {
        self.shared.metrics.overloaded.add(1);
        self.shared.filled.notify_one();
        WriteError::Overloaded { retry_after: OVERLOADED_RETRY }
    }

    fn gone(&self) -> WriteError {
        let reason = self.shared.health.refusal();
        WriteError::Stopped(reason.unwrap_or_else(|| "the log's thread has ended".to_owned()))
    }
}

/// Whether rows have the shape of their table and moments that a partition can be named after.
fn check(table: Table, rows: &RecordBatch) -> Result<(), WriteError> {
    let schema = table.schema();
    if !Arc::ptr_eq(rows.schema_ref(), &schema) && rows.schema_ref().fields() != schema.fields() {
        let differs = schema.fields().iter().zip(rows.schema_ref().fields()).find(|(want, got)| want != got);
        let what = differs.map_or_else(
            || format!("{} columns instead of {}", rows.num_columns(), schema.fields().len()),
            |(want, got)| format!("column `{}` where `{}` should be", got.name(), want.name()),
        );
        return Err(WriteError::Refused(format!("rows of `{}` have {what}", table.name())));
    }
    let times = rows.column_by_name(table.time_column());
    let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let range = times.and_then(|times| Some((compute::min(times)?, compute::max(times)?)));
    match range {
        Some((first, last)) if first < MICROS.start || last >= MICROS.end => Err(WriteError::Refused(
            format!("rows of `{}` have times outside the years 1 to 9999", table.name()),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
