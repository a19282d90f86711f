//! How a service's endpoints are chosen, watched and protected: Istio's `trafficPolicy`, and what it lacks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Length, Percent, is_default};

/// How a service's endpoints are chosen, watched and protected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Destination {
    /// How an endpoint is chosen.
    #[serde(skip_serializing_if = "is_default")]
    pub balancer: Balancer,
    /// Whether endpoints nearby are preferred.
    #[serde(skip_serializing_if = "is_default")]
    pub locality: Locality,
    /// New endpoints get their full share only after a while; none where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
    /// Bounds on connections and requests.
    #[serde(skip_serializing_if = "is_default")]
    pub connections: Connections,
    /// Ejection of endpoints that fail the requests they get.
    #[serde(skip_serializing_if = "is_default")]
    pub outlier_detection: OutlierDetection,
    /// Checks that are sent to endpoints; none where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// When fewer than this share of the endpoints are healthy, all are used; 0 never.
    pub panic_threshold: Option<Percent>,
    /// A limit on requests under way that follows the latency; none where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// How many retries there may be beside first attempts.
    #[serde(skip_serializing_if = "is_default")]
    pub retry_budget: RetryBudget,
    /// Encryption towards the endpoints. Where absent, proxies with an identity use it among each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Whether connections that are passed on byte by byte begin with a PROXY header, and of which version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Named parts of the service.
    #[serde(rename = "subset", skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<Subset>,
}

/// A named part of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Subset {
    /// Its name, by which routes refer to it.
    pub name: String,
    /// Labels that its endpoints have.
    pub labels: BTreeMap<String, String>,
    /// How an endpoint is chosen, where it differs from the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balancer: Option<Balancer>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Balancer {
    /// The one with fewer requests under way of two that are drawn.
    #[default]
    LeastRequest,
    /// Each in turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// The one with the lower expected latency of two that are drawn: a moving average that jumps to a peak,
    /// times the requests under way; a failure counts as slow.
    PeakEwma,
    /// By a hash on a ring of points (ketama).
    RingHash {
        /// What is hashed.
        key: HashKey,
        /// Points on the ring, at least; Istio's default is 1,024.
        #[serde(default = "ring_points")]
        points: u32,
    },
    /// By a hash in a table (Maglev, NSDI 2016).
    Maglev {
        /// What is hashed.
        key: HashKey,
        /// Entries of the table, a prime; Istio's default is 65,537.
        #[serde(default = "maglev_entries")]
        entries: u32,
    },
}

fn ring_points() -> u32 {
    1_024
}

fn maglev_entries() -> u32 {
    65_537
}

/// What a consistent hash is made of. A request without it is balanced at random.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HashKey {
    /// The value of a request header.
    Header(String),
    /// The value of a cookie, set where it is missing when it has a time to live.
    Cookie {
        /// Its name.
        name: String,
        /// Its path when it is set.
        #[serde(default)]
        path: String,
        /// Its time to live when it is set; 0 is a session's; never set where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl: Option<Length>,
    },
    /// The address of the caller.
    SourceIp,
    /// The value of a query parameter.
    Query(String),
}

/// Whether endpoints nearby are preferred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Locality {
    /// Whether at all: first the same zone, then the same region, then the rest.
    pub prefer: bool,
    /// A nearby group is filled while the healthy share of its endpoints times this factor reaches 1; what it
    /// cannot take spills over to the next (Envoy's overprovisioning factor).
    pub overprovisioning: f64,
    /// Shares of traffic by place, `region/zone` or `region/*`, that replace the preference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distribute: Vec<Distribute>,
}

impl Default for Locality {
    fn default() -> Self {
        Self { prefer: false, overprovisioning: 1.4, distribute: Vec::new() }
    }
}

/// Where the traffic of one place goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distribute {
    /// The caller's place: `region/zone`, `region/*` or `*`.
    pub from: String,
    /// Weights by place.
    pub to: BTreeMap<String, u32>,
}

/// New endpoints get their full share only after a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Warmup {
    /// After how long the share is full.
    pub duration: Length,
    /// The share at the beginning.
    pub minimum: Percent,
    /// The exponent's inverse: 1 is linear, more is faster at first.
    pub aggression: f64,
}

impl Default for Warmup {
    fn default() -> Self {
        Self { duration: Length::secs(30), minimum: Percent::whole(10), aggression: 1.0 }
    }
}

/// Bounds on connections and requests, for all endpoints together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// Connections; none where absent.
    pub max_connections: Option<u32>,
    /// Requests under way; none where absent.
    pub max_requests: Option<u32>,
    /// Requests that wait for a connection; none where absent.
    pub max_pending: Option<u32>,
    /// Requests under way above which those of default priority are refused, so that high priority has room.
    pub reserved_for_high_priority: Option<u32>,
    /// Requests that one connection serves before it is closed; 0 is no bound.
    pub max_requests_per_connection: u32,
    /// How long a connection may take to come about.
    pub connect_timeout: Length,
    /// How long an idle connection is kept for further requests.
    pub idle_timeout: Length,
    /// After how long the kernel asks a silent end whether it is still there; 20 s where absent.
    pub tcp_keepalive: Option<Length>,
    /// Whether HTTP/1.1 requests go to endpoints behind proxies as HTTP/2.
    pub http2_upgrade: bool,
    /// Streams of one HTTP/2 connection at once, before another one is opened.
    pub max_concurrent_streams: u32,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_requests: None,
            max_pending: None,
            reserved_for_high_priority: None,
            max_requests_per_connection: 0,
            connect_timeout: Length::secs(2),
            idle_timeout: Length::secs(30),
            tcp_keepalive: None,
            http2_upgrade: false,
            max_concurrent_streams: 100,
        }
    }
}

