//! Evaluation: each node of the plan to a matrix of series × steps.

mod aggregate;
mod binary;
mod calls;
mod classic;
pub(super) mod info;
mod leaf;
mod math;
mod operators;
mod parts;
mod relabel;
mod select;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_storage::Labels;

use super::ast::Type;
use super::error::{Annotations, Error};
use super::labels;
use super::plan::{Node, Options, Selected, TimeRange};
use super::value::{Grid, Matrix, Output, Points, Row, Sample};

/// The state of one evaluation.
pub(super) struct Evaluator<'a> {
    /// Samples per selection.
    pub(super) series: &'a [Selected],
    pub(super) options: &'a Options,
    /// The steps of the query as a whole.
    pub(super) query: Grid,
    /// Samples that may still be loaded or made.
    pub(super) budget: &'a Budget,
    pub(super) annotations: Annotations,
    pub(super) cancel: &'a AtomicBool,
}

/// What a node yields on a grid.
pub(super) enum Value {
    /// A number per step.
    Scalar(Vec<f64>),
    Text(String),
    Vector(Matrix),
}

pub(super) use parts::Budget;

impl<'a> Evaluator<'a> {
    /// Fails once the query was cancelled.
    fn check(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::timeout()) } else { Ok(()) }
    }

    /// Accounts for `cells` more.
    fn charge(&mut self, cells: usize) -> Result<(), Error> {
        self.budget.charge(cells)
    }

    /// The value of `node` on `grid`.
    fn eval(&mut self, node: &Node, grid: Grid) -> Result<Value, Error> {
        self.check()?;
        match node {
            Node::Number(value) => Ok(Value::Scalar(vec![*value; grid.len()])),
            Node::Text(text) => Ok(Value::Text(text.clone())),
            Node::Negate(operand) => self.negate(operand, grid),
            Node::Binary(node) => self.binary(node, grid),
            Node::Aggregate(node) => self.aggregate(node, grid).map(Value::Vector),
            Node::Call(node) => self.call(node, grid),
            Node::Instant(node) => self.instant(node, leaf::Show::Value, grid).map(Value::Vector),
            Node::Range(node) => {
                Err(Error::execution("a range vector has no value at a step").at("", node.span))
            }
        }
    }

    fn vector(&mut self, node: &Node, grid: Grid) -> Result<Matrix, Error> {
        match self.eval(node, grid)? {
            Value::Vector(rows) => Ok(rows),
            _ => Err(Error::execution("expected an instant vector")),
        }
    }

    fn scalar(&mut self, node: &Node, grid: Grid) -> Result<Vec<f64>, Error> {
        match self.eval(node, grid)? {
            Value::Scalar(values) => Ok(values),
            _ => Err(Error::execution("expected a scalar")),
        }
    }

    /// Folds the rows of `node` into as many folds as there are parts. Leaves, and functions over ranges, never
    /// hold more than one row per thread.
    fn fold<P: Send>(
        &mut self,
        node: &Node,
        grid: Grid,
        start: impl Fn() -> P + Sync,
        fold: impl Fn(&mut Self, &mut P, Row) -> Result<(), Error> + Sync,
    ) -> Result<Vec<P>, Error> {
        let streamed = |evaluator: &mut Self, folded: &mut P, row: Row| {
            let cells = row.cells.len();
            fold(evaluator, folded, row)?;
            evaluator.budget.release(cells); // the row is gone
            Ok(())
        };
        match node {
            Node::Instant(node) => self.each_instant(node, leaf::Show::Value, grid, start, streamed),
            Node::Call(call) if self.streams(call) => self.each_window(call, grid, start, streamed),
            _ => {
                let mut folded = start();
                for row in self.vector(node, grid)? {
                    self.check()?;
                    fold(self, &mut folded, row)?;
                }
                Ok(vec![folded])
            }
        }
    }

    fn negate(&mut self, operand: &Node, grid: Grid) -> Result<Value, Error> {
        Ok(match self.eval(operand, grid)? {
            Value::Vector(mut rows) => {
                for row in &mut rows {
                    for cell in &mut row.cells {
                        *cell = operators::negated(cell);
                    }
                }
                self.unnamed(rows).map(Value::Vector)?
            }
            Value::Scalar(values) => Value::Scalar(values.into_iter().map(|v| -v).collect()),
            text => text,
        })
    }

    /// `row` without its metric name, now or at the end.
    fn unname(&self, row: &mut Row) {
        if self.options.delayed_name_removal {
            row.drop_name = true;
        } else {
            row.labels = labels::nameless(&row.labels);
        }
    }

    /// `rows` without metric names; those that have become the same series are merged.
    fn unnamed(&self, mut rows: Matrix) -> Result<Matrix, Error> {
        rows.iter_mut().for_each(|row| self.unname(row));
        if self.options.delayed_name_removal { Ok(rows) } else { merged(rows) }
    }
}

