//! Native histograms as remote read sends them: the counts of runs of buckets.

use super::wire;
use crate::promql::histogram::{Buckets, Histogram, ResetHint};

/// Empty buckets that stay within a run: a run of its own costs about as much.
const GAP: usize = 2;

pub(super) fn written(histogram: &Histogram, timestamp: i64) -> wire::Histogram {
    let (positive_spans, positive_counts) = runs(&histogram.positive);
    let (negative_spans, negative_counts) = runs(&histogram.negative);
    wire::Histogram {
        count_float: Some(histogram.count),
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count_float: Some(histogram.zero_count),
        negative_spans,
        negative_counts,
        positive_spans,
        positive_counts,
        reset_hint: match histogram.hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => 1,
            ResetHint::NotReset => 2,
            ResetHint::Gauge => 3,
        },
        timestamp,
        custom_values: histogram.bounds.to_vec(),
    }
}

/// The buckets without the empty ones at either end and without long gaps.
fn runs(buckets: &Buckets) -> (Vec<wire::Span>, Vec<f64>) {
    let (mut spans, mut counts) = (Vec::<wire::Span>::new(), Vec::new());
    let mut empty = 0;
    let mut end = None;
    for (index, count) in (buckets.offset..).zip(&buckets.counts) {
        if *count == 0.0 {
            empty += 1;
            continue;
        }
        match (end, spans.last_mut()) {
            (Some(_), Some(last)) if empty <= GAP => {
                counts.extend(std::iter::repeat_n(0.0, empty));
                last.length += empty as u32 + 1; // GAP is far below
            }
            _ => {
                let offset = index - end.unwrap_or(0);
                spans.push(wire::Span { offset, length: 1 });
            }
        }
        counts.push(*count);
        (empty, end) = (0, Some(index + 1));
    }
    (spans, counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_become_runs() {
        let span = |offset, length| wire::Span { offset, length };
        for (offset, counts, spans, kept) in [
            (0, vec![], vec![], vec![]),
            (-2, vec![0.0, 0.0, 0.0], vec![], vec![]),
            (-2, vec![0.0, 1.0, 2.0, 0.0], vec![span(-1, 2)], vec![1.0, 2.0]),
            (3, vec![1.0, 0.0, 0.0, 2.0], vec![span(3, 4)], vec![1.0, 0.0, 0.0, 2.0]),
            (3, vec![1.0, 0.0, 0.0, 0.0, 2.0], vec![span(3, 1), span(3, 1)], vec![1.0, 2.0]),
        ] {
            assert_eq!(
                runs(&Buckets { offset, counts: counts.clone() }),
                (spans, kept),
                "{offset} {counts:?}"
            );
        }
    }
}
