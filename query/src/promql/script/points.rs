//! Points of a series: `1+2x5 _ stale {{schema:1 sum:3}}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_storage::Labels;

use crate::promql::histogram::{BUCKETS, Buckets, CUSTOM, Histogram, ResetHint};
use crate::promql::value::Sample;
use crate::promql::{duration, number};

/// Points that one series of a script may have.
const POINTS: usize = 1_000_000;

/// A sample to be loaded.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) time: i64,
    pub(super) sample: Sample,
    /// Start timestamp; 0 for none.
    pub(super) start: i64,
}

/// The samples that `text` spells, gaps included.
pub(super) fn points(text: &str) -> Option<Vec<Sample>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        rest = point(rest, &mut out)?;
        if !(rest.is_empty() || rest.starts_with(char::is_whitespace)) || out.len() > POINTS {
            return None;
        }
        rest = rest.trim_start();
    }
    Some(out)
}

/// Reads one item, which may stand for several samples.
fn point<'a>(text: &'a str, out: &mut Vec<Sample>) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix("stale") {
        out.push(Sample::Float(number::stale()));
        return Some(rest);
    }
    if let Some(rest) = text.strip_prefix('_') {
        let (times, rest) = repeat(rest)?;
        out.extend(std::iter::repeat_n(Sample::Absent, times.unwrap_or(1)));
        return Some(rest);
    }
    if text.starts_with("{{") {
        return histograms(text, out);
    }
    let (mut value, rest) = signed(text)?;
    let (step, rest) = match rest.as_bytes().first() {
        Some(b'+' | b'-') => signed(rest)?,
        _ => (0.0, rest),
    };
    let (times, rest) = repeat(rest)?;
    out.push(Sample::Float(value));
    for _ in 0..times.unwrap_or(0) {
        value += step;
        out.push(Sample::Float(value));
    }
    Some(rest)
}

/// `x5`, if it stands here.
fn repeat(text: &str) -> Option<(Option<usize>, &str)> {
    let Some(rest) = text.strip_prefix('x') else { return Some((None, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let times: usize = rest[..digits].parse().ok().filter(|times| *times <= POINTS)?;
    Some((Some(times), &rest[digits..]))
}

/// A number with its sign, none of it hexadecimal: `0x5` repeats a zero.
fn signed(text: &str) -> Option<(f64, &str)> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let sign = text.len() - unsigned.len();
    let mut end = 0;
    let bytes = unsigned.as_bytes();
    let word = bytes.iter().take_while(|b| b.is_ascii_alphabetic() && **b != b'x').count();
    if word == 3 {
        end = 3;
    } else {
        while let Some(&b) = bytes.get(end) {
            let exponent = matches!(b, b'e' | b'E')
                || (matches!(b, b'+' | b'-') && end > 0 && matches!(bytes[end - 1], b'e' | b'E'));
            if !(b.is_ascii_digit() || b == b'.' || exponent) {
                break;
            }
            end += 1;
        }
    }
    let literal = &unsigned[..end];
    let value: f64 = if word == 3 { number::read(literal)? } else { literal.parse().ok()? };
    let negative = match &text[..sign] {
        "" | "+" => false,
        "-" | "+-" => true,
        "--" => false,
        _ => return None,
    };
    Some((if negative { -value } else { value }, &unsigned[end..]))
}

fn histograms<'a>(text: &'a str, out: &mut Vec<Sample>) -> Option<&'a str> {
    let (mut value, rest) = histogram(text)?;
    let (step, rest) = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
        (Some(rest), _) => {
            let (step, rest) = histogram(rest)?;
            (Some(step), rest)
        }
        (_, Some(rest)) => {
            let (mut step, rest) = histogram(rest)?;
            let hint = step.hint;
            step.scale(-1.0);
            step.hint = hint;
            (Some(step), rest)
        }
        _ => (None, rest),
    };
    let (times, rest) = repeat(rest)?;
    out.push(Sample::from(value.clone()));
    for _ in 0..times.unwrap_or(0) {
        if let Some(step) = &step {
            let hint = value.hint;
            value.add(step).ok()?;
            value.hint = hint;
        }
        out.push(Sample::from(value.clone()));
    }
    Some(rest)
}

/// `{{schema:1 sum:3 buckets:[1 2]}}`
fn histogram(text: &str) -> Option<(Histogram, &str)> {
    let (inside, rest) = text.strip_prefix("{{")?.split_once("}}")?;
    let mut histogram = Histogram::default();
    let mut left = inside.trim();
    while !left.is_empty() {
        let (key, after) = left.split_once(':')?;
        let (value, after) = match after.strip_prefix('[') {
            Some(list) => list.split_once(']')?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        field(&mut histogram, key.trim(), value.trim())?;
        left = after.trim_start();
    }
    Some((histogram, rest))
}

fn field(histogram: &mut Histogram, key: &str, value: &str) -> Option<()> {
    let number = || number::read(value);
    let list = || value.split_whitespace().map(number::read).collect::<Option<Vec<f64>>>();
    let offset = || value.parse::<i32>().ok().filter(|o| o.unsigned_abs() as usize <= BUCKETS);
    match key {
        "schema" => histogram.schema = value.parse().ok().filter(|s| *s == CUSTOM || (-4..=8).contains(s))?,
        "sum" => histogram.sum = number()?,
        "count" => histogram.count = number()?,
        "z_bucket" => histogram.zero_count = number()?,
        "z_bucket_w" => histogram.zero_threshold = number()?,
        "offset" => histogram.positive.offset = offset()?,
        "buckets" => histogram.positive.counts = list()?,
        "n_offset" => histogram.negative.offset = offset()?,
        "n_buckets" => histogram.negative.counts = list()?,
        "custom_values" => histogram.bounds = list()?.into(),
        "counter_reset_hint" => {
            histogram.hint = match value {
                "unknown" => ResetHint::Unknown,
                "reset" => ResetHint::Reset,
                "not_reset" => ResetHint::NotReset,
                "gauge" => ResetHint::Gauge,
                _ => return None,
            }
        }
        _ => return None,
    }
    Some(())
}

/// Offsets of start timestamps from their samples: `_ -30s-1mx2 0`.
pub(super) fn starts(text: &str) -> Option<Vec<Option<i64>>> {
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        if word == "_" {
            out.push(None);
            continue;
        }
        let (mut offset, rest) = offset(word)?;
        let (step, rest) = if rest.starts_with(['+', '-']) { self::offset(rest)? } else { (0, rest) };
        let (times, rest) = repeat(rest)?;
        if !rest.is_empty() {
            return None;
        }
        out.push(Some(offset));
        for _ in 0..times.unwrap_or(0) {
            offset += step;
            out.push(Some(offset));
        }
    }
    Some(out)
}

