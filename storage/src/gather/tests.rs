//! Gathering is what arrow's kernels do, column by column or range by range.

use arrow::compute::{concat_batches, interleave_record_batch};
use proptest::prelude::*;

use super::*;
use crate::tests::spans;

proptest! {
    #[test]
    fn rows_come_as_they_were(
        sizes in prop::collection::vec(1u64..60, 1..4),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..30), 0..20),
    ) {
        let batches: Vec<RecordBatch> = sizes.iter().map(|size| spans(*size * 100..*size * 101)).collect();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let mut places = Vec::new();
        for (batch, from, len) in picks {
            let batch = batch.index(batches.len());
            let from = from.index(batches[batch].num_rows());
            let to = batches[batch].num_rows().min(from + len);
            places.extend((from..to).map(|row| (batch, row)));
        }
        prop_assert_eq!(rows(Table::Spans, &batches, &places).unwrap(), interleave_record_batch(&batches, &places).unwrap());
        let whole = concat_batches(&Table::Spans.schema(), batches.iter().copied()).unwrap();
        prop_assert_eq!(all(Table::Spans, &batches).unwrap(), whole);
    }
}
