//! One request to a target: what it is asked for, and its answer, inflated within bounds.

use std::io::Read;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::Method;
use weir_model::limits;
use weir_model::prometheus::{Protocol, ScrapeConfig};

use super::client::{Http, HttpError, body, ok};
use super::target::Target;
use crate::exposition::protocol_of;

/// An answer.
#[derive(Debug)]
pub(super) struct Exposition {
    pub(super) protocol: Protocol,
    pub(super) body: Bytes,
}

/// The formats that a job takes, as an `Accept` header says them: most wanted first.
pub(super) fn accept(job: &ScrapeConfig) -> String {
    let mut weight = Protocol::COUNT + 1;
    let mut parts = Vec::with_capacity(job.scrape_protocols.len() + 1);
    for protocol in &job.scrape_protocols {
        let mut part = protocol.media_type().to_owned();
        if matches!(protocol, Protocol::Text100 | Protocol::OpenMetrics100) {
            part.push_str(";escaping=");
            part.push_str(job.escaping.name());
        }
        parts.push(format!("{part};q=0.{weight}"));
        weight -= 1;
    }
    parts.push(format!("*/*;q=0.{weight}"));
    parts.join(",")
}

/// Asks `target` for its metrics.
pub(super) async fn fetch(
    http: &Http,
    job: &ScrapeConfig,
    accept: &str,
    target: &Target,
) -> Result<Exposition, String> {
    let told = |error: HttpError| match error {
        HttpError::TooLarge(_) => format!("body size limit exceeded: more than {} bytes", most(job)),
        error => error.to_string(),
    };
    let mut url = target.url.clone();
    if let Some(name) = &job.client.tls.server_name
        && let Ok(mut named) = url::Url::parse(&url)
        && named.scheme() == "https"
        && named.set_host(Some(name)).is_ok()
    {
        url = named.into();
    }
    let mut request = http
        .request(Method::GET, &url)
        .await
        .map_err(told)?
        .header(ACCEPT, accept)
        .header("X-Prometheus-Scrape-Timeout-Seconds", target.timeout.as_secs_f64().to_string());
    if job.enable_compression {
        request = request.header(ACCEPT_ENCODING, "gzip");
    }
    if url != target.url {
        request = request.header(http::header::HOST, &target.address);
    }
    let response = request.send().await.map_err(HttpError::from).and_then(ok).map_err(told)?;
    let header =
        |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = header(CONTENT_TYPE).to_owned();
    let zipped = header(CONTENT_ENCODING).eq_ignore_ascii_case("gzip");
    let protocol = protocol_of(&content_type).or(job.fallback_scrape_protocol).ok_or_else(|| {
        format!(
            "received unsupported Content-Type `{content_type}` and no fallback_scrape_protocol is specified for the \
             target"
        )
    })?;
    let mut bytes = body(response, most(job)).await.map_err(told)?;
    if zipped {
        bytes = inflated(bytes, most(job)).await?;
    }
    Ok(Exposition { protocol, body: bytes })
}

/// How many bytes an exposition may have.
fn most(job: &ScrapeConfig) -> u64 {
    let own = limits::SCRAPE_BODY_BYTES as u64;
    if job.limits.body_bytes == 0 { own } else { job.limits.body_bytes.min(own) }
}

async fn inflated(bytes: Bytes, most: u64) -> Result<Bytes, String> {
    let task = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        let mut inflating = flate2::read::MultiGzDecoder::new(bytes.as_ref()).take(most + 1);
        inflating.read_to_end(&mut out).map_err(|error| format!("the body does not inflate: {error}"))?;
        if out.len() as u64 > most {
            return Err(format!("body size limit exceeded: more than {most} bytes"));
        }
        Ok(out.into())
    });
    task.await.map_err(|error| error.to_string())?
}

#[cfg(test)]
mod tests;
