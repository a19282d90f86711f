//! Type, help and unit of metrics, as they were stored with their series.

use std::collections::BTreeMap;

use axum::extract;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::Remarks;
use super::error::ApiError;
use super::params::Params;
use super::{State, success};
use crate::api::{reader, text};

/// What the float series of a histogram or a summary add to the name of the metric they belong to.
const PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// `{metric: [{type, help, unit}]}`, of `metric` or of all.
pub(super) async fn metadata(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let limit = count(&params, "limit")?;
    let per_metric = count(&params, "limit_per_metric")?.filter(|limit| *limit > 0);
    let wanted = params.get("metric");
    let mut sql = "SELECT DISTINCT metric, type, unit, help FROM series WHERE type IS NOT NULL".to_owned();
    if let Some(metric) = wanted {
        let names = std::iter::once("").chain(PARTS).map(|part| text::quoted(&format!("{metric}{part}")));
        sql.push_str(&format!(" AND metric IN ({})", names.collect::<Vec<_>>().join(", ")));
    }
    sql.push_str(" ORDER BY metric, type, unit, help");
    let answer = state.ask(&sql).await?;
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in reader::rows(&answer) {
        let kind = row.text("type");
        let metric = family(row.text("metric"), kind);
        if wanted.is_some_and(|wanted| wanted != metric) {
            continue;
        }
        let known = found.entry(metric.to_owned()).or_default();
        let about = json!({ "type": kind, "help": row.text("help"), "unit": row.text("unit") });
        if !known.contains(&about) && per_metric.is_none_or(|limit| known.len() < limit) {
            known.push(about);
        }
    }
    while limit.is_some_and(|limit| found.len() > limit) {
        found.pop_last();
    }
    Ok(success(&json!(found), &Remarks::default()))
}

fn count(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    match text.parse::<i64>() {
        // A negative one is none.
        Ok(number) => Ok(usize::try_from(number).ok()),
        Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
    }
}

/// The metric that the series called `name` is of.
fn family<'a>(name: &'a str, kind: &str) -> &'a str {
    if !matches!(kind, "histogram" | "summary") {
        return name;
    }
    PARTS.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
}
