//! What only a program root may touch: the wall clock and signals.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use weir_model::{Clock, UnixNanos};

/// The wall clock.
pub(crate) fn wall_clock() -> Clock {
    Clock::new(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixNanos(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    })
}

/// A token that is cancelled by the first Ctrl-C or SIGTERM; a second one ends the process at once.
pub(crate) fn shutdown_on_signal() -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(token)
}

/// Each time somebody asks the process by SIGHUP to read its configuration again.
pub(crate) fn hangups() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
}
