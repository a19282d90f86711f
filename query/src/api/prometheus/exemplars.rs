//! Exemplars of the series that an expression reads: `GET /api/v1/query_exemplars`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use axum::extract;
use axum::response::Response;
use serde_json::{Value, json};
use weir_model::UnixNanos;
use weir_storage::{LabelMatcher, Labels};

use super::answer::{Remarks, put_labels, put_time, shown};
use super::error::ApiError;
use super::params::Params;
use super::{State, on_query_threads, success};
use crate::api::{reader, text};
use crate::engine::Answer;
use crate::promql::ast::Expr;
use crate::promql::parser;

/// Series, and bytes of metric names, that the question lists; of more, the time is asked for and the rest is
/// left out here.
const LISTED_SERIES: usize = 256;
const LISTED_BYTES: usize = 16 << 10;

/// The exemplars between `start` and `end` of the series that any selector in `query` matches.
pub(super) async fn exemplars(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = (params.optional_time("start")?, params.optional_time("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let query = params.get("query").unwrap_or_default();
    let expr = parser::parse(query, state.prometheus.options.features)
        .map_err(|error| ApiError::bad_data(error.message))?;
    let mut all = Vec::new();
    selectors(&expr, &mut all);
    let index = state.engine.series(&state.tenant);
    let series: HashMap<i64, Labels> = all
        .iter()
        .flat_map(|matchers| index.select(matchers))
        .map(|(id, labels)| (id.to_column(), labels))
        .collect();
    if series.is_empty() {
        return Ok(success(&"[]", &Remarks::default()));
    }
    let answer = state.ask(&sql(&series, start, end)).await?;
    on_query_threads(&state, move || {
        let remarks = Remarks { warnings: answer.warnings.clone(), infos: Vec::new() };
        success(&data(&series, &answer), &remarks)
    })
    .await
}

/// The conditions of every selector in `expr`.
fn selectors<'e>(expr: &'e Expr, found: &mut Vec<&'e [LabelMatcher]>) {
    match expr {
        Expr::Number(..) | Expr::Seconds(..) | Expr::Text(..) => {}
        Expr::Paren(inner, _) => selectors(inner, found),
        Expr::Unary { operand, .. } => selectors(operand, found),
        Expr::Binary(binary) => {
            selectors(&binary.left, found);
            selectors(&binary.right, found);
        }
        Expr::Aggregate(aggregate) => {
            aggregate.parameter.iter().for_each(|parameter| selectors(parameter, found));
            selectors(&aggregate.operand, found);
        }
        Expr::Call(call) => call.args.iter().for_each(|argument| selectors(argument, found)),
        Expr::Selector(selector) => found.push(&selector.matchers),
        Expr::Subquery(subquery) => selectors(&subquery.operand, found),
    }
}

fn sql(series: &HashMap<i64, Labels>, start: Option<i64>, end: Option<i64>) -> String {
    let mut conditions = Vec::new();
    let metrics: BTreeSet<String> = series.values().map(|labels| text::quoted(labels.metric())).collect();
    if metrics.iter().map(String::len).sum::<usize>() <= LISTED_BYTES {
        conditions.push(format!("metric IN ({})", Vec::from_iter(metrics).join(", ")));
    }
    if series.len() <= LISTED_SERIES {
        let ids: BTreeSet<&i64> = series.keys().collect();
        let ids: Vec<String> = ids.into_iter().map(i64::to_string).collect();
        conditions.push(format!("series_id IN ({})", ids.join(", ")));
    }
    // Prometheus counts whole milliseconds.
    let moment = |ms: i64| text::moment(UnixNanos(u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000)));
    conditions.extend(start.map(|ms| format!("time >= {}", moment(ms))));
    conditions.extend(end.map(|ms| format!("time < {}", moment(ms.saturating_add(1)))));
    let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    format!(
        "SELECT series_id, time, value, trace_id, span_id, attributes FROM exemplar_rows WHERE {conditions} \
         ORDER BY time, value, trace_id, span_id"
    )
}

/// `[{"seriesLabels":{…},"exemplars":[{"labels":{…},"value":"1","timestamp":2}]}]`, in order of labels; each
/// exemplar once, however often it was sent.
fn data(series: &HashMap<i64, Labels>, answer: &Answer) -> String {
    let mut by_series: BTreeMap<&Labels, Vec<String>> = BTreeMap::new();
    for row in reader::rows(answer) {
        let Some(labels) = row.long("series_id").and_then(|id| series.get(&id)) else { continue };
        let mut shown_labels: BTreeMap<String, Value> = row
            .json("attributes")
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for id in ["trace_id", "span_id"] {
            if !row.text(id).is_empty() {
                shown_labels.insert(id.to_owned(), row.text(id).into());
            }
        }
        let value = shown(row.double("value").unwrap_or(f64::NAN));
        let mut one = format!("{{\"labels\":{},\"value\":\"{value}\",\"timestamp\":", json!(shown_labels));
        put_time(&mut one, row.moment("time").unwrap_or_default().div_euclid(1_000_000));
        one.push('}');
        let known = by_series.entry(labels).or_default();
        // In such an order that what is the same stands together.
        if known.last() != Some(&one) {
            known.push(one);
        }
    }
    let mut out = String::from("[");
    for (at, (labels, exemplars)) in by_series.iter().enumerate() {
        out.push_str(if at > 0 { ",{\"seriesLabels\":" } else { "{\"seriesLabels\":" });
        put_labels(&mut out, labels);
        let _ = write!(out, ",\"exemplars\":[{}]}}", exemplars.join(","));
    }
    out.push(']');
    out
}
