//! Which traces stay, and that they stay whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_model::{Clock, UnixNanos};

use super::*;
use crate::tests::{self, NOON, batch, one, rows_of, times};
use crate::{Options, Samplings, Storage};

const DAY: Duration = Duration::from_secs(86_400);
const RATE: f64 = 0.25;

/// A span: trace, operation, milliseconds, status.
type Row = (u64, &'static str, i64, i32);

fn spans(rows: &[Row]) -> RecordBatch {
    let text = |pick: fn(&Row) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| pick(row).to_owned())))
    };
    batch(
        Table::Spans,
        rows.len(),
        &[
            (
                "trace_id",
                Arc::new(BinaryArray::from_iter_values(
                    rows.iter().map(|row| u128::from(row.0).to_be_bytes()),
                )),
            ),
            (
                "span_id",
                Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| {
                    let operation: u64 = row.1.bytes().map(u64::from).sum();
                    (row.0 << 16 | operation).to_be_bytes()
                }))),
            ),
            ("service", text(|_| "shop")),
            ("name", text(|row| row.1)),
            ("start_time", times(rows.iter().zip(0..).map(|(_, n)| NOON + n).collect())),
            ("duration_ns", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2 * 1_000_000)))),
            ("status", Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.3)))),
            ("sample_weight", Arc::new(Float64Array::from(vec![1.0; rows.len()]))),
        ],
    )
}

async fn open(dir: &Path, now: &Arc<AtomicU64>, sampling: Sampling) -> Storage {
    let now = Arc::clone(now);
    let clock = Clock::new(move || UnixNanos(now.load(Ordering::Relaxed)));
    let samplings = Samplings { default: sampling, tenants: HashMap::new() };
    Storage::open(Options { clock, samplings, ..tests::options(dir) }).await.unwrap()
}

fn sampling() -> Sampling {
    Sampling { rate: RATE, slow: Slow::Quantile(0.99), rare: 10 }
}

async fn flush(storage: &Storage, rows: &[Row]) {
    storage.writer().write(one(Table::Spans, spans(rows))).await.unwrap();
    storage.flush().await.unwrap();
}

/// (spans, weight) by trace.
fn traces(storage: &Storage) -> BTreeMap<u64, (usize, f64)> {
    let mut traces = BTreeMap::new();
    for batch in rows_of(&storage.snapshot(&TenantId::default()), Table::Spans) {
        let columns = Columns::of(&batch).unwrap();
        for row in 0..batch.num_rows() {
            let id = u128::from_be_bytes(columns.trace.value(row).try_into().unwrap());
            let of = traces.entry(u64::try_from(id).unwrap()).or_insert((0, 0.0));
            *of = (of.0 + 1, of.1 + columns.weight.value(row));
        }
    }
    traces
}

/// Traces of two spans, of which one is in either flush. 7 fails, 8 is slow, 9 is of a rare operation.
async fn write(storage: &Storage) {
    let usual: Vec<Row> = (0..2_000).map(|trace| (trace, "GET /", 10, 0)).collect();
    flush(storage, &usual).await;
    let second = |trace| match trace {
        7 => (trace, "POST /", 10, ERROR),
        8 => (trace, "POST /", 9_000, 0),
        9 => (trace, "PUT /", 10, 0),
        _ => (trace, "POST /", 10, 0),
    };
    let others: Vec<Row> = (0..2_000).map(second).collect();
    flush(storage, &others).await;
}

