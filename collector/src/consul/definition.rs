//! What a client registers, as meant: validated, and in the form in which it is kept on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a check, or an instance by its worst check, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// All is well.
    Passing,
    /// It may serve, but somebody should look.
    Warning,
    /// It gets no requests.
    Critical,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Passing, Self::Warning, Self::Critical].into_iter().find(|status| status.name() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An instance of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ServiceDefinition {
    /// Names the instance among all that are registered so.
    pub(super) id: String,
    /// Its service.
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    /// A name or an address without a port, never empty.
    pub(super) address: String,
    /// 0 for none.
    pub(super) port: u16,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) tagged_addresses: BTreeMap<String, Address>,
    pub(super) weights: Weights,
    pub(super) enable_tag_override: bool,
    #[serde(default)]
    pub(super) region: String,
    pub(super) zone: String,
}

/// Another address of an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Address {
    pub(super) address: String,
    pub(super) port: u16,
}

/// What a client may make of the health of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Weights {
    pub(super) passing: u16,
    pub(super) warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// A check of an instance, or of nothing where `service_id` is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CheckDefinition {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) notes: String,
    pub(super) service_id: String,
    pub(super) kind: Kind,
    /// How long it may be critical before the instance is deregistered.
    pub(super) deregister_after: Option<Duration>,
    /// Good results in a row that make it passing.
    pub(super) successes: u32,
    /// Bad results in a row that make it a warning …
    pub(super) failures_warning: u32,
    /// … and critical.
    pub(super) failures_critical: u32,
}

/// Who finds out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// The instance says so, again and again within this time.
    Ttl(Duration),
    /// A request is made.
    Http(HttpProbe),
    /// A connection is made.
    Tcp {
        /// `host:port`.
        address: String,
        interval: Duration,
        timeout: Duration,
    },
}

/// A request that an instance answers while it is well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct HttpProbe {
    pub(super) url: String,
    pub(super) method: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) tls_skip_verify: bool,
    pub(super) follow_redirects: bool,
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ttl(_) => "ttl",
            Self::Http(_) => "http",
            Self::Tcp { .. } => "tcp",
        }
    }

    /// How often it is run, and how long that may take; nothing where nobody runs it.
    pub(super) fn timing(&self) -> Option<(Duration, Duration)> {
        match self {
            Self::Ttl(_) => None,
            Self::Http(probe) => Some((probe.interval, probe.timeout)),
            Self::Tcp { interval, timeout, .. } => Some((*interval, *timeout)),
        }
    }
}
