//! Results against expectations.

use weir_storage::Labels;

use super::Mismatch;
use super::parse::{Eval, Pattern};
use crate::promql::error::Annotations;
use crate::promql::histogram::ResetHint;
use crate::promql::labels;
use crate::promql::number::{almost_equal, show};
use crate::promql::plan::TimeRange;
use crate::promql::value::{Grid, Output, Sample};

/// Relative difference that counts as equal.
const TOLERANCE: f64 = 1e-6;

pub(super) fn annotations(eval: &Eval, annotations: &Annotations) -> Result<(), Mismatch> {
    let expect = &eval.expect;
    remarks("warning", &expect.warnings, expect.no_warnings, &annotations.warnings(None))?;
    remarks("info", &expect.infos, expect.no_infos, &annotations.infos(None))
}

fn remarks(kind: &str, patterns: &[Pattern], none: bool, found: &[String]) -> Result<(), Mismatch> {
    if none && !found.is_empty() {
        return Err(Mismatch::new(format!("no {kind}"), format!("{found:?}")));
    }
    if patterns.is_empty() {
        return Ok(());
    }
    if let Some(missing) = patterns.iter().find(|p| !found.iter().any(|remark| p.matches(remark))) {
        return Err(Mismatch::new(format!("{kind} {missing}"), format!("{found:?}")));
    }
    match found.iter().find(|remark| !patterns.iter().any(|p| p.matches(remark))) {
        Some(surplus) => Err(Mismatch::new(format!("no other {kind}"), surplus.clone())),
        None => Ok(()),
    }
}

pub(super) fn output(eval: &Eval, output: &Output) -> Result<(), Mismatch> {
    let results = &eval.results;
    match (output, eval.time) {
        (Output::Text(_, text), _) => match &eval.expect.text {
            Some(expected) if expected == text => Ok(()),
            expected => Err(Mismatch::new(format!("{expected:?}"), format!("{text:?}"))),
        },
        (Output::Scalar(_, value), _) => match results.scalar {
            Some(expected) if almost_equal(expected, *value, TOLERANCE) => Ok(()),
            Some(expected) => Err(Mismatch::new(show(expected), show(*value))),
            None => Err(Mismatch::new("no scalar", show(*value))),
        },
        (Output::Vector(_, rows), _) => {
            if results.scalar.is_some() || eval.expect.matrix.is_some() || eval.expect.text.is_some() {
                return Err(Mismatch::new("a scalar, text or matrix", "a vector"));
            }
            vector(&results.series, rows, eval.expect.ordered)
        }
        (Output::Matrix(all), time) => {
            let grid = match (time, eval.expect.matrix) {
                (TimeRange::Steps(grid), _) | (_, Some(grid)) => grid,
                _ => return Err(Mismatch::new("a vector", "a matrix")),
            };
            let found: Vec<_> = all.iter().map(|series| (&series.labels, &series.points)).collect();
            if let Some(value) = results.scalar {
                return Err(Mismatch::new(show(value), "a matrix"));
            }
            matrix(&results.series, &found, grid)
        }
    }
}

/// Compares the samples of one moment.
pub(super) fn vector(
    expected: &[(Labels, Vec<Sample>)],
    found: &[(Labels, Sample)],
    ordered: bool,
) -> Result<(), Mismatch> {
    for (at, (labels, samples)) in expected.iter().enumerate() {
        let wanted = samples.first().cloned().unwrap_or_default();
        let Some(place) = found.iter().position(|(found, _)| found == labels) else {
            return Err(Mismatch::new(shown(labels, &wanted), format!("no such series, but {}", all(found))));
        };
        if !same(&wanted, &found[place].1) {
            return Err(Mismatch::new(shown(labels, &wanted), shown(labels, &found[place].1)));
        }
        if ordered && place != at {
            return Err(Mismatch::new(format!("{} in place {at}", labels::show(labels)), all(found)));
        }
    }
    let surplus = found.iter().find(|(labels, _)| !expected.iter().any(|(wanted, _)| wanted == labels));
    match surplus {
        Some((labels, sample)) => Err(Mismatch::new("no other series", shown(labels, sample))),
        None if found.len() != expected.len() => Err(Mismatch::new("each series once", all(found))),
        None => Ok(()),
    }
}

fn all(found: &[(Labels, Sample)]) -> String {
    let each: Vec<String> = found.iter().map(|(labels, sample)| shown(labels, sample)).collect();
    format!("[{}]", each.join("; "))
}

fn matrix(
    expected: &[(Labels, Vec<Sample>)],
    found: &[(&Labels, &Vec<(i64, Sample)>)],
    grid: Grid,
) -> Result<(), Mismatch> {
    let mut unseen: Vec<&Labels> = found.iter().map(|(labels, _)| *labels).collect();
    for (labels, samples) in expected {
        let present = samples.iter().enumerate().filter(|(_, sample)| sample.is_present());
        let wanted: Vec<(i64, &Sample)> = present.map(|(at, sample)| (grid.time(at), sample)).collect();
        unseen.retain(|other| *other != labels);
        let points = found.iter().find(|(other, _)| *other == labels).map_or(&[][..], |(_, points)| points);
        let agree = wanted.len() == points.len()
            && wanted.iter().zip(points).all(|((t, a), (u, b))| t == u && same(a, b));
        if !agree {
            let show = |points: Vec<(i64, &Sample)>| {
                let each = points.iter().map(|(t, s)| format!("{}@{}", value(s), show(*t as f64 / 1000.0)));
                format!("{} {}", labels::show(labels), each.collect::<Vec<_>>().join(" "))
            };
            return Err(Mismatch::new(show(wanted), show(points.iter().map(|(t, s)| (*t, s)).collect())));
        }
    }
    match unseen.first() {
        Some(labels) => Err(Mismatch::new("no other series", labels::show(labels))),
        None => Ok(()),
    }
}

fn value(sample: &Sample) -> String {
    match sample {
        Sample::Absent => "nothing".to_owned(),
        Sample::Float(value) => show(*value),
        Sample::Histogram(histogram) => {
            format!("{histogram} (schema {}, {:?})", histogram.schema, histogram.hint)
        }
    }
}

fn shown(labels: &Labels, sample: &Sample) -> String {
    format!("{} {}", labels::show(labels), value(sample))
}

fn same(wanted: &Sample, found: &Sample) -> bool {
    match (wanted, found) {
        (Sample::Float(a), Sample::Float(b)) => almost_equal(*a, *b, TOLERANCE),
        (Sample::Histogram(a), Sample::Histogram(b)) => {
            a.agrees(b, TOLERANCE) && (a.hint == ResetHint::Unknown || a.hint == b.hint)
        }
        _ => false,
    }
}
