//! `GET /api/graph`: the service graph over a window, with the SQL behind every edge and node.
//!
//! Of the sides that report an edge one is believed: the caller's proxy (`source`), else the callee's
//! (`destination`, the only one where the client is `unknown`), else spans. A node's numbers are those of
//! its incoming edges. Rates are per second of the window, counted from its first bucket with a call, so that a
//! mesh that has just started is not shown as slow.
//!
//! `health` is `failing` from an error rate of 10 % or with an active critical finding, `degraded` from
//! 1 % or with any active finding, and `ok` otherwise. `breaker` is what active hints (`open`, `ejected`,
//! `soft`) or, after them, the proxies' last answers say, and `closed` otherwise.

mod buckets;
mod health;
mod shape;

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_model::{Sketch, UnixNanos};

use super::window::Window;
use super::{ApiError, State, findings, hints, reader, text};
use crate::engine::Answer;
use buckets::Buckets;
use shape::{Edge, Graph};

/// The window where none is named.
const LATELY: Duration = Duration::from_secs(60);
/// By age, rows are dropped by whole days: what is younger is in every table, unless its size drove it out.
const KEPT: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
pub(super) struct Request {
    from: Option<String>,
    to: Option<String>,
    level: Option<String>,
}

/// What a node of the graph is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// A service.
    Service,
    /// The instance that answered, with services as callers.
    Workload,
}

pub(super) async fn get(
    extract::State(state): extract::State<State>,
    request: Result<Query<Request>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(request) = request?;
    let level = match request.level.as_deref() {
        None | Some("" | "service") => Level::Service,
        Some("workload") => Level::Workload,
        Some(other) => {
            let message = format!("`level` is `{other}`: expected `service` or `workload`");
            return Err(ApiError::bad_request(message));
        }
    };
    let now = state.clock.now();
    let asked = Window::parse(request.from.as_deref(), request.to.as_deref(), LATELY, now)?;
    let mut buckets = Buckets::for_window(asked);
    let (window, sql, answer) = loop {
        let window = buckets.whole(asked);
        let sql = edges_sql(buckets.view(), window, level);
        let answer = state.ask(&sql).await?;
        match buckets.coarser() {
            Some(coarser) if answer.stats.rows == 0 && asked.to + KEPT < now => buckets = coarser,
            _ => break (window, sql, answer),
        }
    };
    let edges = edges_of(&answer, window);
    let findings = findings::active(&state, window).await?;
    let hints = hints::recent(&state, window, health::BREAKER_MEMORY).await?;
    let graph = Graph { view: buckets.view(), window, level, edges, findings, hints };
    let (nodes, edges) = graph.shown();
    Ok(Json(json!({
        "from": text::rfc3339(window.from.0 as i64),
        "to": text::rfc3339(window.to.0 as i64),
        "nodes": nodes,
        "edges": edges,
        "warnings": answer.warnings,
        "sql": sql,
    })))
}

/// Every edge as its best reporter saw it.
fn edges_sql(view: &str, window: Window, level: Level) -> String {
    let (from, to) = (text::moment(window.from), text::moment(window.to));
    let endpoint = if level == Level::Workload { "endpoint" } else { "'' AS endpoint" };
    let group = if level == Level::Workload { ", endpoint" } else { "" };
    format!(
        "\
SELECT * FROM (
  SELECT *, row_number() OVER (
           PARTITION BY client, server, endpoint, protocol
           ORDER BY CASE reporter WHEN 'source' THEN 0 WHEN 'destination' THEN 1 ELSE 2 END) AS choice,
         bool_or(reporter = 'destination') OVER (PARTITION BY server) AS answered
  FROM (SELECT client, server, {endpoint}, protocol, reporter,
               sum(calls) AS calls, sum(errors) AS errors, sum(client_errors) AS client_errors,
               sum(refused) AS refused, sketch_merge(sketch) AS sketch, bool_and(mtls) AS mtls,
               min(time) AS first_seen
        FROM {view} WHERE time >= {from} AND time < {to}
        GROUP BY client, server{group}, protocol, reporter))
WHERE choice = 1
ORDER BY client, server, endpoint, protocol"
    )
}

fn edges_of(answer: &Answer, window: Window) -> Vec<Edge> {
    let first = reader::rows(answer).filter_map(|row| row.moment("first_seen")).min();
    let begun = first.and_then(|first| u64::try_from(first).ok()).map_or(window.from, UnixNanos);
    let seconds = window.to.since(begun.max(window.from)).as_secs_f64().max(1.0);
    let edge = |row: reader::Row<'_>| Edge {
        client: row.text("client").to_owned(),
        server: row.text("server").to_owned(),
        endpoint: row.text("endpoint").to_owned(),
        protocol: row.text("protocol").to_owned(),
        reporter: row.text("reporter").to_owned(),
        calls: row.long("calls").unwrap_or_default(),
        errors: row.long("errors").unwrap_or_default(),
        refused: row.long("refused").unwrap_or_default(),
        sketch: Sketch::from_bytes(row.bytes("sketch")).unwrap_or_default(),
        mtls: row.flag("mtls"),
        answered: row.flag("answered"),
        seconds,
    };
    reader::rows(answer).map(edge).collect()
}
