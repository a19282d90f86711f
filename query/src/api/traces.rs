//! `GET /api/traces` and `GET /api/traces/{id}`.

use std::collections::HashSet;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_model::TraceId;

use super::window::Window;
use super::{ApiError, State, reader, text};

/// How far back traces are looked for.
const LATELY: Duration = Duration::from_secs(900);
/// Traces in a list.
const MOST: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct Request {
    service: Option<String>,
    client: Option<String>,
    server: Option<String>,
    endpoint: Option<String>,
    status: Option<String>,
    min_duration_ms: Option<f64>,
    from: Option<String>,
    to: Option<String>,
    sort: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(
    extract::State(state): extract::State<State>,
    request: Result<Query<Request>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(request) = request?;
    let window = Window::parse(request.from.as_deref(), request.to.as_deref(), LATELY, state.clock.now())?;
    let sql = request.sql(window)?;
    let answer = state.ask(&sql).await?;
    let traces: Vec<Value> = reader::rows(&answer)
        .map(|row| {
            let names = [
                "trace_id",
                "root_service",
                "root_name",
                "start_time",
                "duration_ns",
                "spans",
                "errors",
                "services",
            ];
            names.iter().map(|name| ((*name).to_owned(), row.json(name))).collect()
        })
        .collect();
    Ok(Json(json!({ "traces": traces, "warnings": answer.warnings, "sql": sql })))
}

impl Request {
    /// Traces in which one span satisfies everything that is asked of a span.
    fn sql(&self, window: Window) -> Result<String, ApiError> {
        let span = self.span_condition()?;
        let order = match self.sort.as_deref() {
            None | Some("" | "recent") => "start_time DESC",
            Some("slow") => "matched_ns DESC, start_time DESC",
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "`sort` is `{other}`: expected `slow` or `recent`"
                )));
            }
        };
        let limit = self.limit.unwrap_or(20).clamp(1, MOST);
        let (from, to) = (text::moment(window.from), text::moment(window.to));
        Ok(format!(
            "\
SELECT trace_id, min(start_time) AS start_time,
       CAST(max(end_time) AS BIGINT) - CAST(min(start_time) AS BIGINT) AS duration_ns,
       first_value(service ORDER BY parent_span_id IS NOT NULL, start_time) AS root_service,
       first_value(name ORDER BY parent_span_id IS NOT NULL, start_time) AS root_name,
       count(DISTINCT span_id) AS spans,
       count(DISTINCT CASE WHEN status = 'error' THEN span_id END) AS errors,
       array_agg(DISTINCT service ORDER BY service) AS services,
       max(CASE WHEN {span} THEN duration_ns END) AS matched_ns
FROM spans
WHERE start_time >= {from} AND start_time <= {to}
GROUP BY trace_id
HAVING max(CASE WHEN {span} THEN duration_ns END) IS NOT NULL
ORDER BY {order} LIMIT {limit}"
        ))
    }

    fn span_condition(&self) -> Result<String, ApiError> {
        let mut all = Vec::new();
        let named = [
            ("service", &self.service),
            ("client", &self.client),
            ("server", &self.server),
            ("endpoint", &self.endpoint),
        ];
        for (column, value) in named {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                all.push(format!("{column} = {}", text::quoted(value)));
            }
        }
        match self.status.as_deref() {
            None | Some("") => {}
            Some("error") => all.push("status = 'error'".to_owned()),
            Some("ok") => all.push("status <> 'error'".to_owned()),
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "`status` is `{other}`: expected `error` or `ok`"
                )));
            }
        }
        if let Some(ms) = self.min_duration_ms.filter(|ms| *ms > 0.0) {
            all.push(format!("duration_ns >= {}", (ms * 1e6).min(i64::MAX as f64) as i64));
        }
        Ok(if all.is_empty() { "true".to_owned() } else { all.join(" AND ") })
    }
}

pub(super) async fn get(
    extract::State(state): extract::State<State>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id: TraceId = id.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let sql = format!(
        "\
SELECT span_id, parent_span_id, service, name, kind, status, status_message, start_time, duration_ns,
       attributes, resource_attributes, events, links
FROM spans WHERE trace_id = '{id}' ORDER BY start_time, span_id"
    );
    let answer = state.ask(&sql).await?;
    let mut seen = HashSet::new();
    let spans: Vec<Value> = reader::rows(&answer)
        // A span that was sent twice is shown once.
        .filter(|row| seen.insert((row.text("span_id"), row.moment("start_time"))))
        .map(|row| {
            let names = answer.schema.fields().iter().map(|field| field.name());
            names.map(|name| (name.clone(), row.json(name))).collect()
        })
        .collect();
    if spans.is_empty() {
        if let Some(warning) = answer.warnings.first() {
            return Err(ApiError::not_found(format!("no trace `{id}`; but {warning}")));
        }
        return Err(ApiError::not_found(format!("no trace `{id}`")));
    }
    let id = id.to_string();
    Ok(Json(json!({ "trace_id": id, "spans": spans, "warnings": answer.warnings, "sql": sql })))
}
