//! What telemetry means: ticks, detectors, blame, findings, hints. Pure: same rows and same `now` give the same result.
//!
//! In: [`Tick`]s, each a closed second of who called whom and how it went ([`TickBuilder`] makes them from
//! stored histogram points). Out: what changed among the [`Finding`]s and the hints, and on request
//! all hints in force ([`State::hints`]). One function advances time, [`step`]; the live loop, a replay of stored rows
//! and a simulation call the same one. Nothing here reads a clock, waits, or does I/O.
//!
//! The false-alarm budget: on healthy, steady traffic at most [`Config::false_alarms_per_edge_day`]
//! findings (0.001) per edge or replica and day. Each target is tested once a second over four windows
//! for errors and for latency, so that one test may err with probability 1.4e-9; in ten seconds that takes
//! about five failed calls where one in a hundred is usual, or seven slow ones.

mod baseline;
mod blame;
mod config;
mod detect;
mod finding;
mod incident;
mod lease;
mod state;
mod stats;
mod tick;
mod window;

use weir_model::hint::Hint;
use weir_model::limits;

pub use config::Config;
pub use finding::{Finding, FindingEvent, FindingState, Kind, Severity};
pub use lease::{HintChange, HintEvent};
pub use state::State;
pub use tick::{
    BUCKET_SECONDS, Cell, Class, Counts, Dropped, EdgeIncrement, EdgeKey, Increment, Point, Reporter,
    SeriesKey, Tick, TickBuilder,
};

use detect::{Candidate, Detector};
use incident::{Part, Place};

/// Ticks in a row for which a whole service or edge must look guilty; one more where it calls others, so
/// that a fault of theirs can show first.
const PENDING_TICKS: u32 = 2;

/// What came of a tick.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Findings that opened, changed or were resolved.
    pub findings: Vec<FindingEvent>,
    /// Hints that were issued, renewed or withdrawn.
    pub hints: Vec<HintEvent>,
}

/// Advances the analysis by one closed second. Ticks come in order; an older one changes nothing.
pub fn step(state: &mut State, tick: &Tick, config: &Config) -> Outcome {
    let mut out = Outcome::default();
    if tick.second <= state.second && state.second != 0 {
        return out;
    }
    state.absorb(tick, config);
    let guilty = examine(state, config);
    for candidate in guilty {
        let wide = !matches!(candidate.place.part, Part::Endpoint(_));
        if wide && explained(state, &candidate.place) {
            continue;
        }
        if state.incidents.len() < limits::ANALYSIS_FINDINGS {
            incident::open(state, candidate.place, &candidate.verdict, tick.now, &mut out);
        }
    }
    incident::advance(state, tick.now, config, &explained, &mut out);
    state.learn(config);
    out
}

impl State {
    /// All hints in force.
    pub fn hints(&self) -> Vec<Hint> {
        lease::hints(self).map(|(_, hint)| hint.clone()).collect()
    }

    /// The findings that are open.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.incidents.values().map(|incident| &incident.finding)
    }
}

/// The places that are found guilty in this tick. Services whose picture is not a calm one stop learning.
fn examine(state: &mut State, config: &Config) -> Vec<Candidate> {
    let troubles = blame::troubles(state);
    let detector = Detector::new(state, config);
    let mut verdicts = vec![];
    for (name, service) in &state.services {
        let trouble = troubles.get(name).copied().unwrap_or_default();
        let opinion = detector.examine(name, service, &trouble);
        verdicts.push((name.clone(), trouble, opinion));
    }
    let mut guilty = vec![];
    for (name, trouble, opinion) in verdicts {
        if opinion.disturbed || trouble.grave {
            state.disturb(&name);
        }
        let Some(service) = state.services.get_mut(&name) else { continue };
        let (replicas, wide): (Vec<_>, Vec<_>) =
            opinion.candidates.into_iter().partition(|c| matches!(c.place.part, Part::Endpoint(_)));
        service.pending = if wide.is_empty() { 0 } else { service.pending + 1 };
        guilty.extend(replicas);
        if service.pending >= PENDING_TICKS + u32::from(trouble.has_callees) {
            guilty.extend(wide);
        }
    }
    guilty
}

/// Whether what is wrong at `place` comes from the services it calls, one of which has a finding now.
fn explained(state: &State, place: &Place) -> bool {
    blame::callee_has_finding(state, &place.service) && blame::accounts_for(state, place)
}

#[cfg(test)]
mod tests;
