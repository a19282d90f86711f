//! `weir demo`: a small shop whose traffic is real, so that there is something to watch, break and heal.
//!
//! Ten services on sockets of one process, each instance behind its own proxy, and visitors who call them
//! at random moments. Nothing here is simulated: requests are HTTP/1.1 and gRPC over loopback, the proxies
//! are those of [`weir_proxy_tap`], and they register and export to the collector over TCP. Faults are
//! switched over HTTP ([`router`]), which `weir demo fault` and the UI do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::load::duration;

mod announce;
mod app;
mod browser;
mod control;
mod faults;
mod grpc;
mod listen;
mod mesh;
mod routes;
mod standalone;
mod stats;
#[cfg(test)]
mod tests;
mod topology;
mod traffic;
mod upstream;

pub(crate) use announce::announce;
pub(crate) use browser::open_browser;
pub(crate) use control::{FaultArgs, fault};
pub(crate) use mesh::run_mesh;
pub(crate) use routes::router;
pub(crate) use standalone::{AppArgs, DriveArgs, app, drive};

use faults::Faults;
use routes::{Overview, Replicas};
use stats::Recorder;

/// Runs a small mesh in one process and shows it.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DemoArgs {
    /// Instead of running a demo, do something with one.
    #[command(subcommand)]
    pub(crate) verb: Option<DemoVerb>,
    /// Stop after this long; without it, at Ctrl-C.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Seed of the load and of the services' latencies.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Do not open a browser.
    #[arg(long)]
    pub(crate) no_open: bool,
    /// Where telemetry is stored; a temporary directory without it, removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the UI and the HTTP API; port 0 picks one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4319")]
    pub(crate) http: SocketAddr,
    /// Address of the OTLP/gRPC receiver and the mesh service; port 0 picks one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317")]
    pub(crate) otlp_grpc: SocketAddr,
    /// Address of the OTLP/HTTP receiver; port 0 picks one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4318")]
    pub(crate) otlp_http: SocketAddr,
    /// Issue hints as dry runs: proxies report what they would have done, and change nothing.
    #[arg(long)]
    pub(crate) no_hints: bool,
    /// Requests per second of the visitors.
    #[arg(long, value_name = "N", default_value_t = 50.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Whether the proxies also eject endpoints by what they see themselves; off, so that it is the
    /// hints whose work is seen.
    #[arg(long, value_name = "on|off", default_value = "off", value_parser = ["on", "off"])]
    pub(crate) local_breaker: String,
    /// Retries of a failed request by a proxy.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) retries: u32,
}

/// What can be done with a demo beside running it.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum DemoVerb {
    /// Break a service of the running demo, or mend it.
    Fault(FaultArgs),
    /// Run one demo service as a process of its own.
    #[command(hide = true)]
    App(AppArgs),
    /// Send open-loop load to a URL.
    #[command(hide = true)]
    Drive(DriveArgs),
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| (0.1..=5_000.0).contains(rate));
    rate.ok_or_else(|| format!("`{text}` is no rate: expected 0.1 to 5000 requests per second"))
}

/// The state of the running demo: its switches, and what its visitors see.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    faults: std::sync::Arc<Faults>,
    /// Outcomes of `POST /checkout` at the visitors.
    checkout: Recorder,
}

impl Shop {
    /// The shop with nothing broken.
    pub(crate) fn new() -> Self {
        let services = topology::SERVICES.iter().map(|s| (s.name.to_owned(), s.instances().collect()));
        Self { faults: std::sync::Arc::new(Faults::new(services)), checkout: Recorder::default() }
    }

    fn overview(&self) -> Overview {
        let replicas = |(name, instances): (&str, Vec<&str>)| Replicas {
            name: name.to_owned(),
            replicas: instances.into_iter().map(str::to_owned).collect(),
        };
        Overview { faults: self.faults.list(), services: self.faults.services().map(replicas).collect() }
    }
}

/// What to say once the demo at `http` runs.
pub(crate) fn welcome(http: SocketAddr) -> String {
    format!(
        "\
A shop of {} services is running behind weir's proxies: open http://{http}

  break it    weir demo fault errors payments/2      (or latency, outage; any service)
  ask it      weir query \"select client, server, sum(calls) from edges where reporter = 'source' group by 1, 2\"
  see it      weir graph
  the story   weir query \"select time, event, action, target from hints order by time\"
  mend it     weir demo fault clear

Ctrl-C ends it.",
        topology::SERVICES.iter().filter(|service| !service.external).count()
    )
}
