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

/// What `rate` extrapolates from: between which times the samples are.
struct Covered {
    first: i64,
    last: i64,
    /// Samples less one.
    gaps: usize,
    /// Whether the only sample there is was made up a distance from its start.
    single: bool,
}

impl Covered {
    /// From the first of `times`, or from where its count was `born`, to the last.
    fn new(times: &[i64], born: Option<i64>) -> Self {
        let gaps = times.len() - usize::from(born.is_none());
        Self { first: born.unwrap_or(times[0]), last: times[times.len() - 1], gaps, single: times.len() == 1 }
    }
}

/// Where the count of the first sample began, if that is inside the window: it was zero there.
fn born<T>(window: &Window<'_>, slice: &Slice<'_, T>) -> Option<i64> {
    let start = slice.start(0);
    (start != 0 && start > window.start && start < *slice.times.first()?).then_some(start)
}

/// Whether the count of sample `at + 1` began after that of sample `at` had ended. A start that is the time
/// of the sample itself says nothing; one at the time of the sample before means a delta, unless nothing is
/// known of that one's start.
fn began_anew<T>(slice: &Slice<'_, T>, at: usize) -> bool {
    let (before, before_start) = (slice.times[at], slice.start(at));
    let start = slice.start(at + 1);
    let delta = start == before && before_start != 0 && before_start < before;
    start != 0 && start < slice.times[at + 1] && (start > before || delta)
}

/// Warns where a count began inside that of the sample before it.
fn overlapping_starts<T>(slice: &Slice<'_, T>, context: &mut Context<'_>) {
    let overlaps = |at: usize| {
        let start = slice.start(at);
        start != 0 && start < slice.times[at - 1] && start != slice.start(at - 1)
    };
    if (1..slice.starts.len()).any(overlaps) {
        let message = format!(
            "sample has start time that overlaps with previous sample timestamp for metric {:?}",
            context.metric
        );
        context.annotations.warn(context.span, message);
    }
}

