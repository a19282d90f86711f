//! What the server says of itself: `status/buildinfo`, `runtimeinfo`, `flags`, `tsdb`, `walreplay`.

use arrow::array::AsArray;
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use axum::extract;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use weir_model::UnixNanos;
use weir_model::limits::TSDB_STATUS_ENTRIES;
use weir_storage::{Bound, Snapshot, Table};

use super::answer::Remarks;
use super::error::ApiError;
use super::params::Params;
use super::{State, on_query_threads, success};

/// Entries of each list in `status/tsdb` where nothing is said.
const ENTRIES: usize = 10;
/// The tables that samples are in.
const SAMPLES: [Table; 2] = [Table::Samples, Table::Histograms];

/// The version whose behaviour this API has, and that of the program. There are no `features`: a data
/// source that finds them takes this for another product.
pub(super) async fn build_info() -> Response {
    let data = json!({
        "version": "3.14.0",
        "revision": concat!("weir-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    });
    success(&data, &Remarks::default())
}

/// Since when it runs, and how. What belongs to Go alone is empty.
pub(super) async fn runtime_info(extract::State(state): extract::State<State>) -> Response {
    let settings = &state.prometheus;
    let snapshot = state.engine.snapshot(&state.tenant);
    let damaged: usize = SAMPLES.iter().map(|table| snapshot.table(*table).damaged.len()).sum();
    let data = json!({
        "startTime": moment(settings.started),
        "CWD": settings.folder.display().to_string(),
        "hostname": "",
        "serverTime": moment(state.clock.now()),
        "reloadConfigSuccess": true,
        "lastConfigTime": moment(settings.started),
        "corruptionCount": damaged,
        "goroutineCount": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "GOMAXPROCS": state.engine.options().threads,
        "GOMEMLIMIT": state.engine.options().memory_bytes,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": settings.retention,
    });
    success(&data, &Remarks::default())
}

fn moment(nanos: UnixNanos) -> String {
    let nanos = i64::try_from(nanos.0).unwrap_or(i64::MAX);
    DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The flags that make Prometheus behave like this server.
pub(super) async fn flags(extract::State(state): extract::State<State>) -> Response {
    let flags = state.prometheus.shown_flags(state.engine.options().queries);
    success(&json!(flags), &Remarks::default())
}

/// That nothing is being replayed: whoever can ask finds the log replayed.
pub(super) async fn wal_replay() -> Response {
    success(&json!({"min": 0, "max": 0, "current": 0}), &Remarks::default())
}

/// How many series there are, and what they carry most.
pub(super) async fn tsdb(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = match params.get("limit") {
        None => ENTRIES,
        Some(text) => match text.parse::<usize>() {
            Ok(limit) if limit > TSDB_STATUS_ENTRIES => {
                let message = format!("limit must not exceed {TSDB_STATUS_ENTRIES}");
                return Err(ApiError::bad_data(message));
            }
            Ok(limit) if limit > 0 => limit,
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    let (index, snapshot) = (state.engine.series(&state.tenant), state.engine.snapshot(&state.tenant));
    on_query_threads(&state, move || {
        let cardinality = index.cardinality(limit);
        let (first, last, chunks) = extent(&snapshot);
        let counts = |list: &[(String, u64)]| -> Value {
            list.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
        };
        let data = json!({
            "headStats": {
                "numSeries": cardinality.series,
                "numLabelPairs": cardinality.label_pairs,
                "chunkCount": chunks,
                "minTime": first,
                "maxTime": last,
            },
            "seriesCountByMetricName": counts(&cardinality.series_by_metric),
            "labelValueCountByLabelName": counts(&cardinality.values_by_label),
            "memoryInBytesByLabelName": counts(&cardinality.bytes_by_label),
            "seriesCountByLabelValuePair": counts(&cardinality.series_by_pair),
        });
        success(&data, &Remarks::default())
    })
    .await
}

/// The first and the last moment of any sample in milliseconds, and how many files and hot batches there are.
fn extent(snapshot: &Snapshot) -> (i64, i64, usize) {
    // As in Prometheus, no samples are between the last moment and the first.
    let (mut first, mut last, mut chunks) = (i64::MAX, i64::MIN, 0);
    let mut add = |from: i64, to: i64| {
        first = first.min(from.div_euclid(1000));
        last = last.max(to.div_euclid(1000));
        chunks += 1;
    };
    for table in SAMPLES {
        let rows = snapshot.table(table);
        for file in rows.files.iter() {
            if let Some((Bound::Micros(from), Bound::Micros(to))) = file.bounds.get("time") {
                add(*from, *to);
            }
        }
        for (_, batch) in rows.hot.iter() {
            let times = batch.column_by_name("time");
            let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
            if let Some((from, to)) = times.and_then(|times| Some((min(times)?, max(times)?))) {
                add(from, to);
            }
        }
    }
    (first, last, chunks)
}