/// `rows` with one row per label set. Two samples of one label set at the same step are an error.
fn merged(rows: Matrix) -> Result<Matrix, Error> {
    let mut at: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut out: Matrix = Vec::with_capacity(rows.len());
    for row in rows {
        match at.get(&row.labels) {
            None => {
                at.insert(row.labels.clone(), out.len());
                out.push(row);
            }
            Some(&first) => merge_into(&mut out[first], row)?,
        }
    }
    Ok(out)
}

fn merge_into(to: &mut Row, from: Row) -> Result<(), Error> {
    for (cell, other) in to.cells.iter_mut().zip(from.cells) {
        if !other.is_present() {
            continue;
        }
        if cell.is_present() {
            return Err(Error::execution("vector cannot contain metrics with the same labelset"));
        }
        *cell = other;
    }
    Ok(())
}

/// The answer of the whole query.
pub(super) fn output(
    evaluator: &mut Evaluator<'_>,
    root: &Node,
    kind: Type,
    time: TimeRange,
) -> Result<Output, Error> {
    let grid = evaluator.query;
    if let (Node::Range(node), Type::Matrix) = (root, kind) {
        return evaluator.raw(node, grid).map(Output::Matrix);
    }
    let value = evaluator.eval(root, grid)?;
    let at = grid.start;
    Ok(match (value, time) {
        (Value::Text(text), _) => Output::Text(at, text),
        (Value::Scalar(values), TimeRange::Instant(_)) => {
            Output::Scalar(at, values.first().copied().unwrap_or(f64::NAN))
        }
        (Value::Scalar(values), TimeRange::Steps(_)) => {
            let points = grid.times().zip(values.into_iter().map(Sample::Float)).collect();
            Output::Matrix(vec![Points { labels: Labels::default(), points }])
        }
        (Value::Vector(rows), TimeRange::Instant(_)) => {
            let rows = named_at_last(rows)?;
            let first = |row: Row| row.cells.into_iter().next().map(|cell| (row.labels, cell));
            let cells = rows.into_iter().filter_map(first).filter(|(_, cell)| cell.is_present());
            Output::Vector(at, cells.collect())
        }
        (Value::Vector(rows), TimeRange::Steps(_)) => {
            let points = |row: Row| {
                let present = grid.times().zip(row.cells).filter(|(_, cell)| cell.is_present());
                Points { labels: row.labels, points: present.collect() }
            };
            let mut all: Vec<Points> = named_at_last(rows)?.into_iter().map(points).collect();
            all.retain(|series| !series.points.is_empty());
            all.sort_by(|a, b| a.labels.cmp(&b.labels));
            Output::Matrix(all)
        }
    })
}

/// Drops the metric names that were to go at the end of the query.
fn named_at_last(mut rows: Matrix) -> Result<Matrix, Error> {
    for row in rows.iter_mut().filter(|row| row.drop_name) {
        row.labels = labels::nameless(&row.labels);
    }
    merged(rows)
}
