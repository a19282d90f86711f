//! Errors as Prometheus shows them.

use std::fmt::Display;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::engine::{Interrupted, SqlError};
use crate::promql::{Error, ErrorKind};

/// A status, and `{"status":"error","errorType","error"}`.
#[derive(Debug)]
pub(super) struct ApiError {
    kind: &'static str,
    message: String,
}

impl ApiError {
    /// A request that cannot be understood.
    pub(super) fn bad_data(message: impl Into<String>) -> Self {
        Self { kind: "bad_data", message: message.into() }
    }

    /// … because of the parameter `name`.
    pub(super) fn parameter(name: &str, message: impl Display) -> Self {
        Self::bad_data(format!("invalid parameter \"{name}\": {message}"))
    }

    fn status(&self) -> StatusCode {
        match self.kind {
            "bad_data" => StatusCode::BAD_REQUEST,
            "execution" => StatusCode::UNPROCESSABLE_ENTITY,
            "timeout" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::BadData => return Self::parameter("query", error.message),
            ErrorKind::Execution => "execution",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Internal => "internal",
        };
        Self { kind, message: error.message }
    }
}

impl From<Interrupted> for ApiError {
    fn from(interrupted: Interrupted) -> Self {
        let kind = if matches!(interrupted, Interrupted::Deadline(_)) { "timeout" } else { "internal" };
        Self { kind, message: interrupted.to_string() }
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        let kind = if error.code == "deadline" { "timeout" } else { "internal" };
        Self { kind, message: error.message }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.message });
        (self.status(), Json(body)).into_response()
    }
}
