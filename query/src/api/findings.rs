//! `GET /api/findings`: what the analysis concluded, each finding once in its latest state.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use serde::Deserialize;
use serde_json::{Value, json};

use super::window::Window;
use super::{ApiError, State, reader, text};
use crate::engine::SqlError;

/// How far back findings are looked for.
const LATELY: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
pub(super) struct Request {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    active: bool,
}

pub(super) async fn get(
    extract::State(state): extract::State<State>,
    request: Result<Query<Request>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(request) = request?;
    let window = Window::parse(request.from.as_deref(), request.to.as_deref(), LATELY, state.clock.now())?;
    let sql = latest(window, request.active);
    let answer = state.ask(&sql).await?;
    let findings: Vec<Value> = reader::rows(&answer).map(shown).collect();
    Ok(Json(json!({ "findings": findings, "warnings": answer.warnings, "sql": sql })))
}

/// The latest row of every finding.
fn latest(window: Window, active: bool) -> String {
    let (from, to) = (text::moment(window.from), text::moment(window.to));
    let active = if active { " AND state <> 'resolved'" } else { "" };
    format!(
        "\
SELECT * FROM (
  SELECT *, min(time) OVER (PARTITION BY id) AS opened_at,
         row_number() OVER (PARTITION BY id ORDER BY time DESC) AS place
  FROM findings WHERE time >= {from} AND time <= {to})
WHERE place = 1{active}
ORDER BY time DESC, id LIMIT 1000"
    )
}

fn shown(row: reader::Row<'_>) -> Value {
    let resolved = row.text("state") == "resolved";
    let parts = |name: &str, by: char| -> Vec<String> {
        row.text(name).split(by).map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    };
    let mut finding = json!({
        "trace_ids": parts("trace_ids", ','),
        "causal_path": parts("causal_path", '>'),
        "opened_at": row.json("opened_at"),
        "updated_at": row.json("time"),
        "resolved_at": if resolved { row.json("time") } else { Value::Null },
    });
    for name in [
        "id",
        "state",
        "kind",
        "level",
        "severity",
        "client",
        "service",
        "endpoint",
        "detector",
        "metric",
        "window_ms",
        "observed",
        "baseline",
        "score",
        "samples",
        "callers_agreeing",
        "message",
        "query",
    ] {
        finding[name] = row.json(name);
    }
    finding
}

/// A finding that is not resolved, as the graph colours by it.
pub(super) struct Active {
    pub(super) critical: bool,
    pub(super) client: String,
    pub(super) service: String,
    pub(super) endpoint: String,
}

/// The findings that were not resolved at the end of `window`.
pub(super) async fn active(state: &State, window: Window) -> Result<Vec<Active>, SqlError> {
    let since = Window { from: window.to - LATELY, to: window.to };
    let answer = state.ask(&latest(since, true)).await?;
    let active = reader::rows(&answer).map(|row| Active {
        critical: row.text("severity") == "critical",
        client: row.text("client").to_owned(),
        service: row.text("service").to_owned(),
        endpoint: row.text("endpoint").to_owned(),
    });
    Ok(active.collect())
}
