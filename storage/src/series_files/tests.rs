use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::Table;
use crate::tests::{NOON, batch, one, open, times};

const NOON_MS: i64 = NOON / 1000;

/// Series id, Unix milliseconds, value, start.
type Row = (i64, i64, f64, Option<i64>);

/// Series of three metrics, by whose names their ids are apart.
fn metric(id: i64) -> &'static str {
    ["a_metric", "b_metric", "c_metric"][id.rem_euclid(3) as usize]
}

fn of_rows(table: Table, rows: &[Row]) -> RecordBatch {
    let start = |row: &Row| row.3.map(|start| start * 1000);
    let starts = TimestampMicrosecondArray::from_iter(rows.iter().map(start)).with_timezone("UTC");
    let value = if table == Table::Samples { "value" } else { "sum" };
    let columns: [(&str, ArrayRef); 5] = [
        ("metric", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| metric(row.0))))),
        ("series_id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))),
        ("time", times(rows.iter().map(|row| row.1 * 1000 + 999).collect())),
        ("start_time", Arc::new(starts)),
        (value, Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)))),
    ];
    batch(table, rows.len(), &columns)
}

/// Files of `table` that hold `writes`, one of each.
async fn written(table: Table, writes: &[Vec<Row>]) -> (tempfile::TempDir, SeriesFiles) {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    for rows in writes {
        storage.writer().write(one(table, of_rows(table, rows))).await.unwrap();
        storage.flush().await.unwrap();
    }
    let view = storage.snapshot(&Default::default()).table(table);
    let files = view.series_files(view.files.to_vec()).await.unwrap();
    assert_eq!(files.files.len(), writes.len());
    (dir, files)
}

/// What is read per id: times, bits of values, starts.
fn read(files: &SeriesFiles, wanted: &Wanted<'_>) -> BTreeMap<i64, Vec<(i64, u64, i64)>> {
    let mut all: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    let each = |at: usize, stretch: Stretch<'_>| {
        let points = stretch.offsets.iter().zip(stretch.values).enumerate().map(|(row, (offset, value))| {
            let start = stretch.starts.get(row).copied().unwrap_or_default();
            (stretch.base + i64::from(*offset), value.to_bits(), start)
        });
        all.entry(wanted.ids[at]).or_default().extend(points);
        Ok::<_, io::Error>(())
    };
    files.samples(wanted, each).unwrap();
    all
}

/// What `wanted` says of `writes`.
fn expected(writes: &[Vec<Row>], wanted: &Wanted<'_>) -> BTreeMap<i64, Vec<(i64, u64, i64)>> {
    let mut all: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for rows in writes {
        let mut rows = rows.clone();
        rows.sort_by_key(|row| row.1); // stable
        for (id, time, value, start) in rows {
            let in_time = time > wanted.after && time <= wanted.until;
            if in_time && wanted.ids.contains(&id) && wanted.metrics.contains(&metric(id)) {
                all.entry(id).or_default().push((time, value.to_bits(), start.unwrap_or_default()));
            }
        }
    }
    all
}

fn all_of<'a>(ids: &'a [i64]) -> Wanted<'a> {
    Wanted { ids, metrics: "a_metric"..="c_metric", after: i64::MIN, until: i64::MAX }
}

#[tokio::test]
async fn a_selection_of_many_row_groups_is_what_was_written() {
    // 400 series of 1,000 samples: four row groups, most series in one, some in two.
    let series = -200..200_i64;
    let rows: Vec<Row> = (0..1000)
        .flat_map(|step| {
            series.clone().map(move |id| (id * 7919, NOON_MS + step * 15_000, step as f64, None))
        })
        .collect();
    let (_dir, files) = written(Table::Samples, std::slice::from_ref(&rows)).await;
    assert_eq!(files.files[0].groups.len(), 4);
    let every: Vec<i64> = series.map(|id| id * 7919).collect();
    let few: Vec<i64> = every.iter().copied().step_by(37).chain([5_000_000]).collect();
    for ids in [&every, &few, &vec![], &vec![4]] {
        for (after, until) in [
            (i64::MIN, i64::MAX),
            (NOON_MS, NOON_MS + 300_000),
            (NOON_MS - 1, NOON_MS),
            (NOON_MS + 20_000, NOON_MS + 29_999),
            (NOON_MS + 999 * 15_000, i64::MAX),
        ] {
            for metrics in ["a_metric"..="c_metric", "b_metric"..="b_metric", "b_metrics"..="bx"] {
                let ids = ids.iter().copied().filter(|id| metrics.contains(&metric(*id)) || *id == 4);
                let ids: Vec<i64> = ids.collect();
                let wanted = Wanted { ids: &ids, metrics: metrics.clone(), after, until };
                let writes = std::slice::from_ref(&rows);
                assert!(read(&files, &wanted) == expected(writes, &wanted), "{wanted:?}");
            }
        }
    }
}

