//! Running totals that turn delta series into cumulative ones.
//!
//! A delta that begins where the last one ended, or later, is added. One that ends at the same moment as
//! the last is the same point sent again after a lost answer: it is answered with the same total and not
//! counted twice. An older one is rejected. The totals live in memory: after a restart they begin at
//! zero, which readers see as a counter reset.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use weir_model::{SeriesId, limits};

use super::Reason;

/// The running totals of all delta series.
#[derive(Debug, Default)]
pub struct DeltaState(Mutex<HashMap<SeriesId, Total>>);

#[derive(Debug, Clone, Copy)]
struct Total {
    value: f64,
    start: u64,
    end: u64,
}

/// A total this much older than a newcomer's time makes room when there is none.
const IDLE_NANOS: u64 = 3_600_000_000_000;

impl DeltaState {
    /// Adds the deltas of one point to their totals and replaces each by its total. Returns the start of
    /// the totals. Nothing is added where one of them is refused.
    pub(super) fn accumulate<'v>(
        &self,
        start: u64,
        end: u64,
        values: impl Iterator<Item = (SeriesId, &'v mut f64)>,
    ) -> Result<u64, Reason> {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values: Vec<_> = values.collect();
        let fresh = values.iter().filter(|(id, _)| !totals.contains_key(id)).count();
        if totals.len() + fresh > limits::DELTA_SERIES {
            totals.retain(|_, total| total.end.saturating_add(IDLE_NANOS) >= end);
        }
        if totals.len() + fresh > limits::DELTA_SERIES {
            return Err(Reason::DeltaSeries);
        }
        if values.iter().any(|(id, _)| totals.get(id).is_some_and(|total| end < total.end)) {
            return Err(Reason::OutOfOrder);
        }
        let mut first = if start > 0 { start } else { end };
        for (id, value) in values {
            let total = totals.entry(id).or_insert(Total { value: 0.0, start: first, end: 0 });
            if end > total.end {
                total.value += *value;
                total.end = end;
            }
            *value = total.value;
            first = total.start;
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(state: &DeltaState, start: u64, end: u64, delta: f64) -> Result<(u64, f64), Reason> {
        let mut value = delta;
        let start = state.accumulate(start, end, [(SeriesId(1), &mut value)].into_iter())?;
        Ok((start, value))
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
    fn the_number_of_series_is_bounded_and_idle_ones_make_room() {
        let state = DeltaState::default();
        let mut values = vec![1.0; limits::DELTA_SERIES];
        let all = values.iter_mut().enumerate().map(|(n, value)| (SeriesId(n as u64 + 1), value));
        assert!(state.accumulate(1, 2, all).is_ok());
        let mut one = 1.0;
        let other = SeriesId(u64::MAX);
        assert_eq!(state.accumulate(1, 3, [(other, &mut one)].into_iter()), Err(Reason::DeltaSeries));
        assert!(state.accumulate(1, 4 + IDLE_NANOS, [(other, &mut one)].into_iter()).is_ok());
    }
}
