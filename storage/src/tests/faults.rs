//! Disks that fail: what is promised then, and what works again afterwards.

use std::fs;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use weir_model::{TenantId, limits};

use super::{one, open, options, read, rows_of, samples, seen, values};
use crate::shared::{Pending, Stage, lock};
use crate::wal::log::{Create, Medium, files};
use crate::{Ack, Acks, FlushError, Options, Storage, Table, WriteBatch, WriteError};

/// `errno`s as Linux and macOS number them.
const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// What segment files do wrong, from now on.
#[derive(Default)]
struct Faults {
    /// How many more bytes fit onto the disk.
    space: Mutex<Option<usize>>,
    create: Mutex<Option<i32>>,
    append: Mutex<Option<i32>>,
    sync: Mutex<Option<i32>>,
    truncate: Mutex<Option<i32>>,
    sync_panics: AtomicBool,
    /// Whether syncs wait.
    stuck: (Mutex<bool>, Condvar),
}

impl Faults {
    fn set(fault: &Mutex<Option<i32>>, errno: i32) {
        *lock(fault) = Some(errno);
    }

    fn check(fault: &Mutex<Option<i32>>) -> io::Result<()> {
        lock(fault).map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn unstick(&self) {
        *lock(&self.stuck.0) = false;
        self.stuck.1.notify_all();
    }
}

struct Faulty {
    inner: Box<dyn Medium>,
    faults: Arc<Faults>,
}

impl Medium for Faulty {
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        Faults::check(&self.faults.append)?;
        let mut space = lock(&self.faults.space);
        let Some(left) = *space else { return self.inner.append(slices) };
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let fits = bytes.len().min(left);
        self.inner.append(&mut [IoSlice::new(&bytes[..fits])])?;
        *space = Some(left - fits);
        if fits < bytes.len() { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        assert!(!self.faults.sync_panics.load(Ordering::Relaxed), "a fault of the thread itself");
        let mut stuck = lock(&self.faults.stuck.0);
        while *stuck {
            stuck = self.faults.stuck.1.wait(stuck).expect("nobody panics with it");
        }
        Faults::check(&self.faults.sync)?;
        self.inner.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        Faults::check(&self.faults.truncate)?;
        self.inner.truncate(len)
    }
}

async fn faulty(dir: &Path) -> (Storage, Arc<Faults>) {
    faulty_with(options(dir)).await
}

async fn faulty_with(options: Options) -> (Storage, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let mut create = files();
    let of_segments = Arc::clone(&faults);
    let create: Create = Box::new(move |path| {
        Faults::check(&of_segments.create)?;
        Ok(Box::new(Faulty { inner: create(path)?, faults: Arc::clone(&of_segments) }))
    });
    (Storage::open_with(options, create).await.unwrap(), faults)
}

async fn write(storage: &Storage, numbers: std::ops::Range<u64>) -> Result<u64, WriteError> {
    storage.writer().write(one(Table::Samples, samples(numbers))).await.map(|acked| acked.seq)
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

fn metric(storage: &Storage, name: &str) -> u64 {
    let mut text = String::new();
    storage.write_prometheus(&mut text);
    let line = text.lines().find(|line| line.starts_with(&format!("weir_storage_{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("the metric is written")
}

/// Files of samples on disk, whether or not the log knows them.
fn parquet_files(dir: &Path) -> usize {
    let table = dir.join("default/samples");
    let partitions = fs::read_dir(table).into_iter().flatten().map(|entry| entry.unwrap().path());
    let partitions = partitions.filter(|path| path.to_string_lossy().contains("date="));
    partitions.map(|path| fs::read_dir(path).unwrap().count()).sum()
}

fn segments(dir: &Path) -> usize {
    let entries = fs::read_dir(dir.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).count()
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, faults) = faulty(dir.path()).await;
    write(&storage, 0..10).await.unwrap();
    Faults::set(&faults.sync, EIO);
    let group = join_all((1..4).map(|n| write(&storage, n * 10..n * 10 + 10))).await;
    assert!(group.iter().all(|answer| matches!(answer, Err(WriteError::Stopped(_)))), "{group:?}");
    *lock(&faults.sync) = None; // the kernel reports a lost page once
    assert!(matches!(write(&storage, 40..50).await, Err(WriteError::Stopped(_))));
    let stopped = storage.status().stopped.unwrap();
    assert!(stopped.starts_with("the write-ahead log cannot be synced: "), "{stopped}");
    assert_eq!(metric(&storage, "stopped"), 1);
    assert_eq!(seen(&storage), numbers(0..10), "what was acknowledged can still be read");
    assert!(matches!(storage.flush().await, Err(FlushError::Stopped(_))));
    assert_eq!(parquet_files(dir.path()), 0);
    drop(storage);

    let again = open(dir.path()).await;
    let survivors = seen(&again);
    assert_eq!(survivors[..10], numbers(0..10));
    let mut unique = survivors.clone();
    unique.dedup();
    assert_eq!(unique, survivors, "rows of the failed group may be there, once");
    assert!(!survivors.contains(&40), "nothing was written after the failure");
    write(&again, 100..110).await.unwrap();
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// Tenants `os` and `object` are acknowledged as their names say, others when synced.
async fn with_acks(dir: &Path) -> (Storage, Arc<Faults>) {
    let acks = [("os", Ack::Os), ("object", Ack::Object)].map(|(name, ack)| (tenant(name), ack));
    let acks = Acks { default: Ack::Fsync, tenants: acks.into() };
    faulty_with(Options { acks, ..options(dir) }).await
}

async fn write_as(name: &str, storage: &Storage, numbers: std::ops::Range<u64>) -> Result<u64, WriteError> {
    let batch = WriteBatch { tenant: tenant(name), ..one(Table::Samples, samples(numbers)) };
    storage.writer().write(batch).await.map(|acked| acked.seq)
}

#[tokio::test]
async fn a_tenant_that_does_not_ask_for_a_sync_does_not_wait_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, faults) = with_acks(dir.path()).await;
    let syncs = metric(&storage, "fsync_seconds_count");
    Faults::set(&faults.sync, EIO);
    for n in 0..5 {
        write_as("os", &storage, n * 10..n * 10 + 10).await.unwrap();
    }
    assert_eq!(metric(&storage, "fsync_seconds_count"), syncs);
    assert!(
        matches!(write_as("other", &storage, 0..10).await, Err(WriteError::Stopped(_))),
        "it asks for one"
    );
    drop(storage);
    let again = open(dir.path()).await;
    let rows = rows_of(&again.snapshot(&tenant("os")), Table::Samples);
    assert_eq!(values(&rows), numbers(0..50), "the system has them");
}

#[tokio::test]
async fn a_segment_is_synced_before_the_next_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = with_acks(dir.path()).await;
    write_as("os", &storage, 0..10).await.unwrap();
    let syncs = metric(&storage, "fsync_seconds_count");
    storage.flush().await.unwrap();
    assert_eq!(metric(&storage, "fsync_seconds_count"), syncs + 1);
}

#[tokio::test]
async fn a_tenant_may_wait_until_its_rows_are_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = with_acks(dir.path()).await;
    for n in 0..3 {
        let writes = join_all((0..4).map(|i| {
            let from = (n * 4 + i) * 10;
            write_as("object", &storage, from..from + 10)
        }));
        assert!(writes.await.iter().all(Result::is_ok));
        let snapshot = storage.snapshot(&tenant("object"));
        let table = snapshot.table(Table::Samples);
        let in_files: Vec<_> = table.files.iter().flat_map(|file| read(&file.path)).collect();
        assert_eq!(values(&in_files), numbers(0..(n + 1) * 40));
    }
    drop(storage);
}

#[tokio::test]
async fn a_write_that_fails_stops_storage() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, faults) = faulty(dir.path()).await;
    Faults::set(&faults.append, EIO);
    assert!(matches!(write(&storage, 0..10).await, Err(WriteError::Stopped(_))));
    *lock(&faults.append) = None;
    assert!(matches!(write(&storage, 0..10).await, Err(WriteError::Stopped(_))));
    assert!(storage.status().stopped.is_some());
    assert_eq!(seen(&storage), numbers(0..0));
}

