//! Groups evaluated at their moments, each in a task of its own; and groups exchanged while they run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use weir_model::UnixNanos;

use super::alert::AlertState;
use super::evaluate::Environment;
use super::file;
use super::group::GroupState;

/// File and name of a group.
type Key = (String, String);

/// Rules at work; none at first. Clones share them.
#[derive(Clone, Default)]
pub struct Rules {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Groups that are to replace those which run, and what they are evaluated with.
    loaded: Mutex<Option<(Vec<file::Group>, Environment)>>,
    changed: tokio::sync::Notify,
    /// What became of each group at its last evaluation.
    shown: Mutex<BTreeMap<Key, Arc<GroupState>>>,
}

/// A group's task.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<GroupState>,
    environment: Arc<Environment>,
}

impl Rules {
    /// From now on `groups` are evaluated with `environment`, and no others. Those that were there before go on where
    /// they are.
    pub fn load(&self, groups: Vec<file::Group>, environment: Environment) {
        *lock(&self.shared.loaded) = Some((groups, environment));
        self.shared.changed.notify_one();
    }

    /// Evaluates the groups until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut running = BTreeMap::new();
        // Series of removed groups are ended a while later, when renamed rules write them again.
        let mut ending = JoinSet::new();
        // Only what runs first may have run in an earlier process.
        let mut first = true;
        loop {
            let loaded = lock(&self.shared.loaded).take();
            if let Some((groups, environment)) = loaded {
                self.exchange(groups, &Arc::new(environment), &mut running, &mut ending, first).await;
                first = false;
            }
            if stop.run_until_cancelled(self.shared.changed.notified()).await.is_none() {
                break;
            }
            while ending.try_join_next().is_some() {}
        }
        running.values().for_each(|group| group.stop.cancel());
        for group in running.into_values() {
            let _ = group.task.await; // its state goes with the process; a panic has been reported
        }
        ending.shutdown().await;
    }

    async fn exchange(
        &self,
        groups: Vec<file::Group>,
        environment: &Arc<Environment>,
        running: &mut BTreeMap<Key, Running>,
        ending: &mut JoinSet<()>,
        first: bool,
    ) {
        let mut before = std::mem::take(running);
        for group in groups {
            let mut state = GroupState::new(group, environment, !first);
            let key = (state.file.clone(), state.name.clone());
            if let Some(earlier) = before.remove(&key) {
                let same =
                    lock(&self.shared.shown).get(&key).is_some_and(|shown| shown.says_the_same(&state));
                if same && earlier.environment.says_the_same(environment) {
                    running.insert(key, earlier);
                    continue;
                }
                if let Some(earlier) = earlier.end().await {
                    state.take_over(earlier);
                }
            }
            lock(&self.shared.shown).insert(key.clone(), Arc::new(state.clone()));
            let stop = CancellationToken::new();
            let environment = Arc::clone(environment);
            let working = work(state, Arc::clone(&environment), Arc::clone(&self.shared), stop.clone());
            running.insert(key, Running { stop, task: tokio::spawn(working), environment });
        }
        for (key, removed) in before {
            lock(&self.shared.shown).remove(&key);
            let Some(mut state) = removed.end().await else { continue };
            let environment = Arc::clone(environment);
            ending.spawn(async move {
                tokio::time::sleep(2 * state.interval).await;
                let now = environment.clock.now();
                state.end_all(&environment, now.as_millis()).await;
            });
        }
    }

    /// The groups as they were after their last evaluation, in order of file and name.
    pub fn groups(&self) -> Vec<Arc<GroupState>> {
        lock(&self.shared.shown).values().cloned().collect()
    }

    /// Appends the metrics of all groups in the Prometheus text format.
    pub fn write_prometheus(&self, out: &mut String) {
        write_prometheus(&self.groups(), out);
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("groups", &self.groups().len()).finish_non_exhaustive()
    }
}

