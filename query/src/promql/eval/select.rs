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

impl Evaluator<'_> {
    pub(super) fn select(&mut self, node: &AggregateNode, grid: Grid) -> Result<Matrix, Error> {
        let parameter = match &node.parameter {
            Some(parameter) => self.scalar(parameter, grid)?,
            None => Vec::new(),
        };
        let mut rows = self.vector(&node.operand, grid)?;
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
                let chosen = match node.op {
                    AggregateOp::Topk | AggregateOp::Bottomk => self.best(node, &rows, group, step, many),
                    AggregateOp::Limitk => {
                        let present = group.iter().copied().filter(|&at| rows[at].cells[step].is_present());
                        present.take(many).collect()
                    }
                    _ => {
                        let present = group.iter().copied().filter(|&at| rows[at].cells[step].is_present());
                        present.filter(|&at| sampled(&rows[at].labels, ratio)).collect::<Vec<_>>()
                    }
                };
                let mut kept = chosen.clone();
                kept.sort_unstable();
                for &at in group {
                    if kept.binary_search(&at).is_err() {
                        rows[at].cells[step] = Sample::Absent;
                    }
                }
                for at in chosen {
                    first_rank[at] = first_rank[at].min(rank);
                    rank += 1;
                }
            }
        }
        // An instant query shows the best first.
        let mut ranked: Vec<_> = first_rank.into_iter().zip(rows).collect();
        ranked.retain(|(rank, _)| *rank != usize::MAX);
        ranked.sort_by_key(|(rank, _)| *rank);
        Ok(ranked.into_iter().map(|(_, row)| row).collect())
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
        numbers.sort_by(|(a, _), (b, _)| match (a.is_nan(), b.is_nan()) {
            (false, false) if node.op == AggregateOp::Topk => nan_first(*b, *a),
            (false, false) => nan_first(*a, *b),
            (a, b) => a.cmp(&b),
        });
        numbers.truncate(many);
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
