//! What was concluded, in words and numbers, with the query that shows them.

use std::sync::Arc;
use std::time::Duration;

use weir_model::UnixNanos;

use super::detect::Verdict;
use super::incident::{Part, Place};
use super::tick::BUCKET_SECONDS;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Calls fail.
    Errors,
    /// Calls take too long.
    Latency,
    /// Calls fail and the target's own proxy answers none: it is gone.
    Outage,
}

impl Kind {
    /// Its name, as tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Outage => "outage",
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Users may notice.
    Warning,
    /// Users do notice.
    Critical,
}

impl Severity {
    /// Its name, as tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    pub(crate) fn of(verdict: &Verdict) -> Self {
        let critical = match verdict.kind {
            Kind::Outage => true,
            Kind::Errors => verdict.observed >= 0.3,
            Kind::Latency => verdict.observed >= 4.0 * verdict.baseline,
        };
        if critical { Self::Critical } else { Self::Warning }
    }
}

/// What happened to a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingState {
    /// It is new.
    Opened,
    /// Its numbers changed.
    Updated,
    /// It is over.
    Resolved,
}

impl FindingState {
    /// Its name, as tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Resolved => "resolved",
        }
    }
}

/// A conclusion about one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Unique for ever: `f-<epoch>-<number>`.
    pub id: String,
    /// What is wrong.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// `endpoint`, `edge` or `service`.
    pub level: &'static str,
    /// The calling service, where only its calls are concerned.
    pub client: Option<String>,
    /// The called service.
    pub service: String,
    /// The instance, where only it is concerned.
    pub endpoint: Option<String>,
    /// Which test spoke.
    pub detector: &'static str,
    /// What was compared.
    pub metric: &'static str,
    /// Over how long.
    pub window: Duration,
    /// What was seen.
    pub observed: f64,
    /// What was expected.
    pub baseline: f64,
    /// Minus the decimal logarithm of the probability of that.
    pub score: f64,
    /// Calls counted.
    pub samples: u64,
    /// Callers whose own numbers agree.
    pub callers_agreeing: u32,
    /// Services from the symptom to the cause.
    pub causal_path: Vec<String>,
    /// Example traces, hex; filled in by whoever has spans at hand.
    pub trace_ids: Vec<String>,
    /// For a person.
    pub message: String,
    /// SQL that shows the numbers.
    pub query: String,
    /// When it was opened.
    pub opened_at: UnixNanos,
}

/// A change of a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct FindingEvent {
    /// When.
    pub time: UnixNanos,
    /// Which way.
    pub state: FindingState,
    /// The finding after it.
    pub finding: Finding,
}

/// Says what a verdict means, for a person.
pub(crate) fn message(place: &Place, verdict: &Verdict, replicas: usize) -> String {
    let (service, window) = (&place.service, verdict.window);
    let whom = match &place.part {
        Part::Endpoint(endpoint) if replicas > 1 => {
            format!("{endpoint}, one of {replicas} replicas of {service},")
        }
        Part::Endpoint(endpoint) => endpoint.to_string(),
        Part::Edge(client) => format!("{service}, as called by {client} but not by others,"),
        Part::Service if replicas > 1 => format!("{service}, on all of its replicas,"),
        Part::Service => service.to_string(),
    };
    let mut text = match verdict.kind {
        Kind::Errors | Kind::Outage => {
            let what = if verdict.kind == Kind::Outage { "does not answer" } else { "fails" };
            format!(
                "{whom} {what}: {} of {} calls in {window} s ended in an error ({:.0} %, expected at most {:.1} %)",
                verdict.bad,
                verdict.samples,
                100.0 * verdict.observed,
                100.0 * verdict.baseline
            )
        }
        Kind::Latency => {
            let which = if verdict.metric == "latency_p50_seconds" { "median" } else { "90th percentile" };
            format!(
                "{whom} is slow: {which} {} instead of {} over {} calls in {window} s",
                milliseconds(verdict.observed),
                milliseconds(verdict.baseline),
                verdict.samples
            )
        }
    };
    if matches!(place.part, Part::Endpoint(_)) && replicas > 1 {
        text.push_str("; other replicas are as usual");
    }
    text
}

fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// The `edges` rows of a minute before `since` up to `until` (seconds since 1970), by replica or caller.
pub(crate) fn query(place: &Place, reporter: &str, since: u64, until: u64) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let from = since.saturating_sub(60) / BUCKET_SECONDS * BUCKET_SECONDS;
    let to = (until / BUCKET_SECONDS + 1) * BUCKET_SECONDS;
    let (by, client) = match &place.part {
        Part::Edge(client) => ("client", Some(client)),
        Part::Endpoint(_) | Part::Service => ("endpoint", None::<&Arc<str>>),
    };
    let only = client.map(|client| format!(" AND client = {}", quoted(client))).unwrap_or_default();
    format!(
        "SELECT time, {by}, sum(calls) AS calls, sum(errors) AS errors, sum(probes) AS probes, \
         round(100.0 * sum(errors) / nullif(sum(calls), 0), 1) AS error_pct, \
         1000 * sketch_quantile(sketch_merge(sketch), 0.5) AS p50_ms, \
         1000 * sketch_quantile(sketch_merge(sketch), 0.9) AS p90_ms \
         FROM edges WHERE server = {} AND reporter = {}{only} \
         AND time >= TIMESTAMP '{}' AND time < TIMESTAMP '{}' GROUP BY time, {by} ORDER BY time, {by}",
        quoted(&place.service),
        quoted(reporter),
        timestamp(from),
        timestamp(to)
    )
}

fn timestamp(seconds: u64) -> String {
    chrono::DateTime::from_timestamp(i64::try_from(seconds).unwrap_or_default(), 0)
        .unwrap_or_default()
        .format("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// Which test spoke.
pub(crate) fn detector(kind: Kind) -> &'static str {
    match kind {
        Kind::Errors | Kind::Outage => "binomial_errors",
        Kind::Latency => "binomial_exceedances",
    }
}
