//! What the live loop says about itself on `/metrics`: how far it is, what it could not use, what is wrong now.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use weir_model::UnixNanos;
use weir_storage::Table;

use crate::analysis::Finding;

/// What was not used or not stored, by reason; reasons are names from this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unused(BTreeMap<&'static str, u64>);

impl Unused {
    pub(super) fn add(&mut self, reason: &'static str, by: u64) {
        if by > 0 {
            *self.0.entry(reason).or_default() += by;
        }
    }

    /// Sets what is counted elsewhere.
    pub(super) fn set(&mut self, reason: &'static str, total: u64) {
        if total > 0 {
            self.0.insert(reason, total);
        }
    }

    #[cfg(test)]
    pub(super) fn get(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or_default()
    }
}

/// An open finding, as `weir_finding_active` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Active {
    service: String,
    target: String,
    kind: &'static str,
    level: &'static str,
    severity: &'static str,
}

impl From<&Finding> for Active {
    fn from(finding: &Finding) -> Self {
        let part = finding.endpoint.as_ref().or(finding.client.as_ref());
        Self {
            service: finding.service.clone(),
            target: part.unwrap_or(&finding.service).clone(),
            kind: finding.kind.name(),
            level: finding.level,
            severity: finding.severity.name(),
        }
    }
}

/// Everything that is counted, as of the end of a round.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    pub(super) rounds: u64,
    pub(super) points: u64,
    pub(super) ticks: u64,
    /// Points whose second was closed already: in the graph, in no tick.
    pub(super) late_points: u64,
    pub(super) edge_rows: u64,
    pub(super) finding_events: u64,
    pub(super) hint_events: u64,
    /// Writes that storage refused for the moment.
    pub(super) writes_refused: u64,
    pub(super) unused: Unused,
    pub(super) edges_watched: usize,
    pub(super) hints: usize,
    pub(super) active: Vec<Active>,
    /// End of the last closed second; zero before the first.
    pub(super) closed_until: UnixNanos,
    pub(super) round_took: Duration,
}

impl Counters {
    /// Rows were stored.
    pub(super) fn stored(&mut self, table: Table, rows: usize) {
        match table {
            Table::Edges => self.edge_rows += rows as u64,
            Table::Findings => self.finding_events += rows as u64,
            Table::Hints => self.hint_events += rows as u64,
            _ => {}
        }
    }

    /// Appends everything in the Prometheus text format.
    pub(super) fn write_prometheus(&self, now: UnixNanos, out: &mut String) {
        let counters = [
            ("rounds", "Rounds of the live loop.", self.rounds),
            ("points", "Points of the edge metric that were taken.", self.points),
            ("ticks", "Closed seconds that were analysed.", self.ticks),
            (
                "late_points",
                "Points that came after their second was closed: in the graph, in no tick.",
                self.late_points,
            ),
            ("edge_rows", "Rows of `edges` that were stored.", self.edge_rows),
            ("finding_events", "Changes of findings that were stored.", self.finding_events),
            ("hint_events", "Changes of hints that were stored.", self.hint_events),
            ("writes_refused", "Writes that storage refused and that are tried again.", self.writes_refused),
        ];
        for (name, help, value) in counters {
            head(out, &format!("weir_live_{name}_total"), "counter", help);
            let _ = writeln!(out, "weir_live_{name}_total {value}");
        }
        head(out, "weir_live_unused_total", "counter", "Points and events that were left out.");
        for (reason, count) in &self.unused.0 {
            let _ = writeln!(out, "weir_live_unused_total{{reason=\"{reason}\"}} {count}");
        }
        let lag = if self.closed_until.0 == 0 { 0.0 } else { now.since(self.closed_until).as_secs_f64() };
        let gauges = [
            ("weir_live_lag_seconds", "Age of the last closed second; two or three when all is well.", lag),
            (
                "weir_live_round_seconds",
                "How long the last round took, its write included.",
                self.round_took.as_secs_f64(),
            ),
            (
                "weir_live_edges",
                "Pairs of caller and endpoint that the analysis watches.",
                self.edges_watched as f64,
            ),
            ("weir_hints_in_force", "Hints that proxies are asked to obey.", self.hints as f64),
        ];
        for (name, help, value) in gauges {
            head(out, name, "gauge", help);
            let _ = writeln!(out, "{name} {value}");
        }
        let help = "Open findings; the target is an endpoint, a calling service, or the service itself.";
        head(out, "weir_finding_active", "gauge", help);
        for Active { service, target, kind, level, severity } in &self.active {
            let (service, target) = (escaped(service), escaped(target));
            let _ = writeln!(
                out,
                "weir_finding_active{{service=\"{service}\",target=\"{target}\",kind=\"{kind}\",\
                 level=\"{level}\",severity=\"{severity}\"}} 1"
            );
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label value as the text format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
