//! Scripts that load series, evaluate queries and say what must come out: the language of Prometheus'
//! `promqltest`, in which PromQL is tested here, too.

mod compare;
mod parse;
mod points;
mod rerun;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::AtomicBool;

use weir_storage::Labels;

use super::ast::Expr;
use super::error::Error;
use super::parser;
use super::plan::{Options, Plan, TimeRange};
use super::source::MemorySource;
use super::value::{Answer, Grid};

use parse::{Command, Eval, Load};

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
    Options { experimental: true, delayed_name_removal: true, start_timestamps: true, ..Options::default() }
}

/// Runs the script `text` on series in memory.
pub fn run(text: &str, options: &Options) -> Result<Report, ScriptError> {
    let mut source = MemorySource::default();
    let mut report = Report::default();
    for command in parse::parse(text)? {
        match command {
            Command::Clear => source.clear(),
            Command::Load(load) => insert(&mut source, &load),
            Command::Eval(eval) => match check(&eval, &source, options) {
                Ok(()) => report.passed += 1,
                Err(Mismatch { expected, got }) => {
                    let (line, query) = (eval.line, eval.query.clone());
                    report.failed.push(Failure { line, query, expected, got });
                }
            },
        }
    }
    Ok(report)
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

fn insert(source: &mut MemorySource, load: &Load) {
    let mut all: Vec<(Labels, Vec<points::Loaded>)> = load.series.clone();
    if load.with_custom_buckets {
        all.extend(points::custom_bucket_histograms(&load.series));
    }
    for (labels, loaded) in all {
        for point in loaded {
            source.insert(&labels, point.time, point.sample, point.start);
        }
    }
}

fn evaluate(expr: &Expr, time: TimeRange, source: &MemorySource, options: &Options) -> Result<Answer, Error> {
    let plan = Plan::new(expr, time, options.clone())?;
    let fetched = futures::executor::block_on(plan.fetch(source))?;
    plan.evaluate(&fetched, &AtomicBool::new(false))
}

fn check(eval: &Eval, source: &MemorySource, options: &Options) -> Result<(), Mismatch> {
    let answer = parser::parse(&eval.query, options.experimental).and_then(|expr| {
        let answer = evaluate(&expr, eval.time, source, options)?;
        Ok((expr, answer))
    });
    let (expr, answer) = match (answer, &eval.expect.fail) {
        (Err(error), Some(pattern)) if pattern.matches(&error.message) => return Ok(()),
        (Err(error), Some(pattern)) => return Err(Mismatch::new(format!("failure {pattern}"), error.message)),
        (Ok((_, answer)), Some(_)) => return Err(Mismatch::new("failure", format!("{:?}", answer.output))),
        (Err(error), None) => return Err(Mismatch::new("a result", format!("error: {error}"))),
        (Ok(both), None) => both,
    };
    compare::annotations(eval, &answer.annotations)?;
    compare::output(eval, &answer.output)?;
    if let TimeRange::Instant(time) = eval.time {
        rerun::pinned(eval, time, &expr, source, options)?;
        rerun::as_range(eval, time, &expr, source, options)?;
    }
    Ok(())
}

/// The steps of a script's range.
fn steps(start: i64, end: i64, step: i64) -> Grid {
    Grid { start, end, step: step.max(1) }
}
