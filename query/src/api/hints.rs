//! `GET /api/hints`: what was sent to the proxies, and what each answered.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Query};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_model::UnixNanos;

use super::window::Window;
use super::{ApiError, State, reader, text};
use crate::engine::{Answer, SqlError};

/// How far back hints are looked for.
const LATELY: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
pub(super) struct Request {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    active: bool,
}

/// A hint with its history.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    pub(super) id: String,
    pub(super) action: String,
    pub(super) mode: String,
    pub(super) service: String,
    pub(super) target_kind: String,
    pub(super) target: String,
    pub(super) callers: Vec<String>,
    pub(super) active: bool,
    pub(super) acks: Vec<Answered>,
    revision: i64,
    ttl_ms: i64,
    finding: String,
    evidence: Value,
    issued_at: Option<i64>,
    renewed_at: Option<i64>,
    withdrawn_at: Option<i64>,
}

/// What a proxy answered.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) time: i64,
    pub(super) proxy_service: String,
    pub(super) state: String,
    shown: Value,
}

pub(super) async fn get(
    extract::State(state): extract::State<State>,
    request: Result<Query<Request>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(request) = request?;
    let window = Window::parse(request.from.as_deref(), request.to.as_deref(), LATELY, state.clock.now())?;
    let sql = events(window);
    let answer = state.ask(&sql).await?;
    let mut stories = told(&answer, window.to);
    stories.retain(|story| story.active || !request.active);
    stories.sort_by_key(|story| std::cmp::Reverse(story.issued_at));
    let hints: Vec<Value> = stories.iter().map(Story::shown).collect();
    Ok(Json(json!({ "hints": hints, "warnings": answer.warnings, "sql": sql })))
}

/// Every event of every hint.
fn events(window: Window) -> String {
    let (from, to) = (text::moment(window.from), text::moment(window.to));
    format!("SELECT * FROM hints WHERE time >= {from} AND time <= {to} ORDER BY time, revision LIMIT 10000")
}

/// The hints of the last `back` before the end of `window`.
pub(super) async fn recent(state: &State, window: Window, back: Duration) -> Result<Vec<Story>, SqlError> {
    let since = Window { from: window.to - back, to: window.to };
    Ok(told(&state.ask(&events(since)).await?, window.to))
}

fn told(answer: &Answer, now: UnixNanos) -> Vec<Story> {
    let mut stories: BTreeMap<String, Story> = BTreeMap::new();
    for row in reader::rows(answer) {
        let id = row.text("id").to_owned();
        let story = stories.entry(id.clone()).or_insert_with(|| Story { id, ..Story::default() });
        story.add(row);
    }
    let mut stories: Vec<Story> = stories.into_values().collect();
    for story in &mut stories {
        let renewed = story.renewed_at.max(story.issued_at).unwrap_or_default();
        let lapses = renewed.saturating_add(story.ttl_ms.saturating_mul(1_000_000));
        story.active = story.withdrawn_at.is_none() && u64::try_from(lapses).is_ok_and(|at| at >= now.0);
    }
    stories
}

impl Story {
    fn add(&mut self, row: reader::Row<'_>) {
        let time = row.moment("time");
        self.revision = self.revision.max(row.long("revision").unwrap_or_default());
        match row.text("event") {
            "issued" => self.issued_at = self.issued_at.or(time),
            "renewed" => self.renewed_at = time,
            "withdrawn" => self.withdrawn_at = time,
            "ack" => return self.acks.push(Answered::read(row)),
            _ => return,
        }
        let set = |held: &mut String, name: &str| {
            if !row.text(name).is_empty() {
                *held = row.text(name).to_owned();
            }
        };
        set(&mut self.action, "action");
        set(&mut self.mode, "mode");
        set(&mut self.service, "service");
        set(&mut self.target_kind, "target_kind");
        set(&mut self.target, "target");
        set(&mut self.finding, "finding");
        self.ttl_ms = row.long("ttl_ms").unwrap_or(self.ttl_ms);
        if !row.text("callers").is_empty() {
            let callers = row.text("callers").split(',').map(|caller| caller.trim().to_owned());
            self.callers = callers.filter(|caller| !caller.is_empty()).collect();
        }
        if let Ok(evidence) = serde_json::from_str(row.text("evidence")) {
            self.evidence = evidence;
        }
    }

    fn shown(&self) -> Value {
        let moment = |at: Option<i64>| at.map(text::rfc3339);
        json!({
            "id": self.id, "revision": self.revision, "action": self.action, "mode": self.mode,
            "service": self.service, "target_kind": self.target_kind, "target": self.target,
            "callers": self.callers, "ttl_ms": self.ttl_ms, "finding": self.finding,
            "evidence": self.evidence, "issued_at": moment(self.issued_at),
            "renewed_at": moment(self.renewed_at), "withdrawn_at": moment(self.withdrawn_at),
            "active": self.active,
            "acks": self.acks.iter().map(|ack| &ack.shown).collect::<Vec<_>>(),
        })
    }
}

impl Answered {
    fn read(row: reader::Row<'_>) -> Self {
        let mut shown = json!({});
        for name in [
            "time",
            "proxy",
            "proxy_service",
            "verdict",
            "state",
            "reason",
            "success_rate_before",
            "success_rate_after",
        ] {
            shown[name] = row.json(name);
        }
        Self {
            time: row.moment("time").unwrap_or_default(),
            proxy_service: row.text("proxy_service").to_owned(),
            state: row.text("state").to_owned(),
            shown,
        }
    }
}
