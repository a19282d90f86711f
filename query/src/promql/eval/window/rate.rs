//! `rate` and its kin: counters with resets, extrapolated to the edges of the range.

use std::sync::Arc;

use super::{Context, Slice, Window};
use crate::promql::ast::Extent;
use crate::promql::histogram::{Histogram, ResetHint};
use crate::promql::value::Sample;

pub(super) fn rate(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    extrapolated(window, context, true, true)
}

pub(super) fn increase(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    extrapolated(window, context, true, false)
}

pub(super) fn delta(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    extrapolated(window, context, false, false)
}

pub(super) fn irate(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    instant(window, context, true)
}

pub(super) fn idelta(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    instant(window, context, false)
}

/// The value that `rate` extrapolates from: how far the samples went, and between which times.
struct Covered {
    first: i64,
    last: i64,
    /// Samples less one.
    gaps: usize,
}

fn extrapolated(window: &Window<'_>, context: &mut Context<'_>, counter: bool, per_second: bool) -> Sample {
    if !window.floats.is_empty() && !window.histograms.is_empty() {
        context.mixed();
        return Sample::Absent;
    }
    if window.extent != Extent::Plain {
        return super::rate::anchored(window, context, counter, per_second);
    }
    let seconds = window.range as f64 / 1000.0;
    if window.floats.len() >= 2 {
        let floats = &window.floats;
        let mut increase = floats.values[floats.len() - 1] - floats.values[0];
        if counter {
            increase += lost_to_resets(floats, context);
        }
        let covered = covered(floats.times);
        let mut factor = factor(window, &covered, (counter && increase > 0.0).then_some((floats.values[0], increase)));
        if per_second {
            factor /= seconds;
        }
        return Sample::Float(increase * factor);
    }
    if window.histograms.len() >= 2 {
        let Some(mut increase) = histogram_increase(&window.histograms, context, counter) else {
            return Sample::Absent;
        };
        let first = window.histograms.values[0].count;
        let covered = covered(window.histograms.times);
        let zero = (counter && increase.count > 0.0).then_some((first, increase.count));
        let mut factor = factor(window, &covered, zero);
        if per_second {
            factor /= seconds;
        }
        increase.scale(factor);
        increase.hint = ResetHint::Gauge;
        return Sample::from(increase);
    }
    Sample::Absent
}

fn covered(times: &[i64]) -> Covered {
    Covered { first: times[0], last: times[times.len() - 1], gaps: times.len() - 1 }
}

/// What counter resets hide: the value before each.
fn lost_to_resets(floats: &Slice<'_, f64>, _context: &mut Context<'_>) -> f64 {
    floats.values.windows(2).filter(|pair| pair[1] < pair[0]).map(|pair| pair[0]).sum()
}

/// By how much the range is longer than the time between its samples, as far as the series may be taken to
/// reach: half a gap beyond the samples where the edge is further than 1.1 gaps, and never back to where a
/// counter of value `zero.0` that grew by `zero.1` would have been below zero.
fn factor(window: &Window<'_>, covered: &Covered, zero: Option<(f64, f64)>) -> f64 {
    let interval = (covered.last - covered.first) as f64 / 1000.0;
    let gap = interval / covered.gaps as f64;
    let mut to_start = (covered.first - window.start) as f64 / 1000.0;
    let mut to_end = (window.end - covered.last) as f64 / 1000.0;
    let threshold = gap * 1.1;
    if to_start >= threshold {
        to_start = gap / 2.0;
    }
    if let Some((value, increase)) = zero.filter(|(value, _)| *value >= 0.0) {
        to_start = to_start.min(interval * (value / increase));
    }
    if to_end >= threshold {
        to_end = gap / 2.0;
    }
    (interval + to_start + to_end) / interval
}

/// The sum of what histograms grew by; none where they do not fit together.
fn histogram_increase(
    histograms: &Slice<'_, Arc<Histogram>>,
    context: &mut Context<'_>,
    counter: bool,
) -> Option<Histogram> {
    let (first, last) = (&histograms.values[0], &histograms.values[histograms.len() - 1]);
    if histograms.values.iter().any(|h| h.is_custom() != first.is_custom()) {
        context.warn("vector contains a mix of histograms with exponential and custom buckets schemas");
        return None;
    }
    let gauges = histograms.values.iter().filter(|h| h.hint == ResetHint::Gauge).count();
    // A reset right after the first sample makes that sample irrelevant, whatever it is.
    if counter && gauges > 0 {
        not_a(context, "counter");
    }
    if !counter && (first.hint != ResetHint::Gauge || last.hint != ResetHint::Gauge) {
        not_a(context, "gauge");
    }
    let mut increase = Histogram::clone(last);
    let mut reconciled = subtract(&mut increase, first, context)?;
    if counter {
        for pair in histograms.values.windows(2).filter(|pair| pair[1].reset_since(&pair[0])) {
            match increase.add(&pair[0]) {
                Ok(combined) => reconciled |= combined.reconciled,
                Err(_) => return None,
            }
        }
    }
    // Every schema in between limits the result.
    let coarsest = histograms.values.iter().map(|h| h.schema).min().unwrap_or(increase.schema);
    increase.coarsen(coarsest);
    if reconciled {
        context.annotations.info(context.span, "mismatched custom buckets were reconciled during subtraction");
    }
    Some(increase)
}

fn not_a(context: &mut Context<'_>, what: &str) {
    let message = format!("this native histogram metric is not a {what}: {:?}", context.metric);
    context.annotations.warn(context.span, message);
}