#[tokio::test]
async fn a_thread_that_panics_stops_storage() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, faults) = faulty(dir.path()).await;
    faults.sync_panics.store(true, Ordering::Relaxed);
    assert!(matches!(write(&storage, 0..10).await, Err(WriteError::Stopped(_))));
    let deadline = Instant::now() + Duration::from_secs(10);
    while storage.status().stopped.is_none() {
        assert!(Instant::now() < deadline, "it looks healthy");
        tokio::task::yield_now().await;
    }
    assert!(matches!(write(&storage, 0..10).await, Err(WriteError::Stopped(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, faults) = faulty(dir.path()).await;
    write(&storage, 0..10).await.unwrap();
    let frame = metric(&storage, "wal_bytes");
    let mut acked = 10;
    // The write is cut off after each of these lengths: in the header, behind it, in the payload.
    for fits in (0..30).chain((30..frame as usize - 64).step_by(97)) {
        *lock(&faults.space) = Some(fits);
        match write(&storage, 5_000..5_010).await {
            Err(WriteError::DiskFull { retry_after }) => assert!(retry_after > Duration::ZERO),
            other => panic!("{other:?} with {fits} bytes left"),
        }
        assert_eq!(seen(&storage).len(), acked, "reads work");
        *lock(&faults.space) = None;
        write(&storage, acked as u64..acked as u64 + 10).await.unwrap();
        acked += 10;
    }
    assert_eq!(storage.status().stopped, None);
    assert_eq!(metric(&storage, "disk_full_total"), (acked as u64 - 10) / 10);
    drop(storage);
    let again = loop {
        match crate::Storage::open(super::options(dir.path())).await {
            // A full disk asks for a flush, which releases the directory when it ends.
            Err(crate::OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            opened => break opened.expect("the directory opens"),
        }
    };
    assert_eq!(seen(&again), numbers(0..acked as u64));
    assert_eq!(
        (metric(&again, "wal_torn_tails_total"), metric(&again, "wal_frames_quarantined_total")),
        (0, 0)
    );
}

#[tokio::test]
async fn a_cut_off_write_that_cannot_be_removed_stops_storage() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, faults) = faulty(dir.path()).await;
    write(&storage, 0..10).await.unwrap();
    *lock(&faults.space) = Some(100);
    Faults::set(&faults.truncate, EIO);
    assert!(matches!(write(&storage, 10..20).await, Err(WriteError::Stopped(_))));
    *lock(&faults.space) = None;
    assert!(matches!(write(&storage, 20..30).await, Err(WriteError::Stopped(_))));
    drop(storage);
    let again = open(dir.path()).await;
    assert_eq!(seen(&again), numbers(0..10));
    assert_eq!(metric(&again, "wal_torn_tails_total"), 1);
}

#[tokio::test]
async fn flushing_goes_on_where_no_segment_can_be_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, faults) = faulty(dir.path()).await;
    for (n, errno) in (0..).zip([EMFILE, ENOSPC]) {
        write(&storage, n * 10..n * 10 + 10).await.unwrap();
        Faults::set(&faults.create, errno);
        storage.flush().await.unwrap();
        assert_eq!(storage.status().hot_rows, 0);
        assert_eq!(storage.status().stopped, None);
        *lock(&faults.create) = None;
    }
    write(&storage, 20..30).await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!(segments(dir.path()), 1, "the segments of the past are gone");
    let on_disk: u64 = fs::read_dir(dir.path().join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(storage.status().wal_bytes, on_disk);
    assert_eq!(seen(&storage), numbers(0..30));
    drop(storage);
    assert_eq!(seen(&open(dir.path()).await), numbers(0..30));
}

