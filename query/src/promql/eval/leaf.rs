//! The leaves: one sweep over the samples of a series for all steps.

use std::borrow::Cow;
use std::sync::Arc;

use weir_storage::Labels;

use super::Evaluator;
use crate::promql::ast::{Extent, Span};
use crate::promql::error::Error;
use crate::promql::histogram::{Histogram, ResetHint};
use crate::promql::number::is_stale;
use crate::promql::plan::{CallNode, InstantNode, Node, RangeInput, RangeNode, Selected};
use crate::promql::source::{Samples, SeriesSamples, Track};
use crate::promql::value::{Grid, Matrix, Points, Row, Sample};

use super::window::{self, Context, Slice, Window, WindowFunction, extended};

/// Steps after which a sweep asks whether anybody still waits for it.
const CHECKED_STEPS: usize = 256;

/// What of the newest sample is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    Value,
    Time,
    Start,
}

impl<'a> Evaluator<'a> {
    /// The newest sample of each series at each step.
    pub(super) fn instant(&mut self, node: &InstantNode, show: Show, grid: Grid) -> Result<Matrix, Error> {
        let parts = self.each_instant(node, show, grid, Vec::new, |_, rows, row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(self.in_order(node.selection, parts))
    }

    /// Rows of all parts of a selection, in order of labels where those are in none.
    fn in_order(&self, selection: usize, parts: Vec<Matrix>) -> Matrix {
        let mut rows: Matrix = parts.into_iter().flatten().collect();
        if matches!(self.series[selection].samples, Samples::Parts(_)) {
            rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        rows
    }

    /// Folds the newest samples of each series.
    pub(super) fn each_instant<P: Send>(
        &mut self,
        node: &InstantNode,
        show: Show,
        grid: Grid,
        start: impl Fn() -> P + Sync,
        fold: impl Fn(&mut Self, &mut P, Row) -> Result<(), Error> + Sync,
    ) -> Result<Vec<P>, Error> {
        self.each_stretch(node.selection, start, |evaluator, folded, all| {
            for series in all {
                evaluator.check()?;
                let steps = node.at.map_or(grid, Grid::at);
                let lookback = evaluator.options.lookback_ms;
                let mut cells = match node.extent {
                    Extent::Smoothed if show == Show::Value => evaluator.smoothed(series, node, steps),
                    _ => newest(series, show, steps, node, lookback),
                };
                let present = cells.iter().filter(|cell| cell.is_present()).count();
                if present == 0 {
                    continue;
                }
                evaluator.budget.look_at(present);
                if node.at.is_some() {
                    cells = vec![cells[0].clone(); grid.len()];
                }
                evaluator.charge(cells.len())?;
                let row = Row { labels: series.labels.clone(), drop_name: false, cells };
                fold(evaluator, folded, row)?;
            }
            Ok(())
        })
    }

    /// The value at each step on the line between the samples around it.
    fn smoothed(&mut self, series: &SeriesSamples, node: &InstantNode, steps: Grid) -> Vec<Sample> {
        let series = &without_stale(series);
        let lookback = self.options.lookback_ms;
        let mut context = Context {
            annotations: std::mem::take(&mut self.annotations),
            span: node.span,
            parameter_span: node.span,
            metric: series.labels.metric(),
            parameters: Vec::new(),
            time: 0,
            starts: false,
            rising: false,
            failure: None,
        };
        let mixed = !series.floats.times.is_empty() && !series.histograms.times.is_empty();
        if mixed {
            context.mixed();
        }
        let mut at = 0;
        let mut cell = |time: i64| {
            let reference = time - node.offset;
            let times = if series.histograms.times.is_empty() {
                &series.floats.times
            } else {
                &series.histograms.times
            };
            advance(times, &mut at, reference);
            let before = at.checked_sub(1).filter(|before| times[*before] > reference - lookback)?;
            let after =
                times.get(at).filter(|after| **after <= reference + lookback && times[before] < reference);
            if series.histograms.times.is_empty() {
                let (a, value) = (times[before], series.floats.values[before]);
                return Some(Sample::Float(after.map_or(value, |b| {
                    extended::between((a, value), (*b, series.floats.values[at]), reference, false)
                })));
            }
            let value = &series.histograms.values[before];
            let Some(b) = after else { return Some(Sample::Histogram(value.clone())) };
            let next = &series.histograms.values[at];
            let pair = ((times[before], &**value), (*b, &**next));
            let counter = next.hint != ResetHint::Gauge;
            extended::between_histograms(pair, reference, counter, &mut context).map(Sample::from)
        };
        let cells =
            steps.times().map(|time| if mixed { Sample::Absent } else { cell(time).unwrap_or_default() });
        let cells = cells.collect();
        self.annotations = context.annotations;
        cells
    }

    /// Whether `call` is a function over ranges whose rows can be handed on one by one.
    pub(super) fn streams(&self, call: &CallNode) -> bool {
        if window::find(call.function.name).is_none() {
            return false;
        }
        // Names dropped at once could make one series of two, which only the whole matrix shows.
        self.options.delayed_name_removal
            || window::keeps_name(call.function.name)
            || call.args.iter().any(|arg| match arg {
                Node::Range(range) => match &range.input {
                    RangeInput::Selection(at) => one_metric(&self.series[*at]),
                    RangeInput::Subquery(..) => false,
                },
                _ => false,
            })
    }

    /// The rows of a function over ranges.
    pub(super) fn windows(&mut self, call: &CallNode, grid: Grid) -> Result<Matrix, Error> {
        let parts = self.each_window(call, grid, Vec::new, |_, rows, row| {
            rows.push(row);
            Ok(())
        })?;
        let selection = call.args.iter().find_map(|arg| match arg {
            Node::Range(range) => match range.input {
                RangeInput::Selection(selection) => Some(selection),
                RangeInput::Subquery(..) => None,
            },
            _ => None,
        });
        Ok(match selection {
            Some(selection) => self.in_order(selection, parts),
            None => parts.into_iter().flatten().collect(),
        })
    }

    /// Folds the rows of a function over ranges.
    pub(super) fn each_window<P: Send>(
        &mut self,
        call: &CallNode,
        grid: Grid,
        start: impl Fn() -> P + Sync,
        fold: impl Fn(&mut Self, &mut P, Row) -> Result<(), Error> + Sync,
    ) -> Result<Vec<P>, Error> {
        let function = window::find(call.function.name);
        let range = call.args.iter().zip(&call.arg_spans).find_map(|(arg, span)| match arg {
            Node::Range(range) => Some((&**range, *span)),
            _ => None,
        });
        let (Some(function), Some((range, range_span))) = (function, range) else {
            return Err(Error::execution("expected a range vector").at("", call.span));
        };
        let mut parameters = Vec::new();
        for arg in call.args.iter().filter(|arg| !matches!(arg, Node::Range(_))) {
            parameters.push(self.scalar(arg, grid)?);
        }
        let parameter_span =
            call.args.iter().zip(&call.arg_spans).find(|(arg, _)| !matches!(arg, Node::Range(_)));
        let parameter_span = parameter_span.map_or(call.span, |(_, span)| *span);
        let task = Task { call, function, range, range_span, parameters, parameter_span, grid };
        match &range.input {
            RangeInput::Selection(selection) => {
                self.each_stretch(*selection, start, |evaluator, folded, all| {
                    for series in all {
                        if let Some(row) = evaluator.window_row(&task, &series.labels, series)? {
                            fold(evaluator, folded, row)?;
                        }
                    }
                    Ok(())
                })
            }
            RangeInput::Subquery(operand, inner) => {
                let mut folded = start();
                for row in self.vector(operand, *inner)? {
                    let series = sampled(&row, *inner);
                    if let Some(row) = self.window_row(&task, &row.labels, &series)? {
                        fold(self, &mut folded, row)?;
                    }
                    self.budget.release(inner.len());
                }
                Ok(vec![folded])
            }
        }
    }

    /// The row that a function makes of one series; none where it is nowhere present.
    fn window_row(
        &mut self,
        task: &Task<'_>,
        labels: &Labels,
        series: &SeriesSamples,
    ) -> Result<Option<Row>, Error> {
        self.check()?;
        let mut series = without_stale(series);
        if task.range.resets && series.histograms.times.len() > 1 {
            series = Cow::Owned(all_hinted(&series));
        }
        let subquery = matches!(task.range.input, RangeInput::Subquery(..));
        let mut context = Context {
            annotations: std::mem::take(&mut self.annotations),
            span: task.range_span,
            parameter_span: task.parameter_span,
            metric: labels.metric(),
            parameters: Vec::with_capacity(task.parameters.len()),
            time: 0,
            starts: self.options.start_timestamps && !subquery,
            rising: series.floats.values.is_sorted(),
            failure: None,
        };
        let mut sweep = Sweep::new(&series, task.range, self.options.lookback_ms);
        let mut cells = Vec::with_capacity(task.grid.len());
        let mut looked_at = 0;
        for (step, time) in task.grid.times().enumerate() {
            if step % CHECKED_STEPS == 0 {
                self.check()?;
            }
            context.parameters.clear();
            context.parameters.extend(task.parameters.iter().map(|p| p[step]));
            context.time = time;
            let window = sweep.window(task.range.at.unwrap_or(time));
            let empty = window.is_empty();
            looked_at += window.floats.len() + window.histograms.len();
            cells.push(if empty { Sample::Absent } else { (task.function)(&window, &mut context) });
        }
        if !subquery {
            self.budget.look_at(looked_at);
        }
        self.annotations = context.annotations;
        if let Some(failure) = context.failure {
            return Err(failure);
        }
        if cells.iter().all(|cell| !cell.is_present()) {
            return Ok(None);
        }
        self.charge(cells.len())?;
        let mut row = Row { labels: labels.clone(), drop_name: false, cells };
        if !window::keeps_name(task.call.function.name) {
            self.unname(&mut row);
        }
        Ok(Some(row))
    }

    /// Folds each series behind a range.
    fn each_range<P: Send>(
        &mut self,
        node: &RangeNode,
        start: impl Fn() -> P + Sync,
        fold: impl Fn(&mut Self, &mut P, &Labels, &SeriesSamples) -> Result<(), Error> + Sync,
    ) -> Result<Vec<P>, Error> {
        match &node.input {
            RangeInput::Selection(selection) => {
                self.each_stretch(*selection, start, |evaluator, folded, all| {
                    for series in all {
                        evaluator.check()?;
                        fold(evaluator, folded, &series.labels, series)?;
                    }
                    Ok(())
                })
            }
            RangeInput::Subquery(operand, inner) => {
                let mut folded = start();
                for row in self.vector(operand, *inner)? {
                    self.check()?;
                    fold(self, &mut folded, &row.labels, &sampled(&row, *inner))?;
                }
                Ok(vec![folded])
            }
        }
    }

    /// Whether any series has a sample in the range, per step.
    pub(super) fn present(&mut self, node: &RangeNode, grid: Grid) -> Result<Vec<bool>, Error> {
        let none = || vec![false; grid.len()];
        let parts = self.each_range(node, none, |evaluator, present, _, series| {
            let series = &without_stale(series);
            let mut sweep = Sweep::new(series, node, evaluator.options.lookback_ms);
            for (seen, time) in present.iter_mut().zip(grid.times()) {
                *seen |= !sweep.window(node.at.unwrap_or(time)).is_empty();
            }
            Ok(())
        })?;
        Ok((0..grid.len()).map(|step| parts.iter().any(|part| part[step])).collect())
    }

    /// The samples of a range as they are, for a query that is nothing but a range.
    pub(super) fn raw(&mut self, node: &RangeNode, grid: Grid) -> Result<Vec<Points>, Error> {
        let parts = self.each_range(node, Vec::new, |evaluator, out, labels, series| {
            let series = &without_stale(series);
            let mut sweep = Sweep::new(series, node, evaluator.options.lookback_ms);
            let window = sweep.window(node.at.unwrap_or(grid.start));
            let floats = window.floats.times.iter().copied().zip(window.floats.values.iter());
            let mut points: Vec<_> = floats.map(|(t, v)| (t, Sample::Float(*v))).collect();
            let histograms = window.histograms.times.iter().copied().zip(window.histograms.values);
            points.extend(histograms.map(|(t, h)| (t, Sample::Histogram(h.clone()))));
            points.sort_by_key(|(time, _)| *time);
            evaluator.charge(points.len())?;
            if !points.is_empty() {
                out.push(Points { labels: labels.clone(), points });
            }
            Ok(())
        })?;
        let mut out: Vec<Points> = parts.into_iter().flatten().collect();
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }
}

/// A function over ranges, ready to be applied to series.
struct Task<'t> {
    call: &'t CallNode,
    function: WindowFunction,
    range: &'t RangeNode,
    range_span: Span,
    /// The scalar arguments per step.
    parameters: Vec<Vec<f64>>,
    parameter_span: Span,
    grid: Grid,
}

/// Whether all series have the same metric name.
fn one_metric(selected: &Selected) -> bool {
    let same =
        |all: &[SeriesSamples]| all.windows(2).all(|pair| pair[0].labels.metric() == pair[1].labels.metric());
    selected.one_metric || matches!(&selected.samples, Samples::Whole(all) if same(all))
}

/// The newest sample of `series` at each step, unless too old or stale.
fn newest(series: &SeriesSamples, show: Show, steps: Grid, node: &InstantNode, lookback: i64) -> Vec<Sample> {
    let (mut floats, mut histograms) = (0, 0);
    let mut cells = Vec::with_capacity(steps.len());
    for time in steps.times() {
        let reference = time - node.offset;
        advance(&series.floats.times, &mut floats, reference);
        advance(&series.histograms.times, &mut histograms, reference);
        let fresh = |times: &[i64], end: usize| {
            let newest = times[..end].last().copied()?;
            (newest > reference - lookback).then_some(newest)
        };
        let float = fresh(&series.floats.times, floats);
        let histogram = fresh(&series.histograms.times, histograms);
        let shown = |value: Sample, time: i64, start: Option<&i64>| match show {
            Show::Value => value,
            Show::Time => Sample::Float(time as f64 / 1000.0),
            Show::Start => Sample::Float(start.map_or(0.0, |start| *start as f64 / 1000.0)),
        };
        cells.push(match (float, histogram) {
            (float, Some(time)) if float.is_none_or(|float| float < time) => {
                let mut value = series.histograms.values[histograms - 1].clone();
                let before = histograms.checked_sub(2);
                let before = before.filter(|at| series.histograms.times[*at] > reference - lookback);
                if let (true, Some(before)) = (node.resets, before) {
                    value = hinted(&value, &series.histograms.values[before]);
                }
                let value = Sample::Histogram(value);
                shown(value, time, series.histograms.starts.get(histograms - 1))
            }
            (Some(time), _) => match series.floats.values[floats - 1] {
                stale if is_stale(stale) => Sample::Absent,
                value => shown(Sample::Float(value), time, series.floats.starts.get(floats - 1)),
            },
            _ => Sample::Absent,
        });
    }
    cells
}

/// Moves `at` past all times up to and with `until`.
fn advance(times: &[i64], at: &mut usize, until: i64) {
    // Steps only go forward; galloping would pay off for sparse steps over dense samples only.
    while times.get(*at).is_some_and(|time| *time <= until) {
        *at += 1;
    }
}

/// The samples without stale markers.
fn without_stale(series: &SeriesSamples) -> Cow<'_, SeriesSamples> {
    if !series.floats.values.iter().any(|v| is_stale(*v)) {
        return Cow::Borrowed(series);
    }
    let mut kept = SeriesSamples { floats: Track::default(), ..series.clone() };
    for (at, value) in series.floats.values.iter().enumerate().filter(|(_, v)| !is_stale(**v)) {
        let start = series.floats.starts.get(at).copied().unwrap_or(0);
        kept.floats.push(series.floats.times[at], *value, start);
    }
    Cow::Owned(kept)
}

