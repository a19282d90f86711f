//! The HTTP API of Prometheus, as Grafana and other clients of it call it.
//!
//! In: a query string or a form. Out: Prometheus' own JSON, `{"status":"success","data":…}` or
//! `{"status":"error","errorType","error"}`, with the statuses that Prometheus 3 uses: 400 for a question
//! that cannot be understood, 422 for one that cannot be answered on this data, 503 for one that took too
//! long. Parameters, messages and the format of numbers are Prometheus', too.

mod answer;
mod cors;
mod error;
mod escape;
mod exemplars;
mod expression;
mod federate;
mod labels;
mod metadata;
mod params;
mod read;
pub(super) mod rules;
mod samples;
mod settings;
mod status;

use std::fmt::Display;

use axum::Router;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use serde_json::json;
use tower_http::compression::CompressionLayer;
use weir_model::limits::PROMQL_POINTS;

use super::State;
use crate::promql::value::Grid;
use crate::promql::{Output, Question, TimeRange, ask};
use answer::Remarks;
use error::ApiError;
use params::Params;

#[cfg(any(test, fuzzing))]
pub(crate) use expression::tree;
pub use settings::Settings;

/// The routes under `/api/v1`, and `/federate`.
pub(super) fn routes() -> Router<State> {
    let routes = Router::new()
        .route("/api/v1/query", get(instant).post(instant))
        .route("/api/v1/query_range", get(range).post(range))
        .route("/api/v1/query_exemplars", get(exemplars::exemplars).post(exemplars::exemplars))
        .route("/api/v1/format_query", get(expression::format).post(expression::format))
        .route("/api/v1/parse_query", get(expression::parse).post(expression::parse))
        .route("/api/v1/labels", get(labels::names).post(labels::names))
        .route("/api/v1/label/{name}/values", get(labels::values))
        .route("/api/v1/series", get(labels::series).post(labels::series))
        .route("/api/v1/metadata", get(metadata::metadata))
        .route("/api/v1/status/buildinfo", get(status::build_info))
        .route("/api/v1/status/runtimeinfo", get(status::runtime_info))
        .route("/api/v1/status/flags", get(status::flags))
        .route("/api/v1/status/tsdb", get(status::tsdb))
        .route("/api/v1/status/walreplay", get(status::wal_replay))
        .route("/federate", get(federate::federate));
    // What remote read answers is compressed already.
    like_prometheus(routes).route("/api/v1/read", post(read::read))
}

/// `routes` with what Prometheus does for each of its own: pages of any origin may read the answers, `OPTIONS`
/// is answered, and whoever accepts gzip gets it.
pub fn like_prometheus<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.layer(CompressionLayer::new()).layer(axum::middleware::from_fn(cors::cors))
}

/// `query` at `time`, or now.
async fn instant(extract::State(state): extract::State<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let time = params.time_or("time", state.clock.now().as_millis())?;
    let time = TimeRange::Instant(time);
    answered(&state, &params, time, limit).await
}

/// `query` from `start` to `end` every `step`.
async fn range(extract::State(state): extract::State<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (start, end) = (params.time("start")?, params.time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = params.duration_ms("step")?;
    if step <= 0.0 {
        let message =
            "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", message));
    }
    // A step is a whole number of milliseconds; the range is far inside what one can hold.
    let step = (step as i64).max(1);
    if (end - start) / step > PROMQL_POINTS as i64 {
        let message = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
        return Err(ApiError::bad_data(message));
    }
    answered(&state, &params, TimeRange::Steps(Grid { start, end, step }), limit).await
}

async fn answered(
    state: &State,
    params: &Params,
    time: TimeRange,
    limit: usize,
) -> Result<Response, ApiError> {
    let text = params.get("query").unwrap_or_default().to_owned();
    let settings = &state.prometheus;
    let mut options = settings.options.clone();
    if let Some(lookback) = params.lookback_ms()? {
        options.lookback_ms = lookback;
    }
    let timeout = Some(settings.timeout(params.timeout()?));
    let wants_stats = params.get("stats").is_some_and(|stats| !stats.is_empty());
    let question = Question { text: text.clone(), time, options, timeout };
    let mut answer = ask(&state.engine, &state.tenant, question).await?;
    // An answer of many series takes a while to write out: not on the threads that serve connections.
    on_query_threads(state, move || {
        let mut remarks = Remarks::of(&answer.annotations, &text);
        if limit > 0 && cut(&mut answer.output, limit) {
            remarks.warnings.push(TRUNCATED.to_owned());
        }
        let stats = wants_stats.then_some(&answer.stats);
        success(&answer::data(&answer.output, stats), &remarks)
    })
    .await
}

/// What an answer of fewer results than there are says.
const TRUNCATED: &str = "results truncated due to limit";

/// Leaves at most `limit` series; whether there were more.
fn cut(output: &mut Output, limit: usize) -> bool {
    let len = match output {
        Output::Scalar(..) | Output::Text(..) => return false,
        Output::Vector(_, rows) => {
            let len = rows.len();
            rows.truncate(limit);
            len
        }
        Output::Matrix(series) => {
            let len = series.len();
            series.truncate(limit);
            len
        }
    };
    len > limit
}

/// Runs what may take a while on the threads that queries run on.
async fn on_query_threads<T: IntoResponse + Send + 'static>(
    state: &State,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, ApiError> {
    let ran = state.engine.run(async move { work() }).await;
    ran.map(IntoResponse::into_response).map_err(ApiError::from)
}

/// `data`, which is JSON, as a successful answer.
fn success(data: &impl Display, remarks: &Remarks) -> Response {
    let mut body = format!("{{\"status\":\"success\",\"data\":{data}");
    for (key, texts) in [("warnings", &remarks.warnings), ("infos", &remarks.infos)] {
        if !texts.is_empty() {
            body.push_str(&format!(",\"{key}\":{}", json!(texts)));
        }
    }
    body.push('}');
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests;
