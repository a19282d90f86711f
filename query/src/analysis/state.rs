//! What the analysis remembers: for each service the pairs that call it, and what is wrong at present.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{Sketch, limits};

use super::baseline::Baseline;
use super::config::{Config, HISTORY_AGE, REMEMBERED};
use super::incident::{Incident, Place, Record};
use super::tick::{EdgeKey, Reporter, Tick};
use super::window::{Pair, Reference};

/// For how many seconds the source's word counts after its last report.
const SOURCE_SECONDS: u64 = 60;
/// After how many seconds without calls a pair is forgotten.
const IDLE_SECONDS: u64 = 900;
/// Seconds between two decays of the histories.
const DECAY_SECONDS: u64 = 10;

/// Other replicas that stand in for a history, at most: each new pair asks them once a second.
pub(super) const PEERS: usize = 64;

type Name = Arc<str>;

/// One called service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    /// Its calls by (client, endpoint).
    pub(crate) pairs: BTreeMap<(Name, Name), Pair>,
    /// Until which second nothing is learned, because something is or was wrong.
    pub(crate) disturbed_until: u64,
    /// Since how many ticks, without a break, the service or one of its edges looks guilty.
    pub(crate) pending: u32,
}

impl Service {
    /// The names of its endpoints.
    pub(crate) fn endpoints(&self) -> BTreeSet<Name> {
        self.pairs.keys().filter(|(_, e)| !e.is_empty()).map(|(_, e)| Arc::clone(e)).collect()
    }

    /// The names of its callers.
    pub(crate) fn clients(&self) -> BTreeSet<Name> {
        self.pairs.keys().map(|(c, _)| Arc::clone(c)).collect()
    }

    /// What the calls of a pair are compared with: its history, else the other replicas' histories, else
    /// what they do at present.
    fn reference(&self, key: &(Name, Name), config: &Config) -> Reference {
        if let Some(own) = self.pairs.get(key).and_then(|p| Reference::of_history(&p.baseline, config)) {
            return own;
        }
        let from = (Arc::clone(&key.0), Name::from(""));
        let of_client = || self.pairs.range(from.clone()..).take_while(|((client, _), _)| *client == key.0);
        let peers = || of_client().map(|(_, p)| p).filter(|p| p.endpoint != key.1).take(PEERS);
        let mut histories = Baseline::default();
        peers().for_each(|p| histories.merge(&p.baseline));
        Reference::of_history(&histories, config).unwrap_or_else(|| {
            let mut present = Sketch::default();
            peers().for_each(|p| p.latency(REMEMBERED, &mut present));
            Reference::of_peers(&present)
        })
    }
}

/// Everything the analysis knows. Same ticks in, same state.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(crate) epoch: u64,
    pub(crate) second: u64,
    pub(crate) services: BTreeMap<Name, Service>,
    pub(crate) incidents: BTreeMap<Place, Incident>,
    pub(crate) records: BTreeMap<Place, Record>,
    pub(crate) findings_made: u64,
    pub(crate) hints_made: u64,
    sources: BTreeMap<(Name, Name), u64>,
    answering: BTreeMap<(Name, Name), u64>,
    pairs: usize,
    dropped_edges: u64,
}

impl State {
    /// Nothing known yet. `epoch` is the number of this run; ids of findings and hints carry it.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Pairs of caller and endpoint that are watched.
    pub fn edges(&self) -> usize {
        self.pairs
    }

    /// Findings that are open.
    pub fn open_findings(&self) -> usize {
        self.incidents.len()
    }

    /// Seconds of edges that were left out because [`limits::ANALYSIS_EDGES`] are watched already.
    pub fn dropped_edges(&self) -> u64 {
        self.dropped_edges
    }

    /// The last second in which the endpoint's own proxy reported an answered call.
    pub(crate) fn answered_at(&self, server: &Name, endpoint: &Name) -> Option<u64> {
        self.answering.get(&(Arc::clone(server), Arc::clone(endpoint))).copied()
    }

    /// Whose word is believed about calls to `server`.
    pub(crate) fn reporter(&self, server: &Name) -> Reporter {
        if self.sources.keys().any(|(_, s)| s == server) {
            Reporter::Source
        } else if self.answering.keys().any(|(s, _)| s == server) {
            Reporter::Destination
        } else {
            Reporter::Span
        }
    }

