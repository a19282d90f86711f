//! The admin page of a proxy: whether it is alive and ready, what it counts, what its breakers do; and the two things
//! that it can be told: what to log, and to leave.

mod certs;
mod control;
mod json;
mod metrics;

use std::sync::Arc;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;

use crate::body::{Incoming, ReplyBody};
use crate::run::Proxy;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const PAGES: &str =
    "/healthz, /readyz, /metrics, /breakers, /endpoints, /config, /certs, /log-level and /drain";

/// Answers one request.
pub(crate) async fn handle(proxy: Arc<Proxy>, request: Request<Incoming>) -> Response<ReplyBody> {
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return page(&proxy, request.uri().path());
    }
    let allowed = match request.uri().path() {
        "/log-level" => "GET, HEAD, PUT, POST",
        "/drain" => "GET, HEAD, POST",
        _ => "GET, HEAD",
    };
    let is_allowed = allowed.split(", ").any(|method| method == request.method().as_str());
    if !is_allowed {
        let message = format!("this page takes {allowed}");
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message, None);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    control::handle(&proxy, request).await
}

fn page(proxy: &Proxy, path: &str) -> Response<ReplyBody> {
    match path {
        "/healthz" => answer(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" if !proxy.drain.is_ready() => {
            error(StatusCode::SERVICE_UNAVAILABLE, "draining", "the proxy is about to stop", None)
        }
        "/readyz" => answer(StatusCode::OK, TEXT, "ready\n".to_owned()),
        "/metrics" => answer(StatusCode::OK, EXPOSITION, metrics::page(proxy)),
        "/breakers" => answer(StatusCode::OK, JSON, json::breakers(proxy)),
        "/endpoints" => answer(StatusCode::OK, JSON, json::endpoints(proxy)),
        "/config" => answer(StatusCode::OK, JSON, json::config(proxy).to_string()),
        "/certs" => answer(StatusCode::OK, JSON, certs::page(proxy).to_string()),
        "/drain" => answer(StatusCode::OK, JSON, control::drain(proxy).to_string()),
        "/log-level" => control::log_level(proxy),
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
