//! Aggregations that pass series through: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use std::cmp::Ordering;
use std::collections::HashMap;

use weir_storage::Labels;

use super::Evaluator;
use super::aggregate::{group_of, ignored};
use crate::promql::ast::AggregateOp;
use crate::promql::error::Error;
use crate::promql::number::{nan_first, show};
use crate::promql::plan::AggregateNode;
use crate::promql::value::{Grid, Matrix, Row, Sample};

/// Rows that may be among the chosen ones.
#[derive(Default)]
struct Candidates {
    rows: Matrix,
    /// How many there were after the last sifting.
    sifted: usize,
    /// What further rows of a group must reach at some step, as the last sifting found.
    bars: HashMap<Labels, Vec<Bar>>,
}

/// What a number must reach to be chosen.
#[derive(Debug, Clone, Copy)]
enum Bar {
    /// There are not enough numbers yet.
    None,
    /// At least as good as this one.
    At(f64),
    /// None is chosen.
    Closed,
}

/// Rows gathered between two siftings, at least.
const SIFTED: usize = 128;

impl Evaluator<'_> {
    pub(super) fn select(&mut self, node: &AggregateNode, grid: Grid) -> Result<Matrix, Error> {
        let parameter = match &node.parameter {
            Some(parameter) => self.scalar(parameter, grid)?,
            None => Vec::new(),
        };
        let sifts = matches!(node.op, AggregateOp::Topk | AggregateOp::Bottomk);
        let parts = self.fold(&node.operand, grid, Candidates::default, |evaluator, candidates, row| {
            if sifts && candidates.are_better(node, &row) {
                return Ok(());
            }
            evaluator.charge(row.cells.len())?;
            candidates.rows.push(row);
            // Who is not among the best of some rows is not among those of all rows.
            if sifts && candidates.rows.len() >= candidates.sifted * 2 + SIFTED {
                let before = candidates.rows.len();
                evaluator.sift(node, candidates, &parameter)?;
                evaluator.budget.release((before - candidates.rows.len()) * grid.len());
            }
            Ok(())
        })?;
        let in_parts = parts.len() > 1;
        let mut rows: Matrix = parts.into_iter().flat_map(|candidates| candidates.rows).collect();
        if in_parts {
            rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        let chosen = self.chosen(node, &mut rows, &parameter)?;
        // An instant query shows the best first.
        let mut ranked: Vec<_> = chosen.into_iter().zip(rows).collect();
        ranked.retain(|(rank, _)| *rank != usize::MAX);
        ranked.sort_by_key(|(rank, _)| *rank);
        Ok(ranked.into_iter().map(|(_, row)| row).collect())
    }

    /// Leaves out rows that are not among the best of those gathered, and notes what the next ones must reach.
    fn sift(
        &mut self,
        node: &AggregateNode,
        candidates: &mut Candidates,
        parameter: &[f64],
    ) -> Result<(), Error> {
        // Of equal numbers the first row's count, in the order of all rows.
        candidates.rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut best = candidates.rows.clone();
        let ranks = self.chosen(node, &mut best, parameter)?;
        let mut found: HashMap<Labels, Vec<(usize, Bar)>> = HashMap::new();
        for row in &best {
            let none = || vec![(0, Bar::None); row.cells.len()];
            let steps = found.entry(group_of(&row.labels, &node.grouping)).or_insert_with(none);
            for ((count, bar), cell) in steps.iter_mut().zip(&row.cells) {
                let Some(value) = cell.float() else { continue };
                *count += 1;
                let is_worst = match bar {
                    Bar::At(worst) => order(node, value, *worst) == Ordering::Greater,
                    _ => true,
                };
                if is_worst {
                    *bar = Bar::At(value);
                }
            }
        }
        let bar = |((count, bar), parameter): ((usize, Bar), &f64)| {
            Ok(match count_of(*parameter, node)? {
                0 => Bar::Closed,
                many if count < many => Bar::None,
                _ => bar,
            })
        };
        let bars = found.into_iter().map(|(group, steps)| {
            Ok((group, steps.into_iter().zip(parameter).map(bar).collect::<Result<_, Error>>()?))
        });
        candidates.bars = bars.collect::<Result<_, Error>>()?;
        let mut rank = ranks.into_iter();
        candidates.rows.retain(|_| rank.next().is_some_and(|rank| rank != usize::MAX));
        candidates.sifted = candidates.rows.len();
        Ok(())
    }

    /// Empties the cells that are not chosen, and gives each row's best rank at any step; the largest number
    /// where it is never chosen.
    fn chosen(
        &mut self,
        node: &AggregateNode,
        rows: &mut Matrix,
        parameter: &[f64],
    ) -> Result<Vec<usize>, Error> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut index: HashMap<Labels, usize> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            let next = groups.len();
            let group = *index.entry(group_of(&row.labels, &node.grouping)).or_insert(next);
            if group == next {
                groups.push(Vec::new());
            }
            groups[group].push(at);
        }
        let mut first_rank: Vec<usize> = vec![usize::MAX; rows.len()];
        for (step, parameter) in parameter.iter().enumerate() {
            self.check()?;
            let many = match node.op {
                AggregateOp::LimitRatio => 0,
                _ => count_of(*parameter, node)?,
            };
            let ratio = if node.op == AggregateOp::LimitRatio { self.ratio(*parameter, node)? } else { 0.0 };
            let mut rank = 0;
            for group in &groups {
                let present = || group.iter().copied().filter(|&at| rows[at].cells[step].is_present());
                let chosen: Vec<usize> = match node.op {
                    AggregateOp::Topk | AggregateOp::Bottomk => self.best(node, rows, group, step, many),
                    AggregateOp::Limitk => present().take(many).collect(),
                    _ => present().filter(|&at| sampled(&rows[at].labels, ratio)).collect(),
                };
                let mut kept = chosen.clone();
                kept.sort_unstable();
                let mut kept = kept.into_iter().peekable();
                for &at in group {
                    if kept.next_if_eq(&at).is_none() {
                        rows[at].cells[step] = Sample::Absent;
                    }
                }
                for at in chosen {
                    first_rank[at] = first_rank[at].min(rank);
                    rank += 1;
                }
            }
        }
        Ok(first_rank)
    }

    /// The `many` rows with the largest (or smallest) numbers, best first; NaN comes last.
    fn best(
        &mut self,
        node: &AggregateNode,
        rows: &Matrix,
        group: &[usize],
        step: usize,
        many: usize,
    ) -> Vec<usize> {
        if many > 0 && group.iter().any(|&at| rows[at].cells[step].histogram().is_some()) {
            ignored(node.op, node, &mut self.annotations);
        }
        let number = |&at: &usize| rows[at].cells[step].float().map(|value| (value, at));
        let mut numbers: Vec<(f64, usize)> = group.iter().filter_map(number).collect();
        // Of equal numbers the first row's counts.
        let order = |(a, first): &(f64, usize), (b, second): &(f64, usize)| {
            self::order(node, *a, *b).then(first.cmp(second))
        };
        if many < numbers.len() {
            if many > 0 {
                numbers.select_nth_unstable_by(many - 1, order);
            }
            numbers.truncate(many);
        }
        numbers.sort_unstable_by(order);
        numbers.into_iter().map(|(_, at)| at).collect()
    }

    fn ratio(&mut self, ratio: f64, node: &AggregateNode) -> Result<f64, Error> {
        if ratio.is_nan() {
            return Err(Error::execution("Ratio value is NaN").at("", node.parameter_span));
        }
        if ratio.abs() > 1.0 {
            let cap = ratio.signum();
            let message = format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                show(ratio),
                show(cap)
            );
            self.annotations.warn(node.parameter_span, message);
            return Ok(cap);
        }
        Ok(ratio)
    }
}

