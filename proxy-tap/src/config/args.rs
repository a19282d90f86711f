//! The flags as they are typed, and their translation.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use weir_model::limits;

use super::check::{Check, duration, duration_or_none, on_off, unknown_hosts};
use super::{Balancer, Config, ConfigMistake, Percent, Protocol, RetryPolicy};

/// Flags of a proxy, for `weir proxy` and `weir-proxy` alike.
#[derive(Debug, Clone, clap::Args)]
pub struct ProxyArgs {
    /// Name of the service this proxy stands beside
    #[arg(
        long,
        env = "WEIR_PROXY_SERVICE",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub service: String,
    /// The local application that inbound requests go to
    #[arg(long, env = "WEIR_PROXY_APP", value_name = "ADDR")]
    pub app: Option<String>,
    /// Where inbound requests arrive (127.0.0.1:0 when --app is given)
    #[arg(long, env = "WEIR_PROXY_INBOUND", value_name = "ADDR")]
    pub inbound: Option<String>,
    /// Listener for the application's calls to service NAME; port 0 picks one (repeatable)
    #[arg(long, env = "WEIR_PROXY_OUTBOUND", value_name = "NAME=ADDR", value_delimiter = ',')]
    pub outbound: Vec<String>,
    /// JSON file of endpoints by service
    #[arg(long, env = "WEIR_PROXY_ENDPOINTS", value_name = "FILE")]
    pub endpoints: Option<PathBuf>,
    /// The collector, or `none`
    #[arg(long, env = "WEIR_PROXY_COLLECTOR", value_name = "ADDR", default_value = "127.0.0.1:4317")]
    pub collector: String,
    /// Where to serve health and state
    #[arg(long, env = "WEIR_PROXY_ADMIN", value_name = "ADDR")]
    pub admin: Option<String>,
    /// Name of this endpoint, unique in the mesh (made up when absent)
    #[arg(
        long,
        env = "WEIR_PROXY_INSTANCE",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub instance: String,
    /// Version of the service, as a label
    #[arg(
        long,
        env = "WEIR_PROXY_VERSION_LABEL",
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub version_label: String,
    /// Region, of which the zone is a part
    #[arg(
        long,
        env = "WEIR_PROXY_REGION",
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub region: String,
    /// Zone, as a label
    #[arg(long, env = "WEIR_PROXY_ZONE", value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub zone: String,
    /// Namespace of the workload, as a label
    #[arg(
        long,
        env = "WEIR_PROXY_NAMESPACE",
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub namespace: String,
    /// What subsets of the service select this endpoint by (repeatable)
    #[arg(long, env = "WEIR_PROXY_LABEL", value_name = "NAME=VALUE", value_delimiter = ',')]
    pub label: Vec<String>,
    /// Share of traffic relative to the service's other endpoints; 0 gets none
    #[arg(long, env = "WEIR_PROXY_WEIGHT", value_name = "N", default_value = "1")]
    pub weight: String,
    /// Endpoints of a higher number are used when too few of a lower one are healthy
    #[arg(long, env = "WEIR_PROXY_PRIORITY", value_name = "N", default_value = "0")]
    pub priority: String,
    /// What the application speaks: http, http2, grpc or tcp
    #[arg(long, env = "WEIR_PROXY_PROTOCOL", value_name = "NAME", default_value = "http")]
    pub protocol: String,
    /// How endpoints are chosen: least-request, round-robin, random or peak-ewma
    #[arg(long, env = "WEIR_PROXY_BALANCER", value_name = "NAME", default_value = "least-request")]
    pub balancer: String,
    /// How long until the head of a response must be there, such as 500ms or 15s
    #[arg(long, env = "WEIR_PROXY_TIMEOUT", value_name = "DURATION", default_value = "15s")]
    pub timeout: String,
    /// Retries per request; 0 turns them off
    #[arg(long, env = "WEIR_PROXY_RETRIES", value_name = "N", default_value = "2")]
    pub retries: String,
    /// Share of requests, in per cent, that retries may add
    #[arg(long, env = "WEIR_PROXY_RETRY_BUDGET", value_name = "PCT", default_value = "20")]
    pub retry_budget: String,
    /// Whether to eject endpoints by what this proxy sees itself: on or off
    #[arg(long, env = "WEIR_PROXY_LOCAL_BREAKER", value_name = "on|off", default_value = "on")]
    pub local_breaker: String,
    /// The address other proxies are told (the inbound one when absent)
    #[arg(long, env = "WEIR_PROXY_ADVERTISE", value_name = "ADDR")]
    pub advertise: Option<String>,
    /// TOML file of services: routes, destinations, endpoints
    #[arg(long, env = "WEIR_PROXY_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Where a service's endpoints are found: dns://host:port or srv://_name._tcp.host (repeatable)
    #[arg(long, env = "WEIR_PROXY_RESOLVE", value_name = "NAME=URL", value_delimiter = ',')]
    pub resolve: Vec<String>,
    /// The DNS server that is asked (the system's when absent)
    #[arg(long, env = "WEIR_PROXY_DNS_SERVER", value_name = "ADDR")]
    pub dns_server: Option<String>,
    /// Where requests arrive that name their host, for HTTP_PROXY
    #[arg(long, env = "WEIR_PROXY_HTTP_PROXY", value_name = "ADDR")]
    pub http_proxy: Option<String>,
    /// Where the application's connections arrive that the kernel redirects; [::]:PORT takes IPv4 and IPv6
    #[arg(long, env = "WEIR_PROXY_CAPTURE", value_name = "ADDR")]
    pub capture: Option<String>,
    /// Where connections to the application and to other ports beside it arrive that the kernel redirects
    #[arg(long, env = "WEIR_PROXY_CAPTURE_INBOUND", value_name = "ADDR")]
    pub capture_inbound: Option<String>,
    /// Requests for hosts that nobody knows: allow or deny
    #[arg(long, env = "WEIR_PROXY_UNKNOWN_HOSTS", value_name = "NAME", default_value = "allow")]
    pub unknown_hosts: String,
    /// Mark of the proxy's own connections, by which the kernel's rules let them pass
    #[arg(long, env = "WEIR_PROXY_MARK", value_name = "N")]
    pub mark: Option<u32>,
    /// Inbound connections begin with a PROXY header
    #[arg(long, env = "WEIR_PROXY_ACCEPT_PROXY_HEADER")]
    pub accept_proxy_header: bool,
    /// The proxy's certificate chain, PEM; with it both ways between proxies are encrypted
    #[arg(long, env = "WEIR_PROXY_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The key of --tls-cert, PEM
    #[arg(long, env = "WEIR_PROXY_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The authorities that vouch for other proxies, PEM
    #[arg(long, env = "WEIR_PROXY_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Callers may come without TLS all the same
    #[arg(long, env = "WEIR_PROXY_TLS_PLAINTEXT")]
    pub tls_plaintext: bool,
    /// Share, in per cent, of the traces begun here that are exported
    #[arg(long, env = "WEIR_PROXY_TRACE_SAMPLING", value_name = "PCT", default_value = "100")]
    pub trace_sampling: String,
    /// Share, in per cent, of the requests without a fault whose access log is exported
    #[arg(long, env = "WEIR_PROXY_LOG_SAMPLING", value_name = "PCT", default_value = "100")]
    pub log_sampling: String,
    /// Threads, each with its own listeners and connections
    #[arg(long, env = "WEIR_PROXY_WORKERS", value_name = "N", default_value = "1")]
    pub workers: String,
    /// How long connections may take to end when the proxy stops
    #[arg(long, env = "WEIR_PROXY_DRAIN", value_name = "DURATION", default_value = "5s")]
    pub drain: String,
    /// How long to go on accepting after withdrawing, so that callers learn of it
    ///
    /// Callers that are proxies of the mesh are told within milliseconds, which the default covers. Where a load
    /// balancer asks /readyz instead, give the time that it takes to notice.
    #[arg(long, env = "WEIR_PROXY_DRAIN_DELAY", value_name = "DURATION", default_value = "100ms")]
    pub drain_delay: String,
    /// Unix socket by which a new process takes the listeners over from the one before it
    #[arg(long, env = "WEIR_PROXY_TAKEOVER", value_name = "PATH")]
    pub takeover: Option<PathBuf>,
}

