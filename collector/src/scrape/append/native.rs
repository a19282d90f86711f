//! A native histogram as it was scraped, as its row.

use weir_storage::rows::{Counts, Native as Row, ResetHint, Side};

use crate::exposition::Native;

pub(super) fn row(native: &Native) -> Row<'_> {
    let counts = if native.is_float {
        Counts::Float {
            count: native.count,
            zero: native.zero,
            positive: Side { offset: native.positive.first, counts: &native.positive.counts },
            negative: Side { offset: native.negative.first, counts: &native.negative.counts },
        }
    } else {
        Counts::Whole {
            count: native.whole_count,
            zero: native.whole_zero,
            positive: Side { offset: native.positive.first, counts: &native.positive.whole },
            negative: Side { offset: native.negative.first, counts: &native.negative.whole },
        }
    };
    Row {
        schema: native.schema,
        zero_threshold: native.zero_threshold,
        sum: native.sum,
        counts,
        bounds: &native.bounds,
        hint: if native.gauge { ResetHint::Gauge } else { ResetHint::Unknown },
    }
}
