//! Whether storage may still promise anything: it stops for good when a sync fails, and when it is closed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by everything that syncs.
#[derive(Debug, Default)]
pub(crate) struct Health {
    stopped: OnceLock<String>,
    closed: AtomicBool,
}

impl Health {
    /// Stops for good; gives the reason of the first stop.
    pub(crate) fn stop(&self, reason: String) -> String {
        tracing::error!(reason, "storage has stopped");
        self.stopped.get_or_init(|| reason).clone()
    }

    /// Why it stopped, if it did.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.stopped.get().cloned()
    }

    /// Takes no more writes.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Why no write is taken, if none is.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.stopped().or_else(|| self.is_closed().then(|| "it is closed".to_owned()))
    }
}
