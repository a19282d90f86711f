//! Prometheus' API about targets and configuration (prometheus.io, "HTTP API").

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_model::UnixNanos;
use weir_model::prometheus::units::format_duration;

use super::watch::Watched;
use super::{Scraper, selector};

pub(super) fn routes(scraper: Scraper) -> Router {
    Router::new()
        .route("/api/v1/targets", get(targets))
        .route("/api/v1/targets/metadata", get(metadata))
        .route("/api/v1/scrape_pools", get(scrape_pools))
        .route("/api/v1/status/config", get(config))
        .route("/-/reload", post(reload).put(reload))
        .with_state(scraper)
}

fn success(data: Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}

fn bad(error: String) -> Response {
    let body = json!({ "status": "error", "errorType": "bad_data", "error": error });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    state: String,
    #[serde(default, rename = "scrapePool")]
    scrape_pool: String,
}

async fn targets(State(scraper): State<Scraper>, Query(which): Query<Which>) -> Response {
    let state = which.state.to_lowercase();
    let (active, dropped) = match state.as_str() {
        "" | "any" => (true, true),
        "active" => (true, false),
        "dropped" => (false, true),
        _ => {
            return bad(format!(
                "invalid parameter \"state\": expected active, dropped or any, found `{state}`"
            ));
        }
    };
    let (mut active_targets, mut dropped_targets, mut counts) = (Vec::new(), Vec::new(), BTreeMap::new());
    for pool in scraper.pools() {
        let name = &pool.job.job_name;
        let wanted = which.scrape_pool.is_empty() || which.scrape_pool == *name;
        let (labels, count) = pool.dropped();
        counts.insert(name.clone(), count);
        if active && wanted {
            active_targets.extend(pool.active().iter().map(|watched| active_target(name, watched)));
        }
        if dropped && wanted {
            dropped_targets.extend(
                labels.into_iter().map(|labels| json!({ "discoveredLabels": labels, "scrapePool": name })),
            );
        }
    }
    success(json!({
        "activeTargets": active_targets,
        "droppedTargets": dropped_targets,
        "droppedTargetCounts": if dropped { counts } else { BTreeMap::new() },
    }))
}

fn active_target(pool: &str, watched: &Arc<Watched>) -> Value {
    let (target, health) = (&watched.target, watched.health());
    let state = match health.up {
        None => "unknown",
        Some(true) => "up",
        Some(false) => "down",
    };
    json!({
        "discoveredLabels": target.discovered,
        "labels": target.labels,
        "scrapePool": pool,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": health.error,
        "lastScrape": rfc3339(health.last),
        "lastScrapeDuration": health.took.as_secs_f64(),
        "health": state,
        "scrapeInterval": format_duration(target.interval),
        "scrapeTimeout": format_duration(target.timeout),
    })
}

/// As Go writes a moment; one that never was is its zero.
fn rfc3339(moment: Option<UnixNanos>) -> String {
    let Some(UnixNanos(nanos)) = moment else { return "0001-01-01T00:00:00Z".to_owned() };
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    match_target: String,
    #[serde(default)]
    metric: String,
    limit: Option<String>,
}

async fn metadata(State(scraper): State<Scraper>, Query(asked): Query<Asked>) -> Response {
    let matchers = match selector::parse(&asked.match_target) {
        Ok(matchers) => matchers,
        Err(error) => return bad(error),
    };
    let limit = match asked.limit.as_deref().unwrap_or("-1").parse::<i64>() {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(_) => return bad("limit must be a number".to_owned()),
    };
    let mut found = Vec::new();
    for watched in scraper.pools().iter().flat_map(|pool| pool.active()) {
        let labels = &watched.target.labels;
        let value = |name: &str| labels.get(name).map_or("", String::as_str);
        if !matchers.iter().all(|matcher| matcher.matches(value(&matcher.name))) {
            continue;
        }
        for (name, family) in watched.families() {
            if !asked.metric.is_empty() && asked.metric != name {
                continue;
            }
            if found.len() >= limit {
                return success(Value::Array(found));
            }
            let mut entry = json!({
                "target": labels,
                "type": family.kind.name(),
                "help": family.help.as_ref(),
                "unit": family.unit.as_ref(),
            });
            if asked.metric.is_empty()
                && let Some(entry) = entry.as_object_mut()
            {
                entry.insert("metric".to_owned(), Value::String(name));
            }
            found.push(entry);
        }
    }
    success(Value::Array(found))
}

async fn scrape_pools(State(scraper): State<Scraper>) -> Response {
    let mut names: Vec<String> = scraper.pools().iter().map(|pool| pool.job.job_name.clone()).collect();
    names.sort();
    success(json!({ "scrapePools": names }))
}

async fn config(State(scraper): State<Scraper>) -> Response {
    success(json!({ "yaml": scraper.config().borrow().shown }))
}

async fn reload(State(scraper): State<Scraper>) -> Response {
    match tokio::task::spawn_blocking(move || scraper.reload()).await {
        Ok(Ok(())) => StatusCode::OK.into_response(),
        Ok(Err(error)) => {
            let said = format!("failed to reload config: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, said).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_go_writes_them() {
        assert_eq!(rfc3339(None), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339(Some(UnixNanos(1_795_000_000_123_456_789))), "2026-11-18T11:06:40.123456789Z");
        assert_eq!(rfc3339(Some(UnixNanos(951_782_400_000_000_000))), "2000-02-29T00:00:00.000000000Z");
    }
}
