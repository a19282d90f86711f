//! Rows for tests: a JSON object per row, with what a table requires and a test does not care about filled in.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::json::ReaderBuilder;
use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value, json};
use weir_model::{Clock, Sketch, UnixNanos};
use weir_storage::{Labels, Snapshot, Table};

use crate::engine::{Engine, EngineOptions};

/// 2026-11-24T12:00:00Z, in seconds: the moment of every row that names none.
pub(crate) const T0: i64 = 1_795_521_600;

/// Rows of `table`. Moments are microseconds or RFC 3339, binary columns hex.
pub(crate) fn batch(table: Table, rows: impl IntoIterator<Item = Value>) -> RecordBatch {
    let schema = table.schema();
    let rows: Vec<Value> = rows.into_iter().map(|row| filled(&schema, row)).collect();
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_strict_mode(true).build_decoder().unwrap();
    decoder.serialize(&rows).unwrap();
    decoder.flush().unwrap().unwrap_or_else(|| RecordBatch::new_empty(schema))
}

fn filled(schema: &SchemaRef, row: Value) -> Value {
    let mut whole = Map::new();
    for field in schema.fields().iter().filter(|field| !field.is_nullable()) {
        whole.insert(field.name().clone(), default(field));
    }
    whole.extend(row.as_object().cloned().unwrap_or_default());
    Value::Object(whole)
}

fn default(field: &Field) -> Value {
    match field.data_type() {
        DataType::Timestamp(..) => json!(T0 * 1_000_000),
        DataType::Boolean => json!(false),
        DataType::Utf8 | DataType::Binary => json!(""),
        DataType::List(_) => json!([]),
        DataType::Map(..) => json!({}),
        _ if field.name() == "sample_weight" => json!(1.0),
        _ => json!(0),
    }
}

/// A sketch of latencies in milliseconds, as JSON rows hold it.
pub(crate) fn sketch(ms: &[f64]) -> Value {
    let mut sketch = Sketch::default();
    ms.iter().for_each(|ms| sketch.record(ms / 1e3));
    let hex: String = sketch.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Value::String(hex)
}

/// A snapshot of hot rows.
pub(crate) fn snapshot(tables: impl IntoIterator<Item = (Table, Vec<Value>)>) -> Snapshot {
    Snapshot::of_rows(tables.into_iter().map(|(table, rows)| (table, batch(table, rows))))
}

/// A clock that stands a minute after [`T0`].
pub(crate) fn clock() -> Clock {
    Clock::new(|| UnixNanos((T0 + 60) as u64 * 1_000_000_000))
}

/// An engine over hot rows, at [`clock`].
pub(crate) fn engine(tables: impl IntoIterator<Item = (Table, Vec<Value>)>) -> Arc<Engine> {
    let options = EngineOptions { threads: 2, ..EngineOptions::new(clock()) };
    Arc::new(Engine::over(snapshot(tables), options).unwrap())
}

