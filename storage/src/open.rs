//! From a data directory to a running storage: lock, tables, labels, log.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use deltalake_core::ObjectStore;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_model::{TenantId, limits};

use crate::delta::{SyncedStore, TableLog};
use crate::flush::Flusher;
use crate::health::Health;
use crate::lock::{DirLock, STAGING};
use crate::metrics::Metrics;
use crate::reserve::Reserve;
use crate::series::series_of;
use crate::shared::{Shared, lock};
use crate::state::Rows;
use crate::store::Options;
use crate::wal::log::{self, Command, Log};
use crate::wal::{frame, replay};
use crate::{DataFile, OpenError, Table, durable, files, integrity};

/// The folder of the write-ahead log.
const WAL: &str = "wal";
/// Names in the data directory that are storage's own and therefore cannot be a tenant's, in whichever case:
/// some file systems make no difference.
const RESERVED: [&str; 4] = [WAL, "format", "epoch", "lock"];

/// Whether a tenant may not be called that.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// A storage that runs, apart from its background tasks.
pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: mpsc::Sender<Command>,
    pub(crate) thread: thread::JoinHandle<()>,
}

/// Opens `options.data_dir`; `create` makes WAL segments.
pub(crate) async fn open(options: Options, create: log::Create) -> Result<Opened, OpenError> {
    let data_dir = options.data_dir.clone();
    let dir_lock = Arc::new(blocking(move || DirLock::acquire(&data_dir)).await?);
    let dir = dir_lock.dir.clone();
    let health = Arc::new(Health::default());
    let metrics = Arc::new(Metrics::default());
    let reserve = Reserve::open(&dir).map_err(|source| OpenError::Io { path: dir.clone(), source })?;
    let store: Arc<dyn ObjectStore> = Arc::new(SyncedStore::new(dir.join(STAGING), Arc::clone(&health)));

    let logs = load_tables(&dir, &store).await?;
    let through: HashMap<_, _> = logs.iter().map(|(key, log)| (key.clone(), log.through)).collect();
    let published: Vec<_> = logs.iter().map(|(key, log)| (key.clone(), Arc::clone(&log.files))).collect();

    let (queue, commands) = mpsc::channel(limits::WAL_QUEUE);
    let epoch = dir_lock.epoch;
    let flusher =
        Flusher { lock: Arc::clone(&dir_lock), queue: queue.clone(), store, logs, departed: HashMap::new() };
    let shared =
        Arc::new(Shared::new(&options, epoch, Arc::clone(&health), Arc::clone(&metrics), reserve, flusher));

    let task = Arc::clone(&shared);
    let log = blocking(move || {
        for ((tenant, table), files) in &published {
            lock(&task.state).publish((tenant, *table), 0, Arc::clone(files), Instant::now());
            let root = dir.join(tenant.as_str()).join(table.name());
            let damaged = integrity::load(*table, &root, files, &task.integrity)
                .map_err(|source| OpenError::Io { path: root, source })?;
            lock(&task.state).quarantine((tenant, *table), Arc::clone(files), damaged);
            if *table == Table::Series {
                load_series(&task, tenant, files)?;
            }
        }
        let wal = dir.join(WAL);
        let next_seq = recover(&task, &wal, &through)? + 1;
        Log::begin(&wal, next_seq, create, metrics, health)
            .map_err(|source| OpenError::Io { path: wal, source })
    })
    .await?;
    shared.reserve.refill();
    let thread = spawn(log, commands, Arc::clone(&shared), dir_lock)?;
    Ok(Opened { shared, queue, thread })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(OpenError::Io { path: PathBuf::new(), source: io::Error::other(e) }))
}

fn spawn(
    log: Log,
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    dir_lock: Arc<DirLock>,
) -> Result<thread::JoinHandle<()>, OpenError> {
    let path = dir_lock.dir.join(WAL);
    let run = move || {
        let _end = StopOnPanic(Arc::clone(&shared.health));
        log.run(commands, |writes| shared.publish(writes), |segment| lock(&shared.closed).push(segment));
        drop(dir_lock); // held to the last write
    };
    thread::Builder::new()
        .name("weir-wal".to_owned())
        .spawn(run)
        .map_err(|source| OpenError::Io { path, source })
}

