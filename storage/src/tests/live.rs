//! Writers, readers and flushes at once: a reader sees each acknowledged row once, always.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_model::TenantId;

use super::{one, open, options, rows_of, samples, values};
use crate::{Cursor, Storage, Table};

const WRITERS: u64 = 3;
const WRITES: u64 = 60;
const ROWS: u64 = 4;
/// Numbers of one writer.
const SPAN: u64 = 1_000_000;

/// Starts the writers; gives how many rows of each are acknowledged.
fn start(storage: &Storage) -> (Arc<Vec<AtomicU64>>, Vec<tokio::task::JoinHandle<()>>) {
    let acked: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    let tasks = (0..WRITERS).map(|who| {
        let (writer, acked) = (storage.writer(), Arc::clone(&acked));
        tokio::spawn(async move {
            for write in 0..WRITES {
                let from = who * SPAN + write * ROWS;
                writer.write(one(Table::Samples, samples(from..from + ROWS))).await.unwrap();
                acked[who as usize].store((write + 1) * ROWS, Ordering::Release);
            }
        })
    });
    let tasks = tasks.collect();
    (acked, tasks)
}

fn all() -> Vec<u64> {
    (0..WRITERS).flat_map(|who| who * SPAN..who * SPAN + WRITES * ROWS).collect()
}

/// Flushes until told to stop, twice at least.
fn keep_flushing(storage: &Storage, done: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (storage, done) = (storage.clone(), Arc::clone(done));
    tokio::spawn(async move {
        let mut flushes = 0;
        while !done.load(Ordering::Acquire) || flushes < 2 {
            storage.flush().await.unwrap();
            flushes += 1;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_snapshot_never_loses_or_doubles_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let (acked, writers) = start(&storage);
    let done = Arc::new(AtomicBool::new(false));
    let flusher = keep_flushing(&storage, &done);
    let reader = {
        let (storage, done) = (storage.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut snapshots = 0u64;
            while !done.load(Ordering::Acquire) || snapshots < 2 {
                let before: Vec<u64> = acked.iter().map(|rows| rows.load(Ordering::Acquire)).collect();
                let snapshot = storage.snapshot(&TenantId::default());
                let seen = values(&rows_of(&snapshot, Table::Samples));
                let unique: HashSet<u64> = seen.iter().copied().collect();
                assert_eq!(unique.len(), seen.len(), "a row is there twice");
                for (who, rows) in (0..).zip(before) {
                    let lost = (who * SPAN..who * SPAN + rows).find(|number| !unique.contains(number));
                    assert_eq!(lost, None, "an acknowledged row is not there");
                }
                // The snapshot stays what it was, whatever is flushed meanwhile.
                assert_eq!(values(&rows_of(&snapshot, Table::Samples)), seen);
                let view = snapshot.table(Table::Samples);
                assert!(view.hot.is_sorted_by_key(|(seq, _)| *seq));
                snapshots += 1;
            }
        })
    };
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Release);
    flusher.await.unwrap();
    tokio::task::spawn_blocking(move || reader.join().unwrap()).await.unwrap();
    assert_eq!(values(&rows_of(&storage.snapshot(&TenantId::default()), Table::Samples)), all());
    storage.close().await.unwrap();
    assert_eq!(super::seen(&open(dir.path()).await), all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cursor_passes_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let tenant = TenantId::default();
    let (_, writers) = start(&storage);
    let done = Arc::new(AtomicBool::new(false));
    let flusher = keep_flushing(&storage, &done);
    let finished = tokio::spawn(async move {
        for writer in writers {
            writer.await.unwrap();
        }
    });
    let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(30);
    while seen.len() < all().len() || !finished.is_finished() {
        assert!(Instant::now() < deadline, "{} rows came", seen.len());
        let (rows, next) = storage.rows_since(&tenant, Table::Samples, cursor);
        assert!(next >= cursor, "a cursor never goes back");
        assert!(next > cursor || rows.is_empty(), "rows without a step are seen again");
        seen.extend(values(&rows));
        cursor = next;
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Release);
    flusher.await.unwrap();
    assert!(storage.rows_since(&tenant, Table::Samples, cursor).0.is_empty());
    assert!(cursor <= storage.cursor());
    seen.sort_unstable();
    assert_eq!(seen, all());
}

#[tokio::test]
async fn flushed_rows_stay_within_reach_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let tenant = TenantId::default();
    let reach = |storage: &Storage, cursor| values(&storage.rows_since(&tenant, Table::Samples, cursor).0);
    storage.writer().write(one(Table::Samples, samples(0..5))).await.unwrap();
    let cursor = storage.cursor();
    storage.writer().write(one(Table::Samples, samples(5..10))).await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!(reach(&storage, Cursor::default()), (0..10).collect::<Vec<_>>());
    assert_eq!(reach(&storage, cursor), (5..10).collect::<Vec<_>>());
    assert!(storage.rows_since(&TenantId::new("other").unwrap(), Table::Samples, cursor).0.is_empty());
}

#[tokio::test]
async fn hot_rows_are_flushed_by_size_and_by_age() {
    for (flush_age, flush_bytes) in
        [(Duration::from_millis(20), usize::MAX), (Duration::from_secs(3600), 2_000)]
    {
        let dir = tempfile::tempdir().unwrap();
        let options = crate::Options { flush_age, flush_bytes, ..options(dir.path()) };
        let storage = Storage::open(options).await.unwrap();
        for n in 0..10 {
            storage.writer().write(one(Table::Samples, samples(n * 10..n * 10 + 10))).await.unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while storage.status().tables.iter().all(|table| table.files == 0) {
            assert!(Instant::now() < deadline, "nothing is flushed");
            tokio::task::yield_now().await;
        }
        assert_eq!(super::seen(&storage), (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn many_small_writes_become_few_batches() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    for n in 0..200 {
        storage.writer().write(one(Table::Samples, samples(n..n + 1))).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let batches = |storage: &Storage| storage.snapshot(&TenantId::default()).table(Table::Samples).hot.len();
    while batches(&storage) >= 30 {
        assert!(Instant::now() < deadline, "{} batches", batches(&storage));
        tokio::task::yield_now().await;
    }
    assert_eq!(super::seen(&storage), (0..200).collect::<Vec<_>>());
    for seq in 0..200 {
        let (rows, _) = storage.rows_since(&TenantId::default(), Table::Samples, Cursor(seq));
        assert_eq!(values(&rows), (seq..200).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_is_written_while_closing_is_kept_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let writer = storage.writer();
    let (first, started) = tokio::sync::oneshot::channel();
    let writes = tokio::spawn(async move {
        let (mut acked, mut first) = (0, Some(first));
        while writer.write(one(Table::Samples, samples(acked..acked + 1))).await.is_ok() {
            acked += 1;
            first.take().map(|first| first.send(()));
        }
        acked
    });
    started.await.unwrap();
    let other = storage.clone();
    storage.close().await.unwrap();
    let acked = writes.await.unwrap();
    assert!(other.flush().await.is_err(), "it is closed for every holder");
    drop(other);
    assert_eq!(super::seen(&open(dir.path()).await), (0..acked).collect::<Vec<_>>());
}
