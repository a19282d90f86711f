//! The swap from hot rows to files, and what cursors reach.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::{TenantId, limits};

use super::{Rows, State};
use crate::metrics::Metrics;
use crate::tests::{samples, values};
use crate::wal::frame::Part;
use crate::{Cursor, Table};

fn append(state: &mut State, seq: u64, bytes: usize, now: Instant) {
    let parts = vec![Part { table: Table::Samples, batch: samples(seq..seq + 1), bytes }];
    state.append(seq, Rows { tenant: TenantId::default(), parts, series: Vec::new() }, now);
}

fn publish(state: &mut State, through: u64, now: Instant) {
    state.publish((&TenantId::default(), Table::Samples), through, Arc::default(), now);
}

fn since(state: &State, cursor: u64) -> Vec<u64> {
    values(&state.rows_since(&TenantId::default(), Table::Samples, Cursor(cursor)).0)
}

#[test]
fn rows_that_come_during_a_flush_stay_hot() {
    let (mut state, now) = (State::default(), Instant::now());
    for seq in 1..=3 {
        append(&mut state, seq, 10, now);
    }
    let (through, work) = state.begin_flush();
    assert_eq!((through, work.len(), work[0].batches.len()), (3, 1, 3));
    append(&mut state, 4, 10, now);
    let before = state.snapshot(&TenantId::default());
    publish(&mut state, through, now);
    state.end_flush();
    let hot: Vec<u64> =
        state.snapshot(&TenantId::default()).table(Table::Samples).hot.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(hot, [4]);
    assert_eq!(before.table(Table::Samples).hot.len(), 4, "a snapshot never changes");
    assert_eq!((state.hot_rows(), state.hot_bytes(), state.last_seq()), (1, 10, 4));
    assert_eq!(since(&state, 0), [1, 2, 3, 4]);
    assert_eq!(since(&state, 2), [3, 4]);
}

#[test]
fn no_run_reaches_over_a_flush_that_is_going_on() {
    let (mut state, now) = (State::default(), Instant::now());
    for seq in 1..=8 {
        append(&mut state, seq, 10, now);
    }
    assert!(state.small_neighbours().is_some());
    state.begin_flush();
    assert!(state.small_neighbours().is_none(), "these are being flushed");
    for seq in 9..=15 {
        append(&mut state, seq, 10, now);
    }
    assert!(state.small_neighbours().is_none(), "seven new ones are too few");
    append(&mut state, 16, 10, now);
    let (tenant, table, parts) = state.small_neighbours().unwrap();
    assert!(parts.iter().all(|run| run.last_seq() > 8));
    let merged = crate::hot::merge(table, &parts).unwrap();
    state.replace((&tenant, table), &parts, merged);
    publish(&mut state, 8, now);
    assert_eq!((state.hot_rows(), since(&state, 8).len()), (8, 8));
    state.end_flush();
}

#[test]
fn flushed_rows_are_forgotten_by_age_and_by_size() {
    let (mut state, now, metrics) = (State::default(), Instant::now(), Metrics::default());
    for seq in 1..=4 {
        append(&mut state, seq, limits::FLUSHED_ROWS_BYTES / 3, now);
    }
    publish(&mut state, 4, now);
    state.forget(now, &metrics);
    assert_eq!(since(&state, 0), [2, 3, 4], "the oldest goes first");
    assert_eq!(metrics.evicted_rows.get(), 1);
    state.forget(now + limits::FLUSHED_ROWS_AGE - Duration::from_millis(1), &metrics);
    assert_eq!(since(&state, 0).len(), 3);
    state.forget(now + limits::FLUSHED_ROWS_AGE, &metrics);
    assert!(since(&state, 0).is_empty());
    assert_eq!(metrics.evicted_rows.get(), 1, "what is old enough is not evicted");
}

#[test]
fn tenants_are_bounded() {
    let mut state = State::default();
    for n in 0..limits::TENANTS as u64 {
        let tenant = TenantId::new(&format!("t{n}")).unwrap();
        assert!(state.has_room_for(&tenant));
        state.append(n + 1, Rows { tenant, parts: Vec::new(), series: Vec::new() }, Instant::now());
    }
    assert!(!state.has_room_for(&TenantId::new("one-more").unwrap()));
    assert!(state.has_room_for(&TenantId::new("t7").unwrap()));
}
