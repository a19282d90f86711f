//! The flags as they are typed, and their translation.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Balancer, Config, ConfigMistake, Outbound, Protocol, RetryPolicy, StaticEndpoint, endpoints};

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
    /// Zone, as a label
    #[arg(long, env = "WEIR_PROXY_ZONE", value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub zone: String,
    /// What the application speaks: http or grpc
    #[arg(long, env = "WEIR_PROXY_PROTOCOL", value_name = "NAME", default_value = "http")]
    pub protocol: String,
    /// How endpoints are chosen: least-request or round-robin
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
            zone: String::new(),
            protocol: "http".to_owned(),
            balancer: "least-request".to_owned(),
            timeout: "15s".to_owned(),
            retries: "2".to_owned(),
            retry_budget: "20".to_owned(),
            local_breaker: "on".to_owned(),
            advertise: None,
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
        let zone = check.name("--zone", &self.zone, false);
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
        if self.app.is_none() && self.outbound.is_empty() {
            check.mistake("--outbound", "NAME=host:port at least once, or --app", "");
        }
        let endpoints = check.endpoints(self.endpoints.as_deref());
        let admin = check.listen("--admin", self.admin.as_deref());
        let collector = match self.collector.as_str() {
            "none" => None,
            address => check.authority("--collector", Some(address)),
        };
        let protocol = check.one("--protocol", "http or grpc", &self.protocol, Protocol::from_name);
        let balancer = check.one("--balancer", "least-request or round-robin", &self.balancer, balancer);
        let local_breaker = check.one("--local-breaker", "on or off", &self.local_breaker, on_off);
        let timeout = check.one("--timeout", "a duration such as 500ms or 15s", &self.timeout, duration);
        let retries = |text: &str| text.parse().ok().filter(|n| *n <= 10_u32);
        let limit = check.one("--retries", "a number from 0 to 10", &self.retries, retries);
        let percent = |text: &str| text.parse().ok().filter(|pct| (0.0..=100.0_f64).contains(pct));
        let budget = check.one("--retry-budget", "per cent from 0 to 100", &self.retry_budget, percent);
        let (
            Some(protocol),
            Some(balancer),
            Some(local_breaker),
            Some(timeout),
            Some(limit),
            Some(budget_pct),
        ) = (protocol, balancer, local_breaker, timeout, limit, budget)
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
            zone,
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
        })
    }
}

#[derive(Default)]
struct Check {
    mistakes: Vec<ConfigMistake>,
}

impl Check {
    fn mistake(&mut self, flag: &str, expected: impl Into<String>, got: &str) {
        let (flag, expected, got) = (flag.to_owned(), expected.into(), got.to_owned());
        self.mistakes.push(ConfigMistake { flag, expected, got });
    }

    /// A name that may stand in a header and a label: printable ASCII without `;` and `=`.
    fn name(&mut self, flag: &str, text: &str, required: bool) -> String {
        if text.is_empty() && !required {
            return String::new();
        }
        if !endpoints::is_name(text) {
            self.mistake(flag, endpoints::A_NAME, text);
        }
        text.to_owned()
    }

    fn one<T>(
        &mut self,
        flag: &str,
        expected: &str,
        text: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = parse(text);
        if value.is_none() {
            self.mistake(flag, expected, text);
        }
        value
    }

    fn listen(&mut self, flag: &str, text: Option<&str>) -> Option<SocketAddr> {
        self.one(flag, "an address to listen on, such as 127.0.0.1:8080", text?, |text| text.parse().ok())
    }

    fn authority(&mut self, flag: &str, text: Option<&str>) -> Option<String> {
        let text = text?.trim_start_matches("http://");
        self.one(flag, "host:port", text, |text| endpoints::is_authority(text).then(|| text.to_owned()))
    }

    fn outbound(&mut self, texts: &[String]) -> Vec<Outbound> {
        let mut names = HashSet::new();
        let mut all = Vec::new();
        for text in texts {
            let parsed = text.split_once('=').and_then(|(name, address)| {
                let listen = address.parse().ok()?;
                endpoints::is_name(name).then(|| Outbound { name: name.to_owned(), listen })
            });
            match parsed {
                None => {
                    self.mistake("--outbound", "NAME=ADDR, such as payments=127.0.0.1:7001", text);
                }
                Some(outbound) if !names.insert(outbound.name.clone()) => {
                    self.mistake("--outbound", "each NAME once", text);
                }
                Some(outbound) => all.push(outbound),
            }
        }
        all
    }

    fn endpoints(&mut self, file: Option<&std::path::Path>) -> BTreeMap<String, Vec<StaticEndpoint>> {
        let Some(file) = file else {
            return BTreeMap::new();
        };
        let shown = file.display().to_string();
        match std::fs::read(file) {
            Err(error) => {
                self.mistake("--endpoints", format!("a readable file ({error})"), &shown);
                BTreeMap::new()
            }
            Ok(bytes) => match endpoints::parse(&bytes) {
                Ok(endpoints) => endpoints,
                Err(problems) => {
                    for problem in problems {
                        self.mistake(
                            &format!("--endpoints {shown}{}", problem.path),
                            problem.expected,
                            &problem.got,
                        );
                    }
                    BTreeMap::new()
                }
            },
        }
    }
}

fn balancer(name: &str) -> Option<Balancer> {
    match name {
        "least-request" => Some(Balancer::LeastRequest),
        "round-robin" => Some(Balancer::RoundRobin),
        _ => None,
    }
}

fn on_off(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// A number with the unit `ms`, `s` or `m`; above zero and at most a day.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return None,
    };
    (seconds > 0.0 && seconds <= 86_400.0).then(|| Duration::from_secs_f64(seconds))
}