/// A thread that panics can promise nothing any more.
struct StopOnPanic(Arc<Health>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop("the thread of the write-ahead log panicked".to_owned());
        }
    }
}

/// The logs of every table that exists, rid of files that no commit names.
async fn load_tables(
    dir: &Path,
    store: &Arc<dyn ObjectStore>,
) -> Result<HashMap<(TenantId, Table), TableLog>, OpenError> {
    let mut logs = HashMap::new();
    for entry in list(dir)? {
        let Some(tenant) = tenant_of(&entry) else { continue };
        for table in Table::ALL {
            let root = entry.join(table.name());
            if !root.is_dir() {
                continue;
            }
            let loaded = TableLog::load(table, &root, store).await;
            let loaded =
                loaded.map_err(|source| OpenError::Table { path: root.clone(), source: Box::new(source) })?;
            let through = loaded.as_ref().map_or(0, |log| log.through);
            let leftovers = move || {
                files::remove_leftovers(&root, through).map_err(|source| OpenError::Io { path: root, source })
            };
            blocking(leftovers).await?;
            if let Some(log) = loaded {
                logs.insert((tenant.clone(), table), log);
            }
        }
    }
    Ok(logs)
}

fn tenant_of(dir: &Path) -> Option<TenantId> {
    let name = dir.file_name()?.to_str().filter(|name| !is_reserved(name))?;
    TenantId::new(name).filter(|_| dir.is_dir())
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = || fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    entries().map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

/// Fills the label index of a tenant from the files of its `series` table.
fn load_series(shared: &Shared, tenant: &TenantId, files: &[DataFile]) -> Result<(), OpenError> {
    let index = shared.series(tenant);
    for file in files {
        let checked = shared.integrity.check(vec![file.clone()]);
        let checked = checked.map_err(|source| OpenError::Io { path: file.path.clone(), source })?;
        if !checked.damaged.is_empty() {
            continue; // its labels are lost, those of other days are not
        }
        let read = || -> Result<(), parquet::errors::ParquetError> {
            let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&file.path)?)?;
            let wanted = ["series_id", "time", "labels"];
            let columns = ProjectionMask::columns(builder.parquet_schema(), wanted);
            for batch in builder.with_projection(columns).build()? {
                shared.metrics.series_collisions.add(index.add(series_of(&batch?)));
            }
            Ok(())
        };
        read().map_err(|e| OpenError::Corrupt { path: file.path.clone(), reason: e.to_string() })?;
    }
    Ok(())
}

/// Makes the writes visible that the log holds and no table has in a file; gives the last sequence number
/// that was ever used. Segments that hold no such write are deleted.
fn recover(shared: &Shared, wal: &Path, through: &HashMap<(TenantId, Table), u64>) -> Result<u64, OpenError> {
    let failed = |source| OpenError::Io { path: wal.to_owned(), source };
    durable::create_dir(wal).map_err(failed)?;
    let flushed = |tenant: &TenantId, table| through.get(&(tenant.clone(), table)).copied().unwrap_or(0);
    let mut first_needed = None;
    let replayed = replay::replay(wal, |seq, payload| {
        let (tenant, parts) = frame::decode(payload, |tenant, table| seq > flushed(tenant, table))?;
        if !parts.is_empty() {
            first_needed.get_or_insert(seq);
            let of_series = parts.iter().filter(|part| part.table == Table::Series);
            let series = of_series.flat_map(|part| series_of(&part.batch)).collect();
            let rows = Rows { tenant, parts, series };
            shared.publish(vec![(seq, rows)]);
        }
        Ok(())
    })
    .map_err(failed)?;
    shared.metrics.wal_quarantined.add(replayed.quarantined);
    shared.metrics.wal_torn_tails.add(replayed.torn_tails);

    for segment in replayed.segments {
        if first_needed.is_some_and(|seq| segment.last_seq >= seq) {
            shared.metrics.wal_bytes.add(segment.bytes);
            lock(&shared.closed).push(segment);
        } else {
            fs::remove_file(&segment.path).map_err(failed)?;
        }
    }
    let last_seq = through.values().copied().max().unwrap_or(0).max(replayed.last_seq);
    lock(&shared.state).resume(last_seq);
    Ok(last_seq)
}
