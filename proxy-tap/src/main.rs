//! `weir-proxy`: the data plane as a small program. The only place here that reads the environment, the
//! wall clock and signals.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use weir_model::{Clock, UnixNanos};
use weir_proxy_tap::{ProxyArgs, Running, start};

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
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let config = match Command::parse().proxy.into_config() {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("weir-proxy: {mistake}");
            }
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("weir-proxy: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
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

async fn serve(running: Running) -> ExitCode {
    eprintln!("{}", running.ready_line());
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    match terminate {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
    running.shutdown().await;
    ExitCode::SUCCESS
}

fn wall_clock() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
