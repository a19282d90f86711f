//! Rows of metrics, made column by column: the one way in which samples, native histograms, exemplars and the labels
//! behind them become a write, whoever brings them.
//!
//! [`MetricRows`] is for whoever has label sets: it asks the [`SeriesIndex`] which of them are stored for the day
//! of a sample, and writes the rows of `series` that are missing. A [`Series`] is hashed once and remembers
//! what the index has said; kept from one write to the next it makes a sample cost no more than its columns.
//!
//! ```
//! use weir_storage::rows::{MetricRows, Series};
//! use weir_storage::{Labels, SeriesIndex, columns::At};
//!
//! let index = SeriesIndex::default();
//! let series = Series::new(Labels::new([("__name__", "up"), ("job", "shop")]));
//! let mut rows = MetricRows::new(&index);
//! rows.sample(&series, At::from_millis(1_795_000_000_000), None, 1.0)?;
//! assert_eq!(rows.finish()?.len(), 2); // of `series` and of `samples`
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod described;
mod exemplars;
mod histograms;
mod native;
mod samples;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use weir_model::SeriesId;

use crate::columns::At;
use crate::{Known, Labels, SeriesIndex, Table};

pub use described::{Metadata, SeriesRows};
pub use exemplars::ExemplarRows;
pub use histograms::{Counts, HistogramRow, HistogramRows, Side};
pub use native::{CUSTOM_BOUNDS, Native, ResetHint};
pub use samples::{Key, SampleRows};

/// What a sample holds where a series ends: the NaN that Prometheus calls the stale marker.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A series as whoever writes it keeps it: its id, and the last day for which its row is known to be stored.
#[derive(Debug)]
pub struct Series {
    labels: Labels,
    metric: Arc<str>,
    id: SeriesId,
    metadata: Metadata,
    /// The generation of the index, and the day.
    stored: AtomicU64,
}

/// No day of any generation.
const NEVER: u64 = u64::MAX;

impl Series {
    /// The series with these labels.
    pub fn new(labels: Labels) -> Self {
        Self::described(labels, Metadata::default())
    }

    /// The series with these labels, of a metric of which something is known.
    pub fn described(labels: Labels, metadata: Metadata) -> Self {
        let (id, metric) = (labels.id(), labels.metric().into());
        Self { labels, metric, id, metadata, stored: AtomicU64::new(NEVER) }
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The name of its metric.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// Its id.
    pub fn id(&self) -> SeriesId {
        self.id
    }

    /// What is known of its metric.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Why a sample has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another label set has the same id.
    #[error("another series has the same id")]
    Collision,
    /// The tenant has as many series as it may.
    #[error("there are too many series")]
    TooManySeries,
}

/// The rows of one write.
#[derive(Debug)]
pub struct MetricRows<'i> {
    index: &'i SeriesIndex,
    generation: u32,
    series: SeriesRows,
    /// The rows of `series` by series and day.
    fresh: HashMap<(SeriesId, i32), usize>,
    /// What was let in last.
    last: Option<(SeriesId, i32)>,
    samples: SampleRows,
    histograms: HistogramRows,
    exemplars: ExemplarRows,
}

impl<'i> MetricRows<'i> {
    /// None yet, of a tenant whose series `index` knows.
    pub fn new(index: &'i SeriesIndex) -> Self {
        Self {
            index,
            generation: index.generation(),
            series: SeriesRows::default(),
            fresh: HashMap::new(),
            last: None,
            samples: SampleRows::default(),
            histograms: HistogramRows::default(),
            exemplars: ExemplarRows::default(),
        }
    }

    /// A sample; its NaN keeps its bits. `start` is when counting began, where that is known.
    #[inline]
    pub fn sample(
        &mut self,
        series: &Series,
        time: At,
        start: Option<At>,
        value: f64,
    ) -> Result<(), Refused> {
        self.admit(series, time)?;
        self.samples.push(&Key { metric: &series.metric, id: series.id, time, start }, value);
        Ok(())
    }

    /// A native histogram.
    pub fn histogram(
        &mut self,
        series: &Series,
        time: At,
        start: Option<At>,
        histogram: &Native<'_>,
    ) -> Result<(), Refused> {
        self.admit(series, time)?;
        let key = Key { metric: &series.metric, id: series.id, time, start };
        self.histograms.push(&key, &histogram.row());
        Ok(())
    }

    /// An exemplar; the labels `trace_id` and `span_id` become ids where they are such.
    pub fn exemplar<'l>(
        &mut self,
        series: &Series,
        time: At,
        value: f64,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    ) -> Result<(), Refused> {
        self.admit(series, time)?;
        self.exemplars.labelled(&series.metric, series.id, time, value, labels);
        Ok(())
    }

    /// Says what is known of the metric of `series`, whether or not a row of it is stored for that day.
    pub fn describe(&mut self, series: &Series, time: At, metadata: &Metadata) -> Result<(), Refused> {
        self.admit(series, time)?;
        self.series.push(&series.labels, series.id, time, metadata);
        Ok(())
    }

    /// Makes sure that the series has a row for the day of `time`.
    #[inline]
    fn admit(&mut self, series: &Series, time: At) -> Result<(), Refused> {
        let day = time.day();
        let stored = u64::from(self.generation) << 32 | u64::from(day as u32);
        if series.stored.load(Ordering::Relaxed) == stored || self.last == Some((series.id, day)) {
            return Ok(());
        }
        self.ask(series, time, stored)
    }

    fn ask(&mut self, series: &Series, time: At, stored: u64) -> Result<(), Refused> {
        let day = time.day();
        match self.index.known(series.id, &series.labels, day) {
            Known::Stored => series.stored.store(stored, Ordering::Relaxed),
            Known::New => {
                if let Some(row) = self.fresh.get(&(series.id, day)) {
                    self.series.set_earlier(*row, time);
                } else {
                    let row = self.series.push(&series.labels, series.id, time, &series.metadata);
                    self.fresh.insert((series.id, day), row);
                }
                self.last = Some((series.id, day));
            }
            Known::Collision => return Err(Refused::Collision),
            Known::TooMany => return Err(Refused::TooManySeries),
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
            && self.samples.is_empty()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
    }

    /// The batches that have rows, those of `series` first.
    pub fn finish(self) -> Result<Vec<(Table, RecordBatch)>, ArrowError> {
        let parts = [
            (Table::Series, self.series.finish()?),
            (Table::Samples, self.samples.finish()?),
            (Table::Histograms, self.histograms.finish()?),
            (Table::Exemplars, self.exemplars.finish()?),
        ];
        Ok(parts.into_iter().filter(|(_, batch)| batch.num_rows() > 0).collect())
    }
}

#[cfg(test)]
mod tests;
