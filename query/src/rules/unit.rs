//! Unit tests of rules in the format of Prometheus' `promtool test rules`: series in, alerts and results of
//! expressions out. The rules run in the groups that run in a server, on samples in memory; nothing waits for a clock.

mod compare;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{Clock, UnixNanos};
use weir_storage::Labels;

use super::alert::AlertState;
use super::evaluate::{Environment, Health, Timing};
use super::file::{self, Group};
use super::group::GroupState;
use super::notify::Nobody;
use super::store::{Memory, Point, rows_of};
use super::yaml::Mistake;
use crate::promql::duration::show_ms;
use crate::promql::features::Features;
use crate::promql::{Options, Sample};

pub use read::parse;

/// A file of tests. Lengths of time are milliseconds.
#[derive(Debug, Default)]
pub struct TestFile {
    /// Patterns of the rule files that are tested, as written.
    pub rule_files: Vec<String>,
    interval_ms: i64,
    order: Vec<String>,
    fuzzy: bool,
    groups: Vec<TestGroup>,
}

/// Series, and what must come of them.
#[derive(Debug, Default)]
struct TestGroup {
    name: String,
    interval_ms: i64,
    /// When everything begins, in Unix milliseconds.
    start_ms: i64,
    series: Vec<(Labels, Vec<Sample>)>,
    alerts: Vec<AlertTest>,
    exprs: Vec<ExprTest>,
    external_labels: Labels,
    external_url: String,
}

/// The alerts of a name that must be firing at a moment.
#[derive(Debug)]
struct AlertTest {
    at_ms: i64,
    name: String,
    /// Labels and annotations.
    expected: Vec<(Labels, Labels)>,
}

/// What an expression must yield at a moment.
#[derive(Debug)]
struct ExprTest {
    at_ms: i64,
    expr: String,
    expected: Vec<(Labels, Sample)>,
}

/// Evaluations that one test group may take.
const EVALUATIONS: i64 = 1_000_000;

impl TestFile {
    /// Runs every test on the rules of `files`, names and texts of rule files. Returns what failed, in order.
    pub async fn run(&self, files: &[(String, String)], features: Features) -> Vec<String> {
        let mut failures = Vec::new();
        for tests in &self.groups {
            let mut groups = Vec::new();
            let mut mistakes: Vec<Mistake> = Vec::new();
            for (name, text) in files {
                match file::parse(name, text, features) {
                    Ok(found) => groups.extend(found),
                    Err(found) => mistakes.extend(found),
                }
            }
            if !mistakes.is_empty() {
                failures.extend(mistakes.iter().map(Mistake::to_string));
                return failures;
            }
            // Groups that the order does not name come first, as they are.
            groups.sort_by_key(|group| {
                self.order.iter().position(|name| *name == group.name).map_or(0, |at| at + 1)
            });
            let mut run = Run::new(self, tests, groups, features);
            run.load().await;
            run.evaluate().await;
            run.exprs().await;
            failures.extend(run.failures);
        }
        failures
    }
}

