//! Compaction keeps each row once, whatever happens meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use weir_model::{Clock, Sketch, UnixNanos};

use super::*;
use crate::tests::{NOON, batch, one, read, rows_of, samples, seen, spans, spans_seen, times};
use crate::{Keep, Options, Retention, Storage};

const DAY: Duration = Duration::from_secs(86_400);

/// A storage on a clock that the test owns.
async fn open_at(dir: &Path, now: &Arc<AtomicU64>, age: Option<Duration>) -> Storage {
    let now = Arc::clone(now);
    let mut retention = Retention::default();
    retention.set(None, None, Keep { age, bytes: None });
    let options = Options {
        clock: Clock::new(move || UnixNanos(now.load(Ordering::Relaxed))),
        retention,
        ..crate::tests::options(dir)
    };
    Storage::open(options).await.unwrap()
}

fn noon() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(NOON as u64 * 1_000))
}

fn pass(now: &AtomicU64, time: Duration) {
    now.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
}

async fn flush(storage: &Storage, table: Table, rows: RecordBatch) {
    storage.writer().write(one(table, rows)).await.unwrap();
    storage.flush().await.unwrap();
}

fn paths(storage: &Storage, table: Table) -> Vec<PathBuf> {
    let view = storage.snapshot(&TenantId::default()).table(table);
    view.files.iter().map(|file| file.path.clone()).collect()
}

/// (metric, series, time, value) of each row of a file.
fn sample_rows(path: &Path) -> Vec<(String, i64, i64, u64)> {
    let mut rows = vec![];
    for batch in read(path) {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (metric, series) =
            (column("metric").as_string::<i32>(), column("series_id").as_primitive::<Int64Type>());
        let time = column("time").as_primitive::<TimestampMicrosecondType>();
        let value = column("value").as_primitive::<Float64Type>();
        for at in 0..batch.num_rows() {
            let metric = metric.value(at).to_owned();
            rows.push((metric, series.value(at), time.value(at), value.value(at) as u64));
        }
    }
    rows
}

#[tokio::test]
async fn many_files_become_few_and_older_snapshots_stay_what_they_were() {
    let (dir, now) = (tempfile::tempdir().unwrap(), noon());
    let storage = open_at(dir.path(), &now, None).await;
    for n in 0..20 {
        storage.writer().write(one(Table::Spans, spans(n * 50..n * 50 + 50))).await.unwrap();
        flush(&storage, Table::Samples, samples(n * 50..n * 50 + 50)).await;
    }
    let all: Vec<u64> = (0..1000).collect();
    let before = storage.snapshot(&TenantId::default());
    assert_eq!(before.table(Table::Samples).files.len(), 20);
    let done = storage.compact().await.unwrap();
    assert_eq!((done.files, done.rows, done.duplicates), (40, 2000, 0));
    assert_eq!((paths(&storage, Table::Samples).len(), paths(&storage, Table::Spans).len()), (1, 1));
    assert_eq!((seen(&storage), spans_seen(&storage)), (all.clone(), all.clone()));
    let rows = sample_rows(&paths(&storage, Table::Samples)[0]);
    assert!(rows.is_sorted_by_key(|(metric, series, time, _)| (metric.clone(), *series, *time)));
    assert_eq!(crate::tests::values(&rows_of(&before, Table::Samples)), all, "its files are still there");
    assert_eq!(storage.compact().await.unwrap(), Compacted::default(), "there is nothing left to do");
    storage.close().await.unwrap();
    let storage = open_at(dir.path(), &now, None).await;
    assert_eq!((seen(&storage), spans_seen(&storage)), (all.clone(), all));
    assert_eq!(paths(&storage, Table::Samples).len(), 1);
}

