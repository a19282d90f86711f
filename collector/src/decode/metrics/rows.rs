//! The rows of a request: points in the columns of `samples` and `histograms`, and beside them those of
//! `exemplars` and `series`.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use weir_model::SeriesId;
use weir_storage::Table;
use weir_storage::columns::At;
use weir_storage::rows::{
    CUSTOM_BOUNDS, Counts, HistogramRow, HistogramRows, Key, ResetHint, SampleRows, Side,
};

use super::described::{SeriesColumns, SeriesRow};
use super::exemplars::ExemplarColumns;
use super::points::{Buckets, Exponential, PointKey, Rest};
use super::stale;

/// All rows of a request but those of `series`.
#[derive(Debug, Default)]
pub(super) struct Rows {
    samples: SampleRows,
    histograms: HistogramRows,
    pub(super) exemplars: ExemplarColumns,
}

/// What the row of a point begins with. Zero is what OTLP calls unknown.
fn key<'a>(metric: &'a str, id: SeriesId, at: &PointKey) -> Key<'a> {
    let start = (at.start > 0).then(|| At::from_nanos(at.start));
    Key { metric, id, time: At::from_nanos(at.time), start }
}

impl Rows {
    /// A row of `samples`; `rest` is what of the point this row says and no column does.
    pub(super) fn sample(&mut self, name: &str, id: SeriesId, at: &PointKey, value: f64, rest: &[Rest]) {
        self.samples.push(&key(name, id, at), value);
        rest.iter().for_each(|(name, value)| self.samples.say(name, value));
    }

    pub(super) fn histogram(&mut self, name: &str, temporality: i32, id: SeriesId, point: &Exponential) {
        let row = HistogramRow {
            temporality,
            scale: point.scale,
            // As Prometheus has it: a histogram whose sum is the stale marker ends its series.
            sum: if point.key.no_value() { Some(stale()) } else { point.sum },
            min: point.min,
            max: point.max,
            zero_threshold: point.zero_threshold,
            counts: Counts::Whole {
                count: point.count,
                zero: point.zero_count,
                positive: point.positive.buckets(),
                negative: point.negative.buckets(),
            },
            bounds: &[],
            hint: ResetHint::Unknown,
        };
        self.histograms.push(&key(name, id, &point.key), &row);
        point.rest().iter().for_each(|(name, value)| self.histograms.say(name, value));
    }

    /// An explicit-bucket histogram as a native one with custom bounds.
    pub(super) fn buckets(&mut self, name: &str, temporality: i32, id: SeriesId, point: &Buckets) {
        let finite: Vec<f64> = point.bounds.iter().copied().filter(|bound| bound.is_finite()).collect();
        let row = HistogramRow {
            temporality,
            scale: CUSTOM_BOUNDS,
            sum: if point.key.no_value() { Some(stale()) } else { point.sum },
            min: point.min,
            max: point.max,
            zero_threshold: 0.0,
            counts: Counts::Whole {
                count: point.count,
                zero: 0,
                positive: Side { offset: 0, counts: &point.counts },
                negative: Side::default(),
            },
            bounds: &finite,
            hint: ResetHint::Unknown,
        };
        self.histograms.push(&key(name, id, &point.key), &row);
        point.key.rest().iter().for_each(|(name, value)| self.histograms.say(name, value));
    }

    /// The batches that have rows, those of `series` first.
    pub(super) fn finish<'a>(
        self,
        series: impl Iterator<Item = SeriesRow<'a>>,
    ) -> Result<Vec<(Table, RecordBatch)>, ArrowError> {
        let mut of_series = SeriesColumns::default();
        series.for_each(|row| of_series.row(row));
        let parts = [
            (Table::Series, of_series.finish()?),
            (Table::Samples, self.samples.finish()?),
            (Table::Histograms, self.histograms.finish()?),
            (Table::Exemplars, self.exemplars.finish()?),
        ];
        Ok(parts.into_iter().filter(|(_, batch)| batch.num_rows() > 0).collect())
    }
}
