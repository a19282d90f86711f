//! Breaker hints as the analysis issues them and the proxies obey them, and the answers of the proxies.
//!
//! These types are what the code works with; [`crate::mesh`] holds their form on the wire, and the
//! conversions here are total in one direction and validated in the other.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::UnixNanos;

/// Advice to the proxies, with its evidence, valid for `ttl` from receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    /// Unique for ever: `h-<epoch>-<number>`.
    pub id: String,
    /// Raised by every renewal; only a higher one renews the lease.
    pub revision: u64,
    /// The collector run that issued it.
    pub epoch: u64,
    /// When, by the collector's clock. Leases count from receipt instead.
    #[serde(with = "nanos")]
    pub issued_at: UnixNanos,
    /// How long it holds without renewal.
    #[serde(with = "millis")]
    pub ttl: Duration,
    /// Whom it concerns.
    pub scope: Scope,
    /// What to do.
    pub action: Action,
    /// Whether to do it.
    pub mode: Mode,
    /// Share of proxies that ignore it, for comparison.
    pub holdout_pct: u8,
    /// Why.
    pub evidence: Evidence,
    /// Limits that a proxy keeps whatever the hint says.
    pub guards: Guards,
    /// The way back.
    pub recovery: Recovery,
}

/// Whom a hint concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Scope {
    /// Calling services; empty means every caller.
    pub callers: Vec<String>,
    /// The called service.
    pub service: String,
    /// The part of it.
    pub target: Target,
    /// The route; empty means every route.
    pub route: String,
    /// Higher wins where two hints disagree.
    pub priority: u32,
}

/// The part of a service that a hint concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// All of it.
    #[default]
    Service,
    /// A named subset.
    Subset(String),
    /// One instance.
    Endpoint(String),
    /// The instances of a zone.
    Zone(String),
}

impl Target {
    /// Which kind it is, and its name; that of a whole service is empty.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Service => ("service", ""),
            Self::Subset(name) => ("subset", name),
            Self::Endpoint(name) => ("endpoint", name),
            Self::Zone(name) => ("zone", name),
        }
    }
}

/// What a hint asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Send this share (0 to 1) of the normal traffic.
    Weight(f64),
    /// Send nothing but probes to an endpoint.
    Eject,
    /// At most this many requests at once.
    LimitConcurrency(u32),
    /// Let a request through with this probability.
    Admit(f64),
    /// Retries may add at most this share, in per cent.
    RetryBudget(f64),
    /// Give up after this long.
    Timeout(#[serde(with = "millis")] Duration),
    /// Fail every request of the edge at once, probes aside.
    Open {
        /// HTTP status of a refused request.
        status: u16,
        /// What `Retry-After` says.
        #[serde(with = "millis")]
        retry_after: Duration,
    },
    /// What the latency should be, for adaptive limits.
    Baseline(#[serde(with = "millis")] Duration),
}

impl Action {
    /// The name of the action, as tables show it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Weight(_) => "weight",
            Self::Eject => "eject",
            Self::LimitConcurrency(_) => "limit_concurrency",
            Self::Admit(_) => "admit",
            Self::RetryBudget(_) => "retry_budget",
            Self::Timeout(_) => "timeout",
            Self::Open { .. } => "open",
            Self::Baseline(_) => "baseline",
        }
    }
}

/// Whether a hint is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Evaluate and answer `shadowed`.
    #[default]
    DryRun,
    /// As dry run, and ask a person to approve.
    Advise,
    /// Act within the guards.
    Enforce,
}

impl Mode {
    /// Its name, as tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DryRun => "dry_run",
            Self::Advise => "advise",
            Self::Enforce => "enforce",
        }
    }
}

