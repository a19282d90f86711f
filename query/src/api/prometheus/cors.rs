//! Answers to browsers on other origins, and to those that ask what they may send, as Prometheus gives them.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// What a page may know and send, whatever its origin.
const ALLOWED: [(HeaderName, &str); 4] = [
    (ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
    (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
    (ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
];

/// Answers `OPTIONS` without a body, and tells browsers that any page may read the answers.
pub(super) async fn cors(request: Request, next: Next) -> Response {
    let foreign = request.headers().contains_key(ORIGIN);
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => next.run(request).await,
    };
    allow(response.headers_mut(), foreign);
    response
}

fn allow(headers: &mut HeaderMap, foreign: bool) {
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if foreign {
        headers.extend(ALLOWED.map(|(name, value)| (name, HeaderValue::from_static(value))));
    }
}