/// `histogram`, its hint found by a look at the one `before` where it has none.
fn hinted(histogram: &Arc<Histogram>, before: &Histogram) -> Arc<Histogram> {
    if histogram.hint != ResetHint::Unknown {
        return Arc::clone(histogram);
    }
    let hint = if histogram.reset_since(before) { ResetHint::Reset } else { ResetHint::NotReset };
    Arc::new(Histogram { hint, ..Histogram::clone(histogram) })
}

/// The series with a hint on every histogram but the first.
fn all_hinted(series: &SeriesSamples) -> SeriesSamples {
    let mut series = series.clone();
    let histograms = series.histograms.values.clone();
    for (at, pair) in histograms.windows(2).enumerate() {
        series.histograms.values[at + 1] = hinted(&pair[1], &pair[0]);
    }
    series
}

/// `histogram` without what its hint says of the sample before, which may have been left out.
fn unhinted(histogram: &Arc<Histogram>) -> Arc<Histogram> {
    match histogram.hint {
        ResetHint::Unknown | ResetHint::Gauge => Arc::clone(histogram),
        _ => Arc::new(Histogram { hint: ResetHint::Unknown, ..Histogram::clone(histogram) }),
    }
}

/// A row of a subquery as a series.
fn sampled(row: &Row, grid: Grid) -> SeriesSamples {
    let mut series = SeriesSamples { labels: row.labels.clone(), ..SeriesSamples::default() };
    for (time, cell) in grid.times().zip(&row.cells) {
        match cell {
            Sample::Absent => {}
            Sample::Float(value) => series.floats.push(time, *value, 0),
            Sample::Histogram(histogram) => {
                series.histograms.push(time, unhinted(histogram), 0);
            }
        }
    }
    series
}

