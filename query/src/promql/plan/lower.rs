//! From the tree as typed to the tree as evaluated.

use std::collections::HashMap;

use weir_storage::{LabelMatcher, Labels, MatchOp};

use super::{
    AggregateNode, BinaryNode, CallNode, InstantNode, Node, Options, RangeInput, RangeNode, Selection,
};
use crate::promql::ast::{At, Call, Expr, Extent, Length, Selector, Shift, Span, Subquery};
use crate::promql::error::Error;
use crate::promql::eval;
use crate::promql::source::too_many;
use crate::promql::value::Grid;

pub(super) fn lower(expr: &Expr, grid: Grid, options: &Options) -> Result<(Node, Vec<Selection>), Error> {
    let mut lowering = Lowering {
        query: grid,
        options,
        selections: Vec::new(),
        seen: HashMap::new(),
        above: Above::default(),
    };
    let root = lowering.node(expr, grid)?;
    Ok((root, lowering.selections))
}

struct Lowering<'a> {
    query: Grid,
    options: &'a Options,
    selections: Vec<Selection>,
    /// Selections by their matchers: two selectors of the same series are fetched once.
    seen: HashMap<String, usize>,
    above: Above,
}

/// What stands above a selector, up to the next binary operator.
#[derive(Debug, Clone, Copy, Default)]
struct Above {
    /// A function that asks for no more than a histogram's count and sum. Prometheus reads only those then,
    /// and looks for counter resets as it goes.
    totals: bool,
    /// Something that needs whole histograms, or a subquery.
    buckets: bool,
}

