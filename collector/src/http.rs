//! OTLP over HTTP: `POST /v1/traces`, `/v1/metrics` and `/v1/logs`, protobuf or JSON, plain or compressed;
//! and Zipkin's `POST /api/v2/spans`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use weir_model::limits;

use crate::body::{self, Encoding};
use crate::decode::Signal;
use crate::ingest::{Format, Ingest, Request};
use crate::status::{Refusal, response_json, response_protobuf};

/// The routes of OTLP/HTTP and Zipkin.
pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    let of_zipkin = Arc::clone(&ingest);
    let zipkin = move |request| {
        let ingest = Arc::clone(&of_zipkin);
        async move { zipkin(&ingest, request).await }
    };
    let router = Router::new().route("/api/v2/spans", post(zipkin));
    Signal::ALL.into_iter().fold(router, |router, signal| {
        let ingest = Arc::clone(&ingest);
        let handler = move |request: http::Request<Body>| {
            let ingest = Arc::clone(&ingest);
            async move { export(&ingest, signal, request).await }
        };
        router.route(&format!("/v1/{}", signal.name()), post(handler))
    })
}

/// The route under which Prometheus takes metrics as OTLP.
pub(crate) fn prometheus_router(ingest: Arc<Ingest>) -> Router {
    let handler = move |request: http::Request<Body>| {
        let ingest = Arc::clone(&ingest);
        async move { export(&ingest, Signal::Metrics, request).await }
    };
    Router::new().route("/api/v1/otlp/v1/metrics", post(handler))
}

async fn export(ingest: &Arc<Ingest>, signal: Signal, request: http::Request<Body>) -> Response<Body> {
    ingest.counters.request(signal);
    let json = is_json(request.headers());
    // Who sent neither understands JSON at least as well.
    let answer_json = json.as_ref().copied().unwrap_or(true);
    let taken = match json {
        Ok(json) => {
            let format = if json { Format::Json } else { Format::Protobuf };
            take(ingest, signal, format, request).await
        }
        Err(refusal) => Err(refusal),
    };
    match taken {
        Ok(rejected) if answer_json => answer(StatusCode::OK, true, response_json(signal, &rejected)),
        Ok(rejected) => answer(StatusCode::OK, false, response_protobuf(&rejected)),
        Err(refusal) => {
            ingest.counters.refused(signal, &refusal);
            tracing::debug!(signal = signal.name(), %refusal, "export refused");
            failure(&refusal, answer_json)
        }
    }
}

/// Takes a list of Zipkin spans. Zipkin's answer has no body, so spans that are rejected singly are counted.
async fn zipkin(ingest: &Arc<Ingest>, request: http::Request<Body>) -> Response<Body> {
    ingest.counters.request(Signal::Traces);
    let taken = match is_json(request.headers()) {
        Ok(true) => take(ingest, Signal::Traces, Format::Zipkin, request).await,
        Ok(false) => Err(Refusal::Unsupported("Zipkin spans are taken as `application/json` only".into())),
        Err(refusal) => Err(refusal),
    };
    match taken {
        Ok(_) => {
            let mut accepted = Response::new(Body::empty());
            *accepted.status_mut() = StatusCode::ACCEPTED;
            accepted
        }
        Err(refusal) => {
            ingest.counters.refused(Signal::Traces, &refusal);
            tracing::debug!(%refusal, "Zipkin spans refused");
            failure(&refusal, true)
        }
    }
}

async fn take(
    ingest: &Arc<Ingest>,
    signal: Signal,
    format: Format,
    request: http::Request<Body>,
) -> Result<crate::decode::Rejected, Refusal> {
    let encoding = encoding(request.headers())?;
    let mut admitted = ingest.admission.begin();
    let body = body::read(request.into_body(), limits::OTLP_REQUEST_BYTES, &mut admitted).await?;
    ingest.take(Request { signal, body, encoding, format, admitted }).await
}

fn is_json(headers: &HeaderMap) -> Result<bool, Refusal> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/x-protobuf" => Ok(false),
        "application/json" => Ok(true),
        _ => Err(Refusal::Unsupported(
            "`content-type` is neither `application/x-protobuf` nor `application/json`".into(),
        )),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(None) };
    match value.as_bytes().to_ascii_lowercase().as_slice() {
        b"" | b"identity" => Ok(None),
        b"gzip" => Ok(Some(Encoding::Gzip)),
        b"zstd" => Ok(Some(Encoding::Zstd)),
        _ => Err(Refusal::Unsupported("`content-encoding` is none of `gzip`, `zstd`, `identity`".into())),
    }
}

fn answer(status: StatusCode, json: bool, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let content_type = if json { "application/json" } else { "application/x-protobuf" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn failure(refusal: &Refusal, json: bool) -> Response<Body> {
    let body = if json { refusal.to_json() } else { refusal.to_protobuf() };
    let mut response = answer(refusal.http_status(), json, body);
    if let Some(delay) = refusal.retry_after() {
        let seconds = delay.as_millis().div_ceil(1000).max(1) as u64;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
