//! One evaluation of one rule: its expression asked, its results labelled, its alerts moved on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weir_model::Clock;
use weir_model::limits::{ALERTS_PER_RULE, RULE_RESULTS, TEMPLATE_QUERIES};
use weir_storage::Labels;

use super::alert::{self, Alert, Alerts};
use super::file::{AlertRule, Rule};
use super::notify::{Notification, Notify};
use super::store::{Point, Store, rows_of};
use super::template::{Answers, Context, Subject, Template, Unexpanded, graph_link};
use crate::promql::{Sample, number};

/// What all rules are evaluated with.
#[derive(Clone)]
pub struct Environment {
    /// What they read, and where their results go.
    pub store: Arc<dyn Store>,
    /// The wall clock.
    pub clock: Clock,
    /// Who hears of alerts.
    pub notify: Arc<dyn Notify>,
    /// Under which address people reach this server.
    pub external_url: String,
    /// Labels that everything sent from here carries.
    pub external_labels: Labels,
    /// How rules are timed.
    pub timing: Timing,
}

impl Environment {
    /// Whether rules mean the same with `other`.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let said = |of: &Self| (of.external_url.clone(), of.external_labels.clone(), of.timing.clone());
        said(self) == said(other)
    }
}

/// How rules are timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often groups are evaluated that do not say so themselves.
    pub interval: Duration,
    /// How far behind the queries look of groups that do not say so themselves.
    pub query_offset: Duration,
    /// After how long the notifiers hear again of an alert that goes on.
    pub resend: Duration,
    /// How old the state of an alert may be that is restored after a restart.
    pub outage_tolerance: Duration,
    /// How long a restored alert stays pending, at least; alerts with a shorter `for` are not restored.
    pub grace_period: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            query_offset: Duration::ZERO,
            resend: Duration::from_secs(60),
            outage_tolerance: Duration::from_secs(3600),
            grace_period: Duration::from_secs(600),
        }
    }
}

/// Whether a rule's last evaluation succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// It has not been evaluated.
    #[default]
    Unknown,
    /// It did.
    Good,
    /// It failed.
    Bad,
}

impl Health {
    /// How the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "ok",
            Self::Bad => "err",
        }
    }
}

/// A rule and what has become of it.
#[derive(Debug, Clone)]
pub struct RuleState {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Its alerts, resolved ones among them.
    pub alerts: Alerts,
    /// Whether its alerts are written: not before their state of an earlier run has been restored.
    pub restored: bool,
    /// The series it wrote last.
    pub previous: BTreeSet<Labels>,
    /// How it fares.
    pub health: Health,
    /// Why its last evaluation failed.
    pub last_error: Option<String>,
    /// When that began, in Unix milliseconds.
    pub evaluated_at_ms: Option<i64>,
    /// How long it took.
    pub took: Duration,
}

impl RuleState {
    /// A rule that has not been evaluated.
    pub fn new(rule: Arc<Rule>, restored: bool) -> Self {
        Self {
            rule,
            alerts: Alerts::new(),
            restored,
            previous: BTreeSet::new(),
            health: Health::Unknown,
            last_error: None,
            evaluated_at_ms: None,
            took: Duration::ZERO,
        }
    }
}

/// The moment of an evaluation, and what of its group counts for each of its rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) now_ms: i64,
    pub(super) interval_ms: i64,
    pub(super) query_offset_ms: i64,
    pub(super) limit: usize,
}

/// Why two results of a rule have the same labels.
const DUPLICATE: &str = "vector contains metrics with the same labelset after applying";

/// Evaluates the rule of `state` once, writes what it yields and tells the notifiers. Returns how many samples it
/// yielded. The state says whether it failed.
pub(super) async fn evaluate(state: &mut RuleState, environment: &Environment, round: Round) -> usize {
    let began = environment.clock.now();
    let result = match yielded(state, environment, round).await {
        Ok(points) => write(state, environment, points, round).await,
        Err(problem) => Err(problem),
    };
    state.evaluated_at_ms = Some(began.as_millis());
    state.took = environment.clock.now().since(began);
    match result {
        Ok(samples) => {
            state.health = Health::Good;
            state.last_error = None;
            samples
        }
        Err(problem) => {
            tracing::warn!(rule = state.rule.name, problem, "evaluating a rule failed");
            state.health = Health::Bad;
            state.last_error = Some(problem);
            0
        }
    }
}

async fn yielded(
    state: &mut RuleState,
    environment: &Environment,
    round: Round,
) -> Result<Vec<Point>, String> {
    let rule = Arc::clone(&state.rule);
    let at_ms = round.now_ms - round.query_offset_ms;
    let rows = rows_of(environment.store.query(&rule.query, at_ms).await?)?;
    if rows.len() > RULE_RESULTS {
        return Err(format!(
            "a rule may yield at most {RULE_RESULTS} samples, this one yields {}",
            rows.len()
        ));
    }
    match rule.alert() {
        None => recorded(&rule, rows, at_ms, round.limit),
        Some(alert) => alerts(state, (&rule, alert), rows, environment, round).await,
    }
}

/// The samples of a recording rule, under its name.
fn recorded(
    rule: &Rule,
    rows: Vec<(Labels, Sample)>,
    time_ms: i64,
    limit: usize,
) -> Result<Vec<Point>, String> {
    let mut points = BTreeMap::new();
    for (labels, sample) in rows {
        let changes = rule.changes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels = Labels::new(labels.iter().chain([("__name__", rule.name.as_str())]).chain(changes));
        if points.insert(labels, sample).is_some() {
            return Err(format!("{DUPLICATE} rule labels"));
        }
    }
    if limit > 0 && points.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", points.len()));
    }
    let point = |(labels, sample)| Point { labels, time_ms, sample };
    Ok(points.into_iter().map(point).collect())
}

