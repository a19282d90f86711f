//! What serde cannot see: names that refer to nothing, numbers that make no sense, patterns that do not compile.

use std::collections::HashSet;
use std::fmt;

use super::destination::{Balancer, Connections, Subset, Tls, TlsMode};
use super::route::{HeaderChanges, HttpMatch, HttpRoute, Rewrite, TextMatch};
use super::{Policy, Resolve, Service};

/// One thing wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `service[payments].route[0].timeout`.
    pub path: String,
    /// What is wrong, and what is expected.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for Mistake {}

impl Policy {
    /// Everything that does not fit together. Hosts that are not in the policy may be in the registry: they are
    /// no mistake.
    pub fn check(&self) -> Vec<Mistake> {
        let mut check = Check { policy: self, path: Vec::new(), found: Vec::new() };
        let mut hosts = HashSet::new();
        for service in &self.services {
            check.at(format!("service[{}]", service.host), |check| {
                if service.host.is_empty() || service.host.len() > 253 {
                    check.wrong("host: expected a name of 1 to 253 characters");
                }
                if !hosts.insert(&service.host) {
                    check.wrong("each host once");
                }
                check.service(service);
            });
        }
        check.found
    }

    /// The service called `host`.
    pub fn service(&self, host: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.host == host)
    }
}

struct Check<'a> {
    policy: &'a Policy,
    path: Vec<String>,
    found: Vec<Mistake>,
}