#[tokio::test]
async fn writes_that_wait_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, faults) = faulty(dir.path()).await;
    *lock(&faults.stuck.0) = true;
    // The thread may have taken a group of them before it is stuck.
    let count = 4 * limits::WAL_QUEUE as u64;
    let writes = join_all((0..count).map(|n| write(&storage, n..n + 1)));
    let watch = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        while metric(&storage, "overloaded_total") == 0 {
            if Instant::now() > deadline {
                break; // the thread must not stay stuck when the test fails
            }
            tokio::task::yield_now().await;
        }
        faults.unstick();
    };
    let (answers, ()) = tokio::join!(writes, watch);
    let refused =
        answers.iter().filter(|answer| matches!(answer, Err(WriteError::Overloaded { .. }))).count();
    let acked: Vec<u64> =
        (0..).zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(number, _)| number).collect();
    assert!(refused > 0 && refused + acked.len() == count as usize, "{refused} and {}", acked.len());
    assert_eq!(seen(&storage), acked);
}

#[tokio::test]
async fn rows_in_memory_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let others = Pending::new(storage.shared(), limits::HOT_BYTES);
    match write(&storage, 0..10).await {
        Err(WriteError::Overloaded { retry_after }) => assert!(retry_after > Duration::ZERO),
        other => panic!("{other:?}"),
    }
    assert_eq!(metric(&storage, "overloaded_total"), 1);
    drop(others);
    write(&storage, 0..10).await.unwrap();
    assert_eq!(
        storage.shared().held_bytes() as u64,
        storage.status().hot_bytes,
        "the refused write is not counted"
    );
    assert_eq!(seen(&storage), numbers(0..10));
}

