//! The threads that queries run on, apart from those that take telemetry in: a slow query never delays
//! an acknowledgement. A query waits for its turn, runs within the deadline, and is dropped when nobody
//! waits for it any more.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::EngineOptions;

/// Stack of a query thread. Planning recurses once per operator of a chain, some frames each time;
/// [`weir_model::limits::SQL_OPERATORS`] of them need about a quarter of this. Unused pages cost nothing.
const STACK_BYTES: usize = 64 << 20;

/// Why a query did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// It took too long, waiting included.
    #[error("query took longer than {} s", .0.as_secs_f64())]
    Deadline(Duration),
    /// It was not its turn in time.
    #[error("query timed out in query queue: {} s went by and others still ran; ask again later", .0.as_secs_f64())]
    Queued(Duration),
    /// As many others wait already as may.
    #[error("{0} queries wait for their turn already; ask again later")]
    Full(usize),
    /// It panicked, which is a fault of this program.
    #[error("query failed inside: {0}")]
    Panicked(String),
    /// The engine is shutting down.
    #[error("query engine has stopped")]
    Stopped,
}

/// A runtime of its own and the right to use it.
pub(super) struct Pool {
    handle: Handle,
    runtime: Option<Runtime>,
    turns: Arc<Semaphore>,
    queries: usize,
    waiting: Semaphore,
    places: usize,
    deadline: Duration,
}

impl Pool {
    pub(super) fn start(options: &EngineOptions) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("weir-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            turns: Arc::new(Semaphore::new(options.queries.max(1))),
            queries: options.queries.max(1),
            waiting: Semaphore::new(options.waiting),
            places: options.waiting,
            deadline: options.deadline,
        })
    }

    /// How many queries run now.
    pub(super) fn running(&self) -> usize {
        self.queries - self.turns.available_permits()
    }

    /// The deadline of queries that have none of their own.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) async fn run<F>(&self, deadline: Duration, work: F) -> Result<F::Output, Interrupted>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let asked = Instant::now();
        let turn = self.turn(deadline).await?;
        // The turn moves into the task: it ends when the work does, not when the caller gives up.
        let task = AbortOnDropHandle::new(self.handle.spawn(async move {
            let output = work.await;
            drop(turn);
            output
        }));
        let ended = tokio::time::timeout_at(asked + deadline, task).await;
        ended.map_err(|_| Interrupted::Deadline(deadline))?.map_err(|error| {
            if error.is_panic() {
                Interrupted::Panicked(panic_text(error.into_panic()))
            } else {
                Interrupted::Stopped
            }
        })
    }

    /// The right to run, at once or after a wait in a queue of bounded length.
    async fn turn(&self, deadline: Duration) -> Result<OwnedSemaphorePermit, Interrupted> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let _place = self.waiting.try_acquire().map_err(|_| Interrupted::Full(self.places))?;
        let turn = tokio::time::timeout(deadline, Arc::clone(&self.turns).acquire_owned()).await;
        turn.map_err(|_| Interrupted::Queued(deadline))?.map_err(|_| Interrupted::Stopped)
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Waiting for running queries would block whichever thread drops the engine.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
