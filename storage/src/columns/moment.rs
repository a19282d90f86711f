//! Moments, which take two columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, PrimitiveArray};
use arrow::datatypes::{Int16Type, TimestampMicrosecondType};
use weir_model::UnixNanos;

/// A moment as tables hold it: Unix microseconds, and the nanoseconds (0 to 999) that they leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct At {
    micros: i64,
    nanos: i16,
}

impl At {
    /// From Unix nanoseconds.
    #[inline]
    pub fn from_nanos(nanos: u64) -> Self {
        let (micros, nanos) = UnixNanos(nanos).to_columns();
        Self { micros, nanos }
    }

    /// From Unix milliseconds, which may be before 1970.
    #[inline]
    pub fn from_millis(millis: i64) -> Self {
        Self { micros: millis.saturating_mul(1_000), nanos: 0 }
    }

    /// The day, in days since 1970.
    #[inline]
    pub fn day(self) -> i32 {
        crate::series::day_of(self.micros)
    }

    pub(crate) fn parts(self) -> (i64, i16) {
        (self.micros, self.nanos)
    }
}

/// A column of moments.
#[derive(Debug, Default)]
pub struct Moment {
    micros: Vec<i64>,
    nanos: Vec<i16>,
}

impl Moment {
    /// With room for `rows` of them.
    pub fn with_capacity(rows: usize) -> Self {
        Self { micros: Vec::with_capacity(rows), nanos: Vec::with_capacity(rows) }
    }

    /// A moment in Unix nanoseconds.
    pub fn push(&mut self, nanos: u64) {
        self.push_at(At::from_nanos(nanos));
    }

    /// A moment as columns hold it.
    #[inline]
    pub fn push_at(&mut self, at: At) {
        self.micros.push(at.micros);
        self.nanos.push(at.nanos);
    }

    /// Makes row number `row` say `at`, if that is earlier.
    pub fn set_earlier(&mut self, row: usize, at: At) {
        if let (Some(micros), Some(nanos)) = (self.micros.get_mut(row), self.nanos.get_mut(row))
            && (at.micros, at.nanos) < (*micros, *nanos)
        {
            (*micros, *nanos) = (at.micros, at.nanos);
        }
    }

    /// Its two columns.
    pub fn columns(self) -> [ArrayRef; 2] {
        let micros =
            PrimitiveArray::<TimestampMicrosecondType>::new(self.micros.into(), None).with_timezone("UTC");
        [Arc::new(micros), Arc::new(PrimitiveArray::<Int16Type>::new(self.nanos.into(), None))]
    }
}
