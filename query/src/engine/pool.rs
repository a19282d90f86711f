//! The threads that queries run on, apart from those that take telemetry in: a slow query never delays
//! an acknowledgement. A query waits for its turn, runs within the deadline, and is dropped when nobody
//! waits for it any more.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
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
            deadline: options.deadline,
        })
    }

    pub(super) async fn run<F>(&self, work: F) -> Result<F::Output, Interrupted>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let turns = Arc::clone(&self.turns);
        let whole = async {
            let turn = turns.acquire_owned().await.map_err(|_| Interrupted::Stopped)?;
            // The turn moves into the task: it ends when the work does, not when the caller gives up.
            let task = self.handle.spawn(async move {
                let output = work.await;
                drop(turn);
                output
            });
            AbortOnDropHandle::new(task).await.map_err(|error| {
                if error.is_panic() {
                    Interrupted::Panicked(panic_text(error.into_panic()))
                } else {
                    Interrupted::Stopped
                }
            })
        };
        tokio::time::timeout(self.deadline, whole).await.map_err(|_| Interrupted::Deadline(self.deadline))?
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
