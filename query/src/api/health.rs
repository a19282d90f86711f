//! Whether the process lives and whether it can answer.

use axum::Json;
use axum::extract;
use serde_json::{Value, json};

use super::{ApiError, State};

/// The process lives.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// A question is answered.
pub(super) async fn ready(extract::State(state): extract::State<State>) -> Result<Json<Value>, ApiError> {
    state.ask("SELECT 1").await?;
    Ok(Json(json!({ "status": "ready" })))
}
