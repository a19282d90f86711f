//! Statistics over a range.

use std::sync::Arc;

use super::{Context, Slice, Window};
use crate::promql::ast::Extent;
use crate::promql::error::Error;
use crate::promql::histogram::{Histogram, Running};
use crate::promql::number::{self, Kahan, Mean, Variance};
use crate::promql::value::Sample;

/// Folds the histograms of a window into one, their mean or their sum; none where they do not fit together.
fn folded(histograms: &[Arc<Histogram>], context: &mut Context<'_>, mean: bool) -> Option<Histogram> {
    let (first, rest) = histograms.split_first()?;
    let mut running = Running::of(first);
    for histogram in rest {
        match if mean { running.add_to_mean(histogram) } else { running.add(histogram) } {
            Ok(combined) => {
                if combined.reconciled {
                    context
                        .annotations
                        .info(context.span, "mismatched custom buckets were reconciled during aggregation");
                }
                if combined.conflicting_resets {
                    let message = "conflicting counter resets during histogram aggregation";
                    context.annotations.warn(context.span, message);
                }
            }
            Err(_) => {
                context
                    .warn("vector contains a mix of histograms with exponential and custom buckets schemas");
                return None;
            }
        }
    }
    Some(if mean { running.mean() } else { running.total() })
}

pub(super) fn sum(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    if !window.floats.is_empty() && !window.histograms.is_empty() {
        context.mixed();
        return Sample::Absent;
    }
    if window.floats.is_empty() {
        return folded(window.histograms.values, context, false).map_or(Sample::Absent, Sample::from);
    }
    let mut sum = Kahan::default();
    window.floats.values.iter().for_each(|v| sum.add(*v));
    Sample::Float(sum.total())
}

pub(super) fn avg(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    if !window.floats.is_empty() && !window.histograms.is_empty() {
        context.mixed();
        return Sample::Absent;
    }
    if window.floats.is_empty() {
        return folded(window.histograms.values, context, true).map_or(Sample::Absent, Sample::from);
    }
    let mut mean = Mean::default();
    window.floats.values.iter().for_each(|v| mean.add(*v));
    Sample::Float(mean.value())
}

pub(super) fn count(window: &Window<'_>, _: &mut Context<'_>) -> Sample {
    Sample::Float((window.floats.len() + window.histograms.len()) as f64)
}

pub(super) fn present(_: &Window<'_>, _: &mut Context<'_>) -> Sample {
    Sample::Float(1.0)
}

/// Whichever of the floats and histograms comes first (or last) in time.
fn edge(window: &Window<'_>, last: bool) -> (i64, Sample) {
    fn at<T: Clone>(slice: &Slice<'_, T>, last: bool) -> Option<(i64, T)> {
        let index = if last { slice.len().checked_sub(1)? } else { 0 };
        Some((*slice.times.get(index)?, slice.values.get(index)?.clone()))
    }
    let float = at(&window.floats, last).map(|(t, v)| (t, Sample::Float(v)));
    let histogram = at(&window.histograms, last).map(|(t, h)| (t, Sample::Histogram(h)));
    match (float, histogram) {
        (Some(float), Some(histogram)) if (histogram.0 > float.0) == last => histogram,
        (Some(float), _) => float,
        (None, Some(histogram)) => histogram,
        (None, None) => (window.end, Sample::Absent),
    }
}

pub(super) fn first(window: &Window<'_>, _: &mut Context<'_>) -> Sample {
    edge(window, false).1
}

pub(super) fn last(window: &Window<'_>, _: &mut Context<'_>) -> Sample {
    edge(window, true).1
}

pub(super) fn ts_of_first(window: &Window<'_>, _: &mut Context<'_>) -> Sample {
    Sample::Float(edge(window, false).0 as f64 / 1000.0)
}

pub(super) fn ts_of_last(window: &Window<'_>, _: &mut Context<'_>) -> Sample {
    Sample::Float(edge(window, true).0 as f64 / 1000.0)
}

/// The sample that no other is `better` than, the earliest of equals aside: the one `better` says. NaN loses.
fn extreme(
    window: &Window<'_>,
    context: &mut Context<'_>,
    better: fn(f64, f64) -> bool,
) -> Option<(i64, f64)> {
    context.ignored_histograms(window);
    let mut samples = window.floats.times.iter().copied().zip(window.floats.values.iter().copied());
    let first = samples.next()?;
    Some(samples.fold(
        first,
        |best, next| {
            if better(next.1, best.1) || best.1.is_nan() { next } else { best }
        },
    ))
}

pub(super) fn max(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    extreme(window, context, |a, b| a > b).map(|(_, v)| v).into()
}

pub(super) fn min(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    extreme(window, context, |a, b| a < b).map(|(_, v)| v).into()
}

pub(super) fn ts_of_max(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    extreme(window, context, |a, b| a >= b).map(|(t, _)| t as f64 / 1000.0).into()
}

pub(super) fn ts_of_min(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    extreme(window, context, |a, b| a <= b).map(|(t, _)| t as f64 / 1000.0).into()
}

