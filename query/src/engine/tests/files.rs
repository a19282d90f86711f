//! Searches in files find what looking at every row finds, and read little for it.

use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use serde_json::Value;
use weir_model::{Clock, UnixNanos};
use weir_storage::{Storage, WriteBatch};

use super::*;
use crate::engine::provider::SnapshotTable;

const TRACES: i64 = 3_000;
const SPANS: i64 = 8;
const MICROS: i64 = 1_000_000;

/// Traces of eight spans, one begun every 20 ms.
fn spans(traces: std::ops::Range<i64>) -> Vec<Value> {
    let span = |trace: i64, at: i64| {
        let number = trace * SPANS + at;
        let mut row = json!({
            "trace_id": trace_id(trace), "span_id": format!("{number:016x}"), "service": format!("s{at}"),
            "name": "work", "start_time": T0 * MICROS + trace * 20_000 + at, "duration_ns": number * 1_000,
            "attributes_str": {"user": format!("u{}", trace % 1_000), "shape": "round"},
            "resource_str": {"host": format!("h{}", at % 3)},
        });
        // What few have.
        if trace % 500 == 7 && at == 3 {
            row["http_route"] = json!(format!("/r{trace}"));
            row["attributes_long"] = json!({"retries": trace});
            row["attributes_double"] = json!({"ratio": 0.5});
            row["attributes_bool"] = json!({"cached": true});
            row["attributes_other"] = json!({"list": "2a090a0218010a030a0161"});
        }
        row
    };
    traces.flat_map(|trace| (0..SPANS).map(move |at| span(trace, at))).collect()
}

