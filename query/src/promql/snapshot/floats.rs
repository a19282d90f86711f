//! Numbers gathered per series from the rows of `samples`, run by run: rows of files stand series by series.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use weir_storage::Stretch;

use crate::promql::error::Error;
use crate::promql::source::{Track, too_many};

/// Where a series is among those selected. Ids are hashes already.
pub(super) type Places = HashMap<i64, usize, BuildHasherDefault<IdHasher>>;

/// Passes an id on as it is.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_i64(&mut self, id: i64) {
        self.0 = id as u64;
    }
}

/// Which samples are wanted, and how many of them there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within {
    /// Exclusive, in milliseconds.
    pub(super) after: i64,
    /// Inclusive.
    pub(super) until: i64,
    pub(super) limit: usize,
}

/// Numbers per series, in the order in which they were written.
#[derive(Debug)]
pub(super) struct Floats {
    pub(super) series: Vec<Track<f64>>,
    within: Within,
    left: usize,
}

impl Floats {
    /// None yet, of so many series; `left` may come.
    pub(super) fn new(series: usize, within: Within, left: usize) -> Self {
        Self { series: vec![Track::default(); series], within, left }
    }

    /// Adds a stretch out of a file, which holds wanted samples alone.
    pub(super) fn extend(&mut self, at: usize, stretch: &Stretch<'_>) -> Result<(), Error> {
        let added = stretch.offsets.len();
        self.left = self.left.checked_sub(added).ok_or_else(|| too_many(self.within.limit))?;
        let track = &mut self.series[at];
        if !stretch.starts.is_empty() || !track.starts.is_empty() {
            track.starts.resize(track.times.len(), 0);
            track.starts.extend_from_slice(stretch.starts);
            track.starts.resize(track.times.len() + added, 0);
        }
        track.times.extend(stretch.offsets.iter().map(|offset| stretch.base + i64::from(*offset)));
        track.values.extend_from_slice(stretch.values);
        Ok(())
    }

    /// The same, of those samples for which `stays` agrees: it gets place and time.
    pub(super) fn extend_where(
        &mut self,
        at: usize,
        stretch: &Stretch<'_>,
        mut stays: impl FnMut(usize, i64) -> bool,
    ) -> Result<(), Error> {
        for row in 0..stretch.offsets.len() {
            let rows = row..row + 1;
            if stays(at, stretch.base + i64::from(stretch.offsets[row])) {
                let (offsets, values) = (&stretch.offsets[rows.clone()], &stretch.values[rows.clone()]);
                let starts = stretch.starts.get(rows).unwrap_or_default();
                self.extend(at, &Stretch { offsets, values, starts, ..*stretch })?;
            }
        }
        Ok(())
    }

    /// Adds the rows of `batch` whose series `places` knows, if `stays` agrees: it gets place and time.
    pub(super) fn append(
        &mut self,
        batch: &RecordBatch,
        places: &Places,
        mut stays: Option<impl FnMut(usize, i64) -> bool>,
    ) -> Result<(), Error> {
        let ids = numbers::<Int64Type>(batch, "series_id")?.values();
        let times = times(batch, "time")?;
        let times = times.values();
        let values = numbers::<Float64Type>(batch, "value")?.values();
        let starts = times_where_any(batch, "start_time")?;
        let (mut row, rows) = (0, batch.num_rows());
        while row < rows {
            let id = ids[row];
            let end = row + ids[row..].iter().take_while(|other| **other == id).count();
            let run = row..end;
            row = end;
            let Some(&at) = places.get(&id) else { continue };
            let track = &mut self.series[at];
            let wanted = self.within;
            let is_wanted = |micros: i64| {
                let time = micros.div_euclid(1000);
                time > wanted.after && time <= wanted.until
            };
            if starts.is_none() && stays.is_none() && times[run.clone()].iter().all(|time| is_wanted(*time)) {
                self.left = self.left.checked_sub(run.len()).ok_or_else(|| too_many(wanted.limit))?;
                track.times.extend(times[run.clone()].iter().map(|time| time.div_euclid(1000)));
                track.values.extend_from_slice(&values[run.clone()]);
                if !track.starts.is_empty() {
                    track.starts.resize(track.times.len(), 0);
                }
                continue;
            }
            for row in run {
                let time = times[row].div_euclid(1000);
                if !is_wanted(times[row]) || stays.as_mut().is_some_and(|stays| !stays(at, time)) {
                    continue;
                }
                self.left = self.left.checked_sub(1).ok_or_else(|| too_many(wanted.limit))?;
                let start = starts.as_ref().filter(|starts| starts.is_valid(row));
                track.push(time, values[row], start.map_or(0, |starts| starts.value(row).div_euclid(1000)));
            }
        }
        Ok(())
    }

