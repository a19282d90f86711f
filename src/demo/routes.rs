//! The demo's own HTTP routes: what is broken, break it, mend it, and what the clients see.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_model::Clock;

use super::Shop;
use super::faults::{Fault, FaultKind};

/// `POST /api/demo/faults`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    /// What goes wrong.
    pub(crate) kind: FaultKind,
    /// `payments` or `payments/2`.
    pub(crate) target: String,
    /// Whether it is to.
    pub(crate) on: bool,
}

/// `GET /api/demo`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Overview {
    /// What is on.
    pub(crate) faults: Vec<Fault>,
    /// What could be broken.
    pub(crate) services: Vec<Replicas>,
}

/// A service and its instances.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Replicas {
    /// The service.
    pub(crate) name: String,
    /// Its instances.
    pub(crate) replicas: Vec<String>,
}

/// The routes of the demo, to be merged into the program's own.
pub(crate) fn router(shop: Shop, clock: Clock) -> Router {
    let stats = {
        let shop = shop.clone();
        move || async move { Json(json!({ "seconds": shop.checkout.seconds(clock.now()) })) }
    };
    Router::new()
        .route("/api/demo", get(overview))
        .route("/api/demo/faults", post(switch))
        .route("/api/demo/stats", get(stats))
        .with_state(Arc::new(shop))
}

async fn overview(State(shop): State<Arc<Shop>>) -> Json<Overview> {
    Json(shop.overview())
}

async fn switch(State(shop): State<Arc<Shop>>, body: Result<Json<Switch>, JsonRejection>) -> Response {
    let Json(switch) = match body {
        Ok(body) => body,
        Err(rejected) => return error(rejected.status(), &rejected.body_text()),
    };
    match shop.faults.switch(switch.kind, &switch.target, switch.on) {
        Ok(()) => Json(shop.overview()).into_response(),
        Err(unknown) => error(StatusCode::BAD_REQUEST, &unknown.to_string()),
    }
}

fn error(status: StatusCode, message: &str) -> Response {
    let body: Value = json!({ "error": {
        "code": "bad_request",
        "message": message,
        "hint": "post {\"kind\": \"latency\"|\"errors\"|\"outage\", \"target\": \"payments/2\", \"on\": true}",
    }});
    (status, Json(body)).into_response()
}