/// Ejection of endpoints that fail the requests they get: every field of Istio's `outlierDetection`, a success
/// rate as Envoy has it, and Weir's own comparison with the peers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierDetection {
    /// Whether at all.
    pub enabled: bool,
    /// Answers of 500 to 599, and failures, in a row that eject; 0 is off.
    #[serde(rename = "consecutive_5xx_errors")]
    pub consecutive_5xx_errors: u32,
    /// Answers of 502, 503 and 504, and failures, in a row that eject; 0 is off.
    pub consecutive_gateway_errors: u32,
    /// Whether failures to connect, timeouts and resets are counted apart …
    pub split_external_local_origin_errors: bool,
    /// … and how many of them in a row eject; 0 is off.
    pub consecutive_local_origin_failures: u32,
    /// Further statuses that count as 5xx, of gRPC below 100.
    pub http_error_codes: Vec<u16>,
    /// How often success rates are compared; each interval in order makes up for one ejection.
    pub interval: Length,
    /// Length of a first ejection; the n-th is n times as long.
    pub base_ejection_time: Length,
    /// Length of an ejection at most.
    pub max_ejection_time: Length,
    /// Share of endpoints that may be ejected; at least one.
    pub max_ejection_percent: Percent,
    /// Nothing is ejected while fewer are healthy.
    pub min_health_percent: Percent,
    /// Comparison of success rates by standard deviations; none where absent.
    pub success_rate: Option<SuccessRate>,
    /// Comparison of failure rates with those of the peers by how unlikely the difference is.
    pub compare_with_peers: bool,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_5xx_errors: 5,
            consecutive_gateway_errors: 0,
            split_external_local_origin_errors: false,
            consecutive_local_origin_failures: 5,
            http_error_codes: Vec::new(),
            interval: Length::secs(1),
            base_ejection_time: Length::secs(10),
            max_ejection_time: Length::secs(300),
            max_ejection_percent: Percent::whole(50),
            min_health_percent: Percent::whole(50),
            success_rate: None,
            compare_with_peers: true,
        }
    }
}

/// Ejects endpoints whose success rate is below the mean by more than so many standard deviations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuccessRate {
    /// Endpoints with enough requests that there must be.
    pub minimum_hosts: u32,
    /// Requests in an interval that an endpoint must have had.
    pub request_volume: u32,
    /// Standard deviations, in thousandths.
    pub stdev_factor: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 100, stdev_factor: 1_900 }
    }
}

/// Checks that are sent to endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// Between two checks of an endpoint.
    pub interval: Length,
    /// How long an answer may take.
    pub timeout: Length,
    /// Failures in a row after which an endpoint is unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row after which it is healthy again.
    pub healthy_threshold: u32,
    /// The port, where it is not that of the traffic.
    pub port: Option<u16>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            interval: Length::secs(10),
            timeout: Length::secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            port: None,
        }
    }
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CheckKind {
    /// Whether a connection comes about.
    Tcp,
    /// An HTTP request.
    Http {
        /// Its path.
        path: String,
        /// Its `Host`; the service where it is empty.
        #[serde(default)]
        host: String,
        /// Statuses that are healthy; 200 to 299 where there are none.
        #[serde(default)]
        statuses: Vec<u16>,
    },
    /// gRPC's health protocol (grpc.health.v1).
    Grpc {
        /// The service that is asked for; the whole server where it is empty.
        #[serde(default)]
        service: String,
    },
}

/// A limit on requests under way that follows the latency (Netflix' Gradient2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptiveConcurrency {
    /// The lowest limit.
    pub min_limit: u32,
    /// The highest.
    pub max_limit: u32,
    /// By how much the latency may exceed its long average before the limit falls: 1.5 is half as much again.
    pub tolerance: f64,
}

impl Default for AdaptiveConcurrency {
    fn default() -> Self {
        Self { min_limit: 20, max_limit: 1_000, tolerance: 1.5 }
    }
}

/// How many retries there may be beside first attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Share of the requests that retries may add.
    pub percent: Percent,
    /// Retries per second that are always allowed.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: Percent::whole(20), min_per_second: 3 }
    }
}

/// Encryption towards the endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whether, and whether the proxy shows a certificate.
    pub mode: TlsMode,
    /// File of certificates that vouch for the server; not for `mesh_mutual`, which has the proxy's own.
    pub ca: Option<String>,
    /// File of the own certificate chain.
    pub cert: Option<String>,
    /// File of its key.
    pub key: Option<String>,
    /// The name that is asked for; the service where it is empty.
    pub sni: String,
    /// Names of which the server's certificate must have one; the asked name where there are none.
    pub subject_alt_names: Vec<String>,
}

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// No.
    #[default]
    Disable,
    /// The server shows a certificate.
    Simple,
    /// Both do.
    Mutual,
    /// Both do, with the proxy's identity in the mesh.
    MeshMutual,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}
