//! Scripts that load series, evaluate queries and say what must come out: the language of Prometheus'
//! `promqltest`, in which PromQL is tested here, too.

mod compare;
mod parse;
mod points;
mod rerun;
mod stored;
#[cfg(test)]
mod tests;
mod twice;

use std::fmt;
use std::sync::atomic::AtomicBool;

use weir_model::TenantId;
use weir_storage::{Labels, WriteBatch};

use super::ask;
use super::ast::Expr;
use super::error::Error;
use super::features::Features;
use super::parser;
use super::plan::{Options, Plan, TimeRange};
use super::source::MemorySource;
use super::value::{Answer, Grid, Sample};
use crate::engine::Engine;

use parse::{Command, Eval, Load};
pub use twice::{TwiceError, run_twice};

/// What came of a script.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Evaluations that gave what was expected.
    pub passed: usize,
    /// The others.
    pub failed: Vec<Failure>,
}

/// An evaluation that gave something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Line of the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// What should have come out.
    pub expected: String,
    /// What did.
    pub got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}`: expected {}, got {}", self.line, self.query, self.expected, self.got)
    }
}

/// A script that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// How scripts are evaluated: every experimental feature on.
pub fn options() -> Options {
    Options {
        features: Features::ALL,
        delayed_name_removal: true,
        start_timestamps: true,
        ..Options::default()
    }
}

/// The series that a line such as `up{job="a"} 1+1x5 _ stale` names, and its points, gaps among them.
pub(crate) fn series(line: &str) -> Option<(Labels, Vec<Sample>)> {
    let (labels, rest) = parse::split_series(line.trim())?;
    Some((labels, points::points(rest)?))
}

/// Runs the script `text` on series in memory.
pub fn run(text: &str, options: &Options) -> Result<Report, ScriptError> {
    run_on(MemorySource::default(), text, options)
}

fn run_on(mut source: MemorySource, text: &str, options: &Options) -> Result<Report, ScriptError> {
    let mut report = Report::default();
    for command in parse::parse(text)? {
        match command {
            Command::Clear => source.clear(),
            Command::Load(load) => insert(&mut source, &load),
            Command::Eval(eval) => {
                let target = Target { place: Place::Memory(&source), options };
                report.count(&eval, futures::executor::block_on(check(&eval, &target)));
            }
        }
    }
    Ok(report)
}

/// A script whose series are written to a store, each state of them to a tenant of its own.
#[derive(Debug)]
pub struct Stored {
    evals: Vec<(Eval, usize)>,
    /// The series that are there at some evaluation, in the order in which they were loaded.
    states: Vec<Vec<(Labels, Vec<points::Loaded>)>>,
}

impl Stored {
    /// Reads the script `text`.
    pub fn new(text: &str) -> Result<Self, ScriptError> {
        let mut stored = Self { evals: Vec::new(), states: Vec::new() };
        let (mut state, mut changed) = (Vec::new(), true);
        for command in parse::parse(text)? {
            match command {
                Command::Clear => {
                    state.clear();
                    changed = true;
                }
                Command::Load(load) => {
                    state.extend(whole(&load));
                    changed = true;
                }
                Command::Eval(eval) => {
                    if std::mem::take(&mut changed) {
                        stored.states.push(state.clone());
                    }
                    stored.evals.push((*eval, stored.states.len() - 1));
                }
            }
        }
        Ok(stored)
    }

    /// What must be written before the script is run: in round `round` of so many, every so manieth sample.
    pub fn writes(
        &self,
        round: usize,
        of: usize,
    ) -> impl Iterator<Item = Result<WriteBatch, arrow::error::ArrowError>> {
        let share = move |(labels, loaded): &(Labels, Vec<points::Loaded>)| {
            let own = loaded.iter().enumerate().filter(|(at, _)| at % of == round);
            (labels.clone(), own.map(|(_, point)| point.clone()).collect())
        };
        let each = self.states.iter().enumerate();
        each.map(move |(number, state)| {
            stored::rows(tenant(number), &state.iter().map(share).collect::<Vec<_>>())
        })
    }

    /// Evaluates what the script asks for, over an engine whose store has what was to be written.
    pub async fn run(&self, engine: &Engine, options: &Options) -> Report {
        let mut report = Report::default();
        for (eval, state) in &self.evals {
            let tenant = tenant(*state);
            let target = Target { place: Place::Stored(engine, &tenant), options };
            report.count(eval, check(eval, &target).await);
        }
        report
    }
}

/// The rows that the `load` commands of `text` stand for.
#[cfg(test)]
pub(crate) fn loaded(tenant: TenantId, text: &str) -> WriteBatch {
    let loads = parse::parse(text).expect("a script").into_iter().filter_map(|command| match command {
        Command::Load(load) => Some(whole(&load)),
        _ => None,
    });
    stored::rows(tenant, &loads.flatten().collect::<Vec<_>>()).expect("rows")
}

/// The tenant that holds the state `number` of a script's series.
fn tenant(number: usize) -> TenantId {
    TenantId::new(&format!("state-{number}")).unwrap_or_default()
}

impl Report {
    fn count(&mut self, eval: &Eval, outcome: Result<(), Mismatch>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(Mismatch { expected, got }) => {
                let (line, query) = (eval.line, eval.query.clone());
                self.failed.push(Failure { line, query, expected, got });
            }
        }
    }
}

/// What an evaluation should have given and what it gave.
#[derive(Debug)]
struct Mismatch {
    expected: String,
    got: String,
}

impl Mismatch {
    fn new(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { expected: expected.into(), got: got.into() }
    }

    /// The same, found when the query was run in another way.
    fn when(mut self, how: &str) -> Self {
        self.got.push_str(&format!(" ({how})"));
        self
    }
}

/// The series of `load`, and the native histograms made of them where it asks for those.
fn whole(load: &Load) -> Vec<(Labels, Vec<points::Loaded>)> {
    let mut all = load.series.clone();
    if load.with_custom_buckets {
        all.extend(points::custom_bucket_histograms(&load.series));
    }
    all.into_iter().map(|(labels, loaded)| (labels, points::with_hints(loaded))).collect()
}

fn insert(source: &mut MemorySource, load: &Load) {
    for (labels, loaded) in whole(load) {
        for point in loaded {
            source.insert(&labels, point.time, point.sample, point.start);
        }
    }
}

/// What scripts are evaluated on.
struct Target<'a> {
    place: Place<'a>,
    options: &'a Options,
}

enum Place<'a> {
    Memory(&'a MemorySource),
    Stored(&'a Engine, &'a TenantId),
}

impl Target<'_> {
    async fn evaluate(&self, expr: &Expr, time: TimeRange) -> Result<Answer, Error> {
        let plan = Plan::new(expr, time, self.options.clone())?;
        match self.place {
            Place::Memory(source) => plan.evaluate(&plan.fetch(source).await?, &AtomicBool::new(false)),
            Place::Stored(engine, tenant) => ask::answer(engine, tenant, plan, None).await,
        }
    }
}

async fn check(eval: &Eval, target: &Target<'_>) -> Result<(), Mismatch> {
    let parsed = parser::parse(&eval.query, target.options.features);
    let answer = match &parsed {
        Ok(expr) => target.evaluate(expr, eval.time).await,
        Err(error) => Err(error.clone()),
    };
    let answer = match (answer, &eval.expect.fail) {
        (Err(error), Some(pattern)) if pattern.matches(&error.message) => return Ok(()),
        (Err(error), Some(pattern)) => {
            return Err(Mismatch::new(format!("failure {pattern}"), error.message));
        }
        (Ok(answer), Some(_)) => return Err(Mismatch::new("failure", format!("{:?}", answer.output))),
        (Err(error), None) => return Err(Mismatch::new("a result", format!("error: {error}"))),
        (Ok(answer), None) => answer,
    };
    compare::annotations(eval, &answer.annotations)?;
    compare::output(eval, &answer.output)?;
    if let (TimeRange::Instant(time), Ok(expr)) = (eval.time, &parsed) {
        rerun::pinned(eval, time, expr, target).await?;
        rerun::as_range(eval, time, expr, target).await?;
    }
    Ok(())
}

/// The steps of a script's range.
fn steps(start: i64, end: i64, step: i64) -> Grid {
    Grid { start, end, step: step.max(1) }
}
