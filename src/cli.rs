//! The command line: a file a verb. Parsing, printing and exit codes are here; work is not.
//!
//! Exit codes: 0 done, 1 it could not be done, 2 it was asked wrongly.

mod client;
mod demo;
mod graph;
mod import;
mod load;
mod promql;
mod proxy;
mod query;
mod rules;
mod serve;
mod storage;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A service mesh whose first job is to see.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the collector, the store and everything that reads from it
    Serve(Box<serve::ServeArgs>),
    /// Run a small mesh with faults to switch on, and watch it heal
    Demo(crate::demo::DemoArgs),
    /// Run the proxy beside a service
    Proxy(Box<weir_proxy_tap::ProxyArgs>),
    /// Ask in SQL or PromQL
    Query(query::QueryArgs),
    /// Show the service graph
    Graph(graph::GraphArgs),
    /// Store telemetry from files: OTLP as the OpenTelemetry Collector writes it, Jaeger JSON
    Import(crate::import::ImportArgs),
    /// Generate OTLP load and measure the answers
    Load(crate::load::LoadArgs),
    /// Look after a data directory that no server uses
    #[command(subcommand)]
    Storage(storage::StorageVerb),
    /// PromQL tools
    #[command(subcommand)]
    Promql(promql::PromqlVerb),
    /// Check and test recording and alerting rules
    #[command(subcommand)]
    Rules(rules::RulesVerb),
}

/// What a verb ends with when it was asked wrongly; everything else that fails exits with 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs the verb that the arguments name.
pub(crate) fn run() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Serve(args) => serve::run(*args),
        Verb::Demo(args) => demo::run(args),
        Verb::Proxy(args) => proxy::run(*args),
        Verb::Query(args) => query::run(args),
        Verb::Graph(args) => graph::run(args),
        Verb::Import(args) => import::run(args),
        Verb::Load(args) => load::run(args),
        Verb::Storage(verb) => storage::run(verb),
        Verb::Promql(args) => promql::run(args),
        Verb::Rules(verb) => rules::run(verb),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_enough(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Writes a line to stdout.
fn say(line: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Whether the reader of stdout, such as `head`, had seen enough.
fn is_enough(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs `work` on the runtime that servers use: all cores.
fn on_server_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Runs `work` on the runtime that short commands use: this thread.
fn on_client_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