    /// Adds samples that were gathered before, as written after all that are there.
    pub(super) fn add(&mut self, at: usize, track: &Track<f64>) -> Result<(), Error> {
        self.left = self.left.checked_sub(track.times.len()).ok_or_else(|| too_many(self.within.limit))?;
        let into = &mut self.series[at];
        if !track.starts.is_empty() || !into.starts.is_empty() {
            into.starts.resize(into.times.len(), 0);
            into.starts.extend_from_slice(&track.starts);
            into.starts.resize(into.times.len() + track.times.len(), 0);
        }
        into.times.extend_from_slice(&track.times);
        into.values.extend_from_slice(&track.values);
        Ok(())
    }
}

/// In order of time; of samples at one time only that written last.
pub(super) fn in_order(track: Track<f64>) -> Track<f64> {
    if track.times.is_sorted_by(|a, b| a < b) {
        return track;
    }
    let mut order: Vec<usize> = (0..track.times.len()).collect();
    order.sort_by_key(|at| track.times[*at]); // stable
    let last_of_its_time = |place: &usize| {
        order.get(place + 1).is_none_or(|next| track.times[*next] != track.times[order[*place]])
    };
    let kept: Vec<usize> = (0..order.len()).filter(last_of_its_time).map(|place| order[place]).collect();
    Track {
        times: kept.iter().map(|at| track.times[*at]).collect(),
        values: kept.iter().map(|at| track.values[*at]).collect(),
        starts: if track.starts.is_empty() {
            vec![]
        } else {
            kept.iter().map(|at| track.starts[*at]).collect()
        },
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Error> {
    batch.column_by_name(name).ok_or_else(|| Error::internal(format!("`samples` has no column `{name}`")))
}

fn numbers<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a arrow::array::PrimitiveArray<T>, Error> {
    let numbers = column(batch, name)?.as_primitive_opt();
    numbers.ok_or_else(|| Error::internal(format!("column `{name}` of `samples` has another type")))
}

fn times(batch: &RecordBatch, name: &str) -> Result<TimestampMicrosecondArray, Error> {
    let column = column(batch, name)?;
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return Ok(times.clone());
    }
    // Files may hold a moment in another unit than hot rows do.
    let times = cast(column, &weir_storage::schema::timestamp()).map_err(Error::internal)?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().clone())
}

fn times_where_any(batch: &RecordBatch, name: &str) -> Result<Option<TimestampMicrosecondArray>, Error> {
    if column(batch, name)?.null_count() == batch.num_rows() {
        return Ok(None);
    }
    times(batch, name).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_written_last_wins_and_order_is_that_of_time() {
        let track =
            Track { times: vec![3, 1, 2, 1], values: vec![3.0, 1.0, 2.0, 1.5], starts: vec![0, 7, 0, 8] };
        let track = in_order(track);
        assert_eq!((track.times, track.values), (vec![1, 2, 3], vec![1.5, 2.0, 3.0]));
        assert_eq!(track.starts, vec![8, 0, 0]);
    }
}
