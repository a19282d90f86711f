//! What a proxy does with the traffic of a service: routes, destinations, endpoints.
//!
//! A [`Policy`] is a list of [`Service`]s. Each has [`route`]s, which say where a request goes and what happens to
//! it on the way, and a [`Destination`], which says how the endpoints are chosen, watched and protected. Shapes
//! and defaults are those of Istio's VirtualService and DestinationRule, so that either can be filled from the
//! other. As written it is TOML or JSON (serde, unknown fields are errors); [`Policy::check`] finds all that does
//! not fit together, with paths.

mod check;
pub mod destination;
pub mod route;
mod units;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use check::Mistake;
pub use destination::{Balancer, Destination};
pub use route::HttpRoute;
pub use units::{Length, Percent};

/// Everything a proxy was told about traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The services, each host once.
    #[serde(rename = "service", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
}

/// One host: where its endpoints come from, and what happens to its traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// The name by which it is called: `payments`, `api.example.com`.
    pub host: String,
    /// Where its endpoints come from.
    #[serde(skip_serializing_if = "is_default")]
    pub resolve: Resolve,
    /// Endpoints that are listed here; with `resolve = "static"` there are no others.
    #[serde(rename = "endpoint", skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// For requests: the first that matches decides. None means that everything goes to the service itself.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<HttpRoute>,
    /// How its endpoints are chosen, watched and protected.
    #[serde(skip_serializing_if = "is_default")]
    pub destination: Destination,
}

/// Where endpoints come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolve {
    /// The collector's registry.
    #[default]
    Registry,
    /// The list in the file.
    Static,
    /// Addresses of a name: `{ dns = "search.example.com:8080" }`.
    Dns(String),
    /// A service record: `{ srv = "_http._tcp.search.example.com" }`.
    Srv(String),
}

/// How requests and responses are framed towards an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC: HTTP/2 with prior knowledge.
    Grpc,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// Its name in flags, files and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }

    /// The protocol called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Http, Self::Http2, Self::Grpc, Self::Tcp].into_iter().find(|protocol| protocol.name() == name)
    }
}

/// One replica of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// Names it; its address where none is given.
    pub instance: String,
    /// `host:port`.
    pub address: String,
    /// Version label; may be empty.
    pub version: String,
    /// Region, of which zones are parts; may be empty.
    pub region: String,
    /// Zone; may be empty.
    pub zone: String,
    /// Namespace of its workload; may be empty.
    pub namespace: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Share of traffic relative to its peers; 0 gets none.
    pub weight: u32,
    /// Endpoints of a higher number are used when too few of a lower one are healthy.
    pub priority: u32,
    /// What subsets select by; `version` is one of them where it is given.
    pub labels: BTreeMap<String, String>,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            instance: String::new(),
            address: String::new(),
            version: String::new(),
            region: String::new(),
            zone: String::new(),
            namespace: String::new(),
            protocol: Protocol::default(),
            weight: 1,
            priority: 0,
            labels: BTreeMap::new(),
        }
    }
}

impl Endpoint {
    /// Whether it has all of `labels`.
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| match name.as_str() {
            "version" if !self.version.is_empty() => *value == self.version,
            name => self.labels.get(name) == Some(value),
        })
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
