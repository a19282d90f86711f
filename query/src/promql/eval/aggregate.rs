//! Aggregation: groups are found once per series, samples are folded per step.

use std::collections::HashMap;

use weir_storage::Labels;

use super::{Evaluator, Value, labels, operators};
use crate::promql::ast::{AggregateOp, Grouping};
use crate::promql::error::{Annotations, Error};
use crate::promql::histogram::{Combined, Histogram, Incompatible, ResetHint, Running};
use crate::promql::number::{self, Kahan, Mean, Variance};
use crate::promql::plan::AggregateNode;
use crate::promql::value::{Grid, Matrix, Row, Sample};

/// The labels of the group that a series belongs to.
pub(super) fn group_of(labels: &Labels, grouping: &Grouping) -> Labels {
    if grouping.without {
        labels::without_and_nameless(labels, &grouping.labels)
    } else if grouping.labels.is_empty() {
        Labels::default()
    } else {
        labels::only(labels, &grouping.labels)
    }
}

/// What has been folded of one group at one step.
#[derive(Debug, Default)]
enum Cell {
    #[default]
    Empty,
    Sum(Kahan),
    Mean(Mean),
    Extreme(f64),
    Count(f64),
    Spread(Variance),
    Values(Vec<f64>),
    Histograms(Box<Running>),
    /// Histograms of exponential and of custom buckets.
    Incompatible,
    /// Floats and histograms that cannot be added.
    Mixed,
}

struct Group {
    labels: Labels,
    drop_name: bool,
    cells: Vec<Cell>,
    /// Series folded into it.
    rows: usize,
}

impl Group {
    fn is_new(&self) -> bool {
        self.rows == 0
    }
}

/// Groups by their labels, in the order in which they were met.
#[derive(Default)]
struct Groups {
    groups: Vec<Group>,
    index: HashMap<Labels, usize>,
}

impl Groups {
    fn of(&mut self, labels: Labels, drop_name: bool, grid: Grid) -> &mut Group {
        let at = match self.index.get(&labels) {
            Some(at) => *at,
            None => {
                self.index.insert(labels.clone(), self.groups.len());
                let cells = std::iter::repeat_with(Cell::default).take(grid.len()).collect();
                self.groups.push(Group { labels, drop_name, cells, rows: 0 });
                self.groups.len() - 1
            }
        };
        &mut self.groups[at]
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&mut self, node: &AggregateNode, grid: Grid) -> Result<Matrix, Error> {
        if node.op.selects() {
            return self.select(node, grid);
        }
        if node.op == AggregateOp::CountValues {
            return self.count_values(node, grid);
        }
        let parameter = match &node.parameter {
            Some(parameter) => self.scalar(parameter, grid)?,
            None => Vec::new(),
        };
        let parts =
            self.fold(&node.operand, grid, Groups::default, |evaluator, groups: &mut Groups, row| {
                let group = groups.of(group_of(&row.labels, &node.grouping), row.drop_name, grid);
                if group.is_new() {
                    evaluator.charge(grid.len())?;
                }
                let cells = group.cells.iter_mut().zip(&row.cells);
                cells.for_each(|(cell, sample)| fold(node, cell, sample, &mut evaluator.annotations));
                group.rows += 1;
                Ok(())
            })?;
        let mut parts = parts.into_iter();
        let mut groups = parts.next().unwrap_or_default();
        for part in parts {
            self.check()?;
            for group in part.groups {
                let into = groups.of(group.labels.clone(), group.drop_name, grid);
                let cells = into.cells.iter_mut().zip(group.cells);
                cells.for_each(|(cell, other)| merge(node, cell, other, &mut self.annotations));
            }
        }
        let groups = groups.groups;
        if node.op == AggregateOp::Quantile && !groups.is_empty() {
            for q in &parameter {
                operators::quantile_range(&mut self.annotations, node.parameter_span, *q);
            }
        }
        let finish = |group: Group| {
            let cells = group.cells.into_iter().enumerate();
            let cells = cells.map(|(step, cell)| finished(node.op, cell, parameter.get(step))).collect();
            Row { labels: group.labels, drop_name: group.drop_name, cells }
        };
        let mut rows: Matrix = groups.into_iter().map(finish).collect();
        rows.retain(|row| row.cells.iter().any(Sample::is_present));
        Ok(rows)
    }

