//! Binary operators on two samples.

use std::sync::Arc;

use crate::promql::ast::{BinaryOp, Span};
use crate::promql::error::Annotations;
use crate::promql::histogram::{Histogram, ResetHint};
use crate::promql::value::Sample;

/// `-cell`
pub(super) fn negated(cell: &Sample) -> Sample {
    match cell {
        Sample::Absent => Sample::Absent,
        Sample::Float(value) => Sample::Float(-value),
        Sample::Histogram(histogram) => {
            let mut histogram = Histogram::clone(histogram);
            histogram.scale(-1.0);
            Sample::from(histogram)
        }
    }
}

/// Warns where `q` is no probability.
pub(super) fn quantile_range(annotations: &mut Annotations, span: Span, q: f64) {
    if !(0.0..=1.0).contains(&q) {
        let q = crate::promql::number::show(q);
        annotations.warn(span, format!("quantile value should be between 0 and 1, got {q}"));
    }
}

/// Arithmetic on numbers.
pub(super) fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => power(a, b),
        BinaryOp::Atan2 => a.atan2(b),
        _ => f64::from(u8::from(compare(op, a, b))),
    }
}

/// C's pow and Go's agree on every corner that Rust's has.
fn power(a: f64, b: f64) -> f64 {
    a.powf(b)
}

/// Comparison of numbers.
pub(super) fn compare(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Equal => a == b,
        BinaryOp::NotEqual => a != b,
        BinaryOp::Less => a < b,
        BinaryOp::Greater => a > b,
        BinaryOp::LessEqual => a <= b,
        BinaryOp::GreaterEqual => a >= b,
        _ => false,
    }
}

/// `a op b` for present samples. A comparison yields `kept` where it holds and nothing where it does not, or
/// 1 and 0 with `bool_result`.
pub(super) fn apply(
    op: BinaryOp,
    (a, b): (&Sample, &Sample),
    kept: &Sample,
    bool_result: bool,
    notes: (&mut Annotations, Span),
) -> Sample {
    let outcome = match (a, b) {
        (Sample::Absent, _) | (_, Sample::Absent) => return Sample::Absent,
        (Sample::Float(a), Sample::Float(b)) if op.compares() => Outcome::Holds(compare(op, *a, *b)),
        (Sample::Float(a), Sample::Float(b)) if !trims(op) => {
            Outcome::Sample(Sample::Float(arithmetic(op, *a, *b)))
        }
        (Sample::Histogram(a), Sample::Float(b)) => scaled(op, a, *b),
        (Sample::Float(a), Sample::Histogram(b)) if op == BinaryOp::Mul => scaled(op, b, *a),
        (Sample::Histogram(a), Sample::Histogram(b)) => histograms(op, a, b, (&mut *notes.0, notes.1)),
        _ => Outcome::Unfit,
    };
    match outcome {
        Outcome::Sample(sample) => sample,
        Outcome::Holds(true) if bool_result => Sample::Float(1.0),
        Outcome::Holds(false) if bool_result => Sample::Float(0.0),
        Outcome::Holds(true) => kept.clone(),
        Outcome::Holds(false) => Sample::Absent,
        Outcome::Unfit => {
            let message = format!(
                "incompatible sample types encountered for binary operator \"{op}\": {} {op} {}",
                a.kind(),
                b.kind()
            );
            notes.0.info(notes.1, message);
            Sample::Absent
        }
    }
}

enum Outcome {
    Sample(Sample),
    Holds(bool),
    Unfit,
}

fn trims(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
}

fn scaled(op: BinaryOp, histogram: &Histogram, by: f64) -> Outcome {
    let mut result = histogram.clone();
    match op {
        BinaryOp::Mul => result.scale(by),
        BinaryOp::Div => result.divide(by),
        BinaryOp::TrimUpper => result = result.trimmed(by, true),
        BinaryOp::TrimLower => result = result.trimmed(by, false),
        _ => return Outcome::Unfit,
    }
    Outcome::Sample(Sample::from(result))
}

fn histograms(
    op: BinaryOp,
    a: &Arc<Histogram>,
    b: &Arc<Histogram>,
    (annotations, span): (&mut Annotations, Span),
) -> Outcome {
    let mut result = Histogram::clone(a);
    let (combined, word) = match op {
        BinaryOp::Equal => return Outcome::Holds(a.agrees(b, 0.0)),
        BinaryOp::NotEqual => return Outcome::Holds(!a.agrees(b, 0.0)),
        BinaryOp::Add => (result.add(b), "addition"),
        BinaryOp::Sub => (result.sub(b), "subtraction"),
        _ => return Outcome::Unfit,
    };
    match combined {
        Ok(combined) => {
            if combined.reconciled {
                annotations.info(span, format!("mismatched custom buckets were reconciled during {word}"));
            }
            if combined.conflicting_resets {
                annotations.warn(span, format!("conflicting counter resets during histogram {word}"));
            }
            if op == BinaryOp::Sub {
                result.hint = ResetHint::Gauge;
            }
            Outcome::Sample(Sample::from(result))
        }
        Err(_) => {
            let message = "vector contains a mix of histograms with exponential and custom buckets schemas";
            annotations.warn(span, message);
            Outcome::Sample(Sample::Absent)
        }
    }
}
