//! Columns of lists of numbers.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, PrimitiveArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use arrow::error::ArrowError;

use super::{Values, end};

/// Lists of numbers.
#[derive(Debug)]
pub struct Lists<T: ArrowPrimitiveType> {
    /// Where each begins, and where the last one ends.
    ends: Vec<i32>,
    numbers: Vec<T::Native>,
}

impl<T: ArrowPrimitiveType> Default for Lists<T> {
    fn default() -> Self {
        Self { ends: vec![0], numbers: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType> Lists<T> {
    /// Appends the list of `numbers`.
    pub fn extend(&mut self, numbers: impl IntoIterator<Item = T::Native>) {
        self.numbers.extend(numbers);
        self.ends.push(end(self.numbers.len()));
    }
}

impl<T: ArrowPrimitiveType> Values for Lists<T> {
    type Value<'v> = &'v [T::Native];

    fn push(&mut self, value: &[T::Native], _: usize) {
        self.extend(value.iter().copied());
    }

    fn skip(&mut self, count: usize) {
        self.ends.resize(self.ends.len() + count, end(self.numbers.len()));
    }

    fn again(&mut self, from: usize, times: usize) {
        let lists = self.ends[from..].to_vec();
        for _ in 0..times {
            for list in lists.windows(2) {
                self.numbers.extend_from_within(list[0] as usize..list[1] as usize);
                self.ends.push(end(self.numbers.len()));
            }
        }
    }

    fn count(&self) -> usize {
        self.ends.len() - 1
    }

    fn finish(self, data_type: &DataType, valid: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let DataType::List(element) = data_type else {
            return Err(ArrowError::SchemaError(format!("lists for a column of {data_type}")));
        };
        let numbers = Arc::new(PrimitiveArray::<T>::try_new(self.numbers.into(), None)?);
        let ends = OffsetBuffer::new(self.ends.into());
        Ok(Arc::new(ListArray::try_new(Arc::clone(element), ends, numbers, valid)?))
    }
}