    /// One series per distinct value of a group.
    fn count_values(&mut self, node: &AggregateNode, grid: Grid) -> Result<Matrix, Error> {
        let name = match node.parameter.as_ref().map(|p| self.eval(p, grid)).transpose()? {
            Some(Value::Text(name)) if !name.is_empty() => name,
            _ => return Err(Error::execution("invalid label name \"\"").at("", node.parameter_span)),
        };
        let parts = self.fold(&node.operand, grid, Matrix::new, |evaluator, rows: &mut Matrix, row| {
            evaluator.charge(row.cells.len())?;
            rows.push(row);
            Ok(())
        })?;
        let mut rows: Matrix = Vec::new();
        let mut index: HashMap<Labels, usize> = HashMap::new();
        for row in parts.into_iter().flatten() {
            self.check()?;
            let group = group_of(&row.labels, &node.grouping);
            for (step, cell) in row.cells.iter().enumerate() {
                let value = match cell {
                    Sample::Absent => continue,
                    Sample::Float(value) => number::show(*value),
                    Sample::Histogram(histogram) => histogram.to_string(),
                };
                let labels = labels::with(&group, &name, &value);
                let next = rows.len();
                let at = *index.entry(labels.clone()).or_insert(next);
                if at == next {
                    self.charge(grid.len())?;
                    let cells = vec![Sample::Absent; grid.len()];
                    rows.push(Row { labels, drop_name: row.drop_name, cells });
                }
                let before = rows[at].cells[step].float().unwrap_or(0.0);
                rows[at].cells[step] = Sample::Float(before + 1.0);
            }
        }
        Ok(rows)
    }
}

/// Folds what another part has folded of the same group at the same step into `cell`.
fn merge(node: &AggregateNode, cell: &mut Cell, other: Cell, annotations: &mut Annotations) {
    match (&mut *cell, other) {
        (_, Cell::Empty) => {}
        (Cell::Empty, other) => *cell = other,
        (Cell::Sum(sum), Cell::Sum(other)) => sum.merge(other),
        (Cell::Mean(mean), Cell::Mean(other)) => mean.merge(other),
        (Cell::Extreme(_), Cell::Extreme(value)) => fold_float(node, cell, value),
        (Cell::Count(count), Cell::Count(other)) if node.op == AggregateOp::Count => *count += other,
        (Cell::Count(_), Cell::Count(_)) => {}
        (Cell::Spread(spread), Cell::Spread(other)) => spread.merge(other),
        (Cell::Values(values), Cell::Values(other)) => values.extend(other),
        (Cell::Histograms(running), Cell::Histograms(other)) => {
            let mean = node.op == AggregateOp::Avg;
            let combined = running.merge(*other, mean);
            note(node, cell, combined, annotations);
        }
        (Cell::Mixed | Cell::Incompatible, _) => {}
        (_, other @ (Cell::Mixed | Cell::Incompatible)) => *cell = other,
        _ => {
            *cell = Cell::Mixed;
            annotations.warn(node.span, "encountered a mix of histograms and floats for aggregation");
        }
    }
}

/// Says what was remarkable about adding a histogram, and gives up where it did not fit.
fn note(
    node: &AggregateNode,
    cell: &mut Cell,
    combined: Result<Combined, Incompatible>,
    annotations: &mut Annotations,
) {
    match combined {
        Ok(combined) => {
            if combined.conflicting_resets {
                let message = "conflicting counter resets during histogram aggregation";
                annotations.warn(node.span, message);
            }
            if combined.reconciled {
                let message = "mismatched custom buckets were reconciled during aggregation";
                annotations.info(node.span, message);
            }
        }
        Err(_) => {
            let message = "vector contains a mix of histograms with exponential and custom buckets schemas";
            annotations.warn(node.span, message);
            *cell = Cell::Incompatible;
        }
    }
}

fn fold(node: &AggregateNode, cell: &mut Cell, sample: &Sample, annotations: &mut Annotations) {
    match sample {
        Sample::Absent => {}
        Sample::Float(value) => fold_float(node, cell, *value),
        Sample::Histogram(histogram) => fold_histogram(node, cell, histogram, annotations),
    }
    if let (Cell::Mixed, true) = (&*cell, sample.is_present()) {
        annotations.warn(node.span, "encountered a mix of histograms and floats for aggregation");
    }
}

