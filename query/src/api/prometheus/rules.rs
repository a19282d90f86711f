//! Rules, alerts, and who is told of them.

use std::collections::BTreeSet;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};
use weir_storage::{LabelMatcher, Labels};

use super::answer::Remarks;
use super::error::ApiError;
use super::params::Params;
use super::success;
use crate::rules::alert::{Alert, AlertState};
use crate::rules::group::GroupState;
use crate::rules::notify::Notifier;
use crate::rules::{RuleState, Rules};

/// The routes that read what runs, not what is stored.
pub(in crate::api) fn routes(rules: Rules, notifier: Notifier) -> Router {
    let (of_rules, of_alerts) = (rules.clone(), rules);
    Router::new()
        .route("/api/v1/rules", get(async move |params: Params| groups(&of_rules, &params)))
        .route("/api/v1/alerts", get(async move || success(&alerts(&of_alerts), &Remarks::default())))
        .route(
            "/api/v1/alertmanagers",
            get(async move || success(&alertmanagers(&notifier), &Remarks::default())),
        )
}

/// Which rules are wanted.
struct Wanted<'a> {
    alerts: bool,
    records: bool,
    with_alerts: bool,
    names: BTreeSet<&'a str>,
    groups: BTreeSet<&'a str>,
    files: BTreeSet<&'a str>,
    selectors: Vec<Vec<LabelMatcher>>,
}

impl<'a> Wanted<'a> {
    fn of(params: &'a Params) -> Result<Self, ApiError> {
        let kind = params.get("type").unwrap_or_default().to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(ApiError::parameter("type", format_args!("not supported value {kind:?}")));
        }
        let exclude = params.get("exclude_alerts").unwrap_or("false");
        let exclude = match exclude.to_lowercase().as_str() {
            "1" | "t" | "true" => true,
            "0" | "f" | "false" => false,
            _ => return Err(ApiError::parameter("exclude_alerts", "expected true or false")),
        };
        Ok(Self {
            alerts: kind != "record",
            records: kind != "alert",
            with_alerts: !exclude,
            names: params.all("rule_name[]").collect(),
            groups: params.all("rule_group[]").collect(),
            files: params.all("file[]").collect(),
            selectors: params.selectors()?,
        })
    }

    fn has_group(&self, group: &GroupState) -> bool {
        let among = |set: &BTreeSet<&str>, name: &str| set.is_empty() || set.contains(name);
        among(&self.groups, &group.name) && among(&self.files, &group.file)
    }

    fn has(&self, state: &RuleState) -> bool {
        let rule = &state.rule;
        let kind = if rule.alert().is_some() { self.alerts } else { self.records };
        let fits = |matchers: &Vec<LabelMatcher>| {
            matchers.iter().all(|matcher| matcher.matches(rule.labels.get(&matcher.name).unwrap_or_default()))
        };
        let selected = self.selectors.is_empty() || self.selectors.iter().any(fits);
        kind && selected && (self.names.is_empty() || self.names.contains(rule.name.as_str()))
    }

    /// Whether groups of which no rule is wanted are left out.
    fn narrows(&self) -> bool {
        !(self.alerts && self.records && self.names.is_empty() && self.selectors.is_empty())
    }
}