/// Why a hint was issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Evidence {
    /// The detector that spoke.
    pub detector: String,
    /// What it looked at.
    pub metric: String,
    /// Over how long.
    #[serde(with = "millis")]
    pub window: Duration,
    /// What it saw.
    pub observed: f64,
    /// What it expected.
    pub baseline: f64,
    /// How surprising that is: minus the decimal logarithm of the probability.
    pub score: f64,
    /// Calls counted.
    pub samples: u64,
    /// Callers whose own numbers agree.
    pub callers_agreeing: u32,
    /// Example traces, hex.
    pub trace_ids: Vec<String>,
    /// Services from the symptom to the cause.
    pub causal_path: Vec<String>,
    /// SQL that shows the same numbers.
    pub query: String,
    /// The finding that led here.
    pub finding: String,
}

/// Limits that a proxy keeps whatever a hint says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Guards {
    /// Share of a service's endpoints, in per cent, that must stay eligible.
    pub min_healthy_pct: u8,
    /// Share that may be ejected at once.
    pub max_ejected_pct: u8,
    /// Local calls below which the proxy does not veto.
    pub min_local_samples: u32,
    /// Local success rate (0 to 1) at which the proxy refuses to eject.
    pub local_veto_success_rate: f64,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            min_healthy_pct: 50,
            max_ejected_pct: 50,
            min_local_samples: 20,
            local_veto_success_rate: 0.999,
        }
    }
}

/// The way back to normal traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// How long traffic grows from nothing to all.
    #[serde(with = "millis")]
    pub ramp: Duration,
    /// Probes per second and proxy while ejected or open.
    pub probe_rate: f64,
    /// Successful probes in a row that end half-open.
    pub probe_successes: u32,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { ramp: Duration::from_secs(10), probe_rate: 0.25, probe_successes: 3 }
    }
}

/// All hints in force, as the analysis publishes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct HintSet {
    /// The collector run.
    pub epoch: u64,
    /// Raised by every change.
    pub revision: u64,
    /// The hints, by id.
    pub hints: Vec<Hint>,
}

/// What a proxy did with a hint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The hint.
    pub id: String,
    /// Its revision.
    pub revision: u64,
    /// What was done.
    pub verdict: Verdict,
    /// Why, in a few words.
    pub reason: String,
    /// Success rate (0 to 1) that the proxy saw towards the target before.
    pub success_rate_before: f64,
    /// … and after.
    pub success_rate_after: f64,
    /// State of the target's breaker after it.
    pub state: BreakerState,
    /// When, by the proxy's clock.
    #[serde(with = "nanos")]
    pub at: UnixNanos,
}

/// What a proxy did with a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Done as asked.
    Applied,
    /// Would have been done: dry run, advice, or this proxy is held out.
    Shadowed,
    /// Done in part, because a guard forbade more.
    Clamped,
    /// Not done, because local traffic contradicts it or it is stale.
    Vetoed,
    /// The lease ended without renewal.
    Expired,
    /// Undone, because the hint was withdrawn or the target recovered.
    Reverted,
}

impl Verdict {
    /// Its name, as tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Shadowed => "shadowed",
            Self::Clamped => "clamped",
            Self::Vetoed => "vetoed",
            Self::Expired => "expired",
            Self::Reverted => "reverted",
        }
    }
}

/// The state of a breaker towards one target, in the standard sense of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Normal traffic.
    #[default]
    Closed,
    /// Less than normal traffic.
    Soft,
    /// Probes only.
    Open,
    /// Probes decide.
    HalfOpen,
    /// Traffic grows back.
    Ramp,
}

impl BreakerState {
    /// Its name, as tables and headers show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Soft => "soft",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::Ramp => "ramp",
        }
    }

    /// The state called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Closed, Self::Soft, Self::Open, Self::HalfOpen, Self::Ramp]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a message is not a hint or an answer to one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad hint message: {0}")]
pub struct BadHint(pub &'static str);

mod wire;

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(value.as_millis() as u64)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}

mod nanos {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::UnixNanos;

    pub(super) fn serialize<S: Serializer>(value: &UnixNanos, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(value.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<UnixNanos, D::Error> {
        u64::deserialize(d).map(UnixNanos)
    }
}

#[cfg(test)]
mod tests;
