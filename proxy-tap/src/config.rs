//! What the user typed becomes what is meant: every mistake is found at once, with its flag.

mod args;
mod check;
mod endpoints;
pub(crate) mod policy;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Handle;

pub use crate::discovery::Target;
pub use crate::log_lines::LogFilter;
pub use crate::tls::TlsFiles;
pub use args::ProxyArgs;
pub(crate) use endpoints::{Services, is_authority, is_label, is_name, read, services};
pub use weir_model::policy::{Endpoint, Percent, Policy, Protocol};

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistake {
    /// The flag, as typed: `--app`.
    pub flag: String,
    /// What it takes.
    pub expected: String,
    /// What was given, where `expected` does not tell it.
    pub got: Option<String>,
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}", self.flag, self.expected)?;
        match self.got.as_deref() {
            None => Ok(()),
            Some("") => f.write_str(", got nothing"),
            Some(got) => write!(f, ", got `{got}`"),
        }
    }
}

impl std::error::Error for ConfigMistake {}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    /// The less loaded of two drawn at random.
    LeastRequest,
    /// Each in turn.
    RoundRobin,
    /// At random.
    Random,
    /// The one with the lower expected latency of two drawn at random.
    PeakEwma,
}

impl Balancer {
    /// Its name as a flag.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LeastRequest => "least-request",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::PeakEwma => "peak-ewma",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [Self::LeastRequest, Self::RoundRobin, Self::Random, Self::PeakEwma];
        all.into_iter().find(|balancer| balancer.name() == name)
    }

    /// As a policy has it.
    pub(crate) fn as_policy(self) -> weir_model::policy::Balancer {
        match self {
            Self::LeastRequest => weir_model::policy::Balancer::LeastRequest,
            Self::RoundRobin => weir_model::policy::Balancer::RoundRobin,
            Self::Random => weir_model::policy::Balancer::Random,
            Self::PeakEwma => weir_model::policy::Balancer::PeakEwma,
        }
    }
}

/// A listener for the local application's calls to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// The service, or an external host.
    pub name: String,
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
}

/// What becomes of requests for hosts that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownHosts {
    /// They go to the address that the name stands for.
    #[default]
    Allow,
    /// They are refused.
    Deny,
}

/// Encryption with an identity from files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate, key and authorities.
    pub files: TlsFiles,
    /// Whether callers may come without TLS all the same.
    pub plaintext: bool,
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
    /// Region, of which the zone is a part; may be empty.
    pub region: String,
    /// Zone label; may be empty.
    pub zone: String,
    /// Namespace of the workload; may be empty.
    pub namespace: String,
    /// What subsets of the service select this endpoint by.
    pub labels: BTreeMap<String, String>,
    /// Share of traffic relative to its peers; 0 gets none.
    pub weight: u32,
    /// Endpoints of a higher number are used when too few of a lower one are healthy.
    pub priority: u32,
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
    pub endpoints: BTreeMap<String, Vec<Endpoint>>,
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
    /// The file of `endpoints`, which is watched.
    pub endpoints_file: Option<PathBuf>,
    /// Routes, destinations and endpoints of services.
    pub policy: Policy,
    /// The file of `policy`, which is watched.
    pub policy_file: Option<PathBuf>,
    /// Where services' endpoints are found, by service.
    pub resolve: BTreeMap<String, Target>,
    /// The DNS server that is asked; the system's where there is none.
    pub dns_server: Option<SocketAddr>,
    /// Threads, each with its own listeners and connections.
    pub workers: usize,
    /// Encryption towards other proxies.
    pub tls: Option<TlsConfig>,
    /// Whether inbound connections begin with a PROXY header.
    pub accept_proxy_header: bool,
    /// Where requests arrive that name their host, as with `HTTP_PROXY`.
    pub http_proxy: Option<SocketAddr>,
    /// Where the application's connections arrive that the kernel redirects.
    pub capture: Option<SocketAddr>,
    /// Where connections to the application arrive that the kernel redirects.
    pub capture_inbound: Option<SocketAddr>,
    /// What becomes of requests for hosts that nobody knows.
    pub unknown_hosts: UnknownHosts,
    /// Share of the traces begun here that are exported.
    pub trace_sampling: Percent,
    /// Share of the requests without a fault whose access log is exported.
    pub log_sampling: Percent,
    /// The mark (`SO_MARK`) of the proxy's own connections, by which the kernel's rules let them pass.
    pub mark: Option<u32>,
    /// How long connections may take to end what they have begun, once the proxy accepts no more.
    pub drain: Duration,
    /// How long the proxy goes on accepting after it has said that it is about to leave.
    pub drain_delay: Duration,
    /// The Unix socket by which listeners are taken over from the process before, and given to the next.
    pub takeover: Option<PathBuf>,
    /// What the program logs, if the admin page may ask and change it.
    pub log: Option<LogFilter>,
    /// Where everything runs that is no request, so that no request waits for it; among them without.
    pub beside: Option<Handle>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service: String::new(),
            instance: String::new(),
            version: String::new(),
            region: String::new(),
            zone: String::new(),
            namespace: String::new(),
            labels: BTreeMap::new(),
            weight: 1,
            priority: 0,
            app: None,
            inbound: None,
            advertise: None,
            protocol: Protocol::Http,
            outbound: Vec::new(),
            endpoints: BTreeMap::new(),
            collector: None,
            admin: None,
            balancer: Balancer::LeastRequest,
            timeout: Duration::from_secs(15),
            retry: RetryPolicy { limit: 2, budget_pct: 20.0 },
            local_breaker: true,
            endpoints_file: None,
            policy: Policy::default(),
            policy_file: None,
            resolve: BTreeMap::new(),
            dns_server: None,
            workers: 1,
            tls: None,
            accept_proxy_header: false,
            http_proxy: None,
            capture: None,
            capture_inbound: None,
            unknown_hosts: UnknownHosts::Allow,
            trace_sampling: Percent::ALL,
            log_sampling: Percent::ALL,
            mark: None,
            drain: Duration::from_secs(5),
            drain_delay: Duration::from_millis(100),
            takeover: None,
            log: None,
            beside: None,
        }
    }
}

#[cfg(test)]
mod tests;
