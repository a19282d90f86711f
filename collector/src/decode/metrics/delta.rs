//! Running totals that turn delta series into cumulative ones.
//!
//! A delta that ends later than the last one is added. One that ends at the same moment and comes in another
//! request is the same point sent again after a lost answer: it is answered with the same total and not
//! counted twice.
//!
//! Everything else is rejected as out of order, as the OpenTelemetry Collector's `deltatocumulative`
//! processor does: what ends earlier than the last one, what begins before the totals do, and a second point
//! of one moment in one request. Two such points are two writers of one series, as when two readers record
//! under labels that are the same here; OpenTelemetry's data model gives each series one writer, and the sum
//! of both could not be told from one of them sent again. The sender is told, and can keep them apart with
//! an attribute.
//!
//! The totals live in memory: after a restart they begin at zero, which readers see as a counter reset.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use weir_model::{SeriesId, limits};

use super::Reason;

/// The running totals of all delta series.
#[derive(Debug, Default)]
pub struct DeltaState {
    totals: Mutex<HashMap<SeriesId, Total>>,
    requests: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Total {
    value: f64,
    start: u64,
    end: u64,
    /// The request that brought its last point, or brought it again.
    request: u64,
}

/// A total this much older than a newcomer's time makes room when there is none.
const IDLE_NANOS: u64 = 3_600_000_000_000;

impl DeltaState {
    /// A number for a request that is going to be decoded.
    pub(super) fn begin(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds the deltas of one point of `request` to their totals and replaces each by its total. Returns the start of
    /// the totals. Nothing is added where one of them is refused.
    pub(super) fn accumulate<'v>(
        &self,
        request: u64,
        start: u64,
        end: u64,
        values: impl Iterator<Item = (SeriesId, &'v mut f64)>,
    ) -> Result<u64, Reason> {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let values: Vec<_> = values.collect();
        let fresh = values.iter().filter(|(id, _)| !totals.contains_key(id)).count();
        if totals.len() + fresh > limits::DELTA_SERIES {
            totals.retain(|_, total| total.end.saturating_add(IDLE_NANOS) >= end);
        }
        if totals.len() + fresh > limits::DELTA_SERIES {
            return Err(Reason::DeltaSeries);
        }
        let out_of_order = |total: &Total| {
            let again = end == total.end && request != total.request;
            (end <= total.end && !again) || (start > 0 && start < total.start)
        };
        if values.iter().any(|(id, _)| totals.get(id).is_some_and(out_of_order)) {
            return Err(Reason::OutOfOrder);
        }
        let mut first = if start > 0 { start } else { end };
        for (id, value) in values {
            let total = totals.entry(id).or_insert(Total { value: 0.0, start: first, end: 0, request });
            if end > total.end {
                total.value += *value;
                total.end = end;
            }
            total.request = request;
            *value = total.value;
            first = total.start;
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add_in(
        request: u64,
        state: &DeltaState,
        start: u64,
        end: u64,
        delta: f64,
    ) -> Result<(u64, f64), Reason> {
        let mut value = delta;
        let start = state.accumulate(request, start, end, [(SeriesId(1), &mut value)].into_iter())?;
        Ok((start, value))
    }

    /// Adds a delta that comes in a request of its own.
    fn add(state: &DeltaState, start: u64, end: u64, delta: f64) -> Result<(u64, f64), Reason> {
        add_in(state.begin(), state, start, end, delta)
    }

    #[test]
    fn deltas_add_up_and_a_repeated_one_counts_once() {
        let state = DeltaState::default();
        assert_eq!(add(&state, 10, 20, 5.0), Ok((10, 5.0)));
        assert_eq!(add(&state, 20, 30, 2.0), Ok((10, 7.0)));
        assert_eq!(add(&state, 20, 30, 2.0), Ok((10, 7.0)));
        assert_eq!(add(&state, 10, 20, 5.0), Err(Reason::OutOfOrder));
        assert_eq!(add(&state, 40, 50, 1.0), Ok((10, 8.0)));
    }

    #[test]
    fn a_delta_that_begins_before_the_totals_is_out_of_order() {
        let state = DeltaState::default();
        assert_eq!(add(&state, 10, 20, 5.0), Ok((10, 5.0)));
        assert_eq!(add(&state, 5, 30, 9.0), Err(Reason::OutOfOrder));
        assert_eq!(add(&state, 0, 30, 2.0), Ok((10, 7.0)), "no start is said");
    }

    #[test]
    fn two_points_of_one_moment_are_two_writers_unless_they_come_in_two_requests() {
        let state = DeltaState::default();
        for _ in 0..2 {
            // The whole request once more gives the same answers.
            let request = state.begin();
            assert_eq!(add_in(request, &state, 10, 20, 5.0), Ok((10, 5.0)));
            assert_eq!(add_in(request, &state, 10, 20, 2.0), Err(Reason::OutOfOrder));
        }
        let request = state.begin();
        assert_eq!(add_in(request, &state, 20, 30, 1.0), Ok((10, 6.0)));
        assert_eq!(add_in(request, &state, 30, 40, 1.0), Ok((10, 7.0)), "moments of one request may follow");
    }

    #[test]
    fn the_number_of_series_is_bounded_and_idle_ones_make_room() {
        let state = DeltaState::default();
        let mut values = vec![1.0; limits::DELTA_SERIES];
        let all = values.iter_mut().enumerate().map(|(n, value)| (SeriesId(n as u64 + 1), value));
        assert!(state.accumulate(0, 1, 2, all).is_ok());
        let mut one = 1.0;
        let other = SeriesId(u64::MAX);
        assert_eq!(state.accumulate(1, 1, 3, [(other, &mut one)].into_iter()), Err(Reason::DeltaSeries));
        assert!(state.accumulate(2, 1, 4 + IDLE_NANOS, [(other, &mut one)].into_iter()).is_ok());
    }
}