/// Two indices per track that move forward with the steps.
struct Sweep<'a> {
    series: &'a SeriesSamples,
    node: &'a RangeNode,
    lookback: i64,
    floats: (usize, usize),
    histograms: (usize, usize),
}

impl<'a> Sweep<'a> {
    fn new(series: &'a SeriesSamples, node: &'a RangeNode, lookback: i64) -> Self {
        Self { series, node, lookback, floats: (0, 0), histograms: (0, 0) }
    }

    /// The samples of the range that ends at `time`, offset aside.
    fn window(&mut self, time: i64) -> Window<'a> {
        let end = time - self.node.offset;
        let start = end - self.node.range;
        let (after, until) = match self.node.extent {
            Extent::Plain => (start, end),
            Extent::Anchored => (start - self.lookback, end),
            Extent::Smoothed => (start - self.lookback, end + self.lookback),
        };
        let move_to = |times: &[i64], at: &mut (usize, usize)| {
            advance(times, &mut at.0, after);
            advance(times, &mut at.1, until);
        };
        move_to(&self.series.floats.times, &mut self.floats);
        move_to(&self.series.histograms.times, &mut self.histograms);
        let (mut floats, mut histograms) = (self.floats, self.histograms);
        if self.node.extent != Extent::Plain {
            let tracks =
                [(&self.series.floats.times, &mut floats), (&self.series.histograms.times, &mut histograms)];
            close(tracks, start, (self.node.extent == Extent::Smoothed).then_some(end));
        }
        Window {
            start,
            end,
            range: self.node.range,
            extent: self.node.extent,
            floats: slice(&self.series.floats, floats),
            histograms: slice(&self.series.histograms, histograms),
        }
    }
}