/// A test group under way.
struct Run<'a> {
    file: &'a TestFile,
    tests: &'a TestGroup,
    environment: Environment,
    groups: Vec<GroupState>,
    failures: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(file: &'a TestFile, tests: &'a TestGroup, groups: Vec<Group>, features: Features) -> Self {
        let options = Options { features, default_step_ms: file.interval_ms, ..Options::default() };
        let start = nanos(tests.start_ms);
        let environment = Environment {
            store: Arc::new(Memory::new(options)),
            clock: Clock::new(move || start),
            notify: Arc::new(Nobody),
            external_url: tests.external_url.clone(),
            external_labels: tests.external_labels.clone(),
            timing: Timing::default(),
        };
        let groups = groups.into_iter().map(|group| GroupState::new(group, &environment, true)).collect();
        Self { file, tests, environment, groups, failures: Vec::new() }
    }

    async fn load(&mut self) {
        let tests = self.tests;
        for (labels, samples) in &tests.series {
            let points = samples.iter().enumerate().filter(|(_, sample)| sample.is_present());
            let points = points.map(|(at, sample)| Point {
                labels: labels.clone(),
                time_ms: tests.start_ms + at as i64 * tests.interval_ms,
                sample: sample.clone(),
            });
            if let Err(problem) = self.environment.store.write(points.collect()).await {
                self.failures.push(problem);
            }
        }
    }

    /// Evaluates the groups up to the last moment that a test names, and looks at alerts on the way.
    async fn evaluate(&mut self) {
        let alerts = self.tests.alerts.iter().map(|test| test.at_ms);
        let last_ms = alerts.chain(self.tests.exprs.iter().map(|test| test.at_ms)).max().unwrap_or(0);
        let step_ms = self.file.interval_ms;
        if last_ms / step_ms > EVALUATIONS {
            self.failures.push(format!("    more than {EVALUATIONS} evaluations up to {}", show_ms(last_ms)));
            return;
        }
        for elapsed_ms in (0..=last_ms).step_by(usize::try_from(step_ms).unwrap_or(usize::MAX)) {
            let at = nanos(self.tests.start_ms + elapsed_ms);
            let mut failed = Vec::new();
            for group in &mut self.groups {
                group.evaluate(&self.environment, at).await;
                for state in group.rules.iter().filter(|state| state.health == Health::Bad) {
                    let problem = state.last_error.as_deref().unwrap_or_default();
                    let name = &state.rule.name;
                    failed.push(format!("    rule: {name}, time: {}, err: {problem}", show_ms(elapsed_ms)));
                }
            }
            if !failed.is_empty() {
                self.failures.extend(failed);
                return;
            }
            self.alerts(elapsed_ms..elapsed_ms + step_ms);
        }
    }

    /// Checks the alerts whose moment is before the next evaluation.
    fn alerts(&mut self, elapsed_ms: std::ops::Range<i64>) {
        let mut tests: BTreeMap<i64, Vec<&AlertTest>> = BTreeMap::new();
        for test in self.tests.alerts.iter().filter(|test| elapsed_ms.contains(&test.at_ms)) {
            tests.entry(test.at_ms).or_default().push(test);
        }
        for test in tests.into_values().flatten() {
            let states = self.groups.iter().flat_map(|group| &group.rules);
            let states = states.filter(|state| state.rule.alert().is_some() && state.rule.name == test.name);
            let alerts = states.flat_map(|state| state.alerts.values());
            let firing = alerts.filter(|alert| alert.state == AlertState::Firing);
            let found = firing.map(|alert| (alert.labels.clone(), alert.annotations.clone())).collect();
            if let Err(difference) = compare::alerts(&test.expected, found) {
                let name = match self.tests.name.is_empty() {
                    true => String::new(),
                    false => format!("    name: {},\n", self.tests.name),
                };
                let at = show_ms(test.at_ms);
                let alert = &test.name;
                self.failures.push(format!("{name}    alertname: {alert}, time: {at}, \n{difference}"));
            }
        }
    }

    /// Checks what expressions yield once every rule has been evaluated.
    async fn exprs(&mut self) {
        for test in &self.tests.exprs {
            let (expr, at) = (&test.expr, show_ms(test.at_ms));
            let output = self.environment.store.query(expr, self.tests.start_ms + test.at_ms).await;
            match output.and_then(rows_of) {
                Err(problem) => self.failures.push(format!("    expr: {expr:?}, time: {at}, err: {problem}")),
                Ok(found) => {
                    if let Err(difference) = compare::samples(&test.expected, found, self.file.fuzzy) {
                        self.failures.push(format!("    expr: {expr:?}, time: {at},\n{difference}"));
                    }
                }
            }
        }
    }
}

fn nanos(ms: i64) -> UnixNanos {
    UnixNanos(u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000))
}

/// The names of a list that stand there twice.
fn repeated(names: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests;
