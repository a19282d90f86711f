//! `POST /api/sql`.

use axum::extract;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;

use super::{ApiError, State, encode};
use crate::engine::{SqlError, SqlQuery};

const CSV: &str = "text/csv";
const ARROW: &str = "application/vnd.apache.arrow.stream";

#[derive(Deserialize)]
struct Request {
    query: String,
    #[serde(default)]
    params: Vec<serde_json::Value>,
    #[serde(default)]
    format: Option<String>,
}

#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
    Arrow,
}

impl Format {
    /// What the request names, or else what its `Accept` prefers among what there is.
    fn chosen(named: Option<&str>, headers: &HeaderMap) -> Result<Self, ApiError> {
        match named {
            Some("json") => return Ok(Self::Json),
            Some("csv") => return Ok(Self::Csv),
            Some("arrow") => return Ok(Self::Arrow),
            Some(other) => {
                let message = format!("`format` is `{other}`: expected `json`, `csv` or `arrow`");
                return Err(ApiError::bad_request(message));
            }
            None => {}
        }
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let known = accept.split(',').find_map(|kind| match kind.split(';').next().map(str::trim) {
            Some(CSV) => Some(Self::Csv),
            Some(ARROW) => Some(Self::Arrow),
            Some("application/json" | "*/*" | "application/*") => Some(Self::Json),
            _ => None,
        });
        Ok(known.unwrap_or(Self::Json))
    }
}

/// Answers one question.
pub(super) async fn post(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let request: Request = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request(format!("the body is not `{{\"query\": \"…\", \"params\": […]}}`: {error}"))
    })?;
    let format = Format::chosen(request.format.as_deref(), &headers)?;
    let query = SqlQuery { text: request.query, params: request.params };
    let answer = state.engine.sql(&state.tenant, &query).await?;
    // An answer of many rows takes a while to write out: not on the threads that serve connections.
    let written = state.engine.run(async move {
        Ok::<_, arrow::error::ArrowError>(match format {
            Format::Json => ("application/json", encode::json(&answer).into_bytes()),
            Format::Csv => (CSV, encode::csv(&answer).into_bytes()),
            Format::Arrow => (ARROW, encode::arrow(&answer)?),
        })
    });
    let failed = |error: String| ApiError::from(SqlError::new("internal", error));
    let written = written.await.map_err(|error| failed(error.to_string()))?;
    let (kind, body) = written.map_err(|error| failed(error.to_string()))?;
    Ok(([(CONTENT_TYPE, kind)], body).into_response())
}