/// Ids in no order.
fn trace_id(trace: i64) -> String {
    format!("{:016x}{trace:016x}", (trace as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn logs() -> Vec<Value> {
    let record = |at: i64| {
        json!({"service": "s1", "time": T0 * MICROS + at, "body": format!("line {at}"), "trace_id": trace_id(at % TRACES),
            "attributes_str": {"user": format!("u{}", at % 1_000)}})
    };
    (0..9_000).map(record).collect()
}

fn histograms() -> Vec<Value> {
    let histogram = |at: i64| {
        json!({"metric": "latency", "series_id": at % 7, "time": T0 * MICROS + at, "temporality": 2, "scale": 3,
            "count": at, "zero_threshold": 0.0, "zero_count": 0, "positive_offset": 0, "negative_offset": 0,
            "positive_counts": (0..at % 4).map(|_| at % 5).collect::<Vec<_>>(), "negative_counts": [],
            "point": {"min": (at % 9).to_string()}})
    };
    (0..100).map(histogram).collect()
}

async fn open(folder: &tempfile::TempDir) -> Storage {
    // The day of the rows is over: what is there of it may be merged.
    let clock = Clock::new(|| UnixNanos((T0 + 2 * 86_400) as u64 * 1_000_000_000));
    let options = weir_storage::Options {
        flush_age: Duration::from_secs(3600),
        ..weir_storage::Options::new(folder.path().to_owned(), clock)
    };
    Storage::open(options).await.unwrap()
}

/// Two files of spans and one of logs, and some spans that are in no file yet.
async fn stored(folder: &tempfile::TempDir) -> Storage {
    let storage = open(folder).await;
    let third = TRACES / 3;
    for at in 0..3 {
        let mut parts =
            vec![(Table::Spans, testdata::batch(Table::Spans, spans(at * third..(at + 1) * third)))];
        if at == 0 {
            parts.push((Table::Logs, testdata::batch(Table::Logs, logs())));
            parts.push((Table::Histograms, testdata::batch(Table::Histograms, histograms())));
        }
        storage.writer().write(WriteBatch { tenant: TenantId::default(), parts }).await.unwrap();
        if at < 2 {
            storage.flush().await.unwrap();
        }
    }
    storage
}

fn engine(storage: &Storage) -> Engine {
    let options = EngineOptions { threads: 2, ..EngineOptions::new(testdata::clock()) };
    Engine::new(storage.clone(), options).unwrap()
}

fn questions() -> Vec<String> {
    let ids = |traces: &[i64]| {
        let ids: Vec<_> = traces.iter().map(|trace| format!("'{}'", trace_id(*trace))).collect();
        ids.join(", ")
    };
    let conditions = [
        format!("trace_id = {}", ids(&[17])),
        format!("trace_id = {}", ids(&[TRACES])),
        format!("trace_id IN ({})", ids(&[3, 1_500, 2_999])),
        format!("trace_id = {} AND service = 's1'", ids(&[1_017])),
        format!("trace_id = {} OR attributes['user'] = 'u9'", ids(&[1_017])),
        "attributes['user'] = 'u17'".to_owned(),
        "'u17' = attributes['user']".to_owned(),
        "attributes['user'] IN ('u17', 'u18', 'nobody')".to_owned(),
        "attributes['user'] = 'u17' AND attributes['shape'] = 'round' AND duration_ns > 9000000".to_owned(),
        "attributes['user'] = 'u17' AND attributes['shape'] = 'flat'".to_owned(),
        "attributes['user'] <> 'u17' AND service = 's0' AND duration_ns < 900000".to_owned(),
        "attributes['user'] LIKE 'u17_' AND service = 's0'".to_owned(),
        "service = 's5' AND duration_ns >= 23900000".to_owned(),
        "23900000 < duration_ns AND 's5' = service AND duration_ns > 5".to_owned(),
        "service IN ('s5', 's6', 'nobody') AND duration_ns >= 23900000".to_owned(),
        "service = 'nobody' AND duration_ns >= 1".to_owned(),
        "service = 's5' AND duration_ns >= 24000000".to_owned(),
        "service = 's5' AND (duration_ns >= 23900000 OR attributes['user'] = 'u17')".to_owned(),
        "attributes['retries'] = '1507'".to_owned(),
        "attributes['retries'] = '+1507'".to_owned(),
        "attributes['retries'] > '2'".to_owned(),
        "attributes['ratio'] = '0.5'".to_owned(),
        "attributes['ratio'] = 'half'".to_owned(),
        "attributes['cached'] = 'true'".to_owned(),
        "attributes['cached'] = 'yes'".to_owned(),
        "attributes['list'] IS NOT NULL".to_owned(),
        "attributes['list'] = (SELECT max(attributes['list']) FROM spans)".to_owned(),
        "attributes['http.route'] = '/r507'".to_owned(),
        "attributes['http.route'] = '/r507' OR attributes['http.route'] = '/r2007'".to_owned(),
        "attributes['http.route'] IS NOT NULL AND attributes['retries'] IS NULL".to_owned(),
        "resource_attributes['host'] = 'h2' AND attributes['user'] = 'u1'".to_owned(),
        "resource_attributes['host'] = 'h9'".to_owned(),
        "attr_long(attributes, 'retries') = 1507".to_owned(),
        format!("trace_id NOT IN ({}) AND span_id < '0000000000000020'", ids(&[0])),
        format!("span_id <> '0000000000000009' AND trace_id = {}", ids(&[1])),
        "parent_span_id IS NULL AND service LIKE 's_' AND name = 'work' AND duration_ns % 7000000 = 0".to_owned(),
        "duration_ns >= (SELECT max(duration_ns) - 5000 FROM spans)".to_owned(),
        "status <> 'error' AND kind = 'unspecified' AND http_route IS NOT NULL".to_owned(),
        "http_route = '/r507' AND lower(service) = 's3'".to_owned(),
        "start_time > '2026-11-24T12:00:30Z' AND start_time <= '2026-11-24T12:00:30.000002Z'".to_owned(),
        "start_time BETWEEN '2026-11-24T12:00:30Z' AND '2026-11-24T12:00:31Z' AND attributes['user'] = 'u510'".to_owned(),
        format!("start_time < '2026-11-24T12:00:30Z' AND trace_id IN ({})", ids(&[1_400, 1_600])),
    ];
    let mut questions: Vec<String> = conditions
        .iter()
        .map(|all| {
            format!("SELECT concat(span_id, ' ', attributes['user'], ' ', attributes['retries']) FROM spans WHERE {all} ORDER BY 1")
        })
        .collect();
    questions.push(format!("SELECT body FROM logs WHERE trace_id = {} ORDER BY 1", ids(&[77])));
    questions.push("SELECT body FROM logs WHERE attributes['user'] = 'u5' ORDER BY 1".to_owned());
    for condition in
        ["positive_counts[1] = 3", "cardinality(positive_counts) > 2 AND scale = 3", "point['min'] = '7'"]
    {
        questions.push(format!("SELECT count FROM histograms WHERE {condition} ORDER BY 1"));
    }
    questions
}

#[tokio::test]
async fn searches_in_files_find_what_is_found_among_hot_rows() {
    let folder = tempfile::tempdir().unwrap();
    let storage = stored(&folder).await;
    let hot = testdata::engine([
        (Table::Spans, spans(0..TRACES)),
        (Table::Logs, logs()),
        (Table::Histograms, histograms()),
    ]);
    let files = engine(&storage);
    let mut found = Vec::new();
    for question in questions() {
        let rows = lines(&hot, &question).await;
        assert_eq!(lines(&files, &question).await, rows, "{question}");
        found.push((question, rows));
    }
    assert_eq!(found.iter().filter(|(_, rows)| rows.is_empty()).count(), 9, "what is in no span");
    storage.flush().await.unwrap();
    assert_eq!(storage.compact().await.unwrap().files, 3);
    for (question, rows) in found {
        assert_eq!(lines(&files, &question).await, rows, "compacted: {question}");
    }
}

/// The rows that a scan for `filter`, which is over stored columns, may read.
async fn read(engine: &Engine, filter: Expr) -> usize {
    let spans = SnapshotTable::new(Table::Spans, engine.snapshot(&TenantId::default()).table(Table::Spans));
    let scan = spans.scan(&engine.session().state(), Some(&vec![0]), &[filter], None).await.unwrap();
    let known = StatisticsContext::new().compute(scan.as_ref(), &StatisticsArgs::new()).unwrap();
    *known.num_rows.get_value().unwrap()
}

#[tokio::test]
async fn a_trace_is_looked_for_in_the_blocks_that_may_hold_it() {
    let folder = tempfile::tempdir().unwrap();
    let storage = stored(&folder).await;
    storage.flush().await.unwrap();
    let engine = engine(&storage);
    let is = |trace: i64| {
        let bytes: Vec<u8> =
            (0..16).map(|at| u8::from_str_radix(&trace_id(trace)[at * 2..at * 2 + 2], 16).unwrap()).collect();
        col("trace_id").eq(lit(ScalarValue::Binary(Some(bytes))))
    };
    assert_eq!(read(&engine, lit(true)).await, (TRACES * SPANS) as usize);
    let of_one = read(&engine, is(1_234)).await;
    assert!((1..=2 * 4_096).contains(&of_one), "one block, and now and then one in vain: {of_one}");
    let of_two = read(&engine, is(1_234).or(is(1))).await;
    assert!((of_one + 1..=4 * 4_096).contains(&of_two), "{of_two}");
    assert!(read(&engine, is(TRACES)).await <= 4_096, "a trace that is in no file");
}

#[tokio::test]
async fn slow_spans_of_a_service_are_looked_for_in_the_blocks_that_may_hold_some() {
    let folder = tempfile::tempdir().unwrap();
    let storage = stored(&folder).await;
    storage.flush().await.unwrap();
    let engine = engine(&storage);
    let slow =
        |service: &str, least: i64| col("service").eq(lit(service)).and(lit(least).lt_eq(col("duration_ns")));
    // The longest durations, up to 24 ms, are the last spans'.
    let of_some = read(&engine, slow("s5", 22_000_000)).await;
    assert!((1..=2 * 4_096).contains(&of_some), "{of_some}");
    assert_eq!(read(&engine, slow("s5", 34_000_000)).await, 0);
    assert_eq!(read(&engine, slow("nobody", 2_000_000)).await, 0);
    assert_eq!(read(&engine, slow("s5", 0)).await, (TRACES * SPANS) as usize);
}
