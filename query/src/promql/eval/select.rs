//! Aggregations that pass series through: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use std::collections::HashMap;

use weir_storage::Labels;

use super::Evaluator;
use super::aggregate::{group_of, ignored};
use crate::promql::ast::AggregateOp;
use crate::promql::error::Error;
use crate::promql::number::{nan_first, show};
use crate::promql::plan::AggregateNode;
use crate::promql::value::{Grid, Matrix, Sample};

/// Rows that may be among the chosen ones.
#[derive(Default)]
struct Candidates {
    rows: Matrix,
    /// How many there were after the last sifting.
    sifted: usize,
}

/// Rows gathered between two siftings, at least.
const SIFTED: usize = 512;

impl Evaluator<'_> {
    pub(super) fn select(&mut self, node: &AggregateNode, grid: Grid) -> Result<Matrix, Error> {
        let parameter = match &node.parameter {
            Some(parameter) => self.scalar(parameter, grid)?,
            None => Vec::new(),
        };
        let sifts = matches!(node.op, AggregateOp::Topk | AggregateOp::Bottomk);
        let parts = self.fold(&node.operand, grid, Candidates::default, |evaluator, candidates, row| {
            evaluator.charge(row.cells.len())?;
            candidates.rows.push(row);
            // Who is not among the best of some rows is not among those of all rows.
            if sifts && candidates.rows.len() >= candidates.sifted * 2 + SIFTED {
                let before = candidates.rows.len();
                let chosen = evaluator.chosen(node, &mut candidates.rows.clone(), &parameter)?;
                let mut rank = chosen.into_iter();
                candidates.rows.retain(|_| rank.next().is_some_and(|rank| rank != usize::MAX));
                candidates.sifted = candidates.rows.len();
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
            let values = match (a.is_nan(), b.is_nan()) {
                (false, false) if node.op == AggregateOp::Topk => nan_first(*b, *a),
                (false, false) => nan_first(*a, *b),
                (a, b) => a.cmp(&b),
            };
            values.then(first.cmp(second))
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
