//! What the user typed becomes what is meant: every mistake is found at once, with its flag.

mod args;
mod endpoints;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

pub use args::ProxyArgs;
pub use endpoints::StaticEndpoint;
pub(crate) use endpoints::{is_authority, is_name};

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistake {
    /// The flag, as typed: `--app`.
    pub flag: String,
    /// What it takes.
    pub expected: String,
    /// What was given; empty where nothing was.
    pub got: String,
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}", self.flag, self.expected)?;
        match self.got.as_str() {
            "" => f.write_str(", got nothing"),
            got => write!(f, ", got `{got}`"),
        }
    }
}

impl std::error::Error for ConfigMistake {}

/// How requests and responses are framed towards an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS, as gRPC needs.
    Grpc,
}

impl Protocol {
    /// Its name in flags, files and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }

    /// The protocol called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Http, Self::Grpc].into_iter().find(|protocol| protocol.name() == name)
    }
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    /// The less loaded of two drawn at random.
    LeastRequest,
    /// Each in turn.
    RoundRobin,
}

/// A listener for the local application's calls to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// The service, or an external host.
    pub name: String,
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
}

/// The one retry policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Retries per request; 0 is off.
    pub limit: u32,
    /// Share of requests, in per cent, that retries may add.
    pub budget_pct: f64,
}

/// A validated configuration of one proxy.
#[derive(Debug, Clone)]
pub struct Config {
    /// The service this proxy stands beside.
    pub service: String,
    /// Names this proxy's endpoint; made up at start where it is empty.
    pub instance: String,
    /// Version label of the service; may be empty.
    pub version: String,
    /// Zone label; may be empty.
    pub zone: String,
    /// The local application (`host:port`) that inbound requests go to.
    pub app: Option<String>,
    /// Where inbound requests arrive.
    pub inbound: Option<SocketAddr>,
    /// The address (`host:port`) other proxies are told; the inbound one where there is none.
    pub advertise: Option<String>,
    /// What the local application speaks.
    pub protocol: Protocol,
    /// The services that the application calls.
    pub outbound: Vec<Outbound>,
    /// Endpoints by service that are not asked of the collector.
    pub endpoints: BTreeMap<String, Vec<StaticEndpoint>>,
    /// The collector's `host:port`, if there is one.
    pub collector: Option<String>,
    /// Where to serve health and state.
    pub admin: Option<SocketAddr>,
    /// How an endpoint is chosen.
    pub balancer: Balancer,
    /// How long a request may take until the head of its response is there.
    pub timeout: Duration,
    /// The one retry policy.
    pub retry: RetryPolicy,
    /// Whether the proxy ejects endpoints by what it sees itself.
    pub local_breaker: bool,
}

#[cfg(test)]
mod tests;