fn variance(window: &Window<'_>, context: &mut Context<'_>) -> Option<f64> {
    context.ignored_histograms(window);
    if window.floats.is_empty() {
        return None;
    }
    let mut variance = Variance::default();
    window.floats.values.iter().for_each(|v| variance.add(*v));
    Some(variance.value())
}

pub(super) fn stdvar(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    variance(window, context).into()
}

pub(super) fn stddev(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    variance(window, context).map(f64::sqrt).into()
}

pub(super) fn quantile(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    if window.floats.is_empty() {
        return Sample::Absent;
    }
    context.ignored_histograms(window);
    let q = context.parameters.first().copied().unwrap_or(f64::NAN);
    context.quantile_range(q);
    Sample::Float(number::quantile(q, &mut window.floats.values.to_vec()))
}

pub(super) fn mad(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    if window.floats.is_empty() {
        return Sample::Absent;
    }
    context.ignored_histograms(window);
    let mut values = window.floats.values.to_vec();
    if values.iter().any(|v| v.is_nan()) {
        return Sample::Float(f64::NAN);
    }
    let median = number::quantile(0.5, &mut values);
    values.iter_mut().for_each(|v| *v = (*v - median).abs());
    Sample::Float(number::quantile(0.5, &mut values))
}

/// The samples of a window in order of time.
pub(super) fn in_order(window: &Window<'_>) -> Vec<(i64, Sample)> {
    let floats = window.floats.times.iter().zip(window.floats.values);
    let mut all: Vec<_> = floats.map(|(t, v)| (*t, Sample::Float(*v))).collect();
    if !window.histograms.is_empty() {
        let histograms = window.histograms.times.iter().zip(window.histograms.values);
        all.extend(histograms.map(|(t, h)| (*t, Sample::Histogram(h.clone()))));
        all.sort_by_key(|(time, _)| *time);
    }
    all
}

pub(super) fn changes(window: &Window<'_>, _: &mut Context<'_>) -> Sample {
    let samples = in_order(window);
    // The last sample before an anchored range is what the first one inside is compared with.
    let skip = match window.extent {
        Extent::Plain => 0,
        _ => samples.iter().take_while(|(time, _)| *time <= window.start).count().saturating_sub(1),
    };
    if window.extent != Extent::Plain && samples.last().is_none_or(|(time, _)| *time <= window.start) {
        return if samples.is_empty() { Sample::Absent } else { Sample::Float(0.0) };
    }
    let changed = |pair: &&[(i64, Sample)]| match (&pair[0].1, &pair[1].1) {
        (Sample::Float(a), Sample::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Sample::Histogram(a), Sample::Histogram(b)) => !a.agrees(b, 0.0),
        _ => true,
    };
    Sample::Float(samples[skip..].windows(2).filter(changed).count() as f64)
}

/// Slope per second and value at `at` of the line that fits best.
fn regression(floats: &Slice<'_, f64>, at: i64) -> (f64, f64) {
    let first = floats.values.first().copied().unwrap_or(f64::NAN);
    if floats.values.iter().all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) =
        (Kahan::default(), Kahan::default(), Kahan::default(), Kahan::default());
    for (time, y) in floats.times.iter().zip(floats.values) {
        let x = (time - at) as f64 / 1000.0;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let n = floats.len() as f64;
    let (x, y) = (x_sum.total(), y_sum.total());
    let slope = (xy_sum.total() - x * y / n) / (xx_sum.total() - x * x / n);
    (slope, y / n - slope * x / n)
}

pub(super) fn deriv(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    context.ignored_histograms(window);
    match window.floats.times {
        [first, _, ..] => Sample::Float(regression(&window.floats, *first).0),
        _ => Sample::Absent,
    }
}

pub(super) fn predict_linear(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    context.ignored_histograms(window);
    if window.floats.len() < 2 {
        return Sample::Absent;
    }
    let (slope, value) = regression(&window.floats, context.time);
    Sample::Float(slope * context.parameters.first().copied().unwrap_or(f64::NAN) + value)
}

/// Holt's double exponential smoothing.
pub(super) fn smoothing(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    let &[level, trend] = context.parameters.as_slice() else { return Sample::Absent };
    for (name, factor) in [("smoothing", level), ("trend", trend)] {
        if !(factor > 0.0 && factor < 1.0) {
            let short = if name == "trend" { "tf" } else { "sf" };
            let message = format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {factor:.6}");
            context.failure = Some(Error::execution(message));
            return Sample::Absent;
        }
    }
    context.ignored_histograms(window);
    let [first, second, rest @ ..] = window.floats.values else { return Sample::Absent };
    // The trend between the first two is the start; from the second sample on it is smoothed, too.
    let (mut before, mut smooth, mut slope) = (0.0, *first, second - first);
    for (at, value) in [second].into_iter().chain(rest).enumerate() {
        if at > 0 {
            slope = trend * (smooth - before) + (1.0 - trend) * slope;
        }
        let next = level * value + (1.0 - level) * (smooth + slope);
        (before, smooth) = (smooth, next);
    }
    Sample::Float(smooth)
}