impl Default for ProxyArgs {
    fn default() -> Self {
        Self {
            service: String::new(),
            app: None,
            inbound: None,
            outbound: Vec::new(),
            endpoints: None,
            collector: "127.0.0.1:4317".to_owned(),
            admin: None,
            instance: String::new(),
            version_label: String::new(),
            region: String::new(),
            zone: String::new(),
            namespace: String::new(),
            label: Vec::new(),
            weight: "1".to_owned(),
            priority: "0".to_owned(),
            protocol: "http".to_owned(),
            balancer: "least-request".to_owned(),
            timeout: "15s".to_owned(),
            retries: "2".to_owned(),
            retry_budget: "20".to_owned(),
            local_breaker: "on".to_owned(),
            advertise: None,
            policy: None,
            resolve: Vec::new(),
            dns_server: None,
            http_proxy: None,
            capture: None,
            capture_inbound: None,
            unknown_hosts: "allow".to_owned(),
            mark: None,
            accept_proxy_header: false,
            tls_cert: None,
            tls_key: None,
            tls_ca: None,
            tls_plaintext: false,
            trace_sampling: "100".to_owned(),
            log_sampling: "100".to_owned(),
            workers: "1".to_owned(),
            drain: "5s".to_owned(),
            drain_delay: "100ms".to_owned(),
            takeover: None,
        }
    }
}