/// A small shop at [`T0`]: two traces, a log record, two series, edges with two reporters, a finding
/// and a hint with its answer.
pub(crate) fn shop() -> Vec<(Table, Vec<Value>)> {
    let time = T0 * 1_000_000;
    let trace = |n: u8| format!("{n:032x}");
    let span = |n: u8| format!("{n:016x}");
    vec![
        (
            Table::Spans,
            vec![
                json!({"trace_id": trace(0xa1), "span_id": span(1), "service": "frontend", "name": "GET /cart",
                    "kind": 2, "status": 2, "status_message": "upstream failed", "start_time": time,
                    "start_time_nanos": 7, "duration_ns": 30_000_000, "http_route": "/cart", "http_status": 503,
                    "service_version": "1.2", "attributes_str": {"user": "u1"}, "attributes_long": {"n": 9007199254740993_i64},
                    "attributes_double": {"ratio": 0.5}, "attributes_bool": {"vip": true},
                    "attributes_other": {"list": "2a090a0218010a030a0161"}, "resource_str": {"host": "h1"},
                    "events": [{"time": time + 1, "time_nanos": 5, "name": "retry", "attributes": {"why": "UF"},
                        "dropped_attributes": 0}],
                    "links": [{"trace_id": trace(0xb2), "span_id": span(9), "flags": 1, "dropped_attributes": 0}]}),
                json!({"trace_id": trace(0xa1), "span_id": span(2), "parent_span_id": span(1), "service": "payments",
                    "name": "Pay", "kind": 2, "status": 2, "start_time": time + 5_000, "duration_ns": 20_000_000,
                    "client": "frontend", "server": "payments", "endpoint": "payments-2"}),
                json!({"trace_id": trace(0xb2), "span_id": span(9), "service": "frontend", "name": "GET /",
                    "kind": 2, "status": 0, "start_time": time + 1_000_000, "duration_ns": 1_000_000}),
            ],
        ),
        (
            Table::Logs,
            vec![
                json!({"service": "payments", "time": time, "time_nanos": 9, "observed_time": time,
                    "severity_number": 17, "severity_text": "ERROR", "body": "card declined",
                    "trace_id": trace(0xa1), "span_id": span(2), "attributes_long": {"code": 402}}),
                json!({"service": "payments", "time": time + 1, "severity_number": 9, "body_other": "2a090a0218010a030a0161"}),
            ],
        ),
        (
            Table::Series,
            // Written again the next day.
            (0..2)
                .flat_map(|day| {
                    [1_i64, 2].map(|id| {
                        json!({"metric": "up", "series_id": id, "time": time + day * 86_400_000_000,
                            "labels": {"__name__": "up", "instance": format!("i{id}")}})
                    })
                })
                .collect(),
        ),
        (
            Table::Samples,
            vec![
                json!({"metric": "up", "series_id": 1, "time": time, "value": 1.0}),
                json!({"metric": "up", "series_id": 1, "time": time + 5_000_000, "value": 0.0}),
                json!({"metric": "up", "series_id": 2, "time": time, "value": 1.5}),
            ],
        ),
        (
            Table::Exemplars,
            vec![
                json!({"metric": "up", "series_id": 2, "time": time, "time_nanos": 7, "value": 1.5,
                    "trace_id": trace(0xa1), "span_id": span(2), "attributes_str": {"user": "u1"},
                    "attributes_long": {"n": 3}}),
            ],
        ),
        (Table::Edges, edges(time)),
        // Of three days ago only this is kept.
        (Table::EdgesMinute, edges(time - 3 * 86_400_000_000)),
        (
            Table::Findings,
            ["opened", "updated"]
                .iter()
                .zip(0..)
                .map(|(state, step)| {
                    json!({"time": time + step * 1_000_000, "id": "f-1", "state": state, "kind": "errors",
                        "level": "endpoint", "severity": "critical", "service": "payments", "endpoint": "payments-2",
                        "detector": "errors", "metric": "error_rate", "window_ms": 10_000, "observed": 0.5,
                        "baseline": 0.01, "score": 9.0, "samples": 100, "message": "payments-2 fails",
                        "query": "select 1", "trace_ids": format!("{},{}", trace(0xa1), trace(0xb2)),
                        "causal_path": "frontend > payments"})
                })
                .collect(),
        ),
        (
            Table::Hints,
            vec![
                json!({"time": time, "id": "h-1-1", "revision": 1, "epoch": 1, "event": "issued", "action": "eject",
                    "mode": "enforce", "callers": "frontend,cart", "service": "payments", "target_kind": "endpoint", "target": "payments-2",
                    "ttl_ms": 15_000, "finding": "f-1", "evidence": "{\"observed\":0.5}"}),
                json!({"time": time + 50_000_000, "id": "h-1-1", "revision": 2, "epoch": 1, "event": "renewed",
                    "action": "eject", "mode": "enforce", "service": "payments", "target_kind": "endpoint",
                    "target": "payments-2", "ttl_ms": 15_000}),
                json!({"time": time + 1_000_000, "id": "h-1-1", "revision": 1, "epoch": 1, "event": "ack",
                    "proxy": "frontend-1", "proxy_service": "frontend", "verdict": "applied", "state": "open",
                    "reason": "ejected", "success_rate_before": 0.5, "success_rate_after": 1.0}),
            ],
        ),
    ]
}

fn edges(time: i64) -> Vec<Value> {
    let row = |client: &str,
               server: &str,
               endpoint: &str,
               reporter: &str,
               calls: usize,
               errors: usize,
               ms: f64| {
        json!({"time": time, "client": client, "server": server, "endpoint": endpoint, "protocol": "http",
            "reporter": reporter, "calls": calls, "errors": errors, "duration_sum_ns": ms as i64 * 1_000_000 * calls as i64,
            "sketch": sketch(&vec![ms; calls])})
    };
    vec![
        row("frontend", "payments", "payments-1", "source", 30, 0, 10.0),
        row("frontend", "payments", "payments-1", "source", 20, 0, 10.0),
        row("frontend", "payments", "payments-2", "source", 50, 25, 100.0),
        row("frontend", "payments", "payments-2", "destination", 49, 24, 90.0),
        row("unknown", "frontend", "frontend-1", "destination", 10, 0, 120.0),
    ]
}

/// A point of the edge metric as the collector stores it: a row of `histograms` and one of `series`.
pub(crate) fn edge_point(labels: &Labels, at: UnixNanos, sketch: &Sketch) -> [(Table, Value); 2] {
    let (micros, nanos) = at.to_columns();
    let id = labels.id().to_column();
    let (first, last) = (sketch.buckets().next(), sketch.buckets().last());
    let offset = first.map_or(0, |(index, _)| index);
    let mut counts = vec![0; last.map_or(0, |(index, _)| (index - offset + 1) as usize)];
    sketch.buckets().for_each(|(index, count)| counts[(index - offset) as usize] = count);
    let all: Map<String, Value> =
        labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    [
        (
            Table::Histograms,
            json!({"metric": labels.metric(), "series_id": id, "time": micros, "time_nanos": nanos,
                "start_time": micros - 1_000_000, "temporality": 1, "scale": weir_model::sketch::SCALE,
                "count": sketch.count(), "sum": sketch.sum(), "zero_count": sketch.zero_count(),
                "positive_offset": offset, "positive_counts": counts}),
        ),
        (
            Table::Series,
            json!({"metric": labels.metric(), "series_id": id, "time": micros, "time_nanos": nanos, "labels": all,
                "type": "histogram", "unit": "seconds"}),
        ),
    ]
}