#[tokio::test]
async fn traces_stay_whole_or_go_and_weights_add_up() {
    let (dir, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(NOON as u64 * 1_000)));
    let storage = open(dir.path(), &now, sampling()).await;
    write(&storage).await;
    assert_eq!(sample(storage.shared()).await.unwrap(), 0, "the day is not over");
    now.fetch_add(DAY.as_nanos() as u64, Ordering::Relaxed);
    let dropped = sample(storage.shared()).await.unwrap();

    let kept = traces(&storage);
    assert_eq!(dropped, 4_000 - kept.values().map(|(spans, _)| *spans as u64).sum::<u64>());
    assert!(kept.values().all(|(spans, _)| *spans == 2), "a trace is cut in two");
    for wanted in [7, 8, 9] {
        assert_eq!(kept[&wanted], (2, 2.0), "trace {wanted}");
    }
    let ordinary = kept.len() - 3;
    assert!((400..600).contains(&ordinary), "{ordinary} of 1997 at {RATE}");
    assert!(kept.iter().filter(|(id, _)| !(7..10).contains(*id)).all(|(_, of)| *of == (2, 2.0 / RATE)));
    let weight: f64 = kept.values().map(|(_, weight)| weight).sum();
    assert!((weight / 4_000.0 - 1.0).abs() < 0.1, "{weight} for 4000");

    assert_eq!(sample(storage.shared()).await.unwrap(), 0, "once is enough");
    storage.compact().await.unwrap();
    assert_eq!(sample(storage.shared()).await.unwrap(), 0, "what was sampled and merged was sampled");
    assert_eq!(traces(&storage), kept);
    storage.close().await.unwrap();
    let storage = open(dir.path(), &now, sampling()).await;
    assert_eq!(sample(storage.shared()).await.unwrap(), 0);
    assert_eq!(traces(&storage), kept);

    // Spans that come after their day was sampled go or stay as their trace did.
    let late: Vec<Row> = (0..2_000).map(|trace| (trace, "GET /late", 10, 0)).collect();
    flush(&storage, &late).await;
    sample(storage.shared()).await.unwrap();
    let after = traces(&storage);
    assert!(after.keys().eq(kept.keys()), "the same traces");
    assert!(after.values().all(|(spans, _)| *spans == 3));
    let mut text = String::new();
    storage.write_prometheus(&mut text);
    assert!(text.contains("weir_storage_sampled_rows_total 2000\n"), "{text}");
}

#[tokio::test]
async fn how_slow_and_how_rare_is_said_by_the_rules() {
    let kept_with = async |slow, rare| {
        let (dir, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(NOON as u64 * 1_000)));
        let storage = open(dir.path(), &now, Sampling { rate: 1e-9, slow, rare }).await;
        write(&storage).await;
        now.fetch_add(DAY.as_nanos() as u64, Ordering::Relaxed);
        sample(storage.shared()).await.unwrap();
        traces(&storage).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(kept_with(Slow::Quantile(1.0), 0).await, [7]);
    assert_eq!(kept_with(Slow::From(Duration::from_secs(9)), 2).await, [7, 8, 9]);
    assert_eq!(kept_with(Slow::From(Duration::from_millis(9_001)), 1).await, [7]);
    assert_eq!(kept_with(Slow::From(Duration::from_millis(10)), 0).await.len(), 2_000);
    assert_eq!(kept_with(Slow::Quantile(1.0), 2_500).await.len(), 2_000);
}

#[tokio::test]
async fn by_default_and_of_other_tables_nothing_goes() {
    let (dir, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(NOON as u64 * 1_000)));
    let storage = open(dir.path(), &now, Sampling::default()).await;
    write(&storage).await;
    now.fetch_add(DAY.as_nanos() as u64, Ordering::Relaxed);
    assert_eq!(sample(storage.shared()).await.unwrap(), 0);
    assert_eq!(traces(&storage).len(), 2_000);
    storage.close().await.unwrap();
    let storage = open(dir.path(), &now, sampling()).await;
    for table in [Table::Logs, Table::Samples, Table::Edges] {
        storage.writer().write(one(table, batch(table, 50, &[]))).await.unwrap();
    }
    storage.flush().await.unwrap();
    sample(storage.shared()).await.unwrap();
    let rows = |table| {
        rows_of(&storage.snapshot(&TenantId::default()), table).iter().map(RecordBatch::num_rows).sum()
    };
    let rows: [usize; 3] = [Table::Logs, Table::Samples, Table::Edges].map(rows);
    assert_eq!(rows, [50; 3]);
}

#[tokio::test]
async fn a_day_that_changes_meanwhile_is_sampled_the_next_time() {
    let (dir, now) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(NOON as u64 * 1_000)));
    let storage = open(dir.path(), &now, sampling()).await;
    write(&storage).await;
    now.fetch_add(DAY.as_nanos() as u64, Ordering::Relaxed);
    let job = jobs(storage.shared()).await.unwrap().remove(0);
    let sampled = day(&job).unwrap().unwrap();
    let outputs: Vec<PathBuf> =
        sampled.iter().filter_map(|(_, output)| Some(output.as_ref()?.path.clone())).collect();
    storage.compact().await.unwrap();
    assert_eq!(commit(storage.shared(), &job, sampled).await.unwrap(), 0);
    assert!(!outputs.is_empty() && outputs.iter().all(|path| !path.exists()));
    assert_eq!(traces(&storage).len(), 2_000);
    assert!(sample(storage.shared()).await.unwrap() > 2_000);
}