#[tokio::test]
async fn of_a_row_that_came_twice_the_last_stays() {
    let (dir, now) = (tempfile::tempdir().unwrap(), noon());
    let storage = open_at(dir.path(), &now, None).await;
    for round in 0..8 {
        storage.writer().write(one(Table::Spans, spans(0..50))).await.unwrap();
        let rows = samples(0..70);
        let values: ArrayRef =
            Arc::new(Float64Array::from_iter_values((0..70).map(|n| f64::from(n + 100 * round))));
        let mut columns = rows.columns().to_vec();
        columns[rows.schema().index_of("value").unwrap()] = values;
        flush(&storage, Table::Samples, RecordBatch::try_new(rows.schema(), columns).unwrap()).await;
    }
    let done = storage.compact().await.unwrap();
    assert_eq!(done.duplicates, 7 * 50 + 7 * 70);
    assert_eq!(spans_seen(&storage), (0..50).collect::<Vec<_>>());
    assert_eq!(seen(&storage), (700..770).collect::<Vec<_>>());
}

#[tokio::test]
async fn logs_that_are_alike_are_not_the_same() {
    let (dir, now) = (tempfile::tempdir().unwrap(), noon());
    let storage = open_at(dir.path(), &now, None).await;
    for _ in 0..8 {
        flush(&storage, Table::Logs, batch(Table::Logs, 10, &[])).await;
    }
    assert_eq!(storage.compact().await.unwrap().duplicates, 0);
    let view = storage.snapshot(&TenantId::default()).table(Table::Logs);
    assert_eq!(view.files.iter().map(|file| file.rows).collect::<Vec<_>>(), [80]);
}

