//! What goes and what stays, by age and by size.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use weir_model::Clock;

use super::*;
use crate::tests::{self, NOON, batch, one, seen, series, times};
use crate::{Days, MatchOp, Options, Storage};

const DAY: Duration = Duration::from_secs(86_400);
const TODAY: i32 = (NOON / 86_400_000_000) as i32;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn age(days: u32) -> Keep {
    Keep { age: Some(DAY * days), bytes: None }
}

fn bytes(bytes: u64) -> Keep {
    Keep { age: None, bytes: Some(bytes) }
}

fn retention(rules: &[(Option<&str>, Option<Table>, Keep)]) -> Retention {
    let mut retention = Retention::default();
    for (name, table, keep) in rules {
        retention.set(name.map(tenant), *table, *keep);
    }
    retention
}

/// A file of 100 bytes, `days_ago` old; of those of a day, the one with the lower number was written earlier.
fn file(table: Table, days_ago: i32, number: u64) -> (Table, DataFile) {
    let path = format!("/t/{}/{}", table.name(), FileName::flushed(number, 1)).into();
    (table, DataFile { path, size: 100, rows: 1, date: TODAY - days_ago, bounds: Arc::default() })
}

/// (table, days ago, number) of what goes.
fn gone(retention: &Retention, of: &str, all: &[(Table, DataFile)]) -> Vec<(Table, i32, u64)> {
    let expired = retention.expired(&tenant(of), all, UnixNanos(NOON as u64 * 1_000));
    let mut gone: Vec<_> = expired
        .into_iter()
        .map(|(table, file, _)| (table, TODAY - file.date, FileName::of(&file.path).unwrap().writes.0))
        .collect();
    gone.sort();
    gone
}

#[test]
fn the_more_particular_rule_wins() {
    let retention = retention(&[
        (None, None, age(5)),
        (None, Some(Table::Spans), age(2)),
        (Some("audit"), None, age(100)),
        (Some("audit"), Some(Table::Logs), Keep { age: Some(Duration::MAX), bytes: None }),
    ]);
    let all: Vec<_> = [Table::Spans, Table::Logs, Table::Edges]
        .into_iter()
        .flat_map(|table| [1, 3, 9, 200].map(|days_ago| file(table, days_ago, 1)))
        .collect();
    let (spans, logs, edges) = (Table::Spans, Table::Logs, Table::Edges);
    assert_eq!(
        gone(&retention, "shop", &all),
        [
            (spans, 3, 1),
            (spans, 9, 1),
            (spans, 200, 1),
            (logs, 9, 1),
            (logs, 200, 1),
            (edges, 9, 1),
            (edges, 200, 1)
        ]
    );
    assert_eq!(gone(&retention, "audit", &all), [(spans, 200, 1), (edges, 200, 1)]);
    assert!(gone(&Retention::default(), "shop", &all).is_empty());
}

#[test]
fn the_oldest_files_go_until_the_rest_fits() {
    let all = [
        file(Table::Spans, 0, 30),
        file(Table::Spans, 0, 20),
        file(Table::Spans, 4, 25),
        file(Table::Logs, 3, 1),
        file(Table::Logs, 0, 10),
    ];
    let of_spans = retention(&[(None, Some(Table::Spans), bytes(150))]);
    assert_eq!(gone(&of_spans, "shop", &all), [(Table::Spans, 0, 20), (Table::Spans, 4, 25)]);
    let of_all = retention(&[(None, None, bytes(200))]);
    let expected = [(Table::Spans, 4, 25), (Table::Logs, 0, 10), (Table::Logs, 3, 1)];
    assert_eq!(gone(&of_all, "shop", &all), expected, "over all tables, the oldest day and write first");
    let both = retention(&[(None, None, bytes(200)), (None, Some(Table::Spans), bytes(250))]);
    assert_eq!(gone(&both, "shop", &all), expected);
    assert!(gone(&retention(&[(None, None, bytes(500))]), "shop", &all).is_empty());
    let other = retention(&[(None, None, bytes(0)), (Some("audit"), None, bytes(u64::MAX))]);
    assert!(gone(&other, "audit", &all).is_empty());
}

#[test]
fn labels_stay_as_long_as_what_they_name() {
    let measured = [file(Table::Samples, 9, 1), file(Table::Histograms, 6, 1), file(Table::Samples, 1, 2)];
    let named = [10, 9, 6, 5, 1, 0].map(|days_ago| file(Table::Series, days_ago, 1));
    let all: Vec<_> = measured.into_iter().chain(named).collect();
    let of_series = |rules: &[_]| {
        let gone = gone(&retention(rules), "shop", &all);
        gone.into_iter()
            .filter(|(table, ..)| *table == Table::Series)
            .map(|(_, days, _)| days)
            .collect::<Vec<_>>()
    };
    assert_eq!(of_series(&[(None, None, age(7))]), [9, 10], "a histogram of six days ago needs its labels");
    assert_eq!(
        of_series(&[(None, Some(Table::Samples), age(1)), (None, Some(Table::Histograms), age(1))]),
        [5, 6, 9, 10]
    );
    assert_eq!(
        of_series(&[(None, None, bytes(0))]),
        [5, 6, 9, 10],
        "samples of yesterday may be on their way"
    );
    assert!(of_series(&[(None, Some(Table::Series), age(1))]).is_empty(), "no sample loses its labels");
}

