//! Binary operations: series of both sides find each other once per query, samples meet per step.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use weir_storage::Labels;

use super::{Evaluator, Value, labels, operators};
use crate::promql::ast::{BinaryOp, Group, Matching};
use crate::promql::error::Error;
use crate::promql::plan::BinaryNode;
use crate::promql::value::{Grid, Matrix, Row, Sample};

impl Evaluator<'_> {
    pub(super) fn binary(&mut self, node: &BinaryNode, grid: Grid) -> Result<Value, Error> {
        let left = self.eval(&node.left, grid)?;
        let right = self.eval(&node.right, grid)?;
        match (left, right) {
            (Value::Scalar(a), Value::Scalar(b)) => {
                let apply = |(a, b): (f64, f64)| operators::arithmetic(node.op, a, b);
                Ok(Value::Scalar(a.into_iter().zip(b).map(apply).collect()))
            }
            (Value::Vector(rows), Value::Scalar(values)) => self.with_scalar(node, rows, &values, false),
            (Value::Scalar(values), Value::Vector(rows)) => self.with_scalar(node, rows, &values, true),
            (Value::Vector(left), Value::Vector(right)) if node.op.is_set() => {
                Ok(Value::Vector(set(node, left, right, grid)))
            }
            (Value::Vector(left), Value::Vector(right)) => {
                Join::new(self, node, grid, left, right).run().map(Value::Vector)
            }
            _ => Err(Error::execution("binary expression must contain only scalar and instant vector types")),
        }
    }

    fn with_scalar(
        &mut self,
        node: &BinaryNode,
        mut rows: Matrix,
        values: &[f64],
        scalar_left: bool,
    ) -> Result<Value, Error> {
        for row in &mut rows {
            self.check()?;
            for (cell, value) in row.cells.iter_mut().zip(values) {
                let value = Sample::Float(*value);
                let operands = if scalar_left { (&value, &*cell) } else { (&*cell, &value) };
                let notes = (&mut self.annotations, node.span);
                *cell = operators::apply(node.op, operands, cell, node.bool_result, notes);
            }
        }
        rows.retain(|row| row.cells.iter().any(Sample::is_present));
        let rows = if node.op.compares() && !node.bool_result { rows } else { self.unnamed(rows)? };
        Ok(Value::Vector(rows))
    }
}

/// The labels by which a series finds its partners.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    if matching.on {
        labels::only(labels, &matching.labels)
    } else {
        let mut ignored = matching.labels.clone();
        ignored.push("__name__".to_owned());
        labels::without(labels, &ignored)
    }
}

/// `and`, `or`, `unless`.
fn set(node: &BinaryNode, mut left: Matrix, mut right: Matrix, grid: Grid) -> Matrix {
    let mut ids: HashMap<Labels, usize> = HashMap::new();
    let mut id_of = |row: &Row| {
        let next = ids.len();
        *ids.entry(signature(&row.labels, &node.matching)).or_insert(next)
    };
    let left_ids: Vec<usize> = left.iter().map(&mut id_of).collect();
    let right_ids: Vec<usize> = right.iter().map(&mut id_of).collect();
    // Which signatures the other side has, per step.
    let presence = |rows: &Matrix, row_ids: &[usize]| {
        let mut present = vec![false; ids.len() * grid.len()];
        for (row, id) in rows.iter().zip(row_ids) {
            for (seen, cell) in present[id * grid.len()..].iter_mut().zip(&row.cells) {
                *seen |= cell.is_present();
            }
        }
        present
    };
    let keep = |rows: &mut Matrix, row_ids: &[usize], others: &[bool], wanted: bool| {
        for (row, id) in rows.iter_mut().zip(row_ids) {
            for (cell, other) in row.cells.iter_mut().zip(&others[id * grid.len()..]) {
                if *other != wanted {
                    *cell = Sample::Absent;
                }
            }
        }
    };
    match node.op {
        BinaryOp::Or => {
            let present = presence(&left, &left_ids);
            keep(&mut right, &right_ids, &present, false);
            left = joined(left, right);
        }
        op => {
            let present = presence(&right, &right_ids);
            keep(&mut left, &left_ids, &present, op == BinaryOp::And);
        }
    }
    left.retain(|row| row.cells.iter().any(Sample::is_present));
    left
}

/// Both sides of `or`: a series found on both is one row again, as they never have samples at the same step.
fn joined(mut left: Matrix, right: Matrix) -> Matrix {
    let known: HashMap<(Labels, bool), usize> =
        left.iter().enumerate().map(|(at, row)| ((row.labels.clone(), row.drop_name), at)).collect();
    for row in right {
        match known.get(&(row.labels.clone(), row.drop_name)) {
            Some(&at) => {
                for (to, from) in left[at].cells.iter_mut().zip(row.cells) {
                    if from.is_present() && !to.is_present() {
                        *to = from;
                    }
                }
            }
            None => left.push(row),
        }
    }
    left
}

