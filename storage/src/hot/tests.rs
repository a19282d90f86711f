//! Runs: what concatenating keeps, and what a flush takes.

use proptest::prelude::*;
use tokio::time::Instant;

use super::{FAN_IN, HotRows, RUN_ROWS, TIERS, merge};
use crate::Table;
use crate::tests::{samples, values};

/// Writes of the given sizes, numbered from one: rows count up over all of them.
fn hot(writes: &[u64]) -> HotRows {
    let mut hot = HotRows::default();
    let mut from = 0;
    for (seq, rows) in (1..).zip(writes) {
        hot.push(seq, samples(from..from + rows), 10, Instant::now());
        from += rows;
    }
    hot
}

fn rows_after(hot: &HotRows, seq: u64) -> Vec<u64> {
    let rows: Vec<_> = hot.runs().iter().filter_map(|run| run.after(seq)).collect();
    let mut numbers = Vec::new();
    for batch in &rows {
        let of_batch = values(std::slice::from_ref(batch));
        numbers.extend(of_batch);
    }
    numbers
}

/// Concatenates until nothing is small; gives how often.
fn settle(hot: &mut HotRows, barrier: u64) -> usize {
    let mut merges = 0;
    while let Some(parts) = hot.small_neighbours(barrier) {
        let merged = merge(Table::Samples, &parts).unwrap();
        hot.replace(&parts, merged);
        merges += 1;
        assert!(merges < 10_000, "it never settles");
    }
    merges
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn concatenating_keeps_rows_order_and_cursors(
        writes in prop::collection::vec(1..40u64, 1..80), barrier in 0..90u64, seq in 0..90u64,
    ) {
        let mut runs = hot(&writes);
        let untouched = rows_after(&runs, 0);
        let after = rows_after(&runs, seq);
        let bytes: usize = runs.runs().iter().map(|run| run.bytes).sum();
        settle(&mut runs, barrier);
        prop_assert_eq!(rows_after(&runs, 0), untouched);
        prop_assert_eq!(rows_after(&runs, seq), after);
        prop_assert_eq!(runs.runs().iter().map(|run| run.bytes).sum::<usize>(), bytes);
        prop_assert!(runs.runs().is_sorted_by_key(|run| run.last_seq()));

        // A flush up to the barrier takes exactly the writes up to it.
        let count = writes.len().min(barrier as usize);
        let taken = runs.take_through(barrier);
        let rows: usize = taken.iter().map(|run| run.batch.num_rows()).sum();
        prop_assert_eq!(rows as u64, writes[..count].iter().sum::<u64>());
        prop_assert!(runs.runs().iter().all(|run| run.first_seq() > barrier));
    }
}

#[test]
fn few_runs_remain_and_each_row_is_copied_a_few_times() {
    let mut runs = HotRows::default();
    let mut copied = 0;
    for seq in 1..=3_000 {
        runs.push(seq, samples(seq..seq + 1), 1, Instant::now());
        while let Some(parts) = runs.small_neighbours(0) {
            let merged = merge(Table::Samples, &parts).unwrap();
            copied += merged.batch.num_rows();
            runs.replace(&parts, merged);
        }
    }
    assert!(runs.runs().len() <= FAN_IN * (TIERS.len() + 1), "{} runs", runs.runs().len());
    assert!(copied <= 3_000 * 2 * (TIERS.len() + 1), "{copied} rows were copied");
}

#[test]
fn runs_do_not_grow_without_end() {
    let large = RUN_ROWS as u64 / 3;
    let mut runs = hot(&[large; 12]);
    settle(&mut runs, 0);
    assert!(runs.runs().iter().all(|run| run.batch.num_rows() <= RUN_ROWS));
}

#[test]
fn parts_that_are_gone_are_not_replaced() {
    let mut runs = hot(&[1; 10]);
    let parts = runs.small_neighbours(0).unwrap();
    let merged = merge(Table::Samples, &parts).unwrap();
    assert_eq!(runs.take_through(3).len(), 3);
    runs.replace(&parts, merged);
    assert_eq!(rows_after(&runs, 0), (3..10).collect::<Vec<_>>());
}

#[test]
fn two_parts_of_one_write_stay_one_write() {
    let mut runs = HotRows::default();
    for seq in 1..=8 {
        runs.push(seq, samples(seq * 2..seq * 2 + 1), 1, Instant::now());
        runs.push(seq, samples(seq * 2 + 1..seq * 2 + 2), 1, Instant::now());
    }
    settle(&mut runs, 0);
    assert_eq!(runs.runs().len(), 1 + 16 % FAN_IN);
    assert_eq!(rows_after(&runs, 6), [14, 15, 16, 17]);
}