fn extrapolated(window: &Window<'_>, context: &mut Context<'_>, counter: bool, per_second: bool) -> Sample {
    if !window.floats.is_empty() && !window.histograms.is_empty() {
        context.mixed();
        return Sample::Absent;
    }
    if window.extent != Extent::Plain {
        return super::extended::change(window, context, counter, per_second);
    }
    let seconds = window.range as f64 / 1000.0;
    let starts = counter && context.starts;
    let born = if starts { born(window, &window.floats) } else { None };
    if window.floats.len() >= 2 || born.is_some() {
        let floats = &window.floats;
        let first = if born.is_some() { 0.0 } else { floats.values[0] };
        let mut increase = floats.values[floats.len() - 1] - first;
        if counter {
            increase += lost_to_resets(floats, context);
        }
        let covered = Covered::new(floats.times, born);
        let mut factor = factor(window, &covered, (counter && increase > 0.0).then_some((first, increase)));
        if per_second {
            factor /= seconds;
        }
        return Sample::Float(increase * factor);
    }
    let born = if starts { self::born(window, &window.histograms) } else { None };
    if window.histograms.len() >= 2 || born.is_some() {
        let Some(mut increase) = histogram_increase(&window.histograms, context, counter, born.is_some())
        else {
            return Sample::Absent;
        };
        let first = if born.is_some() { 0.0 } else { window.histograms.values[0].count };
        let covered = Covered::new(window.histograms.times, born);
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

/// What counter resets hide: the value before each.
fn lost_to_resets(floats: &Slice<'_, f64>, context: &mut Context<'_>) -> f64 {
    let mut lost = 0.0;
    let starts = context.starts && !floats.starts.is_empty();
    if context.rising && !starts {
        return lost;
    }
    for (at, pair) in floats.values.windows(2).enumerate() {
        if pair[1] < pair[0] || (starts && began_anew(floats, at)) {
            lost += pair[0];
        }
    }
    if starts {
        overlapping_starts(floats, context);
    }
    lost
}

/// By how much the range is longer than the time between its samples, as far as the series may be taken to
/// reach: half a gap beyond the samples where the edge is further than 1.1 gaps, and never back to where a
/// counter of value `zero.0` that grew by `zero.1` would have been below zero.
fn factor(window: &Window<'_>, covered: &Covered, zero: Option<(f64, f64)>) -> f64 {
    if covered.single {
        // Nothing tells how far apart samples are.
        return 1.0;
    }
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
    from_zero: bool,
) -> Option<Histogram> {
    let values = histograms.values;
    let (first, last) = (&values[0], &values[values.len() - 1]);
    let anew = |at: usize, context: &Context<'_>| {
        values[at + 1].reset_since(&values[at]) || (context.starts && began_anew(histograms, at))
    };
    // Of a first sample that was followed by a reset nothing is needed, however its buckets are laid out.
    let irrelevant = counter && values.len() > 1 && anew(0, context);
    let fitting = &values[usize::from(irrelevant)..];
    if fitting.iter().any(|h| h.is_custom() != fitting[0].is_custom()) {
        context.incompatible();
        return None;
    }
    let gauges = values.iter().filter(|h| h.hint == ResetHint::Gauge).count();
    if counter && gauges > 0 {
        context.not_a("counter");
    }
    if !counter && (first.hint != ResetHint::Gauge || last.hint != ResetHint::Gauge) {
        context.not_a("gauge");
    }
    let mut increase = Histogram::clone(last);
    let mut reconciled = !from_zero && !irrelevant && subtract(&mut increase, first, context)?;
    // Taken from zero, the first sample itself is part of the increase.
    let resets_from = usize::from(irrelevant && !from_zero);
    if counter {
        for (at, before) in values[..values.len() - 1].iter().enumerate().skip(resets_from) {
            if !anew(at, context) {
                continue;
            }
            match increase.add(before) {
                Ok(combined) => reconciled |= combined.reconciled,
                Err(_) => return None,
            }
        }
        if context.starts {
            overlapping_starts(histograms, context);
        }
    }
    // Every schema in between limits the result.
    let coarsest = fitting.iter().map(|h| h.schema).min().unwrap_or(increase.schema);
    increase.coarsen(coarsest);
    context.reconciled(reconciled, "subtraction");
    Some(increase)
}

fn subtract(from: &mut Histogram, other: &Histogram, context: &mut Context<'_>) -> Option<bool> {
    match from.sub(other) {
        Ok(combined) => Some(combined.reconciled),
        Err(_) => {
            context.incompatible();
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
    let anew = per_second && context.starts && newest_began_anew(window);
    let seconds = (last_time - time) as f64 / 1000.0;
    match (last, before) {
        (Sample::Float(last), Sample::Float(before)) => {
            // After a reset, the counter began at zero.
            let change = if per_second && (anew || last < before) { *last } else { last - before };
            Sample::Float(if per_second { change / seconds } else { change })
        }
        (Sample::Histogram(last), Sample::Histogram(before)) => {
            instant_histogram((last, before), context, per_second.then_some(seconds), anew)
        }
        _ => {
            context.mixed();
            Sample::Absent
        }
    }
}

/// Whether the count of the newest sample began after the one before it, of the same kind.
fn newest_began_anew(window: &Window<'_>) -> bool {
    let last = |len: usize| len.checked_sub(2);
    let newest = |times: &[i64]| times.last().copied().unwrap_or(i64::MIN);
    if newest(window.floats.times) >= newest(window.histograms.times) {
        last(window.floats.len()).is_some_and(|at| began_anew(&window.floats, at))
    } else {
        last(window.histograms.len()).is_some_and(|at| began_anew(&window.histograms, at))
    }
}

/// The change between two histograms, per second where `seconds` lie between; `anew` where a reset is known.
fn instant_histogram(
    (last, before): (&Histogram, &Histogram),
    context: &mut Context<'_>,
    seconds: Option<f64>,
    anew: bool,
) -> Sample {
    let gauges = [last, before].iter().filter(|h| h.hint == ResetHint::Gauge).count();
    let mut change = last.clone();
    match seconds {
        Some(_) if gauges > 0 => context.not_a("counter"),
        None if gauges < 2 => context.not_a("gauge"),
        _ => {}
    }
    if seconds.is_none() || !(anew || last.reset_since(before)) {
        match subtract(&mut change, before, context) {
            None => return Sample::Absent,
            Some(reconciled) => context.reconciled(reconciled, "subtraction"),
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
    if window.extent == Extent::Plain && window.histograms.is_empty() {
        let (floats, starts) = (&window.floats, context.starts);
        let fell = |(at, pair): &(usize, &[f64])| pair[1] < pair[0] || (starts && began_anew(floats, *at));
        return Sample::Float(floats.values.windows(2).enumerate().filter(fell).count() as f64);
    }
    if window.extent == Extent::Plain && window.floats.is_empty() {
        let (all, starts) = (&window.histograms, context.starts);
        let reset = |(at, pair): &(usize, &[Arc<Histogram>])| {
            pair[1].reset_since(&pair[0]) || (starts && began_anew(all, *at))
        };
        return Sample::Float(all.values.windows(2).enumerate().filter(reset).count() as f64);
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
    Sample::Float(samples[before.saturating_sub(1)..].windows(2).filter(reset).count() as f64)
}