/// The rows of both sides that share a signature.
#[derive(Default)]
struct Match {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// An arithmetic or comparing operation between vectors. The "one" side is the left only with `group_right`.
struct Join<'e, 'a, 'n> {
    evaluator: &'e mut Evaluator<'a>,
    node: &'n BinaryNode,
    grid: Grid,
    /// Rows lose their cells when they have met all partners they can have.
    many: Matrix,
    one: Matrix,
    /// Rows of the result, by their labels.
    index: HashMap<Labels, usize>,
    out: Matrix,
    /// Whether samples can meet, per step: not where a side has none at all, and nothing stands for them.
    meets: Vec<bool>,
    /// Which row of the "many" side filled a cell last: two at one step are a mistake.
    filled: Vec<Vec<bool>>,
}

impl<'e, 'a, 'n> Join<'e, 'a, 'n> {
    fn new(
        evaluator: &'e mut Evaluator<'a>,
        node: &'n BinaryNode,
        grid: Grid,
        left: Matrix,
        right: Matrix,
    ) -> Self {
        let (many, one) = if node.matching.group == Group::Right { (right, left) } else { (left, right) };
        let has_fill = node.matching.fill_left.is_some() || node.matching.fill_right.is_some();
        let any = |rows: &Matrix, step: usize| rows.iter().any(|row| row.cells[step].is_present());
        let meets = (0..grid.len()).map(|step| has_fill || (any(&many, step) && any(&one, step))).collect();
        let (index, out, filled) = (HashMap::new(), Vec::new(), Vec::new());
        Self { evaluator, node, grid, many, one, index, out, meets, filled }
    }

