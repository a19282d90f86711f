//! Which labels, values and series there are.
//!
//! The answers come from the label index, which knows on which days a series has samples: `start` and `end`
//! narrow them by whole days.

use std::collections::BTreeSet;

use axum::extract;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use serde_json::json;
use weir_storage::{LabelMatcher, Labels};

use super::answer::{Remarks, put_labels};
use super::error::ApiError;
use super::params::Params;
use super::{State, TRUNCATED, escape, on_query_threads, success};

/// The label names among the series that `match[]` selects.
pub(super) async fn names(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let (limit, days, selectors) = (params.limit()?, params.days()?, params.selectors()?);
    let index = state.engine.series(&state.tenant);
    on_query_threads(&state, move || {
        texts(union(&selectors, |matchers| index.label_names(matchers, &days)), limit)
    })
    .await
}

/// The values of one label among the series that `match[]` selects.
pub(super) async fn values(
    extract::State(state): extract::State<State>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|rejection| ApiError::bad_data(rejection.body_text()))?;
    let name = escape::unescaped(&name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let (limit, days, selectors) = (params.limit()?, params.days()?, params.selectors()?);
    let index = state.engine.series(&state.tenant);
    on_query_threads(&state, move || {
        texts(union(&selectors, |matchers| index.label_values(&name, matchers, &days)), limit)
    })
    .await
}

/// The label sets of the series that `match[]` selects.
pub(super) async fn series(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (limit, days) = (params.limit()?, params.days()?);
    let selectors = params.selectors().map_err(|error| error.of_parameter("match[]"))?;
    let index = state.engine.series(&state.tenant);
    on_query_threads(&state, move || {
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        for matchers in &selectors {
            found.extend(index.select_on(matchers, &days).into_iter().map(|(_, labels)| labels));
        }
        let mut data = String::from("[");
        for (at, labels) in found.iter().take(most(limit)).enumerate() {
            if at > 0 {
                data.push(',');
            }
            put_labels(&mut data, labels);
        }
        data.push(']');
        success(&data, &truncated(found.len(), limit))
    })
    .await
}

/// What any of the selectors finds; without selectors, everything.
fn union(selectors: &[Vec<LabelMatcher>], find: impl Fn(&[LabelMatcher]) -> Vec<String>) -> BTreeSet<String> {
    if selectors.is_empty() {
        return find(&[]).into_iter().collect();
    }
    selectors.iter().flat_map(|matchers| find(matchers)).collect()
}

fn texts(found: BTreeSet<String>, limit: usize) -> Response {
    let shown: Vec<&String> = found.iter().take(most(limit)).collect();
    success(&json!(shown), &truncated(found.len(), limit))
}

fn most(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

fn truncated(found: usize, limit: usize) -> Remarks {
    let warnings = if found > most(limit) { vec![TRUNCATED.to_owned()] } else { Vec::new() };
    Remarks { warnings, infos: Vec::new() }
}
