//! Samples of a storage snapshot: files by way of DataFusion, hot rows directly. Of a number and a histogram at
//! one time, as of two of a kind, that stays which was written last.

mod histograms;

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
use weir_storage::rows::STALE_BITS;
use weir_storage::{Bound, DataFile, Labels, SeriesIndex, Snapshot, Table, TableSnapshot};

use self::histograms::Histograms;
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
        let histograms = self.histograms(&found, selection, limit).await?;
        let mut runs = Runs::new(&found, selection, limit, histograms);
        let table = self.snapshot.table(Table::Samples);
        if !table.files.is_empty() || !table.damaged.is_empty() {
            let published = table.published();
            let append = |batch: &RecordBatch| runs.append(batch, PUBLISHED);
            self.scan(Table::Samples, published, &COLUMNS, filter(&found, selection), append).await?;
        }
        for (seq, batch) in table.hot.iter() {
            runs.append(batch, *seq)?;
        }
        Ok(Samples::Whole(runs.finish(found)))
    }
}

impl SnapshotSource {
    /// The histograms among what is selected; nothing where no row can be one.
    async fn histograms(
        &self,
        found: &[(SeriesId, Labels)],
        selection: &Selection,
        limit: usize,
    ) -> Result<Option<Histograms>, Error> {
        let table = self.snapshot.table(Table::Histograms);
        let metrics: BTreeSet<&str> = found.iter().map(|(_, labels)| labels.metric()).collect();
        // Most queries are about metrics that no file of histograms has: a plan for none would cost more than it reads.
        let may_hold = |file: &&DataFile| may_hold(file, &metrics, selection);
        let files: Arc<[DataFile]> = table.files.iter().filter(may_hold).cloned().collect();
        let damaged = table.damaged.iter().any(|damaged| may_hold(&&damaged.file));
        if files.is_empty() && table.hot.is_empty() && !damaged {
            return Ok(None);
        }
        let index: HashMap<i64, usize> =
            found.iter().enumerate().map(|(at, (id, _))| (id.to_column(), at)).collect();
        let place = |id: i64, time: i64| {
            let wanted = time > selection.after && time <= selection.until;
            index.get(&id).copied().filter(|_| wanted)
        };
        let mut histograms = Histograms::new(found.len(), limit);
        if !files.is_empty() || damaged {
            let published = table.published().with_files(files);
            let append = |batch: &RecordBatch| histograms.append(batch, PUBLISHED, place);
            self.scan(Table::Histograms, published, &histograms::COLUMNS, filter(found, selection), append)
                .await?;
        }
        for (seq, batch) in table.hot.iter() {
            histograms.append(batch, *seq, place)?;
        }
        histograms.sort();
        Ok(Some(histograms))
    }

    async fn scan(
        &self,
        table: Table,
        files: TableSnapshot,
        columns: &[&str],
        filter: Expr,
        mut append: impl FnMut(&RecordBatch) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let provider = SnapshotTable::new(table, files);
        let frame = self.session.read_table(Arc::new(provider)).map_err(Error::internal)?;
        let frame = frame.filter(filter).map_err(Error::internal)?;
        let frame = frame.select_columns(columns).map_err(Error::internal)?;
        let mut batches = frame.execute_stream().await.map_err(Error::internal)?;
        while let Some(batch) = batches.next().await {
            append(&batch.map_err(Error::internal)?)?;
        }
        Ok(())
    }
}

/// The rank of what is in files: all that is not in one yet was written later.
const PUBLISHED: u64 = 0;

/// Whether the bounds of `file` allow for rows of one of `metrics` in the selected time.
fn may_hold(file: &DataFile, metrics: &BTreeSet<&str>, selection: &Selection) -> bool {
    let in_time = match file.bounds.get("time") {
        Some((Bound::Micros(low), Bound::Micros(high))) => {
            low.div_euclid(1000) <= selection.until && high.div_euclid(1000) > selection.after
        }
        _ => true,
    };
    let has_metric = match file.bounds.get("metric") {
        Some((Bound::Text(low), Bound::Text(high))) => {
            metrics.iter().any(|metric| (low.as_str()..=high.as_str()).contains(metric))
        }
        _ => true,
    };
    in_time && has_metric
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
    histograms: Option<Histograms>,
}

impl Runs {
    fn new(
        found: &[(SeriesId, Labels)],
        selection: &Selection,
        limit: usize,
        histograms: Option<Histograms>,
    ) -> Self {
        let index = found.iter().enumerate().map(|(at, (id, _))| (id.to_column(), at)).collect();
        let (after, until) = (selection.after, selection.until);
        let left = histograms.as_ref().map_or(limit, |histograms| histograms.left);
        Self { index, samples: vec![Vec::new(); found.len()], after, until, limit, left, histograms }
    }

    /// Adds the numbers in rows that came with the write `rank`.
    fn append(&mut self, batch: &RecordBatch, rank: u64) -> Result<(), Error> {
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
            if let Some(histograms) = &mut self.histograms
                && !histograms.yields_to(at, time, rank)
            {
                continue;
            }
            let start = if starts.is_null(row) { 0 } else { starts.value(row).div_euclid(1000) };
            self.left = self.left.checked_sub(1).ok_or_else(|| too_many(self.limit))?;
            self.samples[at].push((time, values.value(row), start));
        }
        Ok(())
    }

    /// Sorted, and of samples at one time only that written last.
    fn finish(mut self, found: Vec<(SeriesId, Labels)>) -> Vec<SeriesSamples> {
        let mut out = Vec::with_capacity(found.len());
        for (at, ((_, labels), mut samples)) in found.into_iter().zip(self.samples).enumerate() {
            let histograms = self.histograms.as_mut().map(|all| all.take(at)).unwrap_or_default();
            if samples.is_empty() && histograms.is_empty() {
                continue;
            }
            // The end of a series is a number, whatever the series is of.
            let ended = histograms.iter().filter(|read| read.histogram.is_none());
            samples.extend(ended.map(|read| (read.time, f64::from_bits(STALE_BITS), 0)));
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
            for read in histograms {
                if let Some(histogram) = read.histogram {
                    series.histograms.push(read.time, histogram, read.start);
                }
            }
            out.push(series);
        }
        out
    }
}
