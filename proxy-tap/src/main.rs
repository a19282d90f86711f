//! `weir-proxy`: the data plane as a small program. The only place here that reads the environment, the
//! wall clock and signals.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, reload};
use weir_model::{Clock, UnixNanos};
use weir_proxy_tap::{Config, LogFilter, ProxyArgs, Running, beside, log_lines, make_room, start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Forwards a service's traffic, observes it, and obeys hints.
#[derive(Debug, Parser)]
#[command(name = "weir-proxy", version)]
struct Command {
    #[command(flatten)]
    proxy: ProxyArgs,
}

fn main() -> ExitCode {
    let log = start_log();
    let config = match Command::parse().proxy.into_config() {
        Ok(config) => Config { log: Some(log), ..config },
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("weir-proxy: {mistake}");
            }
            return ExitCode::from(2);
        }
    };
    if let Err(error) = make_room() {
        tracing::warn!(%error, "no more open files than the limit in force allows");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, beside) = match runtime.and_then(|runtime| Ok((runtime, beside()?))) {
        Ok(both) => both,
        Err(error) => {
            eprintln!("weir-proxy: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let config = Config { beside: Some(beside), ..config };
    runtime.block_on(async {
        match start(config, Clock::new(wall_clock), fastrand::u64(..)).await {
            Ok(running) => serve(running).await,
            Err(error) => {
                eprintln!("weir-proxy: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

/// Sends log lines to stderr; what is returned changes which.
fn start_log() -> LogFilter {
    let filter = log_lines::start_filter(std::env::var("WEIR_LOG").ok(), "info");
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(log_lines::has_colours(std::env::var("NO_COLOR").ok()))
        .with_filter(filter);
    tracing_subscriber::registry().with(lines).init();
    LogFilter::reloading(handle)
}

async fn serve(running: Running) -> ExitCode {
    let signals = signal(SignalKind::terminate()).and_then(|t| Ok((t, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("weir-proxy: no signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("{}", running.ready_line());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = running.leaving() => {}
    }
    tokio::select! {
        () = running.shutdown() => ExitCode::SUCCESS,
        // Whoever says it twice does not want to wait.
        _ = terminate.recv() => std::process::exit(130),
        _ = interrupt.recv() => std::process::exit(130),
    }
}

fn wall_clock() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
