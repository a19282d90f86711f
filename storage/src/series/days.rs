//! The days of a question about series: as finely as the label index knows when a series lived.

use std::ops::RangeInclusive;

use weir_model::limits::SERIES_DAYS;

/// Days since 1970, in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days(RangeInclusive<i32>);

impl Days {
    /// Every day.
    pub const ALL: Self = Self(i32::MIN..=i32::MAX);

    /// The days of two moments in Unix milliseconds and all between; open where a moment is absent.
    pub fn between(start_ms: Option<i64>, end_ms: Option<i64>) -> Self {
        let day = |ms: i64| super::day_of(ms.saturating_mul(1000));
        Self(start_ms.map_or(i32::MIN, day)..=end_ms.map_or(i32::MAX, day))
    }

    /// Whether these are all days.
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Whether a series may have samples on any of these days whose rows lie in `stored`. Of a series with rows
    /// on more days than are remembered, only the latest are known: it may have lived on any day before.
    pub(super) fn meet(&self, stored: &[i32]) -> bool {
        if self.is_all() {
            return true;
        }
        let forgotten = || {
            let oldest = stored.iter().min().copied().unwrap_or(i32::MIN);
            stored.len() >= SERIES_DAYS && *self.0.start() < oldest && *self.0.end() >= *self.0.start()
        };
        stored.iter().any(|day| self.0.contains(day)) || forgotten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn a_series_is_found_on_the_days_it_has_rows_on() {
        let days = |start: Option<i64>, end: Option<i64>| Days::between(start, end);
        let stored = [3, 5];
        for (window, met) in [
            (days(None, None), true),
            (days(Some(0), Some(3 * DAY - 1)), false),
            (days(Some(0), Some(3 * DAY)), true),
            (days(Some(4 * DAY), Some(5 * DAY - 1)), false),
            (days(Some(4 * DAY), None), true),
            (days(Some(6 * DAY), None), false),
            (days(None, Some(2 * DAY)), false),
            (days(Some(i64::MIN), Some(i64::MAX)), true),
            (days(Some(5 * DAY), Some(3 * DAY)), false),
        ] {
            assert_eq!(window.meet(&stored), met, "{window:?}");
        }
    }

    #[test]
    fn days_that_are_no_longer_remembered_may_be_any() {
        let stored: Vec<i32> = (10..10 + SERIES_DAYS as i32).collect();
        assert!(Days::between(Some(0), Some(DAY)).meet(&stored));
        assert!(!Days::between(Some(50 * DAY), None).meet(&stored));
        assert!(!Days::between(Some(0), Some(DAY)).meet(&stored[1..]));
    }
}