#[tokio::test]
async fn files_stay_an_hour_after_they_left_and_strangers_as_long_as_they_are_young() {
    let (dir, now) = (tempfile::tempdir().unwrap(), noon());
    let storage = open_at(dir.path(), &now, None).await;
    for n in 0..8 {
        flush(&storage, Table::Samples, samples(n * 10..n * 10 + 10)).await;
    }
    let inputs = paths(&storage, Table::Samples);
    storage.compact().await.unwrap();
    let output = paths(&storage, Table::Samples).remove(0);
    // What a crash between a file and its commit leaves behind.
    let orphan = output.with_file_name(crate::files::FileName::merged(1, 2, 9));
    std::fs::copy(&output, &orphan).unwrap();
    let age = |path: &Path, to: Duration| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_micros(NOON as u64) - to).unwrap();
    };
    inputs.iter().chain([&output]).for_each(|path| age(path, 3 * DAY));
    age(&orphan, Duration::from_secs(60));
    assert_eq!(vacuum::sweep(storage.shared()).await.unwrap(), 0);
    pass(&now, Duration::from_secs(3_601));
    assert_eq!(vacuum::sweep(storage.shared()).await.unwrap(), inputs.len() as u64 + 1);
    assert!(output.exists() && !orphan.exists() && inputs.iter().all(|path| !path.exists()));
    assert_eq!(seen(&storage), (0..80).collect::<Vec<_>>());
    storage.close().await.unwrap();
    assert_eq!(seen(&open_at(dir.path(), &now, None).await), (0..80).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn merges_that_are_asked_for_at_once_happen_one_after_the_other() {
    let (dir, now) = (tempfile::tempdir().unwrap(), noon());
    let storage = open_at(dir.path(), &now, None).await;
    for n in 0..16 {
        flush(&storage, Table::Samples, samples(n * 500..n * 500 + 500)).await;
    }
    let (one, two, three) = tokio::join!(storage.compact(), storage.compact(), storage.compact());
    assert_eq!([one, two, three].into_iter().map(|done| done.unwrap().files).sum::<u64>(), 16);
    assert_eq!(seen(&storage), (0..8_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_day_that_goes_while_it_is_merged_stays_gone() {
    let (dir, now) = (tempfile::tempdir().unwrap(), noon());
    let storage = open_at(dir.path(), &now, Some(DAY)).await;
    for n in 0..8 {
        flush(&storage, Table::Samples, samples(n * 10..n * 10 + 10)).await;
    }
    let job = next(storage.shared()).await.unwrap().unwrap();
    let merged = merge::merge(&job).unwrap();
    let output = merged.file.path.clone();
    pass(&now, 3 * DAY);
    assert_eq!(expire(storage.shared()).await.unwrap(), 80);
    assert_eq!(commit(storage.shared(), &job, merged).await.unwrap(), None);
    assert!(seen(&storage).is_empty() && !output.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn compaction_beside_writes_and_flushes_loses_and_doubles_nothing() {
    let (dir, now) = (tempfile::tempdir().unwrap(), noon());
    let storage = open_at(dir.path(), &now, None).await;
    let done = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(AtomicU64::new(0));
    let compacting = {
        let (storage, done) = (storage.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut files = 0;
            while !done.load(Ordering::Acquire) || files == 0 {
                files += storage.compact().await.unwrap().files;
                tokio::task::yield_now().await;
            }
        })
    };
    let reading = {
        let (storage, done, acked) = (storage.clone(), Arc::clone(&done), Arc::clone(&acked));
        tokio::task::spawn_blocking(move || {
            while !done.load(Ordering::Acquire) {
                let before = acked.load(Ordering::Acquire);
                let seen = seen(&storage);
                assert!(seen.iter().copied().eq(0..seen.len() as u64), "a row is lost or there twice");
                assert!(seen.len() as u64 >= before, "an acknowledged row is not there");
            }
        })
    };
    for n in 0..60 {
        flush(&storage, Table::Samples, samples(n * 20..n * 20 + 20)).await;
        acked.store(n * 20 + 20, Ordering::Release);
    }
    done.store(true, Ordering::Release);
    compacting.await.unwrap();
    reading.await.unwrap();
    assert!(paths(&storage, Table::Samples).len() < 30);
    storage.close().await.unwrap();
    assert_eq!(seen(&open_at(dir.path(), &now, None).await), (0..1200).collect::<Vec<_>>());
}

/// (series, second, value): a few of each, so that they meet.
type Row = (u8, u8, u32);

fn of(rows: &[Row]) -> RecordBatch {
    let metrics = rows.iter().map(|(series, ..)| format!("m{}", series % 2));
    batch(
        Table::Samples,
        rows.len(),
        &[
            ("metric", Arc::new(StringArray::from_iter_values(metrics))),
            (
                "series_id",
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|(series, ..)| i64::from(*series)))),
            ),
            (
                "time",
                times(rows.iter().map(|(_, second, _)| NOON + i64::from(*second) * 1_000_000).collect()),
            ),
            (
                "value",
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|(.., value)| f64::from(*value)))),
            ),
        ],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn merged_rows_are_the_last_of_each_identity_in_order(
        flushes in prop::collection::vec(prop::collection::vec((0..6_u8, 0..5_u8, any::<u32>()), 1..40), 2..7)
    ) {
        let mut last = HashMap::new();
        for (series, second, value) in flushes.iter().flatten() {
            last.insert((*series, *second), u64::from(*value));
        }
        let mut expected: Vec<_> = last
            .into_iter()
            .map(|((series, second), value)| {
                (format!("m{}", series % 2), i64::from(series), NOON + i64::from(second) * 1_000_000, value)
            })
            .collect();
        expected.sort();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let merged = runtime.block_on(async {
            let (dir, now) = (tempfile::tempdir().unwrap(), noon());
            let storage = open_at(dir.path(), &now, None).await;
            for rows in &flushes {
                flush(&storage, Table::Samples, of(rows)).await;
            }
            pass(&now, DAY);
            storage.compact().await.unwrap();
            let files = paths(&storage, Table::Samples);
            assert_eq!(files.len(), 1);
            sample_rows(&files[0])
        });
        prop_assert_eq!(merged, expected);
    }
}

/// (bucket, client, endpoint, calls, latency in milliseconds): a few of each, so that they meet.
type Increment = (u8, u8, u8, u32, u16);