impl Candidates {
    /// Whether those that are there are better than `row` at every step. Histograms are left to be looked at.
    fn are_better(&self, node: &AggregateNode, row: &Row) -> bool {
        if self.bars.is_empty() {
            return false;
        }
        let Some(bars) = self.bars.get(&group_of(&row.labels, &node.grouping)) else { return false };
        bars.iter().zip(&row.cells).all(|(bar, cell)| match (bar, cell) {
            (_, Sample::Absent) | (Bar::Closed, Sample::Float(_)) => true,
            (Bar::None, _) | (_, Sample::Histogram(_)) => false,
            (Bar::At(bar), Sample::Float(value)) => order(node, *value, *bar) == Ordering::Greater,
        })
    }
}

/// Which of two numbers is better: that is less. NaN is worst.
fn order(node: &AggregateNode, a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if node.op == AggregateOp::Topk => nan_first(b, a),
        (false, false) => nan_first(a, b),
        (a, b) => a.cmp(&b),
    }
}

/// The `k` of `topk` and its like.
fn count_of(parameter: f64, node: &AggregateNode) -> Result<usize, Error> {
    let fail = |message: String| Err(Error::execution(message).at("", node.parameter_span));
    match parameter {
        p if p.is_nan() => fail("Parameter value is NaN".to_owned()),
        p if p >= 9_223_372_036_854_775_807.0 => fail(format!("Scalar value {} overflows int64", show(p))),
        p if p <= -9_223_372_036_854_775_808.0 => fail(format!("Scalar value {} underflows int64", show(p))),
        p => Ok(p.max(0.0) as usize),
    }
}

/// Whether a series is in a sample of the share `ratio`; a negative one is the complement of `1 + ratio`.
fn sampled(labels: &Labels, ratio: f64) -> bool {
    let place = labels.id().0 as f64 / u64::MAX as f64;
    if ratio >= 0.0 { place < ratio || ratio == 1.0 } else { place >= 1.0 + ratio }
}
