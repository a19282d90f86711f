//! Samples of a storage snapshot: files by way of DataFusion, hot rows directly.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::{Expr, SessionContext};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use weir_model::SeriesId;
use weir_storage::{Labels, SeriesIndex, Snapshot, Table, TableSnapshot};

use super::error::Error;
use super::source::{SampleSource, Samples, Selection, SeriesSamples, too_many};
use crate::engine::SnapshotTable;

/// The columns that samples are read from, in this order.
const COLUMNS: [&str; 4] = ["series_id", "time", "start_time", "value"];

/// Series ids that a filter lists; of more, the metric and the time are asked for and the rest is left out here.
const LISTED_IDS: usize = 256;

/// The samples of one tenant as one snapshot shows them.
#[derive(Clone)]
pub struct SnapshotSource {
    snapshot: Snapshot,
    series: Arc<SeriesIndex>,
    session: SessionContext,
}

impl SnapshotSource {
    /// The samples of `snapshot`, whose labels `series` knows; files are scanned in `session`.
    pub fn new(snapshot: Snapshot, series: Arc<SeriesIndex>, session: SessionContext) -> Self {
        Self { snapshot, series, session }
    }
}

#[async_trait]
impl SampleSource for SnapshotSource {
    async fn select(&self, selection: &Selection, limit: usize) -> Result<Samples, Error> {
        let mut found = self.series.select(&selection.matchers);
        found.sort_by(|a, b| a.1.cmp(&b.1));
        if found.is_empty() {
            return Ok(Samples::Whole(Vec::new()));
        }
        let mut runs = Runs::new(&found, selection, limit);
        let table = self.snapshot.table(Table::Samples);
        if !table.files.is_empty() || !table.damaged.is_empty() {
            self.scan(table.published(), &found, selection, &mut runs).await?;
        }
        for (_, batch) in table.hot.iter() {
            runs.append(batch)?;
        }
        Ok(Samples::Whole(runs.finish(found)))
    }
}

impl SnapshotSource {
    async fn scan(
        &self,
        files: TableSnapshot,
        found: &[(SeriesId, Labels)],
        selection: &Selection,
        runs: &mut Runs,
    ) -> Result<(), Error> {
        let provider = SnapshotTable::new(Table::Samples, files);
        let frame = self.session.read_table(Arc::new(provider)).map_err(Error::internal)?;
        let frame = frame.filter(filter(found, selection)).map_err(Error::internal)?;
        let frame = frame.select_columns(&COLUMNS).map_err(Error::internal)?;
        let mut batches = frame.execute_stream().await.map_err(Error::internal)?;
        while let Some(batch) = batches.next().await {
            runs.append(&batch.map_err(Error::internal)?)?;
        }
        Ok(())
    }
}

/// What prunes files, row groups and pages.
fn filter(found: &[(SeriesId, Labels)], selection: &Selection) -> Expr {
    let micros = |ms: i64| {
        let micros = ms.saturating_mul(1000);
        lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
    };
    let metrics: BTreeSet<&str> = found.iter().map(|(_, labels)| labels.metric()).collect();
    let metric = col("metric").in_list(metrics.into_iter().map(lit).collect(), false);
    let time =
        col("time").gt_eq(micros(selection.after + 1)).and(col("time").lt(micros(selection.until + 1)));
    let all = metric.and(time);
    if found.len() > LISTED_IDS {
        return all;
    }
    let ids = found.iter().map(|(id, _)| lit(id.to_column())).collect();
    all.and(col("series_id").in_list(ids, false))
}

/// A sample as read: time and start in milliseconds.
type Read = (i64, f64, i64);

/// Samples gathered per series, in the order in which they were written.
struct Runs {
    index: HashMap<i64, usize>,
    samples: Vec<Vec<Read>>,
    after: i64,
    until: i64,
    limit: usize,
    left: usize,
}

impl Runs {
    fn new(found: &[(SeriesId, Labels)], selection: &Selection, limit: usize) -> Self {
        let index = found.iter().enumerate().map(|(at, (id, _))| (id.to_column(), at)).collect();
        let (after, until) = (selection.after, selection.until);
        Self { index, samples: vec![Vec::new(); found.len()], after, until, limit, left: limit }
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let column = |name: &str, as_type: DataType| {
            let column = batch.column_by_name(name);
            let column =
                column.ok_or_else(|| Error::internal(format!("`samples` has no column `{name}`")))?;
            // Files may hold a moment in another unit than hot rows do.
            cast(column, &as_type).map_err(Error::internal)
        };
        let ids = column("series_id", DataType::Int64)?;
        let times = column("time", weir_storage::schema::timestamp())?;
        let starts = column("start_time", weir_storage::schema::timestamp())?;
        let values = column("value", DataType::Float64)?;
        let ids = ids.as_primitive::<Int64Type>();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let starts = starts.as_primitive::<TimestampMicrosecondType>();
        let values = values.as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let Some(&at) = self.index.get(&ids.value(row)) else { continue };
            let time = times.value(row).div_euclid(1000);
            if time <= self.after || time > self.until {
                continue;
            }
            let start = if starts.is_null(row) { 0 } else { starts.value(row).div_euclid(1000) };
            self.left = self.left.checked_sub(1).ok_or_else(|| too_many(self.limit))?;
            self.samples[at].push((time, values.value(row), start));
        }
        Ok(())
    }

    /// Sorted, and of samples at one time only that written last.
    fn finish(self, found: Vec<(SeriesId, Labels)>) -> Vec<SeriesSamples> {
        let mut out = Vec::with_capacity(found.len());
        for ((_, labels), mut samples) in found.into_iter().zip(self.samples) {
            if samples.is_empty() {
                continue;
            }
            if !samples.is_sorted_by(|a, b| a.0 < b.0) {
                samples.sort_by_key(|(time, ..)| *time);
                samples.dedup_by(|next, kept| {
                    let same = next.0 == kept.0;
                    if same {
                        *kept = *next;
                    }
                    same
                });
            }
            let mut series = SeriesSamples { labels, ..SeriesSamples::default() };
            for (time, value, start) in samples {
                series.floats.push(time, value, start);
            }
            out.push(series);
        }
        out
    }
}
