//! From a path and headers to a file with the right headers of its own.

use std::borrow::Cow;

use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::files::{File, Site};

/// A whole answer.
pub(crate) type Answer = Response<Cow<'static, [u8]>>;

/// Paths that belong to machines: an unknown one is an error there, never a page.
const MACHINE_PREFIXES: [&str; 7] = ["/api", "/v1", "/-", "/tempo", "/jaeger", "/mcp", "/metrics"];
/// Vite puts a hash of the content into these names.
const HASHED_PREFIX: &str = "assets/";

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// The file that `path` names; the app's page for any path that could be one of its addresses.
pub(crate) fn respond(site: Site, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
    let mut answer = if method == Method::GET || method == Method::HEAD {
        find(site, path, headers)
    } else {
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "this path is for reading: use GET");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

fn find(site: Site, path: &str, headers: &HeaderMap) -> Answer {
    if MACHINE_PREFIXES.iter().any(|prefix| is_under(path, prefix)) {
        return error(StatusCode::NOT_FOUND, "there is no such endpoint");
    }
    let path = match path.trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    if let Some(file) = site.file(path) {
        return send(site, path, file, headers);
    }
    // A name with a dot is a file that is not there; anything else is an address inside the app.
    let last = path.rsplit('/').next().unwrap_or(path);
    if path.starts_with(HASHED_PREFIX) || last.contains('.') {
        return error(StatusCode::NOT_FOUND, "there is no such file");
    }
    match site.file("index.html") {
        Some(page) => send(site, "index.html", page, headers),
        None => error(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `file`, in the smallest form that the client takes, or just the news that it has it already.
fn send(site: Site, path: &str, file: File, headers: &HeaderMap) -> Answer {
    let (file, encoding) = compressed(site, path, headers).map_or((file, None), |(f, name)| (f, Some(name)));
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| names(value, &file.etag));
    let mut answer = if known {
        let mut answer = Response::new(Cow::Borrowed(&[][..]));
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        Response::new(file.content)
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CACHE_CONTROL, if path.starts_with(HASHED_PREFIX) { FOR_EVER } else { ASK_AGAIN });
    if let Ok(etag) = HeaderValue::try_from(file.etag) {
        headers.insert(ETAG, etag);
    }
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    answer
}

fn compressed(site: Site, path: &str, headers: &HeaderMap) -> Option<(File, &'static str)> {
    [("br", "br"), ("gzip", "gz")].into_iter().find_map(|(name, suffix)| {
        accepts(headers, name).then(|| site.file(&format!("{path}.{suffix}")))?.map(|file| (file, name))
    })
}

/// Whether `Accept-Encoding` lists `encoding` without ruling it out (RFC 9110, 12.5.3).
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    list(headers, &ACCEPT_ENCODING).any(|item| {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let refused =
            weight.trim().strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q == 0.0));
        name.trim().eq_ignore_ascii_case(encoding) && !refused
    })
}

fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
}

/// Whether an `If-None-Match` value names `etag`, compared weakly as RFC 9110 asks.
fn names(value: &HeaderValue, etag: &str) -> bool {
    value.to_str().is_ok_and(|value| {
        value
            .split(',')
            .map(|item| item.trim())
            .any(|item| item == "*" || item.trim_start_matches("W/") == etag)
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

/// An error in the shape of the API's.
fn error(status: StatusCode, message: &str) -> Answer {
    let code = if status == StatusCode::NOT_FOUND { "not_found" } else { "method_not_allowed" };
    let body = format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}");
    let mut answer = Response::new(Cow::Owned(body.into_bytes()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
