//! How an edge or a node fares, and what breakers do about it.

use std::time::Duration;

use weir_model::UnixNanos;

use super::super::findings::Active;
use super::super::hints::Story;

/// How far back the proxies' last answers tell the state of their breakers: two leases.
pub(super) const BREAKER_MEMORY: Duration = Duration::from_secs(120);
/// Share of failed calls from which an edge is `degraded` …
const DEGRADED: f64 = 0.01;
/// … and `failing`.
const FAILING: f64 = 0.1;
/// How long an answer that follows no active hint still counts.
const ANSWER_NS: u64 = 30_000_000_000;

/// Whom a question of health concerns; an empty part means all of them.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) client: &'a str,
    pub(super) service: &'a str,
    pub(super) endpoint: &'a str,
}

fn either_any(a: &str, b: &str) -> bool {
    a.is_empty() || b.is_empty() || a == b
}

/// `ok`, `degraded` or `failing`.
pub(super) fn health(subject: Subject<'_>, error_rate: f64, findings: &[Active]) -> &'static str {
    let concerns = |finding: &&Active| {
        finding.service == subject.service
            && either_any(&finding.client, subject.client)
            && either_any(&finding.endpoint, subject.endpoint)
    };
    let mut found = findings.iter().filter(concerns).peekable();
    let any = found.peek().is_some();
    if error_rate >= FAILING || found.any(|finding| finding.critical) {
        "failing"
    } else if error_rate >= DEGRADED || any {
        "degraded"
    } else {
        "ok"
    }
}

/// `closed`, `open`, `ejected`, `soft`, `half-open` or `ramp`.
pub(super) fn breaker(subject: Subject<'_>, hints: &[Story], now: UnixNanos) -> &'static str {
    let concerns = |hint: &&Story| {
        let callers = &hint.callers;
        hint.mode == "enforce"
            && hint.service == subject.service
            && (callers.is_empty()
                || subject.client.is_empty()
                || callers.iter().any(|c| c == subject.client))
            && (hint.target_kind != "endpoint" || either_any(&hint.target, subject.endpoint))
    };
    let of_action = |action: &str| match action {
        "open" => Some((0, "open")),
        "eject" => Some((1, "ejected")),
        "baseline" | "retry_budget" | "timeout" => None,
        _ => Some((2, "soft")),
    };
    let concerned = hints.iter().filter(concerns);
    let active =
        concerned.clone().filter(|hint| hint.active).filter_map(|hint| of_action(&hint.action)).min();
    if let Some((_, state)) = active {
        return state;
    }
    let last = concerned
        .flat_map(|hint| &hint.acks)
        .filter(|ack| either_any(subject.client, &ack.proxy_service))
        .filter(|ack| u64::try_from(ack.time).is_ok_and(|at| at.saturating_add(ANSWER_NS) >= now.0))
        .max_by_key(|ack| ack.time);
    match last.map(|ack| ack.state.as_str()) {
        Some("half-open") => "half-open",
        Some("ramp") => "ramp",
        Some("soft") => "soft",
        Some("open") => "open",
        _ => "closed",
    }
}