/// Moves the alerts of a rule on; the samples are those of `ALERTS` and `ALERTS_FOR_STATE`.
async fn alerts(
    state: &mut RuleState,
    (rule, alert): (&Rule, &AlertRule),
    rows: Vec<(Labels, Sample)>,
    environment: &Environment,
    round: Round,
) -> Result<Vec<Point>, String> {
    let mut found = Alerts::new();
    let mut expander = Expander { environment, now_ms: round.now_ms, answers: Answers::new() };
    for (labels, sample) in rows {
        let value = sample.float().unwrap_or(0.0);
        let subject = Subject { labels, value: sample };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, template) in &alert.label_templates {
            pairs.push((name.clone(), expander.expand(template, &subject).await));
        }
        pairs.push(("alertname".to_owned(), rule.name.clone()));
        let own = subject.labels.iter().filter(|(name, _)| *name != "__name__");
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let labels = Labels::new(own.chain(pairs));
        let mut pairs = Vec::new();
        for (name, template) in &alert.annotation_templates {
            pairs.push((name.clone(), expander.expand(template, &subject).await));
        }
        let new = Alert::new(labels.clone(), Labels::new(pairs), value, round.now_ms);
        if found.insert(labels, new).is_some() {
            return Err(format!("{DUPLICATE} alert labels"));
        }
    }
    let active = alert::advance(&mut state.alerts, found, alert, round.now_ms);
    let limit = if round.limit == 0 { ALERTS_PER_RULE } else { round.limit.min(ALERTS_PER_RULE) };
    if active > limit {
        state.alerts.clear();
        return Err(format!("exceeded limit of {limit} with {active} alerts"));
    }
    let resend_ms = environment.timing.resend.as_millis() as i64;
    let due = alert::due(&mut state.alerts, round.now_ms, resend_ms, round.interval_ms);
    notify(rule, due, environment);
    if !state.restored {
        return Ok(Vec::new());
    }
    let time_ms = round.now_ms - round.query_offset_ms;
    let active = state.alerts.values().filter(|alert| alert.resolved_at_ms.is_none());
    Ok(active.flat_map(|alert| samples_of(rule, alert, time_ms)).collect())
}

/// `ALERTS` and `ALERTS_FOR_STATE` of an alert.
fn samples_of(rule: &Rule, alert: &Alert, time_ms: i64) -> [Point; 2] {
    let of = |name: &'static str, state: &'static str, value: f64| {
        let labels = rule.labels.iter().chain(alert.labels.iter());
        let named = [("__name__", name), ("alertname", rule.name.as_str()), ("alertstate", state)];
        Point { labels: Labels::new(labels.chain(named)), time_ms, sample: Sample::Float(value) }
    };
    let since = alert.active_at_ms.div_euclid(1000) as f64;
    [of("ALERTS", alert.state.name(), 1.0), of(FOR_STATE, "", since)]
}

/// The metric that remembers since when an alert has been active.
pub(super) const FOR_STATE: &str = "ALERTS_FOR_STATE";

fn notify(rule: &Rule, due: Vec<Alert>, environment: &Environment) {
    let generator =
        format!("{}{}", environment.external_url.trim_end_matches('/'), graph_link(&rule.query, 1));
    let told = due.into_iter().map(|alert| Notification {
        starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
        ends_at_ms: alert.resolved_at_ms.unwrap_or(alert.valid_until_ms),
        resolved: alert.resolved_at_ms.is_some(),
        labels: alert.labels,
        annotations: alert.annotations,
        generator_url: generator.clone(),
    });
    let told: Vec<Notification> = told.collect();
    if !told.is_empty() {
        environment.notify.notify(told);
    }
}

/// Expands the templates of one evaluation; each query is asked once.
struct Expander<'a> {
    environment: &'a Environment,
    now_ms: i64,
    answers: Answers,
}

impl Expander<'_> {
    async fn expand(&mut self, template: &Template, subject: &Subject) -> String {
        let context = Context {
            now_ms: self.now_ms,
            external_url: &self.environment.external_url,
            external_labels: &self.environment.external_labels,
        };
        loop {
            let problem = match template.expand(subject, &context, &self.answers) {
                Ok(text) => return text,
                Err(Unexpanded::Failed(problem)) => problem,
                Err(Unexpanded::Needs(_)) if self.answers.len() >= TEMPLATE_QUERIES => {
                    format!("templates of a rule may ask at most {TEMPLATE_QUERIES} queries")
                }
                Err(Unexpanded::Needs(query)) => {
                    let rows = self.environment.store.query(&query, self.now_ms).await.and_then(rows_of);
                    self.answers.insert(query, rows);
                    continue;
                }
            };
            tracing::debug!(problem, "expanding a template failed");
            return format!("<error expanding template: {problem}>");
        }
    }
}

/// Writes `points`, and stale markers for the series that the rule no longer yields. Returns how many points.
async fn write(
    state: &mut RuleState,
    environment: &Environment,
    mut points: Vec<Point>,
    round: Round,
) -> Result<usize, String> {
    let written: BTreeSet<Labels> = points.iter().map(|point| point.labels.clone()).collect();
    let gone: Vec<Labels> = state.previous.difference(&written).cloned().collect();
    let count = points.len();
    points.extend(stale(gone, round.now_ms - round.query_offset_ms));
    environment.store.write(points).await?;
    state.previous = written;
    Ok(count)
}

/// The markers that end `series`.
pub(super) fn stale(series: impl IntoIterator<Item = Labels>, time_ms: i64) -> impl Iterator<Item = Point> {
    series.into_iter().map(move |labels| Point { labels, time_ms, sample: Sample::Float(number::stale()) })
}
