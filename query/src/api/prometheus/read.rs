//! Remote read: `POST /api/v1/read`, for a Prometheus that reads what is stored here.
//!
//! A request is a Snappy block of protobuf. It says which kinds of answer the client takes: all samples in one
//! message, or a stream of messages with samples in chunks as Prometheus itself stores them. Errors are plain
//! text, as in Prometheus.

mod chunks;
mod histogram;
mod wire;
mod xor;

use axum::extract;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use prost::Message;
use weir_model::limits::{REMOTE_READ_FRAME_BYTES, REMOTE_READ_REQUEST_BYTES};
use weir_storage::{LabelMatcher, Labels, MatchOp};

use super::error::ApiError;
use super::{State, samples};
use crate::promql::SeriesSamples;
use crate::promql::source::Selection;
use wire::{Query, QueryResult, ReadRequest, ReadResponse, ResponseType, TimeSeries};

/// Bytes of a frame of a streamed answer, at most.
pub(super) const FRAME_BYTES: usize = REMOTE_READ_FRAME_BYTES;

/// Answers each query of a request with the samples between its start and end.
pub(super) async fn read(extract::State(state): extract::State<State>, body: Bytes) -> Response {
    match answer(&state, &body).await {
        Ok(response) => response,
        Err(error) => error.plain(),
    }
}

async fn answer(state: &State, body: &[u8]) -> Result<Response, ApiError> {
    let request = request(body)?;
    let chunked = ResponseType::wanted(&request).ok_or_else(|| {
        ApiError::bad_data("none of the requested response types is supported; supported are SAMPLES and STREAMED_XOR_CHUNKS")
    })? == ResponseType::StreamedXorChunks;
    let settings = &state.prometheus;
    let _turn = settings.reads.acquire().await.map_err(|_| ApiError::internal("the server is stopping"))?;
    let external = settings.external_labels();
    let mut results = Vec::with_capacity(request.queries.len());
    for query in &request.queries {
        results.push(samples::select(state, vec![selection(query, &external)?]).await?);
    }
    let has_histograms = results.iter().flatten().any(|series| !series.histograms.times.is_empty());
    if has_histograms && chunked && !ResponseType::takes_samples(&request) {
        let message = "native histograms are only sent as SAMPLES; accept that response type, too";
        return Err(ApiError::bad_data(message));
    }
    if chunked && !has_histograms {
        let frames = state.engine.run(async move { chunks::frames(&results, &external) });
        return Ok(streamed(frames.await?));
    }
    let message = state.engine.run(async move { message(&results, &external) }).await?;
    let headers = [(CONTENT_TYPE, "application/x-protobuf"), (CONTENT_ENCODING, "snappy")];
    Ok((headers, message.map_err(ApiError::internal)?).into_response())
}

fn streamed(frames: Vec<Bytes>) -> Response {
    let frames = frames.into_iter().map(Ok::<_, std::convert::Infallible>);
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    let body = axum::body::Body::from_stream(futures::stream::iter(frames));
    (StatusCode::OK, [(CONTENT_TYPE, kind)], body).into_response()
}

fn request(body: &[u8]) -> Result<ReadRequest, ApiError> {
    let wrong =
        |reason: &dyn std::fmt::Display| ApiError::bad_data(format!("cannot read the request: {reason}"));
    let len = snap::raw::decompress_len(body).map_err(|error| wrong(&error))?;
    if len > REMOTE_READ_REQUEST_BYTES {
        return Err(wrong(&format_args!(
            "it has {len} bytes, at most {REMOTE_READ_REQUEST_BYTES} are taken"
        )));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| wrong(&error))?;
    ReadRequest::decode(plain.as_slice()).map_err(|error| wrong(&error))
}

/// What a query selects. Conditions that an external label satisfies are no conditions on what is stored.
fn selection(query: &Query, external: &Labels) -> Result<Selection, ApiError> {
    let mut matchers = Vec::with_capacity(query.matchers.len());
    for matcher in &query.matchers {
        let op = match matcher.kind {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(ApiError::bad_data("invalid matcher type")),
        };
        let own = external.get(&matcher.name);
        if op == MatchOp::Equal && own.is_some_and(|value| value == matcher.value) {
            continue;
        }
        let made = LabelMatcher::new(&matcher.name, op, &matcher.value);
        matchers.push(made.map_err(|error| ApiError::bad_data(error.to_string()))?);
    }
    let after = query.start_timestamp_ms.saturating_sub(1);
    Ok(Selection { matchers, after, until: query.end_timestamp_ms })
}

/// The labels of a series, and the external ones it lacks.
fn labels(series: &Labels, external: &Labels) -> Vec<wire::Label> {
    let added = external.iter().filter(|(name, _)| series.get(name).is_none());
    let mut all: Vec<(&str, &str)> = series.iter().chain(added).collect();
    all.sort_unstable();
    all.into_iter()
        .map(|(name, value)| wire::Label { name: name.to_owned(), value: value.to_owned() })
        .collect()
}

/// All samples as one Snappy block.
fn message(results: &[Vec<SeriesSamples>], external: &Labels) -> Result<Vec<u8>, snap::Error> {
    let of_series = |series: &SeriesSamples| TimeSeries {
        labels: labels(&series.labels, external),
        samples: series
            .floats
            .times
            .iter()
            .zip(&series.floats.values)
            .map(|(timestamp, value)| wire::Sample { value: *value, timestamp: *timestamp })
            .collect(),
        histograms: series
            .histograms
            .times
            .iter()
            .zip(&series.histograms.values)
            .map(|(time, value)| histogram::written(value, *time))
            .collect(),
    };
    let results =
        results.iter().map(|all| QueryResult { timeseries: all.iter().map(of_series).collect() }).collect();
    snap::raw::Encoder::new().compress_vec(&ReadResponse { results }.encode_to_vec())
}

#[cfg(test)]
mod tests;