impl ProxyArgs {
    /// The configuration these flags mean, or everything that is wrong with them.
    pub fn into_config(self) -> Result<Config, Vec<ConfigMistake>> {
        let mut check = Check::default();
        let service = check.name("--service", &self.service, true);
        let instance = check.name("--instance", &self.instance, false);
        let version = check.name("--version-label", &self.version_label, false);
        let region = check.name("--region", &self.region, false);
        let zone = check.name("--zone", &self.zone, false);
        let namespace = check.name("--namespace", &self.namespace, false);
        let labels = check.labels(&self.label);
        let weight = check.number("--weight", &self.weight, limits::ENDPOINT_WEIGHT);
        let priority = check.number("--priority", &self.priority, limits::ENDPOINT_PRIORITY);
        let app = check.authority("--app", self.app.as_deref());
        let inbound = check.listen("--inbound", self.inbound.as_deref());
        if inbound.is_some() && self.app.is_none() {
            check.mistake("--app", "host:port of the application that --inbound forwards to", "");
        }
        let advertise = check.authority("--advertise", self.advertise.as_deref());
        if advertise.is_some() && self.app.is_none() {
            check.mistake("--app", "host:port of the application that --advertise speaks of", "");
        }
        if let (Some(address), None) = (inbound.filter(|address| address.ip().is_unspecified()), &advertise) {
            let expected = "host:port that others can reach, because --inbound names no interface";
            check.mistake("--advertise", expected, &address.to_string());
        }
        let outbound = check.outbound(&self.outbound);
        let http_proxy = check.listen("--http-proxy", self.http_proxy.as_deref());
        let capture = check.listen("--capture", self.capture.as_deref());
        let capture_inbound = check.listen("--capture-inbound", self.capture_inbound.as_deref());
        let has_way = !self.outbound.is_empty() || self.http_proxy.is_some() || self.capture.is_some();
        if self.app.is_none() && !has_way {
            check.mistake("--outbound", "NAME=host:port at least once, or --app", "");
        }
        if capture_inbound.is_some() && self.app.is_none() {
            check.mistake("--app", "host:port of the application that --capture-inbound forwards to", "");
        }
        let resolve = check.resolve(&self.resolve);
        let dns_server = check.listen("--dns-server", self.dns_server.as_deref());
        let tls = check.tls([&self.tls_cert, &self.tls_key, &self.tls_ca], self.tls_plaintext);
        let policy = check.policy(self.policy.as_deref(), tls.as_ref().map(|tls| &tls.files));
        let endpoints = check.endpoints(self.endpoints.as_deref());
        let admin = check.listen("--admin", self.admin.as_deref());
        let collector = match self.collector.as_str() {
            "none" => None,
            address => check.authority("--collector", Some(address)),
        };
        let protocol =
            check.one("--protocol", "http, http2, grpc or tcp", &self.protocol, Protocol::from_name);
        let balancers = "least-request, round-robin, random or peak-ewma";
        let balancer = check.one("--balancer", balancers, &self.balancer, Balancer::from_name);
        let local_breaker = check.one("--local-breaker", "on or off", &self.local_breaker, on_off);
        let timeout = check.one("--timeout", "a duration such as 500ms or 15s", &self.timeout, duration);
        let retries = |text: &str| text.parse().ok().filter(|n| *n <= 10_u32);
        let limit = check.one("--retries", "a number from 0 to 10", &self.retries, retries);
        let percent = |text: &str| text.parse().ok().filter(|pct| (0.0..=100.0_f64).contains(pct));
        let budget = check.one("--retry-budget", "per cent from 0 to 100", &self.retry_budget, percent);
        let unknown_hosts = check.one("--unknown-hosts", "allow or deny", &self.unknown_hosts, unknown_hosts);
        let pause = "a duration such as 0s or 500ms";
        let drain = check.one("--drain", pause, &self.drain, duration_or_none);
        let drain_delay = check.one("--drain-delay", pause, &self.drain_delay, duration_or_none);
        let workers = |text: &str| text.parse().ok().filter(|n| (1..=limits::PROXY_WORKERS).contains(n));
        let workers = check.one("--workers", "a number from 1 to 64", &self.workers, workers);
        let share = |text: &str| text.parse().ok().and_then(Percent::new);
        let trace_sampling =
            check.one("--trace-sampling", "per cent from 0 to 100", &self.trace_sampling, share);
        let log_sampling = check.one("--log-sampling", "per cent from 0 to 100", &self.log_sampling, share);
        let (
            Some(protocol),
            Some(balancer),
            Some(local_breaker),
            Some(timeout),
            Some(limit),
            Some(budget_pct),
            Some(unknown_hosts),
            Some(workers),
            Some(trace_sampling),
            Some(log_sampling),
            Some((drain, drain_delay)),
        ) = (
            protocol,
            balancer,
            local_breaker,
            timeout,
            limit,
            budget,
            unknown_hosts,
            workers,
            trace_sampling,
            log_sampling,
            drain.zip(drain_delay),
        )
        else {
            return Err(check.mistakes);
        };
        if !check.mistakes.is_empty() {
            return Err(check.mistakes);
        }
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Ok(Config {
            service,
            instance,
            version,
            region,
            zone,
            namespace,
            labels,
            weight,
            priority,
            inbound: inbound.or(app.as_ref().map(|_| loopback)),
            app,
            advertise,
            protocol,
            outbound,
            endpoints,
            collector,
            admin,
            balancer,
            timeout,
            retry: RetryPolicy { limit, budget_pct },
            local_breaker,
            endpoints_file: self.endpoints,
            policy,
            policy_file: self.policy,
            resolve,
            dns_server,
            trace_sampling,
            log_sampling,
            workers,
            tls,
            accept_proxy_header: self.accept_proxy_header,
            http_proxy,
            capture,
            capture_inbound,
            unknown_hosts,
            mark: self.mark,
            drain,
            drain_delay,
            takeover: self.takeover,
            log: None,
            beside: None,
        })
    }
}