#[test]
fn rollups_stay_unless_they_are_named() {
    let all = [file(Table::Edges, 9, 1), file(Table::EdgesMinute, 9, 1), file(Table::EdgesHour, 9, 1)];
    let general = retention(&[(None, None, Keep { age: Some(DAY), bytes: Some(0) })]);
    assert_eq!(gone(&general, "shop", &all), [(Table::Edges, 9, 1)]);
    let named = retention(&[
        (None, Some(Table::EdgesMinute), age(8)),
        (Some("shop"), Some(Table::EdgesHour), bytes(0)),
    ]);
    assert_eq!(gone(&named, "shop", &all), [(Table::EdgesMinute, 9, 1), (Table::EdgesHour, 9, 1)]);
    assert_eq!(gone(&named, "audit", &all), [(Table::EdgesMinute, 9, 1)]);
}

async fn open_at(dir: &Path, now: &Arc<AtomicU64>, retention: Retention) -> Storage {
    let now = Arc::clone(now);
    let clock = Clock::new(move || UnixNanos(now.load(Ordering::Relaxed)));
    Storage::open(Options { clock, retention, ..tests::options(dir) }).await.unwrap()
}

fn on(days_ago: i64, value: f64) -> RecordBatch {
    let time = times(vec![NOON - days_ago * 86_400_000_000]);
    let value: ArrayRef = Arc::new(Float64Array::from(vec![value]));
    batch(Table::Samples, 1, &[("time", time), ("value", value)])
}

async fn flush(storage: &Storage, table: Table, rows: RecordBatch) {
    storage.writer().write(one(table, rows)).await.unwrap();
    storage.flush().await.unwrap();
}

#[tokio::test]
async fn days_that_are_too_old_leave_their_tables() {
    let now = Arc::new(AtomicU64::new(NOON as u64 * 1_000));
    let dir = tempfile::tempdir().unwrap();
    let two_days = retention(&[(None, None, age(2))]);
    let storage = open_at(dir.path(), &now, two_days.clone()).await;
    for (days_ago, value) in [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (9, 9.0)] {
        flush(&storage, Table::Samples, on(days_ago, value)).await;
    }
    assert_eq!(expire(storage.shared()).await.unwrap(), 2);
    assert_eq!(seen(&storage), [0, 1, 2], "a day goes when all of it is too old");
    assert_eq!(expire(storage.shared()).await.unwrap(), 0);
    let mut text = String::new();
    storage.write_prometheus(&mut text);
    assert!(text.contains("weir_storage_expired_rows_total{reason=\"age\"} 2\n"), "{text}");
    now.fetch_add(DAY.as_nanos() as u64, Ordering::Relaxed);
    storage.close().await.unwrap();
    let storage = open_at(dir.path(), &now, two_days).await;
    assert_eq!(expire(storage.shared()).await.unwrap(), 1);
    assert_eq!(seen(&storage), [0, 1]);
}

#[tokio::test]
async fn a_table_keeps_to_its_size_and_says_what_went() {
    let now = Arc::new(AtomicU64::new(NOON as u64 * 1_000));
    let dir = tempfile::tempdir().unwrap();
    let storage = open_at(dir.path(), &now, Retention::default()).await;
    for (days_ago, value) in [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)] {
        flush(&storage, Table::Samples, on(days_ago, value)).await;
    }
    let size: u64 = storage.files().iter().map(|(.., file)| file.size).sum();
    storage.close().await.unwrap();
    let bounded = retention(&[(Some("default"), Some(Table::Samples), bytes(size / 2))]);
    let storage = open_at(dir.path(), &now, bounded).await;
    assert_eq!(expire(storage.shared()).await.unwrap(), 2);
    assert_eq!(seen(&storage), [0, 1]);
    let mut text = String::new();
    storage.write_prometheus(&mut text);
    for line in
        ["files_total{reason=\"size\"} 2", "rows_total{reason=\"size\"} 2", "rows_total{reason=\"age\"} 0"]
    {
        assert!(text.contains(&format!("weir_storage_expired_{line}\n")), "{text}");
    }
}

#[tokio::test]
async fn series_that_ended_leave_the_index_and_others_are_found_as_before() {
    let now = Arc::new(AtomicU64::new(NOON as u64 * 1_000));
    let dir = tempfile::tempdir().unwrap();
    let storage = open_at(dir.path(), &now, retention(&[(None, None, age(3))])).await;
    let index = storage.series(&TenantId::default());
    let labels = |job: &str| crate::Labels::new([("__name__", "up"), ("job", job)]);
    for (job, days) in [("ended", &[9, 8][..]), ("lives", &[9, 0][..]), ("new", &[0][..])] {
        for days_ago in days {
            let time = NOON - i64::from(*days_ago) * 86_400_000_000;
            flush(&storage, Table::Series, series(&[labels(job)], time)).await;
            flush(&storage, Table::Samples, on(i64::from(*days_ago), 0.0)).await;
        }
    }
    assert_eq!(index.len(), 3);
    expire(storage.shared()).await.unwrap();
    assert_eq!(index.len(), 2);
    assert_eq!(index.label_values("job", &[], &Days::ALL), ["lives", "new"]);
    let matcher = crate::LabelMatcher::new("job", MatchOp::Equal, "new").unwrap();
    assert_eq!(index.select(&[matcher]).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [labels("new").id()]);
    assert_eq!(
        index.known(labels("ended").id(), &labels("ended"), TODAY),
        crate::Known::New,
        "it may begin again"
    );
    storage.close().await.unwrap();
    let storage = open_at(dir.path(), &now, Retention::default()).await;
    assert_eq!(storage.series(&TenantId::default()).len(), 2);
}
