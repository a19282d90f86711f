//! `GET /api/status`: how storage and the analysis are doing.

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use weir_model::UnixNanos;
use weir_storage::{Damaged, Storage, TableStatus};

use super::text;
use crate::live::Live;

/// The route; it reads what runs, not what is stored.
pub fn status(storage: Storage, live: Live) -> Router {
    Router::new().route("/api/status", get(async move || Json(shown(&storage, &live))))
}

fn shown(storage: &Storage, live: &Live) -> Value {
    let status = storage.status();
    let tables = status.tables.iter().map(|TableStatus { table, files, rows, bytes, hot_rows }| {
        json!({ "table": table.name(), "files": files, "rows": rows, "bytes": bytes, "hot_rows": hot_rows })
    });
    let quarantine = storage.damaged().into_iter().map(|(tenant, table, Damaged { file, reason })| {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        json!({
            "tenant": tenant.as_str(), "table": table.name(), "day": file.day(), "file": name,
            "rows": file.rows, "bytes": file.size, "reason": reason,
        })
    });
    let moment = |at: UnixNanos| text::rfc3339(i64::try_from(at.0).unwrap_or(i64::MAX));
    json!({
        "flush_lag_ms": status.hot_age.as_millis() as u64,
        "analysis_lag_ms": live.lag().map(|lag| lag.as_millis() as u64),
        "wal_bytes": status.wal_bytes,
        "hot_rows": status.hot_rows,
        "hot_bytes": status.hot_bytes,
        "series": status.series,
        "last_flush": status.flushed_at.map(moment),
        "last_compaction": status.compacted_at.map(moment),
        "disk_full": status.disk_full,
        "stopped": status.stopped,
        "tables": tables.collect::<Vec<_>>(),
        "quarantine": quarantine.collect::<Vec<_>>(),
    })
}
