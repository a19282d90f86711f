//! Where a request goes and what happens to it on the way: Istio's HTTP routes, and what they lack.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Length, Percent, is_default};

/// What happens to the requests it matches. Exactly one of `to`, `redirect` and `respond` says where they end;
/// where all are absent they go to the service that has the route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpRoute {
    /// Its name in telemetry and hints; its number where it is empty.
    pub name: String,
    /// Any of these; every request where there are none.
    #[serde(rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// Where requests go, by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<WeightedTarget>,
    /// They are told to go elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// They are answered here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// Path and host are changed.
    #[serde(skip_serializing_if = "is_default")]
    pub rewrite: Rewrite,
    /// Headers are changed.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: HeaderRules,
    /// How long until the response has ended; the proxy's default where absent, 0 is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Length>,
    /// What is sent again; the proxy's default where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// A second attempt when the first is slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// Faults on purpose.
    #[serde(skip_serializing_if = "is_default")]
    pub fault: Fault,
    /// Copies to others, whose answers nobody reads.
    #[serde(rename = "mirror", skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Answers to browsers of other origins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Limits on the rate; all of them hold.
    #[serde(rename = "rate_limit", skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// Which requests are refused first.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// Whether `Upgrade` (WebSocket) passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<bool>,
}

/// Conditions that all hold for a request that matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpMatch {
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<TextMatch>,
    /// Whether the path is compared without regard to case.
    #[serde(skip_serializing_if = "is_default")]
    pub ignore_path_case: bool,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<TextMatch>,
    /// The authority: host, and port where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<TextMatch>,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<TextMatch>,
    /// Headers, names in lowercase.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, TextMatch>,
    /// Headers that must not match.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub without_headers: BTreeMap<String, TextMatch>,
    /// Query parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, TextMatch>,
    /// The calling service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<TextMatch>,
    /// The gRPC method, `package.Service/Method`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<TextMatch>,
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMatch {
    /// It is this.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// The path is this, or this and a slash and more (Gateway API's `PathPrefix`).
    PathPrefix(String),
    /// All of it matches this regular expression (RE2 syntax).
    Regex(String),
    /// It is there, whatever it is; `false`: it is absent.
    Present(bool),
}

/// A service or a subset of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// The service.
    pub host: String,
    /// The subset; the whole service where it is empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subset: String,
}

/// Where a share of the requests goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightedTarget {
    /// The service; that which has the route where it is empty.
    pub host: String,
    /// The subset; the whole service where it is empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subset: String,
    /// Its weight among the targets.
    pub weight: u32,
    /// Headers are changed for this target alone.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: HeaderRules,
}

impl Default for WeightedTarget {
    fn default() -> Self {
        Self { host: String::new(), subset: String::new(), weight: 1, headers: HeaderRules::default() }
    }
}

/// The caller is told to go elsewhere. What is absent stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<String>,
    /// The host.
    pub authority: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<String>,
    /// What replaces the part of the path that a prefix matched.
    pub prefix: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { scheme: None, authority: None, port: None, path: None, prefix: None, status: 301 }
    }
}

/// The proxy's own answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Respond {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
    /// Its content type.
    pub content_type: String,
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: 200, body: String::new(), content_type: "text/plain; charset=utf-8".to_owned() }
    }
}

/// Path and host as the target gets them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// What replaces the part of the path that a prefix matched, or all of it where none did.
    pub path: Option<String>,
    /// What replaces all of the path, whatever matched it.
    pub full_path: Option<String>,
    /// What replaces all that a regular expression finds in the path.
    pub regex: Option<RegexRewrite>,
    /// The `Host`.
    pub authority: Option<String>,
}

/// A replacement in the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegexRewrite {
    /// What is looked for (RE2 syntax).
    pub find: String,
    /// What replaces it; `\1` is what the first group matched.
    pub replace: String,
}

/// Changes to headers, in this order: removed, set, added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderRules {
    /// Of the request.
    #[serde(skip_serializing_if = "is_default")]
    pub request: HeaderChanges,
    /// Of the response.
    #[serde(skip_serializing_if = "is_default")]
    pub response: HeaderChanges,
}

