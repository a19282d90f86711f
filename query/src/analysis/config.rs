//! What an operator may set about the analysis, with defaults that hold the stated false-alarm budget.

use std::time::Duration;

use weir_model::hint::{Guards, Mode, Recovery};

/// The sliding windows that every target is judged over, in seconds. Short ones find total failures at
/// once, long ones find rare traffic and small effects.
pub(crate) const WINDOWS: [usize; 4] = [3, 5, 10, 30];
/// Seconds that are remembered per edge: the longest window and two more, by which callees are judged.
pub(crate) const REMEMBERED: usize = 32;
/// Age in seconds at which a second becomes history: it is then old enough for a fault in it to have
/// been noticed, so that the baseline learns from good seconds alone.
pub(crate) const HISTORY_AGE: usize = 10;

/// Settings of the analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How long after its end a second is closed; rows that come later count in the graph alone.
    pub close_after: Duration,
    /// Findings on healthy, steady traffic that are tolerated per edge or replica and day. The level of each
    /// single test is this, divided by all tests of a day.
    pub false_alarms_per_edge_day: f64,
    /// Error rate below which nothing is ever suspicious.
    pub error_floor: f64,
    /// By how much the error rate must exceed what is expected.
    pub error_effect: f64,
    /// By which factor the median or the 90th percentile of the latency must exceed what is expected …
    pub latency_ratio: f64,
    /// … and by how much.
    pub latency_effect: Duration,
    /// Calls of history that make a baseline; before that, the other replicas stand in.
    pub baseline_calls: f64,
    /// After how long a second of history counts half.
    pub baseline_half_life: Duration,
    /// Seconds of a new edge that are ignored: services that start refuse calls.
    pub warm_up_seconds: u64,
    /// Seconds without any call after which an open finding is closed.
    pub silence_seconds: u64,
    /// Mode of the hints.
    pub mode: Mode,
    /// Lease of a hint.
    pub hint_ttl: Duration,
    /// How often a lease is renewed while evidence is fresh.
    pub hint_renew: Duration,
    /// Error rate from which a whole edge is opened; below it, opening would harm more than it helps.
    pub open_error_rate: f64,
    /// Share of a caller's calls that probes may be; bounds [`Recovery::probe_rate`] from above.
    pub probe_share: f64,
    /// Limits for the analysis itself and, in each hint, for the proxies.
    pub guards: Guards,
    /// The way back, as proxies follow it.
    pub recovery: Recovery,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            close_after: Duration::from_secs(2),
            false_alarms_per_edge_day: 0.001,
            error_floor: 0.01,
            error_effect: 0.02,
            latency_ratio: 1.5,
            latency_effect: Duration::from_millis(5),
            baseline_calls: 100.0,
            baseline_half_life: Duration::from_secs(1800),
            warm_up_seconds: 5,
            silence_seconds: 60,
            mode: Mode::DryRun,
            hint_ttl: Duration::from_secs(15),
            hint_renew: Duration::from_secs(5),
            open_error_rate: 0.5,
            probe_share: 0.004,
            guards: Guards::default(),
            recovery: Recovery::default(),
        }
    }
}

impl Config {
    /// Decimal logarithm of the level of one test: the daily budget over a test per second, window and kind.
    pub(crate) fn log10_level(&self) -> f64 {
        let tests_per_day = 86_400.0 * WINDOWS.len() as f64 * 2.0;
        (self.false_alarms_per_edge_day.max(1e-12) / tests_per_day).log10()
    }
}