/// Leaves of the samples around a range only the last one up to its start and, with an `end`, the first one
/// from there.
fn close(tracks: [(&Vec<i64>, &mut (usize, usize)); 2], start: i64, end: Option<i64>) {
    let within = |times: &'_ [i64], at: &(usize, usize)| -> (Option<i64>, Option<i64>) {
        let times = &times[at.0..at.1];
        let before = times[..times.partition_point(|t| *t <= start)].last().copied();
        let after = end.and_then(|end| times.get(times.partition_point(|t| *t < end)).copied());
        (before, after)
    };
    let edges = tracks.each_ref().map(|(times, at)| within(times, at));
    let first = edges.iter().filter_map(|(before, _)| *before).max();
    let last = edges.iter().filter_map(|(_, after)| *after).min();
    for (times, at) in tracks {
        let from = first.map_or(at.0, |first| times.partition_point(|t| *t < first));
        let to = last.map_or(at.1, |last| times.partition_point(|t| *t <= last));
        *at = (at.0.max(from), at.1.min(to));
        at.1 = at.1.max(at.0);
    }
}

fn slice<T>(track: &Track<T>, (from, to): (usize, usize)) -> Slice<'_, T> {
    Slice {
        times: &track.times[from..to],
        values: &track.values[from..to],
        starts: track.starts.get(from..to).unwrap_or(&[]),
    }
}
