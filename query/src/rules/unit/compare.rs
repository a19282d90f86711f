//! What should have come out against what did, told as promtool does.

use weir_storage::Labels;

use crate::promql::histogram::Histogram;
use crate::promql::number::is_stale;
use crate::promql::{Sample, number};

/// Compares firing alerts: labels and annotations, in any order.
pub(super) fn alerts(expected: &[(Labels, Labels)], mut found: Vec<(Labels, Labels)>) -> Result<(), String> {
    let mut expected = expected.to_vec();
    expected.sort();
    found.sort();
    if expected == found {
        return Ok(());
    }
    Err(format!("        exp:{}, \n        got:{}", list(&expected), list(&found)))
}

fn list(alerts: &[(Labels, Labels)]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let each = alerts.iter().enumerate().map(|(at, (labels, annotations))| {
        format!(
            "            {at}:\n              Labels:{}\n              Annotations:{}",
            show_labels(labels),
            show_labels(annotations)
        )
    });
    format!("[\n{}\n            ]", each.collect::<Vec<_>>().join(",\n"))
}

/// `{a="b", c="d"}`
fn show_labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Compares samples, in any order; where `fuzzy` is set the last bit of a number does not matter.
pub(super) fn samples(
    expected: &[(Labels, Sample)],
    mut found: Vec<(Labels, Sample)>,
    fuzzy: bool,
) -> Result<(), String> {
    let mut expected = expected.to_vec();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let pairs = || expected.iter().zip(&found);
    let same = expected.len() == found.len() && pairs().all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1, fuzzy));
    if same {
        return Ok(());
    }
    Err(format!("        exp: {}\n        got: {}", rows(&expected), rows(&found)))
}

fn same(expected: &Sample, found: &Sample, fuzzy: bool) -> bool {
    match (expected, found) {
        (Sample::Float(a), Sample::Float(b)) => same_number(*a, *b, fuzzy),
        (Sample::Histogram(a), Sample::Histogram(b)) => a.hint == b.hint && a.agrees(b, 0.0),
        _ => false,
    }
}

fn same_number(a: f64, b: f64, fuzzy: bool) -> bool {
    let nan = a.is_nan() && b.is_nan() && is_stale(a) == is_stale(b);
    nan || a == b || (fuzzy && (a.next_up() == b || a.next_down() == b))
}

fn rows(rows: &[(Labels, Sample)]) -> String {
    if rows.is_empty() {
        return "nil".to_owned();
    }
    let each = rows.iter().map(|(labels, sample)| match sample {
        Sample::Histogram(histogram) => format!("{} {:?}", show_labels(labels), show_histogram(histogram)),
        Sample::Float(value) => format!("{} {}", show_labels(labels), show_number(*value)),
        Sample::Absent => show_labels(labels),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn show_histogram(histogram: &Histogram) -> String {
    format!("{histogram} {:?}", histogram.hint)
}

/// `1.5E+00`
fn show_number(value: f64) -> String {
    if !value.is_finite() {
        return number::show(value);
    }
    let text = format!("{value:E}");
    let (mantissa, exponent) = text.split_once('E').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}E{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