    fn run(mut self) -> Result<Matrix, Error> {
        let mut order: Vec<(Labels, Match)> = Vec::new();
        let mut ids: HashMap<Labels, usize> = HashMap::new();
        let mut place = |labels: &Labels, order: &mut Vec<(Labels, Match)>| {
            let signature = signature(labels, &self.node.matching);
            match ids.entry(signature.clone()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    order.push((signature, Match::default()));
                    *new.insert(order.len() - 1)
                }
            }
        };
        for (at, row) in self.many.iter().enumerate() {
            let id = place(&row.labels, &mut order);
            order[id].1.many.push(at);
        }
        for (at, row) in self.one.iter().enumerate() {
            let id = place(&row.labels, &mut order);
            order[id].1.one.push(at);
        }
        for (signature, group) in &order {
            self.evaluator.check()?;
            self.group(signature, group)?;
        }
        let mut out = self.out;
        out.retain(|row| row.cells.iter().any(Sample::is_present));
        Ok(out)
    }

    /// The values that stand for a missing series: of the "many" side, of the "one" side.
    fn fills(&self) -> (Option<f64>, Option<f64>) {
        // With `group_right` as well: Prometheus names the sides after it has swapped them.
        (self.node.matching.fill_left, self.node.matching.fill_right)
    }

    fn group(&mut self, signature: &Labels, group: &Match) -> Result<(), Error> {
        let (many_fill, one_fill) = self.fills();
        if (group.one.is_empty() && one_fill.is_none()) || (group.many.is_empty() && many_fill.is_none()) {
            // No partner at any step; duplicates among the "one" side are a mistake even so.
            return (0..self.grid.len()).try_for_each(|step| self.the_one(group, step).map(|_| ()));
        }
        if let ([one], None, None) = (group.one.as_slice(), many_fill, one_fill) {
            return group.many.iter().try_for_each(|many| self.pair(*many, *one));
        }
        let pairs = |many: usize, one: usize| (many, one);
        // Result rows are found once per pair of rows, not per step.
        let mut targets: HashMap<(usize, usize), usize> = HashMap::new();
        const NONE: usize = usize::MAX;
        for step in 0..self.grid.len() {
            let one = self.the_one(group, step)?;
            let mut any = false;
            for &many in &group.many {
                let cell = &self.many[many].cells[step];
                if !cell.is_present() {
                    continue;
                }
                any = true;
                let (one_at, one_cell) = match (one, one_fill) {
                    (Some(at), _) => (at, self.one[at].cells[step].clone()),
                    (None, Some(value)) => (NONE, Sample::Float(value)),
                    (None, None) => continue,
                };
                let one_labels = if one_at == NONE { signature } else { &self.one[one_at].labels }.clone();
                let cell = cell.clone();
                let target = match targets.get(&pairs(many, one_at)) {
                    Some(&target) => target,
                    None => {
                        let row = &self.many[many];
                        let target = self.target(row.labels.clone(), row.drop_name, &one_labels);
                        targets.insert(pairs(many, one_at), target);
                        target
                    }
                };
                self.meet(target, step, (cell, one_cell))?;
            }
            if let (false, Some(one_at), Some(value)) = (any, one, many_fill) {
                let cell = self.one[one_at].cells[step].clone();
                let labels = self.one[one_at].labels.clone();
                let target = self.target(signature.clone(), false, &labels);
                self.meet(target, step, (Sample::Float(value), cell))?;
            }
        }
        Ok(())
    }

    /// Lets a row of the "many" side meet the only one there is for it. Its cells become those of the result.
    fn pair(&mut self, many: usize, one: usize) -> Result<(), Error> {
        self.evaluator.check()?;
        let row = &mut self.many[many];
        let (labels, drop_name, mut cells) =
            (row.labels.clone(), row.drop_name, std::mem::take(&mut row.cells));
        let met = |(a, b): (&Sample, &Sample)| a.is_present() && b.is_present();
        if !cells.iter().zip(&self.one[one].cells).any(met) {
            return Ok(());
        }
        let one_labels = self.one[one].labels.clone();
        let target = self.target(labels, drop_name, &one_labels);
        if self.out[target].cells.is_empty() {
            let (node, swapped) = (self.node, self.node.matching.group == Group::Right);
            self.filled[target] = cells.iter().zip(&self.one[one].cells).map(met).collect();
            for (cell, other) in cells.iter_mut().zip(&self.one[one].cells) {
                let (left, right) = if swapped { (other, &*cell) } else { (&*cell, other) };
                let notes = (&mut self.evaluator.annotations, node.span);
                *cell = operators::apply(node.op, (left, right), left, node.bool_result, notes);
            }
            self.out[target].cells = cells;
            return Ok(());
        }
        for (step, cell) in cells.into_iter().enumerate() {
            let other = self.one[one].cells[step].clone();
            if cell.is_present() && other.is_present() {
                self.meet(target, step, (cell, other))?;
            }
        }
        Ok(())
    }

    /// The row of the "one" side that has a sample at `step`; two are an error, unless nothing can meet at that step.
    fn the_one(&self, group: &Match, step: usize) -> Result<Option<usize>, Error> {
        if !self.meets[step] {
            return Ok(None);
        }
        let mut present = group.one.iter().copied().filter(|&at| self.one[at].cells[step].is_present());
        let (first, second) = (present.next(), present.next());
        if let (Some(a), Some(b)) = (first, second) {
            let side = if self.node.matching.group == Group::Right { "left" } else { "right" };
            let (a, b) = (&self.one[b].labels, &self.one[a].labels);
            let message = format!(
                "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                labels::show_set(&signature(a, &self.node.matching)),
                labels::show_set(a),
                labels::show_set(b),
            );
            return Err(Error::execution(message).at("", self.node.span));
        }
        Ok(first)
    }

    /// The result row of a pair, without cells where it is new.
    fn target(&mut self, many: Labels, mut drop_name: bool, one: &Labels) -> usize {
        let matching = &self.node.matching;
        let mut result = many;
        let arithmetic = !self.node.op.compares();
        if arithmetic || (self.node.bool_result && !self.evaluator.options.delayed_name_removal) {
            result = labels::nameless(&result);
        } else if self.node.bool_result {
            drop_name = true;
        }
        match (matching.group, matching.on) {
            (Group::OneToOne, true) => result = labels::only(&result, &matching.labels),
            (Group::OneToOne, false) => result = labels::without(&result, &matching.labels),
            _ => {}
        }
        for name in &matching.include {
            result = labels::with(&result, name, one.get(name).unwrap_or_default());
        }
        let next = self.out.len();
        let at = *self.index.entry(result.clone()).or_insert(next);
        if at == next {
            self.out.push(Row { labels: result, drop_name, cells: Vec::new() });
            self.filled.push(Vec::new());
        }
        at
    }

    fn meet(&mut self, target: usize, step: usize, (many, one): (Sample, Sample)) -> Result<(), Error> {
        if self.out[target].cells.is_empty() {
            self.out[target].cells = vec![Sample::Absent; self.grid.len()];
            self.filled[target] = vec![false; self.grid.len()];
        }
        if std::mem::replace(&mut self.filled[target][step], true) {
            let message = match self.node.matching.group {
                Group::OneToOne => {
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                }
                _ => "multiple matches for labels: grouping labels must ensure unique matches",
            };
            return Err(Error::execution(message).at("", self.node.span));
        }
        let (left, right) =
            if self.node.matching.group == Group::Right { (&one, &many) } else { (&many, &one) };
        let notes = (&mut self.evaluator.annotations, self.node.span);
        let result = operators::apply(self.node.op, (left, right), left, self.node.bool_result, notes);
        self.out[target].cells[step] = result;
        Ok(())
    }
}
