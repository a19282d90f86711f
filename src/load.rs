//! `weir load`: a seeded OTLP/gRPC load generator, because every claim about ingest needs one.
//!
//! In: how much of what, and where to. Out: what was acknowledged per second, what was not and why, the
//! latency of the answers, and (with a ledger) the id of everything that was acknowledged.
//!
//! A request is never sent twice unless the collector said that it took nothing and when to come back, so
//! that a record can be stored once at most and a ledger can be compared with what is stored. With the
//! same seed the same records come again, so two runs into one store want two seeds.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use tokio_util::sync::CancellationToken;
use weir_model::{Clock, limits};

mod batch;
mod duration;
mod ledger;
mod logs;
mod metrics;
mod report;
mod scrapes;
mod spans;
#[cfg(test)]
mod tests;
mod wire;
mod worker;
mod world;

use crate::export;
pub(crate) use duration::duration;
pub(crate) use report::Summary;

use worker::{Generator, Shared, Worker};

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Signal {
    /// Traces of one to fifteen spans over the services of a shop.
    Spans,
    /// Data points of a cumulative counter.
    Metrics,
    /// Scrapes of a mesh's standard metrics every 15 s, from `--history` ago until now.
    Scrapes,
    /// Log records with trace ids.
    Logs,
}

/// Generates OTLP load and measures how it is acknowledged.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LoadArgs {
    /// What to generate.
    #[arg(value_enum)]
    pub(crate) signal: Signal,
    /// Address of the OTLP/gRPC receiver.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317")]
    pub(crate) to: String,
    /// Records per second over all connections; 0 sends as fast as they are acknowledged.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) rate: u64,
    /// HTTP/2 connections, each with one request in flight.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = up_to(limits::LOAD_CONNECTIONS))]
    pub(crate) connections: usize,
    /// Records per request at most; fewer where `--rate` would keep a request waiting over 100 ms.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = up_to(limits::LOAD_BATCH))]
    pub(crate) batch: usize,
    /// Attributes of a span or log record.
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = RangedU64ValueParser::<usize>::new().range(0..=1_000))]
    pub(crate) attributes: usize,
    /// Stop after this long.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Stop once this many records were acknowledged.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Stop when nothing was acknowledged for this long.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) give_up: Duration,
    /// Seed of everything random: the same seed makes the same records.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Distinct services.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = up_to(limits::LOAD_OPERATIONS))]
    pub(crate) services: usize,
    /// Distinct operations over all services.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = up_to(limits::LOAD_OPERATIONS))]
    pub(crate) operations: usize,
    /// Distinct users.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = up_to(9_999_999))]
    pub(crate) users: usize,
    /// How long ago the first of the scrapes was.
    #[arg(long, value_name = "DURATION", default_value = "3h", value_parser = duration)]
    pub(crate) history: Duration,
    /// Append the id of each acknowledged record to this file, once its answer has come.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// Print one JSON object at the end instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why load could not be generated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// `--to` is no address.
    #[error("`{to}` is not an address: expected `host:port`, as in `127.0.0.1:4317`")]
    Address {
        /// What was given.
        to: String,
    },
    /// The ledger could not be opened or written.
    #[error("cannot write the ledger `{path}`: {source}")]
    Ledger {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The report could not be written.
    #[error("cannot write the report: {0}")]
    Output(#[from] io::Error),
    /// Everything failed.
    #[error("nothing was acknowledged by `{to}`: {why}")]
    Nothing {
        /// The receiver.
        to: String,
        /// The last failure.
        why: String,
    },
    /// A worker ended abnormally.
    #[error("a load worker ended abnormally: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

fn up_to(most: usize) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most as u64)
}

/// The generator of worker `worker` under `seed`.
fn rng(seed: u64, worker: usize) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(worker as u64))
}

/// Generates load as `args` say until it is done or `shutdown` is cancelled, and reports to `out`.
///
/// An error where nothing at all was acknowledged.
pub(crate) async fn run(
    args: LoadArgs,
    clock: Clock,
    shutdown: CancellationToken,
    out: &mut (dyn Write + Send),
) -> Result<Summary, LoadError> {
    let endpoint = export::endpoint(&args.to).ok_or_else(|| LoadError::Address { to: args.to.clone() })?;
    let shared = Arc::new(Shared::new(&args, clock, shutdown.child_token())?);
    let mut workers = tokio::task::JoinSet::new();
    for index in 0..args.connections {
        let generator = Generator::new(&args, index);
        let worker = Worker::new(index, endpoint.connect_lazy(), generator, Arc::clone(&shared));
        workers.spawn(worker.run());
    }

    let mut progress = tokio::time::interval(Duration::from_secs(1));
    progress.tick().await;
    let deadline = tokio::time::sleep(args.duration.unwrap_or(Duration::MAX));
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => break,
                Some(ended) => ended??,
            },
            _ = progress.tick() => {
                let second = shared.close_second();
                if !args.json {
                    report::progress(out, &second)?;
                }
            }
            () = &mut deadline, if !shared.stop.is_cancelled() => shared.stop.cancel(),
        }
    }
    let summary = shared.summary();
    summary.print(out, args.json)?;
    if summary.acknowledged == 0 && args.count != Some(0) {
        let why =
            summary.last_failure.clone().unwrap_or_else(|| "it was stopped before an answer came".to_owned());
        return Err(LoadError::Nothing { to: args.to, why });
    }
    Ok(summary)
}
