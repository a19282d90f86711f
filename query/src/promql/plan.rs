//! A query bound to its time range: durations and `@` resolved, and for each selector the samples it needs.

mod lower;

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use weir_model::limits::{PROMQL_POINTS, PROMQL_SAMPLES, PROMQL_SERIES};
use weir_storage::{LabelMatcher, Labels, MatchOp};

use super::ast::{AggregateOp, BinaryOp, Expr, Extent, Grouping, Matching, Span, Type};
use super::error::{Annotations, Error};
use super::eval::{self, Budget, Evaluator};
use super::features::Features;
use super::functions::Function;
use super::source::{SampleSource, Samples, Selection, SeriesSamples};
use super::value::{Answer, Grid, Stats};

/// How a query is to be evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a sample stands for its series, in milliseconds.
    pub lookback_ms: i64,
    /// The step of subqueries that name none, in milliseconds.
    pub default_step_ms: i64,
    /// Samples that may be loaded or made.
    pub samples: usize,
    /// Series that one selector may match.
    pub series: usize,
    /// Which experimental syntax is allowed.
    pub features: Features,
    /// Whether metric names are dropped at the end of the query rather than by each operator.
    pub delayed_name_removal: bool,
    /// Whether `rate` and its kin use the samples' start timestamps.
    pub start_timestamps: bool,
    /// Threads that leaves are evaluated on.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            default_step_ms: 60_000,
            samples: PROMQL_SAMPLES,
            series: PROMQL_SERIES,
            features: Features::NONE,
            delayed_name_removal: false,
            start_timestamps: false,
            threads: 1,
        }
    }
}

/// When a query is evaluated, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeRange {
    /// Once.
    Instant(i64),
    /// At each step.
    Steps(Grid),
}

/// A query that is ready to fetch and to evaluate.
#[derive(Debug)]
pub struct Plan {
    root: Node,
    kind: Type,
    time: TimeRange,
    selections: Vec<Selection>,
    options: Options,
}

impl Plan {
    /// The plan of `expr` over `time`.
    pub fn new(expr: &Expr, time: TimeRange, options: Options) -> Result<Self, Error> {
        let grid = grid_of(time);
        if let TimeRange::Steps(grid) = time {
            if !matches!(expr.kind(), Type::Scalar | Type::Vector) {
                let kind = expr.kind().name();
                let message = format!(
                    "invalid expression type {kind:?} for range query, must be Scalar or instant Vector"
                );
                return Err(Error::bad_data(message));
            }
            if grid.len() > PROMQL_POINTS + 1 {
                let message = "exceeded maximum resolution of 11,000 points per timeseries";
                return Err(Error::bad_data(message));
            }
        }
        let (root, selections) = lower::lower(expr, grid, &options)?;
        Ok(Self { root, kind: expr.kind(), time, selections, options })
    }

    /// How it is evaluated.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What must be fetched.
    pub fn selections(&self) -> &[Selection] {
        &self.selections
    }

    /// Asks `source` for every sample the query needs.
    pub async fn fetch(&self, source: &dyn SampleSource) -> Result<Fetched, Error> {
        let mut left = self.options.samples;
        let mut series = Vec::with_capacity(self.selections.len());
        for selection in &self.selections {
            let samples = source.select(selection, left).await?;
            let held = match &samples {
                Samples::Whole(all) => all.iter().map(SeriesSamples::len).sum(),
                Samples::Parts(_) => 0,
            };
            left = left.checked_sub(held).ok_or_else(|| super::source::too_many(self.options.samples))?;
            let names_metric = |m: &LabelMatcher| m.name == "__name__" && m.op == MatchOp::Equal;
            let one_metric = selection.matchers.iter().any(names_metric);
            series.push(Selected { samples, one_metric });
        }
        Ok(Fetched { series, left })
    }

    /// The answer. Long-running: belongs on a thread that may block. Ends early once `cancel` is set.
    pub fn evaluate(&self, fetched: &Fetched, cancel: &AtomicBool) -> Result<Answer, Error> {
        let began = Instant::now();
        let budget = Budget::new(fetched.left, self.options.samples);
        let mut evaluator = Evaluator {
            series: &fetched.series,
            options: &self.options,
            query: grid_of(self.time),
            budget: &budget,
            annotations: Annotations::default(),
            cancel,
        };
        let output = eval::output(&mut evaluator, &self.root, self.kind, self.time)?;
        let annotations = evaluator.annotations;
        let stats = Stats {
            samples: budget.looked_at(),
            peak_samples: budget.peak(),
            evaluated: began.elapsed(),
            ..Stats::default()
        };
        Ok(Answer { output, annotations, stats })
    }
}

fn grid_of(time: TimeRange) -> Grid {
    match time {
        TimeRange::Instant(at) => Grid::at(at),
        TimeRange::Steps(grid) => grid,
    }
}

/// The samples of a plan's selections.
#[derive(Debug)]
pub struct Fetched {
    series: Vec<Selected>,
    /// How many samples more the query may hold.
    left: usize,
}

/// The samples of one selection.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) samples: Samples,
    /// Whether all series have the same metric name.
    pub(super) one_metric: bool,
}

/// A node of the plan.
#[derive(Debug)]
pub(super) enum Node {
    Number(f64),
    Text(String),
    Negate(Box<Node>),
    Binary(Box<BinaryNode>),
    Aggregate(Box<AggregateNode>),
    Call(Box<CallNode>),
    Instant(Box<InstantNode>),
    Range(Box<RangeNode>),
}

#[derive(Debug)]
pub(super) struct BinaryNode {
    pub(super) op: BinaryOp,
    pub(super) left: Node,
    pub(super) right: Node,
    pub(super) bool_result: bool,
    pub(super) matching: Matching,
    pub(super) span: Span,
}

#[derive(Debug)]
pub(super) struct AggregateNode {
    pub(super) op: AggregateOp,
    pub(super) operand: Node,
    pub(super) parameter: Option<Node>,
    pub(super) grouping: Grouping,
    pub(super) span: Span,
    pub(super) parameter_span: Span,
}

#[derive(Debug)]
pub(super) struct CallNode {
    pub(super) function: &'static Function,
    pub(super) args: Vec<Node>,
    pub(super) span: Span,
    pub(super) arg_spans: Vec<Span>,
    /// The labels that `absent` gives to its result.
    pub(super) absent: Labels,
    /// The conditions that `info` puts on info series.
    pub(super) matchers: Vec<LabelMatcher>,
}

/// The newest sample of each series within the look-back.
#[derive(Debug)]
pub(super) struct InstantNode {
    pub(super) selection: usize,
    pub(super) at: Option<i64>,
    pub(super) offset: i64,
    pub(super) extent: Extent,
    pub(super) span: Span,
    /// Whether histograms get their reset hint by a look at the sample before.
    pub(super) resets: bool,
}

/// All samples of each series within a range.
#[derive(Debug)]
pub(super) struct RangeNode {
    pub(super) input: RangeInput,
    pub(super) at: Option<i64>,
    pub(super) offset: i64,
    pub(super) range: i64,
    pub(super) extent: Extent,
    pub(super) span: Span,
    /// Whether histograms get their reset hint by a look at the sample before.
    pub(super) resets: bool,
}

#[derive(Debug)]
pub(super) enum RangeInput {
    Selection(usize),
    Subquery(Node, Grid),
}