impl Lowering<'_> {
    /// `expr` as evaluated on `grid`.
    fn node(&mut self, expr: &Expr, grid: Grid) -> Result<Node, Error> {
        Ok(match expr {
            Expr::Number(value, _) | Expr::Seconds(value, _) => Node::Number(*value),
            Expr::Text(text, _) => Node::Text(text.clone()),
            Expr::Paren(inner, _) | Expr::Unary { negate: false, operand: inner, .. } => {
                self.node(inner, grid)?
            }
            Expr::Unary { operand, .. } => Node::Negate(Box::new(self.node(operand, grid)?)),
            Expr::Binary(binary) => {
                let above = std::mem::take(&mut self.above);
                let left = self.node(&binary.left, grid)?;
                let right = self.node(&binary.right, grid)?;
                self.above = above;
                Node::Binary(Box::new(BinaryNode {
                    op: binary.op,
                    left,
                    right,
                    bool_result: binary.bool_result,
                    matching: binary.matching.clone(),
                    span: expr.span(),
                }))
            }
            Expr::Aggregate(aggregate) => Node::Aggregate(Box::new(AggregateNode {
                op: aggregate.op,
                operand: self.node(&aggregate.operand, grid)?,
                parameter: aggregate.parameter.as_ref().map(|p| self.node(p, grid)).transpose()?,
                grouping: aggregate.grouping.clone(),
                span: aggregate.operand.span(),
                parameter_span: aggregate.parameter.as_ref().map_or(aggregate.span, Expr::span),
            })),
            Expr::Call(call) => self.call(call, grid)?,
            Expr::Selector(selector) => self.selector(selector, grid)?,
            Expr::Subquery(subquery) => self.subquery(subquery, grid)?,
        })
    }

    fn call(&mut self, call: &Call, grid: Grid) -> Result<Node, Error> {
        // What `info` selects is no argument to be evaluated.
        let evaluated = if call.function.name == "info" { &call.args[..1] } else { &call.args };
        let above = self.above;
        match call.function.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => self.above.totals = true,
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => self.above.buckets = true,
            _ => {}
        }
        let mut args = evaluated.iter().map(|arg| self.node(arg, grid)).collect::<Result<Vec<_>, _>>()?;
        self.above = above;
        let matchers = if call.function.name == "info" {
            let (matchers, series) = self.info_series(call, grid)?;
            args.push(series);
            matchers
        } else {
            Vec::new()
        };
        Ok(Node::Call(Box::new(CallNode {
            function: call.function,
            args,
            span: call.span,
            arg_spans: call.args.iter().map(Expr::span).collect(),
            absent: absent_labels(call.args.first()),
            matchers,
        })))
    }

    /// The series that `info` takes labels from, and the conditions on them as they were written.
    fn info_series(&mut self, call: &Call, grid: Grid) -> Result<(Vec<LabelMatcher>, Node), Error> {
        let target = || LabelMatcher::new("__name__", MatchOp::Equal, "target_info").map_err(Error::internal);
        let matchers = match call.args.get(1).map(Expr::inner) {
            Some(Expr::Selector(selector)) => selector.matchers.clone(),
            _ => vec![target()?],
        };
        let mut asked = matchers.clone();
        let mut names = asked.iter().filter(|matcher| matcher.name == "__name__").peekable();
        if names.peek().is_none() {
            asked.push(target()?);
        } else if !names.any(eval::info::affirms) {
            // Told only what it is not, an info metric is one that is called so.
            asked.push(LabelMatcher::new("__name__", MatchOp::Regex, ".+_info").map_err(Error::internal)?);
        }
        let selection = self.select(&asked, grid.start - self.options.lookback_ms, grid.end);
        let extent = Extent::Plain;
        let node = InstantNode { selection, at: None, offset: 0, extent, span: call.span, resets: false };
        Ok((matchers, Node::Instant(Box::new(node))))
    }

    fn selector(&mut self, selector: &Selector, grid: Grid) -> Result<Node, Error> {
        let (at, offset) = self.shift(&selector.shift, selector.span)?;
        let (first, last) = at.map_or((grid.start, grid.end), |at| (at, at));
        let lookback = self.options.lookback_ms;
        let (mut after, mut until) = (first - offset, last - offset);
        let Some(range) = &selector.range else {
            if selector.extent == Extent::Smoothed {
                until += lookback;
            }
            let selection = self.select(&selector.matchers, after - lookback, until);
            let (extent, span, resets) = (selector.extent, selector.span, self.resets());
            return Ok(Node::Instant(Box::new(InstantNode { selection, at, offset, extent, span, resets })));
        };
        let range = self.positive(range, selector.span)?;
        after -= range;
        if selector.extent != Extent::Plain {
            after -= lookback;
        }
        if selector.extent == Extent::Smoothed {
            until += lookback;
        }
        let input = RangeInput::Selection(self.select(&selector.matchers, after, until));
        let (extent, span, resets) = (selector.extent, selector.span, self.resets());
        Ok(Node::Range(Box::new(RangeNode { input, at, offset, range, extent, span, resets })))
    }

    fn resets(&self) -> bool {
        self.above.totals && !self.above.buckets
    }

    fn subquery(&mut self, subquery: &Subquery, grid: Grid) -> Result<Node, Error> {
        let span = subquery.span;
        let (at, offset) = self.shift(&subquery.shift, span)?;
        let range = self.positive(&subquery.range, span)?;
        let step = match &subquery.step {
            Some(step) => self.positive(step, span)?,
            None => self.options.default_step_ms,
        };
        let (first, last) = at.map_or((grid.start, grid.end), |at| (at, at));
        // The first multiple of the step inside the range, which is open on the left.
        let start = ((first - offset - range).div_euclid(step) + 1) * step;
        let inner = Grid { start, end: last - offset, step };
        if inner.len() > self.options.samples {
            return Err(too_many(self.options.samples));
        }
        let above = self.above;
        self.above.buckets = true;
        let operand = self.node(&subquery.operand, inner)?;
        self.above = above;
        let input = RangeInput::Subquery(operand, inner);
        let (extent, resets) = (Extent::Plain, false);
        Ok(Node::Range(Box::new(RangeNode { input, at, offset, range, extent, span, resets })))
    }

    /// The index of a selection that covers these samples.
    fn select(&mut self, matchers: &[LabelMatcher], after: i64, until: i64) -> usize {
        let key: String =
            matchers.iter().map(|m| format!("{:?} {:?} {:?};", m.name, m.op, m.value)).collect();
        if let Some(&at) = self.seen.get(&key) {
            let known = &mut self.selections[at];
            // Far apart, one scan over the gap would read more than two.
            let gap = (after - known.until).max(known.after - until);
            if gap <= 0 {
                known.after = known.after.min(after);
                known.until = known.until.max(until);
                return at;
            }
        }
        self.selections.push(Selection { matchers: matchers.to_vec(), after, until });
        self.seen.insert(key, self.selections.len() - 1);
        self.selections.len() - 1
    }

    fn shift(&self, shift: &Shift, span: Span) -> Result<(Option<i64>, i64), Error> {
        let at = shift.at.map(|at| match at {
            At::Time(time) => time,
            At::Start => self.query.start,
            At::End => self.query.end,
        });
        let offset = shift.offset.as_ref().map_or(Ok(0), |offset| self.length(offset, span))?;
        Ok((at, offset))
    }

    fn length(&self, length: &Length, span: Span) -> Result<i64, Error> {
        let range = (self.query.end - self.query.start) as f64 / 1000.0;
        // An instant query has no steps to speak of.
        let step = if self.query.start == self.query.end && self.query.step == 1 {
            0.0
        } else {
            self.query.step as f64 / 1000.0
        };
        let ms = length.to_ms(step, range);
        ms.ok_or_else(|| Error::bad_data("duration out of range").at("", span))
    }

    fn positive(&self, length: &Length, span: Span) -> Result<i64, Error> {
        match self.length(length, span)? {
            ms @ 1.. => Ok(ms),
            _ => Err(Error::bad_data("duration must be greater than 0").at("", span)),
        }
    }
}

/// The labels an absent selector would have had: those it asks for by equality, once.
fn absent_labels(arg: Option<&Expr>) -> Labels {
    let Some(Expr::Selector(selector)) = arg.map(Expr::inner) else { return Labels::default() };
    let unique = |m: &&LabelMatcher| {
        m.op == MatchOp::Equal
            && m.name != "__name__"
            && selector.matchers.iter().filter(|other| other.name == m.name).count() == 1
    };
    Labels::new(selector.matchers.iter().filter(unique).map(|m| (m.name.as_str(), m.value.as_str())))
}
