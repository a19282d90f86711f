//! The whole of storage against its promises, and the rows that tests are made of.

mod crash;
mod faults;
mod live;
mod older;
mod rows;

pub(crate) use rows::{NOON, batch, samples, series, spans, times, values};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::time::Instant;
use weir_model::{Clock, TenantId, UnixNanos};

use crate::{OpenError, Options, Snapshot, Storage, Table, WriteBatch};

/// Options for `dir` that flush when told to only.
pub(crate) fn options(dir: &Path) -> Options {
    Options {
        flush_age: Duration::from_secs(3600),
        flush_bytes: usize::MAX,
        ..Options::new(dir.to_owned(), Clock::new(|| UnixNanos(1_795_000_000_000_000_000)))
    }
}

/// Opens `dir` as soon as a flush that its last owner left behind lets go of it.
pub(crate) async fn open(dir: &Path) -> Storage {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Storage::open(options(dir)).await {
            Err(OpenError::Locked { .. }) if Instant::now() < deadline => tokio::task::yield_now().await,
            opened => return opened.expect("the directory opens"),
        }
    }
}

pub(crate) fn one(table: Table, rows: RecordBatch) -> WriteBatch {
    WriteBatch { tenant: TenantId::default(), parts: vec![(table, rows)] }
}

/// All rows of a table that a snapshot shows, files first.
pub(crate) fn rows_of(snapshot: &Snapshot, table: Table) -> Vec<RecordBatch> {
    let view = snapshot.table(table);
    let files = view.files.iter().flat_map(|file| read(&file.path));
    files.chain(view.hot.iter().map(|(_, batch)| batch.clone())).collect()
}

pub(crate) fn read(path: &Path) -> Vec<RecordBatch> {
    let file = std::fs::File::open(path).expect("the file is there");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("it is Parquet");
    reader.build().expect("it can be read").map(|batch| batch.expect("it holds rows")).collect()
}

/// The values of all samples that storage shows, ascending.
pub(crate) fn seen(storage: &Storage) -> Vec<u64> {
    let rows = rows_of(&storage.snapshot(&TenantId::default()), Table::Samples);
    values(&rows)
}

/// The numbers of spans that storage shows, ascending.
pub(crate) fn spans_seen(storage: &Storage) -> Vec<u64> {
    let rows = rows_of(&storage.snapshot(&TenantId::default()), Table::Spans);
    let mut seen: Vec<u64> = Vec::new();
    for batch in rows {
        let column = batch.column_by_name("duration_ns").expect("spans have it");
        seen.extend(column.as_primitive::<arrow::datatypes::Int64Type>().values().iter().map(|v| *v as u64));
    }
    seen.sort_unstable();
    seen
}

#[tokio::test]
async fn rows_are_visible_when_acknowledged_and_survive_flush_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let writer = storage.writer();
    for n in 0..20 {
        let acked = writer.write(one(Table::Samples, samples(n * 10..n * 10 + 10))).await.unwrap();
        assert_eq!(acked.seq, n + 1);
        assert_eq!(seen(&storage), (0..n * 10 + 10).collect::<Vec<_>>());
    }
    storage.flush().await.unwrap();
    let view = storage.snapshot(&TenantId::default()).table(Table::Samples);
    assert_eq!((view.files.len(), view.hot.len()), (1, 0));
    assert_eq!(seen(&storage), (0..200).collect::<Vec<_>>());
    assert_eq!(storage.status().hot_rows, 0);
    writer.write(one(Table::Samples, samples(200..210))).await.unwrap();
    let epoch = storage.epoch();
    storage.close().await.unwrap();

    let again = open(dir.path()).await;
    assert_eq!(again.epoch(), epoch + 1);
    assert_eq!(seen(&again), (0..210).collect::<Vec<_>>());
    let acked = again.writer().write(one(Table::Samples, samples(210..211))).await.unwrap();
    assert!(acked.seq > 21, "sequence numbers go on after {}", acked.seq);
}

#[tokio::test]
async fn every_table_goes_through_log_and_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let parts = Table::ALL.map(|table| (table, batch(table, 3, &[]))).to_vec();
    storage.writer().write(WriteBatch { tenant: TenantId::default(), parts }).await.unwrap();
    drop(storage);
    let storage = open(dir.path()).await;
    let before: Vec<_> =
        Table::ALL.map(|table| rows_of(&storage.snapshot(&TenantId::default()), table)).into_iter().collect();
    storage.flush().await.unwrap();
    for (table, hot) in Table::ALL.into_iter().zip(before) {
        let view = storage.snapshot(&TenantId::default()).table(table);
        assert_eq!((view.files.len(), view.hot.len()), (1, 0), "{}", table.name());
        let flushed = rows_of(&storage.snapshot(&TenantId::default()), table);
        let schema = Arc::clone(&table.schema());
        let join = |rows: &[RecordBatch]| arrow::compute::concat_batches(&schema, rows).unwrap();
        assert_eq!(join(&hot).columns(), join(&flushed).columns(), "{}", table.name());
    }
    storage.close().await.unwrap();
}

#[test]
fn value_helper_reads_floats() {
    assert_eq!(values(&[samples(3..5)]), [3, 4]);
    let rows = samples(1..2);
    assert_eq!(rows.column_by_name("value").unwrap().as_primitive::<Float64Type>().value(0), 1.0);
}
