//! DataFusion over a snapshot: sessions, the pruning table provider, views, functions, limits.
//!
//! [`Engine::sql`] answers one read-only question over one [`Snapshot`], on threads of its own, within a
//! deadline, a shared memory bound and a row cap. PromQL and the analysis use the same threads and the
//! same memory through [`Engine::run`] and [`Engine::session`].

mod answer;
mod catalog;
mod error;
mod filters;
mod footers;
mod functions;
mod guard;
mod ids;
mod pool;
mod provider;
mod session;
mod texts;
mod types;
mod views;
mod warnings;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use weir_model::{Clock, TenantId, limits};
use weir_storage::{SeriesIndex, Snapshot, Storage, Table};

pub use answer::{Answer, Stats};
pub use catalog::{Column, View, catalogue};
pub use error::{Position, SqlError};
pub use pool::Interrupted;
pub use provider::SnapshotTable;
pub use types::sql_type;
pub(crate) use warnings::Warnings;

/// How an engine runs. The defaults are the bounds in [`weir_model::limits`].
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// What `now()` reads.
    pub clock: Clock,
    /// Threads that plan and run queries.
    pub threads: usize,
    /// Memory that all running queries share, in bytes.
    pub memory_bytes: usize,
    /// How long a query may take, waiting for its turn included.
    pub deadline: Duration,
    /// Queries running at once.
    pub queries: usize,
    /// Queries waiting for their turn.
    pub waiting: usize,
    /// Rows of an answer.
    pub rows: usize,
}

impl EngineOptions {
    /// The default bounds, and as many threads as the machine has cores.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            memory_bytes: limits::QUERY_MEMORY_BYTES,
            deadline: limits::QUERY_DEADLINE,
            queries: limits::QUERIES,
            waiting: limits::QUERIES_WAITING,
            rows: limits::SQL_ROWS,
        }
    }
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The threads could not be started.
    #[error("cannot start the query threads: {0}")]
    Threads(#[from] std::io::Error),
    /// DataFusion refused its configuration.
    #[error("cannot set up the query engine: {0}")]
    Setup(#[from] datafusion::error::DataFusionError),
}

/// A question in SQL.
#[derive(Debug, Clone, Default)]
pub struct SqlQuery {
    /// One read-only statement.
    pub text: String,
    /// Values of `$1`, `$2`, …
    pub params: Vec<serde_json::Value>,
}

impl SqlQuery {
    /// A question without parameters.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), params: Vec::new() }
    }
}

/// Where snapshots come from.
enum Source {
    Storage(Storage),
    Fixed(Snapshot, Arc<SeriesIndex>),
}

/// Answers questions about stored rows.
pub struct Engine {
    source: Source,
    options: EngineOptions,
    base: SessionState,
    pool: pool::Pool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over what `storage` holds at each question.
    pub fn new(storage: Storage, options: EngineOptions) -> Result<Self, EngineError> {
        Self::with_source(Source::Storage(storage), options)
    }

    /// An engine over one snapshot that never changes, whoever the tenant. PromQL knows the series of its
    /// hot rows.
    pub fn over(snapshot: Snapshot, options: EngineOptions) -> Result<Self, EngineError> {
        let rows = snapshot.table(Table::Series).hot;
        let series = Arc::new(SeriesIndex::of_rows(rows.iter().map(|(_, batch)| batch)));
        Self::with_source(Source::Fixed(snapshot, series), options)
    }

    fn with_source(source: Source, options: EngineOptions) -> Result<Self, EngineError> {
        let base = session::base(&options)?;
        let pool = pool::Pool::start(&options)?;
        Ok(Self { source, options, base, pool })
    }

    /// What `tenant` has stored now.
    pub fn snapshot(&self, tenant: &TenantId) -> Snapshot {
        match &self.source {
            Source::Storage(storage) => storage.snapshot(tenant),
            Source::Fixed(snapshot, _) => snapshot.clone(),
        }
    }

    /// The label sets of `tenant`. They may be ahead of a snapshot taken before, never behind.
    pub fn series(&self, tenant: &TenantId) -> Arc<SeriesIndex> {
        match &self.source {
            Source::Storage(storage) => storage.series(tenant),
            Source::Fixed(_, series) => Arc::clone(series),
        }
    }

    /// A session without tables that shares the engine's memory bound: for plans that a test builds by hand.
    #[cfg(test)]
    fn session(&self) -> SessionContext {
        SessionContext::new_with_state(session::fresh(&self.base, &self.options.clock))
    }

    /// A session with the views and tables of `snapshot`.
    pub fn session_over(&self, snapshot: Snapshot) -> SessionContext {
        SessionContext::new_with_state(session::over(&self.base, &self.options.clock, snapshot))
    }

    /// Runs `work` on the query threads once it is its turn, within the deadline; it is dropped there
    /// when the returned future is.
    pub async fn run<F>(&self, work: F) -> Result<F::Output, Interrupted>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.pool.run(self.pool.deadline(), work).await
    }

    /// The same within another deadline than the engine's.
    pub async fn run_within<F>(&self, deadline: Duration, work: F) -> Result<F::Output, Interrupted>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.pool.run(deadline, work).await
    }

    /// How many queries run now.
    pub fn running(&self) -> usize {
        self.pool.running()
    }

    /// Answers `query` over what `tenant` has stored now.
    pub async fn sql(&self, tenant: &TenantId, query: &SqlQuery) -> Result<Answer, SqlError> {
        guard::check(&query.text)?;
        let params = session::params(&query.params)?;
        let state = session::over(&self.base, &self.options.clock, self.snapshot(tenant));
        let work = answer::collect(state, query.text.clone(), params, self.options.rows);
        self.run(work).await.map_err(|interrupted| error::interrupted(&interrupted))?
    }

    /// The engine's options.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }
}

#[cfg(test)]
mod tests;
