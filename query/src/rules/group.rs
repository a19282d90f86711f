//! A group of rules at work: its rules in order, at moments that are the same in every run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_model::UnixNanos;
use weir_model::limits::RULE_STALE_SERIES;
use weir_storage::Labels;

use super::evaluate::{self, Environment, Health, Round, RuleState};
use super::file;
use super::restore;

/// A group and what has become of its rules.
#[derive(Debug, Clone)]
pub struct GroupState {
    /// Its name.
    pub name: String,
    /// The file it is from.
    pub file: String,
    /// How often it is evaluated.
    pub interval: Duration,
    /// Results that a rule may have; 0 for any number.
    pub limit: usize,
    /// Its rules.
    pub rules: Vec<RuleState>,
    /// When its last evaluation began, in Unix milliseconds.
    pub evaluated_at_ms: Option<i64>,
    /// How long that took.
    pub took: Duration,
    /// What has been counted.
    pub counts: Counts,
    query_offset: Duration,
    /// Series of rules that are no longer there, to be ended.
    stale: Vec<Labels>,
}

/// What is counted of a group.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Evaluations that were due.
    pub iterations: u64,
    /// Of those, the ones that were left out because an earlier one took too long.
    pub missed: u64,
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Of those, the ones that failed.
    pub failures: u64,
    /// Samples that the last evaluation yielded.
    pub samples: usize,
}

impl GroupState {
    /// A group that has not been evaluated. Where `restored` is not set, its alerts wait for
    /// [`restore`](Self::restore).
    pub fn new(group: file::Group, environment: &Environment, restored: bool) -> Self {
        let duration = |ms: i64| Duration::from_millis(ms.max(0) as u64);
        let timing = &environment.timing;
        Self {
            name: group.name,
            file: group.file,
            interval: group.interval_ms.map_or(timing.interval, duration).max(Duration::from_millis(1)),
            query_offset: group.query_offset_ms.map_or(timing.query_offset, duration),
            limit: group.limit,
            rules: group.rules.into_iter().map(|rule| RuleState::new(Arc::new(rule), restored)).collect(),
            evaluated_at_ms: None,
            took: Duration::ZERO,
            counts: Counts::default(),
            stale: Vec::new(),
        }
    }

    /// Evaluates every rule as of `at`.
    pub async fn evaluate(&mut self, environment: &Environment, at: UnixNanos) {
        let began = environment.clock.now();
        let round = Round {
            now_ms: at.as_millis(),
            interval_ms: self.interval.as_millis() as i64,
            query_offset_ms: self.query_offset.as_millis() as i64,
            limit: self.limit,
        };
        let mut samples = 0;
        for rule in &mut self.rules {
            samples += evaluate::evaluate(rule, environment, round).await;
            self.counts.evaluations += 1;
            self.counts.failures += u64::from(rule.health == Health::Bad);
        }
        self.counts.samples = samples;
        self.end_stale(environment, round.now_ms).await;
        self.evaluated_at_ms = Some(began.as_millis());
        self.took = environment.clock.now().since(began);
    }

    /// Ends the series of rules that are no longer there.
    async fn end_stale(&mut self, environment: &Environment, now_ms: i64) {
        if self.stale.is_empty() {
            return;
        }
        let time_ms = now_ms - self.query_offset.as_millis() as i64;
        let points = evaluate::stale(self.stale.iter().cloned(), time_ms).collect();
        match environment.store.write(points).await {
            Ok(()) => self.stale.clear(),
            Err(problem) => {
                tracing::warn!(group = self.name, problem, "ending series of removed rules failed")
            }
        }
    }

    /// Ends every series of this group, which is no longer there.
    pub async fn end_all(&mut self, environment: &Environment, now_ms: i64) {
        for rule in &mut self.rules {
            self.stale.extend(std::mem::take(&mut rule.previous));
        }
        self.stale.truncate(RULE_STALE_SERIES);
        self.end_stale(environment, now_ms).await;
    }

    /// Gives alerts that are pending since this process began the time they had been active before.
    pub async fn restore(&mut self, environment: &Environment, now_ms: i64) {
        for rule in &mut self.rules {
            restore::restore(rule, environment, now_ms).await;
        }
    }

    /// Whether another group of this file and name says the same.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let written =
            |group: &Self| -> Vec<String> { group.rules.iter().map(|state| state.rule.written()).collect() };
        (self.interval, self.query_offset, self.limit) == (other.interval, other.query_offset, other.limit)
            && written(self) == written(other)
    }

    /// Takes over the state of the rules that an earlier version of this group has, too: same name and labels, the
    /// first from the first. The series of the others are ended.
    pub(super) fn take_over(&mut self, earlier: Self) {
        self.evaluated_at_ms = earlier.evaluated_at_ms;
        self.took = earlier.took;
        self.counts = earlier.counts;
        self.stale = earlier.stale;
        let mut known: BTreeMap<(String, Labels), VecDeque<RuleState>> = BTreeMap::new();
        for state in earlier.rules {
            let key = (state.rule.name.clone(), state.rule.labels.clone());
            known.entry(key).or_default().push_back(state);
        }
        for rule in &mut self.rules {
            let key = (rule.rule.name.clone(), rule.rule.labels.clone());
            if let Some(state) = known.get_mut(&key).and_then(VecDeque::pop_front) {
                rule.previous = state.previous;
                rule.restored = state.restored;
                if rule.rule.alert().is_some() {
                    rule.alerts = state.alerts;
                }
            }
        }
        self.stale.extend(known.into_values().flatten().flat_map(|state| state.previous));
        self.stale.truncate(RULE_STALE_SERIES);
    }

    /// The last moment of evaluation that is not after `now`. It differs from group to group, so that not all work
    /// falls on one moment, and is the same in every run.
    pub fn slot(&self, now: UnixNanos) -> UnixNanos {
        let interval = self.interval.as_nanos() as u64;
        let name = [("name", self.name.as_str()), ("file", self.file.as_str())];
        let offset = Labels::new(name).id().0 % interval;
        let before = now.0.saturating_sub(offset);
        UnixNanos(before - before % interval + offset)
    }
}
