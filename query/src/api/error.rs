//! Errors as every route but other systems' shows them.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::engine::SqlError;

/// A status, and `{"error":{"code","message","hint"?,"position"?}}`.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    error: SqlError,
}

impl ApiError {
    /// A request that cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        SqlError::new("bad_request", message).into()
    }

    /// Something that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, error: SqlError::new("not_found", message) }
    }
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        let status = match error.code {
            "busy" | "deadline" | "memory" => StatusCode::SERVICE_UNAVAILABLE,
            "internal" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, error }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
    }
}