#[tokio::test]
async fn rows_of_histograms_are_those_of_the_wanted_series() {
    let rows: Vec<Row> = (0..60_000).map(|n| (n % 30, NOON_MS + n, n as f64, None)).collect();
    let (_dir, files) = written(Table::Histograms, &[rows]).await;
    let ids = [3, 4, 29, 77];
    let mut seen = BTreeMap::<i64, usize>::new();
    let each = |rows: &RecordBatch| {
        assert_eq!(rows.num_columns(), 2);
        let ids = rows.column_by_name("series_id").unwrap().as_primitive::<Int64Type>();
        ids.values().iter().for_each(|id| *seen.entry(*id).or_default() += 1);
        Ok::<_, io::Error>(())
    };
    files.rows(&all_of(&ids), &["series_id", "sum"], each).unwrap();
    assert_eq!(seen, BTreeMap::from([(3, 2000), (4, 2000), (29, 2000)]));
    assert!(files.has_any(&all_of(&ids)).unwrap());
    assert!(!files.has_any(&all_of(&[77, 78])).unwrap());
    assert!(!files.has_any(&Wanted { metrics: "d"..="e", ..all_of(&ids) }).unwrap());
    let none = files.samples(&all_of(&ids), |_, _| Ok::<_, io::Error>(()));
    assert!(none.unwrap_err().to_string().contains("there is no `value`"));
}

#[tokio::test]
async fn what_was_written_last_comes_last() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    for value in [1.0, 2.0, 3.0] {
        let rows = of_rows(Table::Samples, &[(1, NOON_MS, value, None)]);
        storage.writer().write(one(Table::Samples, rows)).await.unwrap();
        storage.flush().await.unwrap();
    }
    let view = storage.snapshot(&Default::default()).table(Table::Samples);
    let backwards = view.files.iter().rev().cloned().collect();
    let files = view.series_files(backwards).await.unwrap();
    let values: Vec<u64> = read(&files, &all_of(&[1]))[&1].iter().map(|(_, bits, _)| *bits).collect();
    assert_eq!(values, [1.0_f64, 2.0, 3.0].map(f64::to_bits));
}

#[tokio::test]
async fn what_was_decoded_is_kept() {
    let (dir, files) = written(Table::Samples, &[vec![(1, NOON_MS, 2.5, Some(NOON_MS - 9))]]).await;
    let before = read(&files, &all_of(&[1]));
    assert_eq!(before[&1], [(NOON_MS, 2.5_f64.to_bits(), NOON_MS - 9)]);
    drop(dir);
    assert_eq!(read(&files, &all_of(&[1])), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_selection_is_what_was_written(
        writes in prop::collection::vec(
            prop::collection::vec(
                (-9..9_i64, 0..50_i64, any::<f64>(), prop::option::weighted(0.1, 0..1000_i64)),
                1..120,
            ),
            1..4,
        ),
        ids in prop::collection::btree_set(-12..12_i64, 0..12),
        after in -2..50_i64,
        length in 0..60_i64,
    ) {
        let moved = |(id, time, value, start): Row| (id, NOON_MS + time, value, start.map(|start| NOON_MS - start));
        let writes: Vec<Vec<Row>> =
            writes.into_iter().map(|rows| rows.into_iter().map(moved).collect()).collect();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (_dir, files) = runtime.block_on(written(Table::Samples, &writes));
        let ids: Vec<i64> = ids.into_iter().collect();
        let (after, until) = (NOON_MS + after, NOON_MS + after + length);
        let wanted = Wanted { after, until, ..all_of(&ids) };
        prop_assert_eq!(read(&files, &wanted), expected(&writes, &wanted));
    }
}