#[tokio::test]
async fn rows_that_cannot_be_flushed_stay_and_are_flushed_later() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    write(&storage, 0..10).await.unwrap();
    let in_the_way = dir.path().join("default");
    fs::write(&in_the_way, "no folder").unwrap();
    for n in 1..4 {
        storage.flush().await.unwrap_err();
        assert_eq!(metric(&storage, "flush_errors_total"), n);
        assert_eq!(seen(&storage), numbers(0..10));
        assert_eq!(storage.status().hot_rows, 10);
    }
    fs::remove_file(&in_the_way).unwrap();
    write(&storage, 10..20).await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!((storage.status().hot_rows, segments(dir.path())), (0, 1));
    assert_eq!(seen(&storage), numbers(0..20));
    drop(storage);
    assert_eq!(seen(&open(dir.path()).await), numbers(0..20));
}

#[tokio::test]
async fn a_flush_that_keeps_failing_is_tried_less_and_less_often() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path()).unwrap();
    let options = crate::Options { flush_age: Duration::from_millis(100), ..options(dir.path()) };
    let storage = Storage::open(options).await.unwrap();
    fs::write(dir.path().join("default"), "no folder").unwrap();
    write(&storage, 0..10).await.unwrap();
    let began = Instant::now();
    for errors in 1..=2 {
        while metric(&storage, "flush_errors_total") < errors {
            assert!(began.elapsed() < Duration::from_secs(20), "{errors} failures never came");
            tokio::task::yield_now().await;
        }
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "tried again at once");
    fs::remove_file(dir.path().join("default")).unwrap();
    while storage.status().hot_rows > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "it is never flushed");
        tokio::task::yield_now().await;
    }
    assert_eq!(seen(&storage), numbers(0..10));
}

#[tokio::test]
async fn files_of_a_commit_that_failed_are_removed_and_their_rows_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    write(&storage, 0..10).await.unwrap();
    storage.flush().await.unwrap();
    write(&storage, 10..20).await.unwrap();
    // Another committer's entry that cannot be read stands where the next commit goes.
    let blocker = dir.path().join("default/samples/_delta_log/00000000000000000002.json");
    let path = blocker.clone();
    let block = move |stage| {
        if stage == Stage::Written(Table::Samples) {
            fs::write(&path, "{ no entry").expect("it can be written");
        }
    };
    *lock(&storage.shared().at_stage) = Some(Box::new(block));
    assert!(matches!(storage.flush().await, Err(FlushError::Commit { .. })));
    *lock(&storage.shared().at_stage) = None;
    assert_eq!(parquet_files(dir.path()), 2);
    assert_eq!(seen(&storage), numbers(0..20));
    fs::remove_file(&blocker).unwrap();
    write(&storage, 20..30).await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!(seen(&storage), numbers(0..30));
    assert_eq!(parquet_files(dir.path()), 2, "the file that was never committed is gone");
    drop(storage);
    assert_eq!(seen(&open(dir.path()).await), numbers(0..30));
}

#[tokio::test]
async fn rows_of_a_commit_that_was_not_known_to_happen_are_not_written_twice() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    write(&storage, 0..10).await.unwrap();
    let interrupt = |stage| assert_ne!(stage, Stage::Committed(Table::Samples), "interrupted");
    *lock(&storage.shared().at_stage) = Some(Box::new(interrupt));
    storage.flush().await.unwrap_err();
    *lock(&storage.shared().at_stage) = None;
    assert_eq!(seen(&storage), numbers(0..10), "the rows are still hot, and the file is not shown");
    write(&storage, 10..20).await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!(seen(&storage), numbers(0..20));
    assert_eq!(storage.status().hot_rows, 0);
    drop(storage);
    assert_eq!(seen(&open(dir.path()).await), numbers(0..20));
}

#[tokio::test]
async fn tenants_cannot_take_the_names_of_storage_itself() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    for name in ["wal", "WAL", "LOCK", "FORMAT", "EPOCH", "lock"] {
        let batch =
            crate::WriteBatch { tenant: TenantId::new(name).unwrap(), ..one(Table::Samples, samples(0..1)) };
        let refused = storage.writer().write(batch).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("the batch cannot be stored: no tenant may be called `{name}`")
        );
    }
    storage.flush().await.unwrap();
}
