//! The HTTP routes that people and tools read.
//!
//! In: a [`State`]. Out: one router of JSON routes; each answer that shows numbers also carries the SQL
//! that produces them, and that SQL is what produced them.

mod encode;
mod error;
mod findings;
mod graph;
mod health;
mod hints;
mod prometheus;
mod reader;
mod services;
mod sql;
mod status;
mod text;
mod traces;
mod window;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use weir_model::{Clock, TenantId};

use crate::engine::{Answer, Engine, SqlError, SqlQuery};
use crate::rules::{Notifier, Rules};

pub use error::ApiError;
#[cfg(any(test, fuzzing))]
pub(crate) use prometheus::tree;
pub use prometheus::{Settings, like_prometheus};
pub use status::status;
pub use window::parse_time;

/// What every route needs.
#[derive(Debug, Clone)]
pub struct State {
    /// Answers the questions.
    pub engine: Arc<Engine>,
    /// Whose rows are read.
    pub tenant: TenantId,
    /// What `now` means in a query.
    pub clock: Clock,
    /// How the routes of Prometheus behave.
    pub prometheus: Arc<Settings>,
}

impl State {
    /// Routes over `engine` with the defaults of Prometheus.
    pub fn new(engine: Arc<Engine>, tenant: TenantId, clock: Clock) -> Self {
        let prometheus = Arc::new(Settings::new(&clock));
        Self { engine, tenant, clock, prometheus }
    }

    /// Answers a question that a route made up.
    async fn ask(&self, text: &str) -> Result<Answer, SqlError> {
        self.engine.sql(&self.tenant, &SqlQuery::new(text)).await
    }
}

/// Every route; those under `/api/v1` behave like Prometheus'.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/api/sql", post(sql::post))
        .route("/api/graph", get(graph::get))
        .route("/api/findings", get(findings::get))
        .route("/api/hints", get(hints::get))
        .route("/api/traces", get(traces::list))
        .route("/api/traces/{id}", get(traces::get))
        .route("/api/services", get(services::get))
        .merge(prometheus::routes())
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        // As Prometheus calls the two.
        .route("/-/healthy", get(health::alive))
        .route("/-/ready", get(health::ready))
        .with_state(state)
}

/// Prometheus' routes about rules and alerts; they read what runs, not what is stored.
pub fn rules(rules: Rules, notifier: Notifier) -> Router {
    prometheus::rules::routes(rules, notifier)
}

#[cfg(test)]
mod tests;