fn fold_float(node: &AggregateNode, cell: &mut Cell, value: f64) {
    match (node.op, &mut *cell) {
        (_, Cell::Mixed | Cell::Incompatible) => {}
        (AggregateOp::Sum | AggregateOp::Avg, Cell::Histograms(_)) => *cell = Cell::Mixed,
        (AggregateOp::Sum, Cell::Sum(sum)) => sum.add(value),
        (AggregateOp::Sum, _) => *cell = Cell::Sum(Kahan::of(value)),
        (AggregateOp::Avg, Cell::Mean(mean)) => mean.add(value),
        (AggregateOp::Avg, _) => {
            let mut mean = Mean::default();
            mean.add(value);
            *cell = Cell::Mean(mean);
        }
        (AggregateOp::Max, Cell::Extreme(best)) if value > *best || best.is_nan() => *best = value,
        (AggregateOp::Min, Cell::Extreme(best)) if value < *best || best.is_nan() => *best = value,
        (AggregateOp::Max | AggregateOp::Min, Cell::Extreme(_)) => {}
        (AggregateOp::Max | AggregateOp::Min, _) => *cell = Cell::Extreme(value),
        (AggregateOp::Count, Cell::Count(count)) => *count += 1.0,
        (AggregateOp::Count | AggregateOp::Group, _) => *cell = Cell::Count(1.0),
        (AggregateOp::Stddev | AggregateOp::Stdvar, Cell::Spread(spread)) => spread.add(value),
        (AggregateOp::Stddev | AggregateOp::Stdvar, _) => {
            let mut spread = Variance::default();
            spread.add(value);
            *cell = Cell::Spread(spread);
        }
        (AggregateOp::Quantile, Cell::Values(values)) => values.push(value),
        (AggregateOp::Quantile, _) => *cell = Cell::Values(vec![value]),
        _ => {}
    }
}

fn fold_histogram(
    node: &AggregateNode,
    cell: &mut Cell,
    histogram: &Histogram,
    annotations: &mut Annotations,
) {
    match node.op {
        AggregateOp::Sum | AggregateOp::Avg => match &mut *cell {
            Cell::Mixed | Cell::Incompatible => {}
            Cell::Empty => *cell = Cell::Histograms(Box::new(Running::of(histogram))),
            Cell::Histograms(running) => {
                let mean = node.op == AggregateOp::Avg;
                let combined = if mean { running.add_to_mean(histogram) } else { running.add(histogram) };
                note(node, cell, combined, annotations);
            }
            _ => *cell = Cell::Mixed,
        },
        AggregateOp::Count | AggregateOp::Group => fold_float(node, cell, 1.0),
        op => ignored(op, node, annotations),
    }
}

/// Says that histograms do not count here.
pub(super) fn ignored(op: AggregateOp, node: &AggregateNode, annotations: &mut Annotations) {
    annotations.info(node.span, format!("ignored histogram in {} aggregation", op.name()));
}

fn finished(op: AggregateOp, cell: Cell, parameter: Option<&f64>) -> Sample {
    match cell {
        Cell::Empty | Cell::Mixed | Cell::Incompatible => Sample::Absent,
        Cell::Sum(sum) => Sample::Float(sum.total()),
        Cell::Mean(mean) => Sample::Float(mean.value()),
        Cell::Extreme(value) | Cell::Count(value) => Sample::Float(value),
        Cell::Spread(spread) if op == AggregateOp::Stddev => Sample::Float(spread.value().sqrt()),
        Cell::Spread(spread) => Sample::Float(spread.value()),
        Cell::Values(mut values) => {
            Sample::Float(number::quantile(parameter.copied().unwrap_or(f64::NAN), &mut values))
        }
        Cell::Histograms(running) => {
            let single = running.count() == 1.0;
            let mut folded = if op == AggregateOp::Avg { running.mean() } else { running.total() };
            if folded.hint == ResetHint::Reset && !single {
                folded.hint = ResetHint::Unknown;
            }
            Sample::from(folded)
        }
    }
}