    /// Takes in a tick: every pair moves on by one second.
    pub(crate) fn absorb(&mut self, tick: &Tick, config: &Config) {
        if self.second != 0 && tick.second > self.second + REMEMBERED as u64 {
            self.services.values_mut().flat_map(|s| s.pairs.values_mut()).for_each(Pair::clear);
        }
        self.second = tick.second;
        self.note_reporters(tick);
        let mut cells: BTreeMap<&Name, BTreeMap<(Name, Name), super::Cell>> = BTreeMap::new();
        for (edge, cell) in &tick.cells {
            if !self.counts(edge) {
                continue;
            }
            let key = (Arc::clone(&edge.client), Arc::clone(&edge.endpoint));
            let known = self.services.get(&edge.server).is_some_and(|s| s.pairs.contains_key(&key));
            if !known && !self.admit(edge, tick.second) {
                continue;
            }
            cells.entry(&edge.server).or_default().entry(key).or_default().merge(cell);
        }
        for (name, service) in &mut self.services {
            let cells = cells.remove(name).unwrap_or_default();
            let references: Vec<_> = service.pairs.keys().map(|key| service.reference(key, config)).collect();
            for ((key, pair), reference) in service.pairs.iter_mut().zip(references) {
                let cell = cells.get(key);
                if cell.is_some() {
                    pair.last_seen = tick.second;
                }
                pair.push(cell, &reference, config);
                if !pair.is_warm(tick.second, config.warm_up_seconds) {
                    pair.settle();
                }
            }
        }
        self.forget(tick.second, config);
    }

    /// Lets the services that are well learn the second that has come of age.
    pub(crate) fn learn(&mut self, config: &Config) {
        let second = self.second;
        let warm = |pair: &&mut Pair| pair.is_warm(second, config.warm_up_seconds + HISTORY_AGE as u64);
        for service in self.services.values_mut().filter(|s| s.disturbed_until < second) {
            service.pairs.values_mut().filter(warm).for_each(Pair::learn);
        }
    }

    /// Keeps what is happening to `service` out of its history.
    pub(crate) fn disturb(&mut self, service: &str) {
        let until = self.second + HISTORY_AGE as u64 + 2;
        if let Some(service) = self.services.get_mut(service) {
            service.disturbed_until = until;
        }
    }

    fn note_reporters(&mut self, tick: &Tick) {
        for (edge, cell) in &tick.cells {
            let mut note = |map: fn(&mut Self) -> &mut BTreeMap<(Name, Name), u64>, key| {
                let map = map(self);
                if map.len() < limits::ANALYSIS_EDGES || map.contains_key(&key) {
                    map.insert(key, tick.second);
                }
            };
            match edge.reporter {
                Reporter::Source => {
                    note(|s| &mut s.sources, (Arc::clone(&edge.client), Arc::clone(&edge.server)));
                }
                Reporter::Destination if cell.calls() > 0 => {
                    note(|s| &mut s.answering, (Arc::clone(&edge.server), Arc::clone(&edge.endpoint)));
                }
                Reporter::Destination | Reporter::Span => {}
            }
        }
    }

    /// Whether this reporter is the one to believe: the source where there is one.
    fn counts(&self, edge: &EdgeKey) -> bool {
        let key = (Arc::clone(&edge.client), Arc::clone(&edge.server));
        edge.reporter == Reporter::Source
            || self.sources.get(&key).is_none_or(|&at| at + SOURCE_SECONDS < self.second)
    }

    fn admit(&mut self, edge: &EdgeKey, second: u64) -> bool {
        if self.pairs >= limits::ANALYSIS_EDGES {
            self.dropped_edges += 1;
            return false;
        }
        self.pairs += 1;
        let (client, endpoint) = (Arc::clone(&edge.client), Arc::clone(&edge.endpoint));
        let pair = Pair::new(Arc::clone(&client), Arc::clone(&endpoint), second);
        let service = self.services.entry(Arc::clone(&edge.server)).or_default();
        service.pairs.insert((client, endpoint), pair);
        true
    }

    fn forget(&mut self, second: u64, config: &Config) {
        if !second.is_multiple_of(DECAY_SECONDS) {
            return;
        }
        let factor = 0.5_f64.powf(DECAY_SECONDS as f64 / config.baseline_half_life.as_secs_f64().max(1.0));
        for service in self.services.values_mut() {
            service.pairs.retain(|_, pair| pair.last_seen + IDLE_SECONDS >= second);
            if service.disturbed_until < second {
                service.pairs.values_mut().for_each(|pair| pair.baseline.decay(factor));
            }
        }
        self.services.retain(|_, service| !service.pairs.is_empty());
        self.pairs = self.services.values().map(|service| service.pairs.len()).sum();
        self.sources.retain(|_, at| *at + SOURCE_SECONDS >= second);
        self.answering.retain(|_, at| *at + IDLE_SECONDS >= second);
        self.records.retain(|_, record| record.expires >= second);
    }
}
