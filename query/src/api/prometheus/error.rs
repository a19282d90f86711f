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

    /// The same, because of the parameter `name`.
    pub(super) fn of_parameter(self, name: &str) -> Self {
        Self::parameter(name, self.message)
    }

    /// A fault of this server.
    pub(super) fn internal(message: impl Display) -> Self {
        Self { kind: "internal", message: message.to_string() }
    }

    /// The message alone, for routes that do not speak JSON; what cannot be answered is the client's to change.
    pub(super) fn plain(self) -> Response {
        let status = match self.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        (status, format!("{}\n", self.message)).into_response()
    }

    fn status(&self) -> StatusCode {
        match self.kind {
            "bad_data" => StatusCode::BAD_REQUEST,
            "execution" => StatusCode::UNPROCESSABLE_ENTITY,
            "timeout" | "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
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
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Internal => "internal",
        };
        Self { kind, message: error.message }
    }
}

impl From<Interrupted> for ApiError {
    fn from(interrupted: Interrupted) -> Self {
        let kind = match interrupted {
            Interrupted::Deadline(_) | Interrupted::Queued(_) => "timeout",
            Interrupted::Full(_) => "unavailable",
            Interrupted::Panicked(_) | Interrupted::Stopped => "internal",
        };
        Self { kind, message: interrupted.to_string() }
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        let kind = match error.code {
            "deadline" => "timeout",
            "busy" => "unavailable",
            _ => "internal",
        };
        Self { kind, message: error.message }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.message });
        (self.status(), Json(body)).into_response()
    }
}
