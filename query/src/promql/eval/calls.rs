//! Function calls, except those over ranges.

use weir_storage::Labels;

use super::leaf::Show;
use super::{Evaluator, Value, math, window};
use crate::promql::error::Error;
use crate::promql::plan::{CallNode, Node};
use crate::promql::value::{Grid, Matrix, Row, Sample};

impl Evaluator<'_> {
    pub(super) fn call(&mut self, node: &CallNode, grid: Grid) -> Result<Value, Error> {
        let name = node.function.name;
        if window::find(name).is_some() {
            let rows = self.windows(node, grid)?;
            let merged = if self.options.delayed_name_removal { rows } else { super::merged(rows)? };
            return Ok(Value::Vector(merged));
        }
        if let Some(function) = math::find(name) {
            let rows = self.vector(&node.args[0], grid)?;
            return self.each_float(rows, |_, value| Some(function(value)));
        }
        if let Some(function) = math::date(name) {
            let rows = match node.args.first() {
                Some(arg) => self.vector(arg, grid)?,
                None => vec![unlabelled(grid.times().map(|t| t as f64 / 1000.0))],
            };
            return self.each_float(rows, |_, value| Some(function(value)));
        }
        match name {
            "absent" | "absent_over_time" => self.absent(node, grid),
            "clamp" | "clamp_max" | "clamp_min" => self.clamp(node, grid),
            "round" => {
                let rows = self.vector(&node.args[0], grid)?;
                let to = match node.args.get(1) {
                    Some(to) => self.scalar(to, grid)?,
                    None => vec![1.0; grid.len()],
                };
                self.each_float(rows, |step, value| Some(math::round(value, to[step])))
            }
            "timestamp" => self.timestamp(node, grid, Show::Time),
            "start_timestamp" => self.timestamp(node, grid, Show::Start),
            "scalar" => self.only_sample(node, grid),
            "vector" => {
                let values = self.scalar(&node.args[0], grid)?;
                Ok(Value::Vector(vec![unlabelled(values)]))
            }
            "sort" | "sort_desc" => self.sort(node, grid),
            "sort_by_label" | "sort_by_label_desc" => self.sort_by_label(node, grid),
            "label_replace" => self.label_replace(node, grid).map(Value::Vector),
            "label_join" => self.label_join(node, grid).map(Value::Vector),
            "info" => self.info(node, grid).map(Value::Vector),
            _ if name.starts_with("histogram_") => self.histogram_call(node, grid).map(Value::Vector),
            _ => self.scalar_call(node, grid),
        }
    }

    /// Functions that yield a scalar.
    fn scalar_call(&mut self, node: &CallNode, grid: Grid) -> Result<Value, Error> {
        let constant = |value: f64| Ok(Value::Scalar(vec![value; grid.len()]));
        let query = self.query;
        match node.function.name {
            "time" => Ok(Value::Scalar(grid.times().map(|t| t as f64 / 1000.0).collect())),
            "pi" => constant(std::f64::consts::PI),
            "start" => constant(query.start as f64 / 1000.0),
            "end" => constant(query.end as f64 / 1000.0),
            "range" => constant((query.end - query.start) as f64 / 1000.0),
            "step" if query.start == query.end => constant(0.0),
            "step" => constant(query.step as f64 / 1000.0),
            "min_of" | "max_of" => {
                let (a, b) = (self.scalar(&node.args[0], grid)?, self.scalar(&node.args[1], grid)?);
                let pick = if node.function.name == "min_of" { f64::min } else { f64::max };
                Ok(Value::Scalar(a.into_iter().zip(b).map(|(a, b)| pick(a, b)).collect()))
            }
            name => {
                Err(Error::execution(format!("function `{name}` is not supported yet")).at("", node.span))
            }
        }
    }

    /// Every float through `function`; histograms fall away.
    pub(super) fn each_float(
        &self,
        mut rows: Matrix,
        function: impl Fn(usize, f64) -> Option<f64>,
    ) -> Result<Value, Error> {
        for row in &mut rows {
            self.check()?;
            for (step, cell) in row.cells.iter_mut().enumerate() {
                *cell = cell.float().and_then(|value| function(step, value)).into();
            }
        }
        rows.retain(|row| row.cells.iter().any(Sample::is_present));
        self.unnamed(rows).map(Value::Vector)
    }

    fn absent(&mut self, node: &CallNode, grid: Grid) -> Result<Value, Error> {
        let present = match &node.args[0] {
            Node::Range(range) => self.present(range, grid)?,
            operand => {
                let none = || vec![false; grid.len()];
                let parts = self.fold(operand, grid, none, |_, present, row| {
                    present.iter_mut().zip(&row.cells).for_each(|(seen, cell)| *seen |= cell.is_present());
                    Ok(())
                })?;
                (0..grid.len()).map(|step| parts.iter().any(|part| part[step])).collect()
            }
        };
        let cells = present.into_iter().map(|seen| (!seen).then_some(1.0).into()).collect();
        let row = Row { labels: node.absent.clone(), drop_name: false, cells };
        Ok(Value::Vector(vec![row]))
    }

    fn clamp(&mut self, node: &CallNode, grid: Grid) -> Result<Value, Error> {
        let rows = self.vector(&node.args[0], grid)?;
        let first = self.scalar(&node.args[1], grid)?;
        let bounds: Vec<(f64, f64)> = match node.function.name {
            "clamp_min" => first.into_iter().map(|min| (min, f64::INFINITY)).collect(),
            "clamp_max" => first.into_iter().map(|max| (f64::NEG_INFINITY, max)).collect(),
            _ => first.into_iter().zip(self.scalar(&node.args[2], grid)?).collect(),
        };
        self.each_float(rows, |step, value| {
            let (min, max) = bounds[step];
            match () {
                () if max < min => None,
                () if min.is_nan() || max.is_nan() || value.is_nan() => Some(f64::NAN),
                () => Some(value.min(max).max(min)),
            }
        })
    }

    /// The times of samples; of a selector those stored, of anything else those of the steps.
    fn timestamp(&mut self, node: &CallNode, grid: Grid, show: Show) -> Result<Value, Error> {
        let mut rows = match &node.args[0] {
            Node::Instant(selector) => self.instant(selector, show, grid)?,
            operand => {
                let mut rows = self.vector(operand, grid)?;
                for row in &mut rows {
                    for (cell, time) in row.cells.iter_mut().zip(grid.times()) {
                        let shown = cell.is_present() && show == Show::Time;
                        *cell = shown.then_some(time as f64 / 1000.0).into();
                    }
                }
                rows
            }
        };
        rows.retain(|row| row.cells.iter().any(Sample::is_present));
        self.unnamed(rows).map(Value::Vector)
    }

    /// The only float of a vector, or NaN.
    fn only_sample(&mut self, node: &CallNode, grid: Grid) -> Result<Value, Error> {
        let rows = self.vector(&node.args[0], grid)?;
        let at_step = |step: usize| {
            let mut floats = rows.iter().filter_map(|row| row.cells[step].float());
            match (floats.next(), floats.next()) {
                (Some(only), None) => only,
                _ => f64::NAN,
            }
        };
        Ok(Value::Scalar((0..grid.len()).map(at_step).collect()))
    }

    /// Sorting shows in instant queries only, where there is one step.
    fn sort(&mut self, node: &CallNode, grid: Grid) -> Result<Value, Error> {
        let mut rows = self.vector(&node.args[0], grid)?;
        if grid.len() == 1 {
            let value = |row: &Row| row.cells.first().and_then(Sample::float);
            rows.retain(|row| value(row).is_some());
            let descending = node.function.name == "sort_desc";
            rows.sort_by(|a, b| {
                let (a, b) = (value(a).unwrap_or(f64::NAN), value(b).unwrap_or(f64::NAN));
                match (a.is_nan(), b.is_nan()) {
                    (false, false) if descending => b.total_cmp(&a),
                    (false, false) => a.total_cmp(&b),
                    (a, b) => a.cmp(&b),
                }
            });
        }
        Ok(Value::Vector(rows))
    }
}

fn unlabelled(values: impl IntoIterator<Item = f64>) -> Row {
    let cells = values.into_iter().map(Sample::Float).collect();
    Row { labels: Labels::default(), drop_name: false, cells }
}