fn offset(text: &str) -> Option<(i64, &str)> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let end = rest.find(['+', '-', 'x']).unwrap_or(rest.len());
    Some((sign * duration::read_ms(&rest[..end])?, &rest[end..]))
}

/// The samples of one series with the hints that Prometheus' storage would give to histograms: that a counter
/// was not reset where the sample before shows it, and nothing where a chunk begins.
pub(super) fn with_hints(mut loaded: Vec<Loaded>) -> Vec<Loaded> {
    let mut before: Option<Arc<Histogram>> = None;
    for point in &mut loaded {
        match &mut point.sample {
            Sample::Absent => {}
            Sample::Float(_) => before = None,
            Sample::Histogram(histogram) => {
                let now = Histogram { hint: ResetHint::Unknown, ..Histogram::clone(histogram) };
                let goes_on = |before: &Histogram| {
                    before.hint != ResetHint::Gauge
                        && histogram.hint != ResetHint::Reset
                        && before.schema == now.schema
                        && before.bounds == now.bounds
                        && before.zero_threshold == now.zero_threshold
                        && !now.reset_since(before)
                };
                let hint = match &before {
                    _ if histogram.hint == ResetHint::Gauge => ResetHint::Gauge,
                    Some(before) if goes_on(before) => ResetHint::NotReset,
                    _ => ResetHint::Unknown,
                };
                *histogram = Arc::new(Histogram { hint, ..now });
                before = Some(Arc::clone(histogram));
            }
        }
    }
    loaded
}

/// The histograms with custom buckets that classic series amount to.
pub(super) fn custom_bucket_histograms(series: &[(Labels, Vec<Loaded>)]) -> Vec<(Labels, Vec<Loaded>)> {
    let mut families: BTreeMap<Labels, BTreeMap<i64, Parts>> = BTreeMap::new();
    for (labels, loaded) in series {
        let metric = labels.metric();
        let (base, part) = match () {
            () if metric.ends_with("_bucket") && labels.get("le").is_some() => ("_bucket", Part::Bucket),
            () if metric.ends_with("_count") => ("_count", Part::Count),
            () if metric.ends_with("_sum") => ("_sum", Part::Sum),
            () => continue,
        };
        let base = &metric[..metric.len() - base.len()];
        let pairs = labels.iter().filter(|(name, _)| *name != "le" && *name != "__name__");
        let key = Labels::new(pairs.chain([("__name__", base)]));
        let bound = labels.get("le").and_then(number::read);
        for point in loaded {
            let Some(value) = point.sample.float().filter(|v| !number::is_stale(*v)) else { continue };
            let parts = families.entry(key.clone()).or_default().entry(point.time).or_default();
            match (part, bound) {
                (Part::Bucket, Some(bound)) => parts.buckets.push((bound, value)),
                (Part::Bucket, None) => {}
                (Part::Count, _) => parts.count = Some(value),
                (Part::Sum, _) => parts.sum = value,
            }
        }
    }
    let histograms = |(labels, times): (Labels, BTreeMap<i64, Parts>)| {
        let points = times.into_iter().filter_map(|(time, parts)| {
            let sample = Sample::from(parts.histogram()?);
            Some(Loaded { time, sample, start: 0 })
        });
        (labels, points.collect())
    };
    families.into_iter().map(histograms).collect()
}

#[derive(Clone, Copy)]
enum Part {
    Bucket,
    Count,
    Sum,
}

#[derive(Default)]
struct Parts {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Parts {
    fn histogram(mut self) -> Option<Histogram> {
        if self.buckets.is_empty() {
            return None;
        }
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|next, kept| next.0 == kept.0);
        let last = self.buckets.last()?.1;
        let count = self.count.unwrap_or(last);
        let bounds: Arc<[f64]> = self.buckets.iter().map(|b| b.0).filter(|b| b.is_finite()).collect();
        let mut below = 0.0;
        let mut counts: Vec<f64> = Vec::new();
        for (bound, cumulative) in &self.buckets {
            if bound.is_finite() {
                counts.push(cumulative - below);
                below = *cumulative;
            }
        }
        counts.push(count - below);
        Some(Histogram {
            schema: CUSTOM,
            count,
            sum: self.sum,
            positive: Buckets { offset: 0, counts },
            bounds,
            ..Histogram::default()
        })
    }
}