/// Changes to the headers of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChanges {
    /// Replaced, or added where they are missing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Added to what is there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    /// Taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// What is sent again, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// How many times beside the first; 0 is off.
    pub attempts: u32,
    /// How long one attempt may take; what is left of the request's time where absent.
    pub per_try_timeout: Option<Length>,
    /// After what.
    pub on: Vec<RetryOn>,
    /// Statuses that are sent again, beside those of `on`.
    pub statuses: Vec<u16>,
    /// Length of the first pause; it doubles, with jitter …
    pub backoff: Length,
    /// … up to this.
    pub max_backoff: Length,
    /// Whether endpoints that were tried may be asked again while others are there.
    pub reuse_hosts: bool,
    /// Whether endpoints far away may be asked.
    pub other_localities: bool,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout: None,
            on: vec![
                RetryOn::ConnectFailure,
                RetryOn::RefusedStream,
                RetryOn::Unavailable,
                RetryOn::Reset,
                RetryOn::Http503,
            ],
            statuses: Vec::new(),
            backoff: Length::millis(25),
            max_backoff: Length::millis(250),
            reuse_hosts: false,
            other_localities: true,
        }
    }
}

/// A reason to send a request again, by Envoy's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// No connection came about.
    ConnectFailure,
    /// The server said that it did not process the request.
    RefusedStream,
    /// The connection broke before the response, only methods that are idempotent; and `connect-failure` and
    /// `refused-stream`, which are harmless beside it.
    Reset,
    /// As `reset`, whatever the method.
    ResetUnsafe,
    /// 502, 503 or 504, and everything that breaks.
    GatewayError,
    /// 503, as Istio's default has it for HTTP.
    #[serde(rename = "503")]
    Http503,
    /// 500 to 599, and everything that breaks.
    #[serde(rename = "5xx")]
    Http5xx,
    /// 409.
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    /// The attempt took longer than `per_try_timeout`; only methods that are idempotent.
    TryTimeout,
    /// gRPC status 1.
    Cancelled,
    /// gRPC status 4.
    DeadlineExceeded,
    /// gRPC status 13.
    Internal,
    /// gRPC status 8.
    ResourceExhausted,
    /// gRPC status 14.
    Unavailable,
}

/// A second attempt when the first is slow; the first answer wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hedge {
    /// After how long without an answer.
    pub after: Length,
    /// Attempts at most, the first included.
    pub attempts: u32,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { after: Length::millis(100), attempts: 2 }
    }
}

/// Faults on purpose.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Requests are held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Requests are answered with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
}

/// Requests are held back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// For how long.
    pub fixed: Length,
    /// How many of them.
    #[serde(default = "all")]
    pub percent: Percent,
}

/// Requests are answered with an error.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Abort {
    /// An HTTP status …
    pub status: Option<u16>,
    /// … or a gRPC status.
    pub grpc_status: Option<u16>,
    /// How many of them.
    #[serde(default = "all")]
    pub percent: Percent,
}

fn all() -> Percent {
    Percent::ALL
}

/// Copies to another service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The service.
    pub host: String,
    /// The subset; the whole service where it is empty.
    #[serde(default)]
    pub subset: String,
    /// How many of the requests.
    #[serde(default = "all")]
    pub percent: Percent,
}

/// Cross-origin resource sharing (fetch.spec.whatwg.org).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins that are allowed.
    pub allow_origins: Vec<TextMatch>,
    /// Methods that are allowed.
    pub allow_methods: Vec<String>,
    /// Request headers that are allowed.
    pub allow_headers: Vec<String>,
    /// Response headers that scripts may read.
    pub expose_headers: Vec<String>,
    /// How long an answer to a preflight holds.
    pub max_age: Option<Length>,
    /// Whether credentials may be sent.
    pub allow_credentials: bool,
    /// Whether a preflight from another origin is answered here, without permission. Otherwise the service
    /// answers it, as is Istio's default.
    pub refuse_unmatched_preflights: bool,
}

/// A limit on the rate of requests: a bucket of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// Requests …
    pub requests: u32,
    /// … in this time.
    pub per: Length,
    /// Requests that may come at once; `requests` where absent.
    pub burst: Option<u32>,
    /// One bucket for each value of this header, and one for requests without it; one for all where it is empty.
    pub header: String,
    /// One bucket for each calling service.
    pub by_source: bool,
    /// Whether all proxies share the buckets, through the collector. While that is away each has the whole limit.
    pub global: bool,
    /// Whether every response says what is left (`x-ratelimit-*`); a refusal always does.
    pub headers: bool,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            requests: 0,
            per: Length::secs(1),
            burst: None,
            header: String::new(),
            by_source: false,
            global: false,
            headers: false,
        }
    }
}

/// Which requests are refused first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// When there is no room left but what is reserved.
    #[default]
    Default,
    /// When there is none at all.
    High,
}