fn subtract(from: &mut Histogram, other: &Histogram, context: &mut Context<'_>) -> Option<bool> {
    match from.sub(other) {
        Ok(combined) => Some(combined.reconciled),
        Err(_) => {
            context.warn("vector contains a mix of histograms with exponential and custom buckets schemas");
            None
        }
    }
}

/// The change between the last two samples.
fn instant(window: &Window<'_>, context: &mut Context<'_>, per_second: bool) -> Sample {
    let mut newest: Vec<(i64, Sample)> = Vec::with_capacity(4);
    let floats = window.floats.times.iter().zip(window.floats.values).rev().take(2);
    newest.extend(floats.map(|(t, v)| (*t, Sample::Float(*v))));
    let histograms = window.histograms.times.iter().zip(window.histograms.values).rev().take(2);
    newest.extend(histograms.map(|(t, h)| (*t, Sample::Histogram(h.clone()))));
    newest.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let [(last_time, last), (time, before), ..] = newest.as_slice() else { return Sample::Absent };
    let seconds = (last_time - time) as f64 / 1000.0;
    match (last, before) {
        (Sample::Float(last), Sample::Float(before)) => {
            // After a reset, the counter began at zero.
            let change = if per_second && last < before { *last } else { last - before };
            Sample::Float(if per_second { change / seconds } else { change })
        }
        (Sample::Histogram(last), Sample::Histogram(before)) => {
            instant_histogram(last, before, context, per_second.then_some(seconds))
        }
        _ => {
            context.mixed();
            Sample::Absent
        }
    }
}

fn instant_histogram(
    last: &Histogram,
    before: &Histogram,
    context: &mut Context<'_>,
    seconds: Option<f64>,
) -> Sample {
    let gauges = [last, before].iter().filter(|h| h.hint == ResetHint::Gauge).count();
    let mut change = last.clone();
    match seconds {
        Some(_) if gauges > 0 => not_a(context, "counter"),
        None if gauges < 2 => not_a(context, "gauge"),
        _ => {}
    }
    if seconds.is_none() || !last.reset_since(before) {
        match subtract(&mut change, before, context) {
            None => return Sample::Absent,
            Some(true) => {
                let message = "mismatched custom buckets were reconciled during subtraction";
                context.annotations.info(context.span, message);
            }
            Some(false) => {}
        }
    }
    if let Some(seconds) = seconds {
        change.divide(seconds);
    }
    change.hint = ResetHint::Gauge;
    Sample::from(change)
}

/// How often a counter was reset.
pub(super) fn resets(window: &Window<'_>, context: &mut Context<'_>) -> Sample {
    let mut count = 0;
    if window.extent == Extent::Plain && window.histograms.is_empty() {
        let fell = |pair: &&[f64]| pair[1] < pair[0];
        count += window.floats.values.windows(2).filter(fell).count();
        return Sample::Float(count as f64);
    }
    let samples = super::over_time::in_order(window);
    let before = samples.iter().take_while(|(time, _)| *time <= window.start).count();
    if window.extent != Extent::Plain && before == samples.len() {
        return if samples.is_empty() { Sample::Absent } else { Sample::Float(0.0) };
    }
    let reset = |pair: &&[(i64, Sample)]| match (&pair[0].1, &pair[1].1) {
        (Sample::Float(a), Sample::Float(b)) => b < a,
        (Sample::Histogram(a), Sample::Histogram(b)) => b.reset_since(a),
        _ => true,
    };
    let _ = context;
    Sample::Float(samples[before.saturating_sub(1)..].windows(2).filter(reset).count() as f64)
}

/// The value at a moment between two samples, as `smoothed` sees it.
fn interpolated(floats: &Slice<'_, f64>, at: usize, time: i64, counter: bool) -> f64 {
    let (t0, t1) = (floats.times[at], floats.times[at + 1]);
    let (v0, v1) = (floats.values[at], floats.values[at + 1]);
    let share = (time - t0) as f64 / (t1 - t0) as f64;
    if counter && v1 < v0 {
        // The counter began anew somewhere in between: taken as growing from zero.
        return v0 + v1 * share;
    }
    v0 + (v1 - v0) * share
}

/// `anchored` and `smoothed`: values at the edges instead of extrapolation.
fn anchored(window: &Window<'_>, context: &mut Context<'_>, counter: bool, per_second: bool) -> Sample {
    let floats = &window.floats;
    let _ = context;
    let inside_from = floats.times.partition_point(|t| *t <= window.start);
    let inside_to = floats.times.partition_point(|t| *t <= window.end);
    if floats.is_empty() || inside_from == floats.len() && window.extent == Extent::Smoothed && floats.len() < 2 {
        return Sample::Absent;
    }
    let mut values = floats.values[inside_from..inside_to].to_vec();
    let smoothed = window.extent == Extent::Smoothed;
    if inside_from > 0 {
        let before = inside_from - 1;
        let value = if smoothed && inside_from < floats.len() {
            interpolated(floats, before, window.start, counter)
        } else {
            floats.values[before]
        };
        values.insert(0, value);
    }
    if smoothed && inside_to < floats.len() && inside_to > 0 && floats.times[inside_to - 1] < window.end {
        values.push(interpolated(floats, inside_to - 1, window.end, counter));
    }
    let [first, .., last] = values.as_slice() else {
        return if values.is_empty() { Sample::Absent } else { Sample::Float(0.0) };
    };
    let mut change = last - first;
    if counter {
        change += values.windows(2).filter(|pair| pair[1] < pair[0]).map(|pair| pair[0]).sum::<f64>();
    }
    Sample::Float(if per_second { change / (window.range as f64 / 1000.0) } else { change })
}