impl Running {
    /// Stops the task; nothing where it panicked.
    async fn end(self) -> Option<GroupState> {
        self.stop.cancel();
        self.task.await.ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Evaluates a group at its moments until `stop`.
async fn work(
    mut group: GroupState,
    environment: Arc<Environment>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> GroupState {
    let environment = &*environment;
    let key = (group.file.clone(), group.name.clone());
    let mut at = group.slot(environment.clock.now()) + group.interval;
    // With the second evaluation: by then there are fresh samples, and results of the rules that others build on.
    let mut until_restored = if group.rules.iter().any(|rule| !rule.restored) { 2 } else { 0 };
    loop {
        if stop.run_until_cancelled(wait(&group, &mut at, environment)).await.is_none() {
            return group;
        }
        group.counts.iterations += 1;
        let round = async {
            group.evaluate(environment, at).await;
            if until_restored > 0 {
                until_restored -= 1;
                if until_restored == 0 {
                    group.restore(environment, environment.clock.now().as_millis()).await;
                }
            }
        };
        if stop.run_until_cancelled(round).await.is_none() {
            return group;
        }
        at = at + group.interval;
        let missed = (environment.clock.now().since(at).as_nanos() / group.interval.as_nanos()) as u64;
        group.counts.missed += missed;
        group.counts.iterations += missed;
        at = at + group.interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        if let Some(shown) = lock(&shared.shown).get_mut(&key) {
            *shown = Arc::new(group.clone());
        }
    }
}

/// Waits for `at`; where the clock was set back, for the next moment by the new time.
async fn wait(group: &GroupState, at: &mut UnixNanos, environment: &Environment) {
    loop {
        let left = at.since(environment.clock.now());
        if left.is_zero() {
            return;
        }
        if left > 2 * group.interval {
            *at = group.slot(environment.clock.now()) + group.interval;
            continue;
        }
        tokio::time::sleep(left).await;
    }
}

/// A metric of groups: name, type, help, and its value for one of them.
type Metric = (&'static str, &'static str, &'static str, fn(&GroupState) -> f64);

const METRICS: [Metric; 9] = [
    ("weir_rule_evaluations_total", "counter", "Evaluations of rules.", |g| g.counts.evaluations as f64),
    ("weir_rule_evaluation_failures_total", "counter", "Evaluations of rules that failed.", |g| {
        g.counts.failures as f64
    }),
    ("weir_rule_group_iterations_total", "counter", "Evaluations of groups that were due.", |g| {
        g.counts.iterations as f64
    }),
    (
        "weir_rule_group_iterations_missed_total",
        "counter",
        "Evaluations of groups that were left out because an earlier one took too long.",
        |g| g.counts.missed as f64,
    ),
    ("weir_rule_group_interval_seconds", "gauge", "How often a group is evaluated.", |g| {
        g.interval.as_secs_f64()
    }),
    ("weir_rule_group_last_evaluation_timestamp_seconds", "gauge", "When a group was last evaluated.", |g| {
        g.evaluated_at_ms.unwrap_or(0) as f64 / 1000.0
    }),
    ("weir_rule_group_last_duration_seconds", "gauge", "How long its last evaluation took.", |g| {
        g.took.as_secs_f64()
    }),
    ("weir_rule_group_rules", "gauge", "Rules of a group.", |g| g.rules.len() as f64),
    ("weir_rule_group_last_evaluation_samples", "gauge", "Samples that its last evaluation yielded.", |g| {
        g.counts.samples as f64
    }),
];

fn write_prometheus(groups: &[Arc<GroupState>], out: &mut String) {
    // Writing to a text cannot fail.
    for (name, kind, help, value) in METRICS {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for group in groups {
            let label = format!("{};{}", group.file, group.name);
            let _ = writeln!(out, "{name}{{rule_group={label:?}}} {}", value(group));
        }
    }
    let _ = writeln!(out, "# HELP weir_alerts Alerts of rules.\n# TYPE weir_alerts gauge");
    let alerts = || groups.iter().flat_map(|group| &group.rules).flat_map(|rule| rule.alerts.values());
    for state in [AlertState::Pending, AlertState::Firing] {
        let count = alerts().filter(|alert| alert.state == state).count();
        let _ = writeln!(out, "weir_alerts{{alertstate={:?}}} {count}", state.name());
    }
}
