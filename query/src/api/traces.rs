//! `GET /api/traces` and `GET /api/traces/{id}`.
//!
//! A search has two steps: which traces have a span that satisfies everything (few columns of many rows), then
//! what became of these (all columns of few rows). The newest are looked for from the end of the window on,
//! further back only as long as there are too few. The `sql` of the answer says the same in one statement.

use std::collections::HashSet;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Path, Query};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_model::{TraceId, UnixNanos};

use super::window::Window;
use super::{ApiError, State, reader, text};

/// How far back traces are looked for.
const LATELY: Duration = Duration::from_secs(900);
/// Traces in a list.
const MOST: usize = 1_000;
/// How long before and after the window spans of a trace are counted that has one in it.
const AROUND: Duration = Duration::from_secs(3600);
/// The newest part of a window, in which it is looked first: one of so many.
const FIRST_PART: u32 = 64;
/// How much longer than all parts before one is behind which nothing was found.
const LONGER: u32 = 16;

/// What is looked for.
struct Search {
    window: Window,
    /// What one span of a trace satisfies.
    span: String,
    by: Order,
    limit: usize,
}

/// Which traces come first.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Recent,
    Slow,
}

impl Search {
    fn of(request: &Request, window: Window) -> Result<Self, ApiError> {
        let by = match request.sort.as_deref() {
            None | Some("" | "recent") => Order::Recent,
            Some("slow") => Order::Slow,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "`sort` is `{other}`: expected `slow` or `recent`"
                )));
            }
        };
        let limit = request.limit.unwrap_or(20).clamp(1, MOST);
        Ok(Self { window, span: request.span_condition()?, by, limit })
    }

    /// The ids of the traces that come first, as literals, and what the answers lack. The window is looked through in
    /// parts, the newest first.
    async fn find(&self, state: &State) -> Result<(Vec<String>, Vec<String>), ApiError> {
        let (mut found, mut warnings) = (Vec::new(), Vec::new());
        let Window { from, to } = self.window;
        let mut end = to;
        while end > from && found.len() < self.limit {
            let start = (end - self.next_part(to.since(end), found.len())).max(from);
            let answer = state.ask(&self.matching(Window { from: start, to: end }, self.limit)).await?;
            end = start;
            for id in reader::rows(&answer).map(|row| text::quoted(row.text("trace_id"))) {
                if found.len() < self.limit && !found.contains(&id) {
                    found.push(id);
                }
            }
            warnings.extend(answer.warnings);
        }
        warnings.sort();
        warnings.dedup();
        Ok((found, warnings))
    }

    /// How long the next part of the window is, from the newest on, once `found` traces were in the newest `seen` of
    /// it: long enough for what is missing if there is half as much in it.
    fn next_part(&self, seen: Duration, found: usize) -> Duration {
        let Window { from, to } = self.window;
        let whole = to.since(from);
        match u32::try_from(found) {
            _ if self.by == Order::Slow => whole,
            _ if seen.is_zero() => (whole / FIRST_PART).max(Duration::from_nanos(1)),
            Ok(0) | Err(_) => seen.saturating_mul(LONGER),
            Ok(found) => {
                let missing = u32::try_from(self.limit).unwrap_or(u32::MAX).saturating_sub(found);
                seen.saturating_mul(missing.saturating_mul(2)) / found
            }
        }
    }

    /// The traces that have a span in `window` that satisfies everything: `limit` of those that come first.
    fn matching(&self, window: Window, limit: usize) -> String {
        let (from, to) = (text::moment(window.from), text::moment(window.to));
        let first = match self.by {
            Order::Recent => "max(start_time)",
            Order::Slow => "max(duration_ns)",
        };
        format!(
            "\
SELECT trace_id FROM spans
WHERE start_time >= {from} AND start_time <= {to} AND {}
GROUP BY trace_id ORDER BY {first} DESC LIMIT {limit}",
            self.span
        )
    }

    /// What became of the traces in `ids`.
    fn summaries(&self, ids: &str) -> String {
        let Window { from, to } = self.window;
        let (since, until) = (
            text::moment(from - AROUND),
            text::moment(UnixNanos(to.0.saturating_add(AROUND.as_nanos() as u64))),
        );
        let (from, to) = (text::moment(from), text::moment(to));
        let (matched, order) = match self.by {
            Order::Recent => (String::new(), "start_time DESC"),
            Order::Slow => (
                format!(
                    ",\n       max(CASE WHEN start_time >= {from} AND start_time <= {to} AND {} THEN duration_ns END) AS matched_ns",
                    self.span
                ),
                "matched_ns DESC, start_time DESC",
            ),
        };
        format!(
            "\
SELECT trace_id, min(start_time) AS start_time,
       CAST(max(end_time) AS BIGINT) - CAST(min(start_time) AS BIGINT) AS duration_ns,
       first_value(service ORDER BY parent_span_id IS NOT NULL, start_time) AS root_service,
       first_value(name ORDER BY parent_span_id IS NOT NULL, start_time) AS root_name,
       count(DISTINCT span_id) AS spans,
       count(DISTINCT CASE WHEN status = 'error' THEN span_id END) AS errors,
       array_agg(DISTINCT service ORDER BY service) AS services{matched}
FROM spans
WHERE start_time >= {since} AND start_time <= {until}
  AND trace_id IN ({ids})
GROUP BY trace_id
ORDER BY {order}"
        )
    }
}

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
    let search = Search::of(&request, window)?;
    let sql = search.summaries(&search.matching(window, search.limit));
    let (found, mut warnings) = search.find(&state).await?;
    if found.is_empty() {
        return Ok(Json(json!({ "traces": [], "warnings": warnings, "sql": sql })));
    }
    let answer = state.ask(&search.summaries(&found.join(", "))).await?;
    warnings.extend(
        answer.warnings.iter().filter(|warning| !warnings.contains(warning)).cloned().collect::<Vec<_>>(),
    );
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
    Ok(Json(json!({ "traces": traces, "warnings": warnings, "sql": sql })))
}

impl Request {
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
