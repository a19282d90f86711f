//! The admin page of a proxy: whether it is alive and ready, what it counts, what its breakers do.

mod json;
mod metrics;

use std::sync::Arc;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::body::ReplyBody;
use crate::run::Proxy;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const PAGES: &str = "/healthz, /readyz, /metrics, /breakers, /endpoints and /config";

/// Answers one request; `draining` says that the proxy takes no more traffic.
pub(crate) async fn handle(
    proxy: Arc<Proxy>,
    draining: bool,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response =
            error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this page is read with GET", None);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => answer(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" if draining => {
            error(StatusCode::SERVICE_UNAVAILABLE, "draining", "the proxy is about to stop", None)
        }
        "/readyz" => answer(StatusCode::OK, TEXT, "ready\n".to_owned()),
        "/metrics" => answer(StatusCode::OK, EXPOSITION, metrics::page(&proxy)),
        "/breakers" => answer(StatusCode::OK, JSON, json::breakers(&proxy).to_string()),
        "/endpoints" => answer(StatusCode::OK, JSON, json::endpoints(&proxy).to_string()),
        "/config" => answer(StatusCode::OK, JSON, json::config(&proxy).to_string()),
        path => {
            let message = format!("there is no page `{path}`");
            error(StatusCode::NOT_FOUND, "not_found", &message, Some(&format!("there are {PAGES}")))
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An error in the form that all of Weir's pages have.
fn error(status: StatusCode, code: &str, message: &str, hint: Option<&str>) -> Response<ReplyBody> {
    let mut error = json!({ "code": code, "message": message });
    if let Some(hint) = hint {
        error["hint"] = hint.into();
    }
    answer(status, JSON, json!({ "error": error }).to_string())
}
