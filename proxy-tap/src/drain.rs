//! A proxy's way out, from one who sends callers elsewhere to one who has nobody left, and how far it has come.
//!
//! It begins by a signal (the program's), by `POST /drain`, or when a new process has taken over the listeners, and
//! cannot be turned back. The stages:
//!
//! 1. `withdrawing`: not ready; the registration is withdrawn; connections are still accepted for a while, because
//!    callers learn of it later than the proxy says it. A successor makes this needless.
//! 2. `draining`: nothing is accepted any more. HTTP/1 connections say `connection: close` with their next response
//!    and end when they stay silent, HTTP/2 connections say GOAWAY, tunnels and TCP go on.
//! 3. `drained`: what was left has been cut.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the collector may take to hear that the proxy leaves.
const WITHDRAWAL: Duration = Duration::from_secs(1);
/// How long connections that were cut may take to say what has become of their requests.
const CUT: Duration = Duration::from_secs(1);

/// Why a proxy leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The program that runs it wants to end.
    Program,
    /// Somebody asked for it at the admin page.
    Admin,
    /// Another process serves its listeners.
    Successor,
}

impl Why {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Program => "shutdown",
            Self::Admin => "admin",
            Self::Successor => "takeover",
        }
    }
}

/// The stages of the way out, and who is still served.
#[derive(Debug)]
pub(crate) struct Drain {
    begun: OnceLock<(Why, Instant)>,
    /// The proxy takes no more traffic.
    pub(crate) leave: CancellationToken,
    /// Listeners accept nothing more; connections end what they have begun.
    listening: CancellationToken,
    /// Connections end now.
    cut: CancellationToken,
    /// Everything else.
    pub(crate) rest: CancellationToken,
    /// The admin page, which ends with the rest or when another process answers for it.
    admin: CancellationToken,
    /// Another process answers for it.
    succeeded: AtomicBool,
    /// The listeners that drain, each until its last connection has ended.
    pub(crate) listeners: TaskTracker,
}

impl Drain {
    pub(crate) fn new() -> Arc<Self> {
        let rest = CancellationToken::new();
        Arc::new(Self {
            begun: OnceLock::new(),
            leave: CancellationToken::new(),
            listening: CancellationToken::new(),
            cut: CancellationToken::new(),
            admin: rest.child_token(),
            succeeded: AtomicBool::new(false),
            rest,
            listeners: TaskTracker::new(),
        })
    }

    /// Begins it, unless it has begun.
    pub(crate) fn begin(&self, why: Why) {
        let mut first = false;
        self.begun.get_or_init(|| {
            first = true;
            (why, Instant::now())
        });
        if first {
            tracing::info!(why = why.name(), "the proxy takes its leave");
        }
        if why == Why::Successor {
            self.succeeded.store(true, Ordering::SeqCst);
            // Each connection that is accepted now would have to find another way soon.
            self.admin.cancel();
            self.listening.cancel();
        }
        self.leave.cancel();
    }

    /// Why it has begun and how long ago, if it has.
    pub(crate) fn begun(&self) -> Option<(Why, Duration)> {
        self.begun.get().map(|(why, at)| (*why, at.elapsed()))
    }

    /// Whether whoever asks at the proxy's address for readiness is told to go elsewhere: not where a successor
    /// serves that address.
    pub(crate) fn is_ready(&self) -> bool {
        !self.leave.is_cancelled() || self.succeeded.load(Ordering::SeqCst)
    }

    /// The stage, as it is told.
    pub(crate) fn stage(&self) -> &'static str {
        match () {
            () if self.cut.is_cancelled() => "drained",
            () if self.listening.is_cancelled() => "draining",
            () if self.leave.is_cancelled() => "withdrawing",
            () => "serving",
        }
    }

    /// When a listener for traffic stops.
    pub(crate) fn gate(&self, tally: &Arc<Tally>) -> Gate {
        Gate { stop: self.listening.clone(), cut: self.cut.clone(), tally: Arc::clone(tally) }
    }

    /// When the admin page stops: health is asked for until the end, or until somebody else says it.
    pub(crate) fn admin_gate(&self, tally: &Arc<Tally>) -> Gate {
        Gate { stop: self.admin.clone(), cut: CancellationToken::new(), tally: Arc::clone(tally) }
    }

    /// Goes all the way once it has begun: `withdrawn` ends when the registration is, `delay` is how long to go on
    /// accepting after that, `patience` what connections have from then on.
    pub(crate) async fn run(&self, withdrawn: Option<JoinHandle<()>>, delay: Duration, patience: Duration) {
        self.leave.cancelled().await;
        if let Some(withdrawn) = withdrawn {
            let _ = timeout(WITHDRAWAL, withdrawn).await;
        }
        tokio::select! {
            () = sleep(delay) => self.listening.cancel(),
            () = self.listening.cancelled() => {}
        }
        self.listeners.close();
        if timeout(patience, self.listeners.wait()).await.is_err() {
            tracing::warn!(?patience, "connections are cut that did not end in time");
        }
        self.cut.cancel();
        let _ = timeout(CUT, self.listeners.wait()).await;
    }
}

/// When a listener stops, and what it counts.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) stop: CancellationToken,
    pub(crate) cut: CancellationToken,
    pub(crate) tally: Arc<Tally>,
}

/// The connections of one address, whichever worker has them.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Which listener.
    pub(crate) name: String,
    accepted: AtomicU64,
    tls_errors: AtomicU64,
    open: AtomicUsize,
}

impl Tally {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            accepted: AtomicU64::new(0),
            tls_errors: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        })
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Counts one that was refused before its first request: it came without TLS, or could not agree on it.
    pub(crate) fn count_tls_error(&self) {
        self.tls_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that were refused for want of TLS so far.
    pub(crate) fn tls_errors(&self) -> u64 {
        self.tls_errors.load(Ordering::Relaxed)
    }

    /// Connections there are.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts one as open while what it returns lives.
    pub(crate) fn count(self: &Arc<Self>) -> Counted {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Tally>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