fn groups(rules: &Rules, params: &Params) -> Result<Response, ApiError> {
    let wanted = Wanted::of(params)?;
    let limit = match params.get("group_limit") {
        None => None,
        Some(text) => match text.parse::<i64>() {
            Ok(limit) if limit > 0 => usize::try_from(limit).ok(),
            Ok(_) => {
                return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0"));
            }
            Err(error) => return Err(ApiError::parameter("group_limit", format_args!("{text:?}: {error}"))),
        },
    };
    let token = params.get("group_next_token");
    if token.is_some() && limit.is_none() {
        let message = "group_limit needs to be set in order to paginate over the groups";
        return Err(ApiError::parameter("group_next_token", message));
    }
    let all = rules.groups();
    let mut all = all.iter().filter(|group| wanted.has_group(group)).peekable();
    if let Some(token) = token {
        while all.next_if(|group| self::token(group) != token).is_some() {}
        if all.peek().is_none() {
            let message = format!("invalid group_next_token {token:?}: rule groups changed, start over");
            return Err(ApiError::parameter("group_next_token", message));
        }
    }
    let mut shown = Vec::new();
    let mut next = None;
    for group in all {
        let rules: Vec<Value> =
            group.rules.iter().filter(|state| wanted.has(state)).map(|state| rule(state, &wanted)).collect();
        if rules.is_empty() && wanted.narrows() {
            continue;
        }
        if limit.is_some_and(|limit| shown.len() >= limit) {
            next = Some(self::token(group));
            break;
        }
        shown.push(json!({
            "name": group.name,
            "file": group.file,
            "rules": rules,
            "interval": group.interval.as_secs_f64(),
            "limit": group.limit,
            "evaluationTime": group.took.as_secs_f64(),
            "lastEvaluation": moment(group.evaluated_at_ms),
        }));
    }
    let mut data = json!({ "groups": shown });
    if let Some(next) = next {
        data["groupNextToken"] = json!(next);
    }
    Ok(success(&data, &Remarks::default()))
}

/// Where to go on with the groups: a hash, for clients take it as it is.
fn token(group: &GroupState) -> String {
    let named = Labels::new([("file", group.file.as_str()), ("name", group.name.as_str())]);
    format!("{:016x}", named.id().0)
}

fn rule(state: &RuleState, wanted: &Wanted<'_>) -> Value {
    let rule = &state.rule;
    let mut shown = json!({
        "name": rule.name,
        "query": rule.query,
        "labels": object(&rule.labels),
        "health": state.health.name(),
        "evaluationTime": state.took.as_secs_f64(),
        "lastEvaluation": moment(state.evaluated_at_ms),
        "type": if rule.alert().is_some() { "alerting" } else { "recording" },
    });
    if let Some(error) = &state.last_error {
        shown["lastError"] = json!(error);
    }
    if let Some(alert) = rule.alert() {
        let most = state.alerts.values().map(|alert| alert.state).max();
        let none = if state.evaluated_at_ms.is_none() { "unknown" } else { AlertState::Inactive.name() };
        shown["state"] = json!(most.map_or(none, AlertState::name));
        shown["duration"] = json!(alert.for_ms as f64 / 1000.0);
        shown["keepFiringFor"] = json!(alert.keep_firing_for_ms as f64 / 1000.0);
        shown["annotations"] = json!(object(&alert.annotations));
        let active = if wanted.with_alerts { active(state).map(one).collect() } else { Vec::new() };
        shown["alerts"] = json!(active);
    }
    shown
}

fn active(state: &RuleState) -> impl Iterator<Item = &Alert> {
    state.alerts.values().filter(|alert| alert.resolved_at_ms.is_none())
}

/// All alerts that are pending or firing.
fn alerts(rules: &Rules) -> Value {
    let groups = rules.groups();
    let states = groups.iter().flat_map(|group| &group.rules);
    json!({ "alerts": states.flat_map(active).map(one).collect::<Vec<_>>() })
}

fn one(alert: &Alert) -> Value {
    let mut shown = json!({
        "labels": object(&alert.labels),
        "annotations": object(&alert.annotations),
        "state": alert.state.name(),
        "activeAt": moment(Some(alert.active_at_ms)),
        "value": exponent(alert.value),
    });
    if let Some(since) = alert.keep_firing_since_ms {
        shown["keepFiringSince"] = json!(moment(Some(since)));
    }
    shown
}

/// `1.5e+00`
fn exponent(value: f64) -> String {
    if !value.is_finite() {
        return crate::promql::number::show(value);
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn alertmanagers(notifier: &Notifier) -> Value {
    let active: Vec<Value> = notifier.alertmanagers().into_iter().map(|url| json!({ "url": url })).collect();
    json!({ "activeAlertmanagers": active, "droppedAlertmanagers": [] })
}

fn object(labels: &Labels) -> Map<String, Value> {
    labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// A moment, or the year 1 where there is none.
fn moment(ms: Option<i64>) -> String {
    match ms.and_then(DateTime::from_timestamp_millis) {
        Some(moment) => moment.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => "0001-01-01T00:00:00Z".to_owned(),
    }
}

#[cfg(test)]
mod tests;