fn increments(table: Table, rows: &[Increment]) -> RecordBatch {
    let text = |prefix: &str, pick: fn(&Increment) -> u8| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| format!("{prefix}{}", pick(row)))))
    };
    let sketch = |row: &Increment| {
        let mut sketch = Sketch::default();
        sketch.record_many(f64::from(row.4) / 1e3, u64::from(row.3));
        sketch.to_bytes()
    };
    batch(
        table,
        rows.len(),
        &[
            ("time", times(rows.iter().map(|row| NOON + i64::from(row.0) * 10_000_000).collect())),
            ("client", text("c", |row| row.1)),
            ("endpoint", text("e", |row| row.2)),
            ("calls", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::from(row.3))))),
            ("sketch", Arc::new(BinaryArray::from_iter_values(rows.iter().map(sketch)))),
            ("mtls", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.1 == 0 || row.3 > 2))))),
        ],
    )
}

/// Calls, latencies and whether all was encrypted, by bucket, client and endpoint; and the rows that say so.
type Buckets = BTreeMap<(i64, String, String), (i64, Sketch, bool)>;

fn buckets(batches: &[RecordBatch]) -> (Buckets, usize) {
    let mut buckets = Buckets::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let time = column("time").as_primitive::<TimestampMicrosecondType>();
        let (client, endpoint) = (column("client").as_string::<i32>(), column("endpoint").as_string::<i32>());
        let calls = column("calls").as_primitive::<Int64Type>();
        let (sketch, mtls) = (column("sketch").as_binary::<i32>(), column("mtls").as_boolean());
        for row in 0..batch.num_rows() {
            let key = (time.value(row), client.value(row).to_owned(), endpoint.value(row).to_owned());
            let of = buckets.entry(key).or_insert((0, Sketch::default(), true));
            of.0 += calls.value(row);
            of.1.merge(&Sketch::from_bytes(sketch.value(row)).unwrap());
            of.2 &= mtls.value(row);
        }
    }
    (buckets, batches.iter().map(RecordBatch::num_rows).sum())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn increments_of_a_bucket_become_their_sum_and_nothing_is_lost(
        flushes in prop::collection::vec(
            prop::collection::vec((0..3_u8, 0..3_u8, 0..3_u8, 0..5_u32, 1..4_u16), 1..40), 2..6),
        hourly in any::<bool>(),
    ) {
        let table = if hourly { Table::EdgesHour } else { Table::Edges };
        let written: Vec<RecordBatch> = flushes.iter().map(|rows| increments(table, rows)).collect();
        let (expected, _) = buckets(&written);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let merged = runtime.block_on(async {
            let (dir, now) = (tempfile::tempdir().unwrap(), noon());
            let storage = open_at(dir.path(), &now, None).await;
            for rows in written {
                flush(&storage, table, rows).await;
            }
            pass(&now, DAY);
            storage.compact().await.unwrap();
            let [file] = &paths(&storage, table)[..] else { panic!("more than one file is left") };
            read(file)
        });
        let (found, rows) = buckets(&merged);
        prop_assert_eq!(rows, expected.len(), "a row for each bucket");
        let keys = |buckets: &Buckets| buckets.iter().map(|(key, (calls, latency, mtls))| {
            (key.clone(), *calls, latency.buckets().collect::<Vec<_>>(), *mtls)
        }).collect::<Vec<_>>();
        prop_assert_eq!(keys(&found), keys(&expected));
        let order = |batch: &RecordBatch| batch.column_by_name("time").unwrap()
            .as_primitive::<TimestampMicrosecondType>().values().to_vec();
        prop_assert!(merged.iter().flat_map(order).is_sorted());
    }
}

#[tokio::test]
async fn a_sketch_that_cannot_be_read_is_left_alone() {
    let rows = increments(Table::Edges, &[(0, 0, 0, 1, 1), (0, 0, 0, 2, 1), (0, 0, 0, 4, 1)]);
    let mut columns = rows.columns().to_vec();
    let good = rows.column_by_name("sketch").unwrap().as_binary::<i32>();
    let sketches = BinaryArray::from_iter_values([good.value(0), b"nonsense", good.value(2)]);
    columns[rows.schema().index_of("sketch").unwrap()] = Arc::new(sketches);
    let rows = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let summed = sums::by_bucket(&rows).unwrap();
    let calls = summed.column_by_name("calls").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(calls, [5, 2]);
    assert_eq!(summed.column_by_name("sketch").unwrap().as_binary::<i32>().value(1), b"nonsense");
}
