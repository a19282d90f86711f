//! Prometheus' remote write, 1.0 and 2.0: `POST /api/v1/write` (prometheus.io, "Remote-Write 1.0" and "2.0").
//!
//! A request is answered when its rows are on disk. What breaks a rule is rejected alone: the rest is written, the
//! answer is 400 with the reasons, and a sender of 2.0 is told in headers how much was written. Samples may come
//! in any order; of two at one time the one written last stays.

mod decode;
mod described;
mod known;
mod native;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use weir_model::limits;
use weir_storage::WriteBatch;
use weir_storage::rows::MetricRows;

use crate::body::{self, Admitted};
use crate::decode::{Decoded, Signal};
use crate::ingest::Ingest;
use crate::status::Refusal;
pub(crate) use decode::{Taken, Version, take};
pub(crate) use described::Described;
pub(crate) use known::KnownSeries;

/// What is remembered from one request to the next.
#[derive(Debug, Default)]
pub(crate) struct RemoteWrite {
    /// By the bytes of labels as 1.0 sends them.
    first: KnownSeries,
    /// By those that stand for labels of 2.0.
    second: KnownSeries,
    described: Described,
}

/// The route of remote write.
pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    let handler = move |request: http::Request<Body>| {
        let ingest = Arc::clone(&ingest);
        async move { write(&ingest, request).await }
    };
    Router::new().route("/api/v1/write", post(handler))
}

/// How much of a request was written.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

async fn write(ingest: &Arc<Ingest>, request: http::Request<Body>) -> Response<Body> {
    ingest.counters.request(Signal::Metrics);
    let version = version(request.headers());
    let stored = match &version {
        Ok(version) => store(ingest, *version, request).await,
        Err(refusal) => Err(refusal.clone()),
    };
    let is_second = version.as_ref().is_ok_and(|version| *version == Version::Second);
    let (mut response, written) = match stored {
        Ok((written, faults)) if faults.is_empty() => {
            (answer(StatusCode::NO_CONTENT, String::new()), written)
        }
        Ok((written, faults)) => (answer(StatusCode::BAD_REQUEST, faults), written),
        Err(refusal) => {
            ingest.counters.refused(Signal::Metrics, &refusal);
            tracing::debug!(%refusal, "remote write refused");
            let mut response = answer(refusal.http_status(), refusal.to_string());
            if let Some(delay) = refusal.retry_after() {
                let seconds = delay.as_millis().div_ceil(1000).max(1) as u64;
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            (response, Written::default())
        }
    };
    if is_second {
        for (name, count) in [
            ("x-prometheus-remote-write-samples-written", written.samples),
            ("x-prometheus-remote-write-histograms-written", written.histograms),
            ("x-prometheus-remote-write-exemplars-written", written.exemplars),
        ] {
            response.headers_mut().insert(name, HeaderValue::from(count));
        }
    }
    response
}

/// Which message the body is. Without a word about it it is that of 1.0, which had no other.
fn version(headers: &HeaderMap) -> Result<Version, Refusal> {
    let unsupported = |reason: String| Err(Refusal::Unsupported(reason));
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = content.split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/x-protobuf") {
        return unsupported("`content-type` is not `application/x-protobuf`".into());
    }
    let encoding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or(b"snappy");
    if !encoding.eq_ignore_ascii_case(b"snappy") {
        return unsupported("`content-encoding` is not `snappy`".into());
    }
    let proto = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    match proto {
        None | Some("prometheus.WriteRequest") => Ok(Version::First),
        Some("io.prometheus.write.v2.Request") => Ok(Version::Second),
        Some(other) => unsupported(format!(
            "`{other}` is none of `prometheus.WriteRequest` and `io.prometheus.write.v2.Request`"
        )),
    }
}

/// Stores what a request holds; says how much that was, and what was wrong with the rest.
async fn store(
    ingest: &Arc<Ingest>,
    version: Version,
    request: http::Request<Body>,
) -> Result<(Written, String), Refusal> {
    let mut admitted = ingest.admission.begin();
    let body = body::read(request.into_body(), limits::OTLP_REQUEST_BYTES, &mut admitted).await?;
    let decoding = Arc::clone(ingest);
    // It is compressed and may become anything: not on the runtime's threads.
    let (mut taken, parts, _admitted) =
        tokio::task::spawn_blocking(move || decoding.remote(version, &body, admitted))
            .await
            .map_err(|error| Refusal::Internal(format!("decoding failed: {error}")))??;
    if !parts.is_empty() {
        ingest.writer.write(WriteBatch { tenant: ingest.tenant.clone(), parts }).await?;
    }
    let written =
        Written { samples: taken.samples, histograms: taken.histograms, exemplars: taken.exemplars };
    let faults = taken.rejected.message();
    ingest.counters.stored(
        Signal::Metrics,
        &Decoded {
            accepted: taken.samples + taken.histograms,
            rejected: std::mem::take(&mut taken.rejected),
            dropped_exemplars: std::mem::take(&mut taken.dropped_exemplars),
            ..Decoded::default()
        },
    );
    Ok((written, faults))
}

/// What is in a request, as rows; the bytes stay admitted until they are written.
type Decoding = (Taken, Vec<(weir_storage::Table, arrow::record_batch::RecordBatch)>, Admitted);

impl Ingest {
    fn remote(&self, version: Version, body: &Bytes, mut admitted: Admitted) -> Result<Decoding, Refusal> {
        let body = inflate(body, &mut admitted)?;
        self.counters.read(Signal::Metrics, body.len());
        let mut rows = MetricRows::new(&self.series);
        let taken = take(version, &body, self.clock.now(), &self.remote, &mut rows)
            .map_err(|malformed| Refusal::Malformed(malformed.to_string()))?;
        if taken.described {
            self.remote.described.describe(&self.series, self.clock.now(), &mut rows);
        }
        let parts = rows.finish().map_err(|error| Refusal::Internal(error.to_string()))?;
        Ok((taken, parts, admitted))
    }
}

/// Inflates a block of Snappy, which says beforehand how long it becomes.
fn inflate(body: &[u8], admitted: &mut Admitted) -> Result<Vec<u8>, Refusal> {
    let bad = |error: snap::Error| Refusal::Malformed(format!("body does not decompress: {error}"));
    let len = snap::raw::decompress_len(body).map_err(bad)?;
    if len > limits::OTLP_REQUEST_BYTES {
        return Err(Refusal::TooLarge);
    }
    admitted.take(len)?;
    snap::raw::Decoder::new().decompress_vec(body).map_err(bad)
}

fn answer(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
    response
}

#[cfg(test)]
pub(crate) mod tests;