impl Check<'_> {
    fn at(&mut self, part: impl Into<String>, inside: impl FnOnce(&mut Self)) {
        self.path.push(part.into());
        inside(self);
        self.path.pop();
    }

    fn wrong(&mut self, problem: impl Into<String>) {
        self.found.push(Mistake { path: self.path.join("."), problem: problem.into() });
    }

    fn expect(&mut self, holds: bool, problem: &str) {
        if !holds {
            self.wrong(problem);
        }
    }

    fn service(&mut self, service: &Service) {
        if let Resolve::Dns(name) | Resolve::Srv(name) = &service.resolve {
            self.expect(!name.is_empty(), "resolve: expected a name");
        }
        let mut instances = HashSet::new();
        for (i, endpoint) in service.endpoints.iter().enumerate() {
            self.at(format!("endpoint[{i}]"), |check| {
                let port = endpoint.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                check.expect(port.is_some_and(|port| port > 0), "address: expected host:port");
                let name = if endpoint.instance.is_empty() { &endpoint.address } else { &endpoint.instance };
                check.expect(instances.insert(name), "each instance once");
            });
        }
        for (i, route) in service.routes.iter().enumerate() {
            self.at(format!("route[{i}]"), |check| check.route(service, route));
        }
        self.at("destination", |check| check.destination(service));
    }

    fn route(&mut self, service: &Service, route: &HttpRoute) {
        let ends = [!route.to.is_empty(), route.redirect.is_some(), route.respond.is_some()];
        self.expect(ends.iter().filter(|set| **set).count() <= 1, "one of to, redirect and respond");
        let weights: u64 = route.to.iter().map(|to| u64::from(to.weight)).sum();
        self.expect(route.to.is_empty() || weights > 0, "to: expected a weight above 0");
        for to in &route.to {
            self.target(service, &to.host, &to.subset, "to");
            self.changes(&to.headers.request);
            self.changes(&to.headers.response);
        }
        for mirror in &route.mirrors {
            self.target(service, &mirror.host, &mirror.subset, "mirror");
        }
        for (i, one) in route.matches.iter().enumerate() {
            self.at(format!("match[{i}]"), |check| check.conditions(one));
        }
        if let Some(redirect) = &route.redirect {
            let known = matches!(redirect.status, 301 | 302 | 303 | 307 | 308);
            self.expect(known, "redirect.status: expected 301, 302, 303, 307 or 308");
            self.expect(
                redirect.path.is_none() || redirect.prefix.is_none(),
                "redirect: one of path and prefix",
            );
        }
        if let Some(respond) = &route.respond {
            self.expect((200..600).contains(&respond.status), "respond.status: expected 200 to 599");
            self.expect(respond.body.len() <= 1 << 20, "respond.body: expected at most 1 MiB");
        }
        let Rewrite { path, full_path, regex, authority: _ } = &route.rewrite;
        let ways = [path.is_some(), full_path.is_some(), regex.is_some()];
        self.expect(
            ways.iter().filter(|set| **set).count() <= 1,
            "rewrite: one of path, full_path and regex",
        );
        if let Some(rewrite) = regex {
            self.regex(&rewrite.find, "rewrite.regex.find");
        }
        self.changes(&route.headers.request);
        self.changes(&route.headers.response);
        if let Some(abort) = &route.fault.abort {
            let one = abort.status.is_some() != abort.grpc_status.is_some();
            self.expect(one, "fault.abort: one of status and grpc_status");
            let fits = abort.status.is_none_or(|status| (200..600).contains(&status))
                && abort.grpc_status.is_none_or(|status| status <= 16);
            self.expect(
                fits,
                "fault.abort: expected a status from 200 to 599, or a gRPC status from 0 to 16",
            );
        }
        if let Some(retries) = &route.retries {
            self.expect(retries.attempts <= 25, "retries.attempts: expected 0 to 25");
            self.expect(retries.backoff.0.as_micros() > 0, "retries.backoff: expected more than 0");
            self.expect(
                retries.max_backoff >= retries.backoff,
                "retries.max_backoff: expected backoff or more",
            );
        }
        if let Some(hedge) = &route.hedge {
            self.expect((2..=5).contains(&hedge.attempts), "hedge.attempts: expected 2 to 5");
        }
        for (i, limit) in route.rate_limits.iter().enumerate() {
            self.at(format!("rate_limit[{i}]"), |check| {
                check.expect(limit.requests > 0, "requests: expected 1 or more");
                check.expect(limit.per.0.as_millis() > 0, "per: expected 1ms or more");
                check.expect(limit.burst != Some(0), "burst: expected 1 or more");
                if !limit.header.is_empty() {
                    check.header_name(&limit.header);
                }
            });
        }
        if let Some(cors) = &route.cors {
            self.expect(!cors.allow_origins.is_empty(), "cors.allow_origins: expected one or more");
            for origin in &cors.allow_origins {
                self.text(origin, "cors.allow_origins");
            }
        }
    }

    /// A subset that nobody defines is a mistake where its service is known.
    fn target(&mut self, own: &Service, host: &str, subset: &str, what: &str) {
        let service = if host.is_empty() { Some(own) } else { self.policy.service(host) };
        let has = |service: &Service| service.destination.subsets.iter().any(|one| one.name == *subset);
        if !subset.is_empty() && !service.is_some_and(has) {
            let host = if host.is_empty() { &own.host } else { host };
            self.wrong(format!("{what}: `{host}` has no subset `{subset}`"));
        }
    }

    fn conditions(&mut self, one: &HttpMatch) {
        for (what, text) in [
            ("path", &one.path),
            ("method", &one.method),
            ("authority", &one.authority),
            ("scheme", &one.scheme),
            ("source", &one.source),
            ("grpc", &one.grpc),
        ] {
            if let Some(text) = text {
                self.text(text, what);
            }
        }
        for (name, text) in one.headers.iter().chain(&one.without_headers) {
            self.header_name(name);
            self.text(text, &format!("headers.{name}"));
        }
        for (name, text) in &one.query {
            self.text(text, &format!("query.{name}"));
        }
    }

    fn text(&mut self, text: &TextMatch, what: &str) {
        if let TextMatch::Regex(pattern) = text {
            self.regex(pattern, what);
        }
    }

    fn regex(&mut self, pattern: &str, what: &str) {
        if let Err(error) = regex::Regex::new(pattern) {
            let last = error.to_string();
            self.wrong(format!("{what}: `{pattern}`: {}", last.lines().last().unwrap_or_default().trim()));
        }
    }

    fn changes(&mut self, changes: &HeaderChanges) {
        for name in changes.set.keys().chain(changes.add.keys()).chain(&changes.remove) {
            self.header_name(name);
        }
    }

    fn header_name(&mut self, name: &str) {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            self.wrong(format!("`{name}`: expected a header name"));
        }
    }

    fn destination(&mut self, service: &Service) {
        let to = &service.destination;
        self.balancer(&to.balancer);
        let mut names = HashSet::new();
        for Subset { name, labels, balancer } in &to.subsets {
            self.at(format!("subset[{name}]"), |check| {
                check.expect(!name.is_empty() && names.insert(name), "each name once, and none empty");
                check.expect(!labels.is_empty(), "labels: expected one or more");
                if let Some(balancer) = balancer {
                    check.balancer(balancer);
                }
            });
        }
        self.expect(to.locality.overprovisioning >= 1.0, "locality.overprovisioning: expected 1 or more");
        if let Some(warmup) = &to.warmup {
            self.expect(warmup.aggression > 0.0, "warmup.aggression: expected more than 0");
        }
        self.at("connections", |check| check.connections(&to.connections));
        let outlier = &to.outlier_detection;
        self.expect(outlier.interval.0.as_millis() > 0, "outlier_detection.interval: expected 1ms or more");
        if let Some(check) = &to.health_check {
            self.expect(check.interval.0.as_millis() >= 10, "health_check.interval: expected 10ms or more");
            self.expect(
                check.unhealthy_threshold > 0 && check.healthy_threshold > 0,
                "health_check: expected thresholds of 1 or more",
            );
        }
        if let Some(adaptive) = &to.adaptive_concurrency {
            let fits = (1..=adaptive.max_limit).contains(&adaptive.min_limit);
            self.expect(fits, "adaptive_concurrency: expected a min_limit from 1 to max_limit");
            self.expect(adaptive.tolerance >= 1.0, "adaptive_concurrency.tolerance: expected 1 or more");
        }
        if let Some(tls) = &to.tls {
            self.tls(tls);
        }
    }

    fn connections(&mut self, told: &Connections) {
        let one = |bound: Option<u32>| bound != Some(0);
        self.expect(one(told.max_connections), "max_connections: expected 1 or more");
        self.expect(one(told.max_requests), "max_requests: expected 1 or more");
        self.expect(told.max_concurrent_streams > 0, "max_concurrent_streams: expected 1 or more");
        self.expect(told.connect_timeout.0.as_millis() > 0, "connect_timeout: expected 1ms or more");
        self.expect(told.idle_timeout.0.as_millis() > 0, "idle_timeout: expected 1ms or more");
        let probed = told.tcp_keepalive.is_none_or(|length| length.0.as_secs() > 0);
        self.expect(probed, "tcp_keepalive: expected 1s or more");
    }

    fn balancer(&mut self, balancer: &Balancer) {
        match balancer {
            Balancer::RingHash { points, .. } => {
                self.expect((1..=65_536).contains(points), "balancer.ring_hash.points: expected 1 to 65536");
            }
            Balancer::Maglev { entries, .. } => {
                let prime = (2..).take_while(|n| n * n <= *entries).all(|n| !entries.is_multiple_of(n));
                let fits = (3..=5_000_011).contains(entries) && prime;
                self.expect(fits, "balancer.maglev.entries: expected a prime from 3 to 5000011");
            }
            _ => {}
        }
    }

    fn tls(&mut self, tls: &Tls) {
        let pair = tls.cert.is_some() && tls.key.is_some();
        let authorities = tls.ca.is_some();
        self.expect(tls.cert.is_some() == tls.key.is_some(), "tls: cert and key belong together");
        match tls.mode {
            TlsMode::Disable => {}
            TlsMode::Simple => {
                self.expect(authorities, "tls: simple needs ca");
                self.expect(!pair, "tls: simple shows no cert; say mutual");
            }
            TlsMode::Mutual => {
                self.expect(authorities, "tls: mutual needs ca");
                self.expect(pair, "tls: mutual needs cert and key");
            }
            TlsMode::MeshMutual => {
                self.expect(!authorities && !pair, "tls: mesh_mutual has the proxy's own ca, cert and key");
            }
        }
    }
}
