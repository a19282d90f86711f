//! `anchored` and `smoothed`: the values at the edges of a range stand in samples around it, so nothing is
//! extrapolated.

use std::sync::Arc;

use super::{Context, Slice, Window};
use crate::promql::ast::Extent;
use crate::promql::histogram::{Histogram, ResetHint};
use crate::promql::value::Sample;

/// How much a window's samples changed from its start to its end.
pub(super) fn change(
    window: &Window<'_>,
    context: &mut Context<'_>,
    counter: bool,
    per_second: bool,
) -> Sample {
    let seconds = window.range as f64 / 1000.0;
    if window.histograms.is_empty() {
        return floats(window, counter)
            .map(|change| if per_second { change / seconds } else { change })
            .into();
    }
    let Some(mut change) = histograms(window, context, counter) else { return Sample::Absent };
    if per_second {
        change.divide(seconds);
    }
    change.hint = ResetHint::Gauge;
    Sample::from(change)
}

/// Whether samples reach into the window.
fn covered<T>(window: &Window<'_>, slice: &Slice<'_, T>) -> bool {
    let (Some(first), Some(last)) = (slice.times.first(), slice.times.last()) else { return false };
    *last > window.start && !(window.extent == Extent::Smoothed && *first > window.end)
}

fn floats(window: &Window<'_>, counter: bool) -> Option<f64> {
    let floats = &window.floats;
    if !covered(window, floats) {
        return None;
    }
    let (times, values, last) = (floats.times, floats.values, floats.len() - 1);
    let smoothed = window.extent == Extent::Smoothed;
    let left = match times[0] < window.start && smoothed {
        true => interpolated(floats, 0, window.start, counter),
        false => values[0],
    };
    let right = match times[last] > window.end && last > 0 && smoothed {
        true => interpolated(floats, last - 1, window.end, counter),
        false => values[last],
    };
    let mut change = right - left;
    if counter {
        let from = usize::from(times[0] <= window.start);
        let to = if times[last] >= window.end { last } else { last + 1 };
        let mut before = left;
        for value in values.get(from..to).unwrap_or(&[]).iter().chain([&right]) {
            if *value < before {
                change += before;
            }
            before = *value;
        }
    }
    Some(change)
}

/// The value at `time` between sample `at` and the next. A counter that was reset in between is taken to have
/// grown from zero.
fn interpolated(floats: &Slice<'_, f64>, at: usize, time: i64, counter: bool) -> f64 {
    between(
        (floats.times[at], floats.values[at]),
        (floats.times[at + 1], floats.values[at + 1]),
        time,
        counter,
    )
}

/// The value at `time` on the line between two samples.
pub(in crate::promql::eval) fn between(a: (i64, f64), b: (i64, f64), time: i64, counter: bool) -> f64 {
    let from = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (time - a.0) as f64 / (b.0 - a.0) as f64
}

fn histograms(window: &Window<'_>, context: &mut Context<'_>, counter: bool) -> Option<Histogram> {
    let all = &window.histograms;
    if !covered(window, all) {
        return None;
    }
    let (times, values, last) = (all.times, all.values, all.len() - 1);
    if values.iter().any(|h| h.is_custom() != values[0].is_custom()) {
        context.incompatible();
        return None;
    }
    if counter && values.iter().any(|h| h.hint == ResetHint::Gauge) {
        context.not_a("counter");
    }
    let smoothed = window.extent == Extent::Smoothed;
    let pair = |at: usize| ((times[at], &*values[at]), (times[at + 1], &*values[at + 1]));
    let left = match times[0] < window.start && smoothed {
        true => between_histograms(pair(0), window.start, counter, context)?,
        false => Histogram::clone(&values[0]),
    };
    let right = match times[last] > window.end && last > 0 && smoothed {
        true => between_histograms(pair(last - 1), window.end, counter, context)?,
        false => Histogram::clone(&values[last]),
    };
    if !counter && (left.hint != ResetHint::Gauge || right.hint != ResetHint::Gauge) {
        context.not_a("gauge");
    }
    let mut change = right.clone();
    let subtracted = change.sub(&left).ok()?;
    context.reconciled(subtracted.reconciled, "subtraction");
    if counter {
        // A reset that the left edge was interpolated across is accounted for.
        let crossed = smoothed && times[0] < window.start && values[1].reset_since(&values[0]);
        let inner: &[Arc<Histogram>] = values.get(1 + usize::from(crossed)..last).unwrap_or(&[]);
        if crossed && last < 2 {
            return Some(change);
        }
        let mut before = if crossed { &*values[1] } else { &left };
        // Of the last sample only `right` is looked at: it carries that one's hint.
        let rest = (last > 0).then_some(&right);
        for histogram in inner.iter().map(|h| &**h).chain(rest) {
            if histogram.reset_since(before) {
                let added = change.add(before).ok()?;
                context.reconciled(added.reconciled, "addition");
            }
            before = histogram;
        }
    }
    Some(change)
}

/// The histogram at `time` on the line between two.
pub(in crate::promql::eval) fn between_histograms(
    ((t0, a), (t1, b)): ((i64, &Histogram), (i64, &Histogram)),
    time: i64,
    counter: bool,
    context: &mut Context<'_>,
) -> Option<Histogram> {
    if a.is_custom() != b.is_custom() {
        context.incompatible();
        return None;
    }
    if time == t0 || time == t1 {
        return Some(if time == t0 { a } else { b }.clone());
    }
    let share = (time - t0) as f64 / (t1 - t0) as f64;
    let mut result = b.clone();
    if counter && b.reset_since(a) {
        result.scale(share);
        return Some(result);
    }
    let subtracted = result.sub(a).ok()?;
    context.reconciled(subtracted.reconciled, "subtraction");
    result.scale(share);
    let added = result.add(a).ok()?;
    context.reconciled(added.reconciled, "addition");
    Some(result)
}
