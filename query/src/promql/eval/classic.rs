//! Functions on histograms, native ones and those of `le` buckets.

mod buckets;
mod native;

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_storage::Labels;

use super::{Evaluator, Value, labels, merged, operators};
use crate::promql::ast::Span;
use crate::promql::error::Error;
use crate::promql::histogram::Histogram;
use crate::promql::number;
use crate::promql::plan::CallNode;
use crate::promql::value::{Grid, Matrix, Row, Sample};

use buckets::ClassicBucket;

/// The series that make one histogram.
#[derive(Default)]
struct Family {
    /// Upper bound and index of each bucket's row.
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
    /// For messages.
    metric: String,
    drop_name: bool,
}

/// What is asked of a histogram at one step.
enum Question {
    Quantile(f64),
    Fraction(f64, f64),
}

impl Evaluator<'_> {
    pub(super) fn histogram_call(&mut self, node: &CallNode, grid: Grid) -> Result<Matrix, Error> {
        match node.function.name {
            "histogram_quantile" => {
                let q = self.scalar(&node.args[0], grid)?;
                let rows = self.vector(&node.args[1], grid)?;
                for q in &q {
                    operators::quantile_range(&mut self.annotations, node.arg_spans[0], *q);
                }
                self.ask(node, rows, grid, node.arg_spans[1], |step| Question::Quantile(q[step]))
            }
            "histogram_fraction" => {
                let (lower, upper) = (self.scalar(&node.args[0], grid)?, self.scalar(&node.args[1], grid)?);
                let rows = self.vector(&node.args[2], grid)?;
                let question = |step: usize| Question::Fraction(lower[step], upper[step]);
                self.ask(node, rows, grid, node.arg_spans[2], question)
            }
            "histogram_quantiles" => self.histogram_quantiles(node, grid),
            name => {
                let function = native::find(name)
                    .ok_or_else(|| Error::execution(format!("function `{name}` is not supported yet")))?;
                let rows = self.vector(&node.args[0], grid)?;
                self.each_histogram(rows, function)
            }
        }
    }

    /// Several quantiles at once, told apart by a label.
    fn histogram_quantiles(&mut self, node: &CallNode, grid: Grid) -> Result<Matrix, Error> {
        let rows = self.vector(&node.args[0], grid)?;
        let Value::Text(label) = self.eval(&node.args[1], grid)? else {
            return Err(Error::execution("expected a string").at("", node.span));
        };
        let mut out = Vec::new();
        for (arg, span) in node.args.iter().zip(&node.arg_spans).skip(2) {
            let q = self.scalar(arg, grid)?;
            for q in &q {
                operators::quantile_range(&mut self.annotations, *span, *q);
            }
            let found =
                self.ask(node, rows.clone(), grid, node.arg_spans[0], |step| Question::Quantile(q[step]))?;
            for mut row in found {
                let value = number::show_open_metrics(q.first().copied().unwrap_or(f64::NAN));
                row.labels = labels::with(&row.labels, &label, &value);
                out.push(row);
            }
        }
        merged(out)
    }

    fn each_histogram(&mut self, mut rows: Matrix, function: fn(&Histogram) -> f64) -> Result<Matrix, Error> {
        for row in &mut rows {
            self.check()?;
            for cell in &mut row.cells {
                *cell = cell.histogram().map(|histogram| function(histogram)).into();
            }
        }
        rows.retain(|row| row.cells.iter().any(Sample::is_present));
        self.unnamed(rows)
    }

    /// One row per histogram, with the answer to `question` at each step.
    fn ask(
        &mut self,
        node: &CallNode,
        rows: Matrix,
        grid: Grid,
        span: Span,
        question: impl Fn(usize) -> Question,
    ) -> Result<Matrix, Error> {
        let families = self.families(&rows, span);
        let mut out = Vec::with_capacity(families.len());
        for (labels, family) in families {
            self.check()?;
            let cells = (0..grid.len())
                .map(|step| self.answer(node, (&family, &rows, step), span, question(step)))
                .collect();
            out.push(Row { labels, drop_name: family.drop_name, cells });
        }
        out.retain(|row| row.cells.iter().any(Sample::is_present));
        self.unnamed(out)
    }

    /// The histograms among `rows`, by their labels without `le`.
    fn families(&mut self, rows: &Matrix, span: Span) -> BTreeMap<Labels, Family> {
        let mut families: BTreeMap<Labels, Family> = BTreeMap::new();
        let le = ["le".to_owned()];
        for (at, row) in rows.iter().enumerate() {
            if row.cells.iter().any(|cell| cell.histogram().is_some()) {
                family_of(&mut families, row.labels.clone(), row).native = Some(at);
            }
            if row.cells.iter().any(|cell| cell.float().is_some()) {
                let text = row.labels.get("le").unwrap_or_default();
                match number::read(text) {
                    Some(bound) => {
                        let key = labels::without(&row.labels, &le);
                        family_of(&mut families, key, row).buckets.push((bound, at));
                    }
                    None => {
                        let message =
                            format!("bucket label \"le\" is missing or has a malformed value of {text:?}");
                        self.annotations.warn(span, named(message, row.labels.metric()));
                    }
                }
            }
        }
        families
    }

    fn answer(
        &mut self,
        node: &CallNode,
        (family, rows, step): (&Family, &Matrix, usize),
        span: Span,
        question: Question,
    ) -> Sample {
        let bucket = |(upper, at): &(f64, usize)| {
            let count = rows[*at].cells[step].float()?;
            Some(ClassicBucket { upper: *upper, count })
        };
        let mut found: Vec<ClassicBucket> = family.buckets.iter().filter_map(bucket).collect();
        let native: Option<Arc<Histogram>> =
            family.native.and_then(|at| rows[at].cells[step].histogram().cloned());
        match (native, found.is_empty()) {
            (None, true) => Sample::Absent,
            (Some(_), false) => {
                let message = "vector contains a mix of classic and native histograms".to_owned();
                self.annotations.warn(span, named(message, &family.metric));
                Sample::Absent
            }
            (Some(histogram), true) => {
                let (value, remark) = match question {
                    Question::Quantile(q) => native::quantile(q, &histogram),
                    Question::Fraction(lower, upper) => native::fraction(lower, upper, &histogram),
                };
                if let Some(remark) = remark {
                    // Prometheus says `histogram_quantile` where it is asked for several, too.
                    let function = node.function.name.trim_end_matches("quantiles");
                    let function =
                        if function == node.function.name { function } else { "histogram_quantile" };
                    let message = format!("input to {function} {remark}");
                    self.annotations.info(span, named(message, &family.metric));
                }
                Sample::Float(value)
            }
            (None, false) => {
                let (value, forced) = match question {
                    Question::Quantile(q) => buckets::quantile(q, &mut found),
                    Question::Fraction(lower, upper) => buckets::fraction(lower, upper, &mut found),
                };
                if forced {
                    let message = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
                    self.annotations.info(span, named(message.to_owned(), &family.metric));
                }
                Sample::Float(value)
            }
        }
    }
}

fn family_of<'f>(families: &'f mut BTreeMap<Labels, Family>, key: Labels, row: &Row) -> &'f mut Family {
    let family = families.entry(key).or_default();
    family.metric = row.labels.metric().to_owned();
    family.drop_name |= row.drop_name;
    family
}

fn named(message: String, metric: &str) -> String {
    if metric.is_empty() { message } else { format!("{message} for metric name {metric:?}") }
}
