//! The order by numbers is the order by values.

use arrow::compute::{SortColumn, lexsort_to_indices};
use proptest::prelude::*;

use super::*;
use crate::tests::spans;

proptest! {
    #[test]
    fn rows_are_in_the_order_of_their_values(sizes in prop::collection::vec(0u64..40, 1..6), shift in 0u64..1000) {
        let mut from = shift;
        let mut batches = Vec::new();
        for size in sizes.iter().rev() {
            batches.push(spans(from..from + size));
            from = from.saturating_sub(size / 2);
        }
        let all = arrow::compute::concat_batches(&Table::Spans.schema(), &batches).unwrap();
        let mut starts = vec![0];
        for batch in &batches {
            starts.push(starts[starts.len() - 1] + batch.num_rows());
        }
        let days = by_day(Table::Spans, &batches).unwrap();
        prop_assert!(days.is_sorted_by_key(|(day, _)| *day));
        for (day, rows) in days {
            let rows: Vec<usize> = rows.iter().map(|(batch, row)| starts[*batch] + row).collect();
            let times = column(&all, "start_time").unwrap().as_primitive::<TimestampMicrosecondType>();
            prop_assert!(rows.iter().all(|row| day_of(times.value(*row)) == day));
            let of_day = arrow::array::UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
            let columns: Vec<SortColumn> = key_columns(Table::Spans, &all).unwrap().iter().map(|column| {
                let values = arrow::compute::take(column, &of_day, None).unwrap();
                SortColumn { values, options: None }
            }).collect();
            let sorted = lexsort_to_indices(&columns, None).unwrap();
            // Where the stable sort would move a row, it is to one with an equal key.
            for (at, index) in sorted.values().iter().enumerate() {
                for column in &columns {
                    let same = arrow::compute::take(&column.values, &arrow::array::UInt32Array::from(vec![*index, at as u32]), None).unwrap();
                    prop_assert_eq!(same.slice(0, 1).to_data(), same.slice(1, 1).to_data());
                }
            }
        }
    }
}
