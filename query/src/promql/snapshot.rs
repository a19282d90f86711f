//! Samples of a storage snapshot: files by way of DataFusion, hot rows directly. Of a number and a histogram at
//! one time, as of two of a kind, that stays which was written last.

mod floats;
mod histograms;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::{Expr, SessionContext};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use tokio::runtime::Handle;
use weir_model::SeriesId;
use weir_model::limits::PROMQL_SERIES;
use weir_storage::rows::STALE_BITS;
use weir_storage::{Bound, DataFile, Labels, SeriesIndex, Snapshot, Table, TableSnapshot};

use self::floats::{Floats, Places, Wanted};
use self::histograms::Histograms;
use super::error::Error;
use super::source::{SampleSource, Samples, Selection, SeriesParts, SeriesSamples, Track, too_many_series};
use crate::engine::SnapshotTable;

/// Series ids that a filter lists; of more, the metric and the time are asked for and the rest is left out here.
const LISTED_IDS: usize = 256;

/// Series of one part, where a selection has more than twice as many: about 24 MiB of three hours every 15 s.
const PART_SERIES: usize = 2_048;

/// The samples of one tenant as one snapshot shows them.
#[derive(Clone)]
pub struct SnapshotSource {
    snapshot: Snapshot,
    series: Arc<SeriesIndex>,
    session: SessionContext,
    /// Series that a selection may match.
    limit: usize,
}

impl SnapshotSource {
    /// The samples of `snapshot`, whose labels `series` knows; files are scanned in `session`.
    pub fn new(snapshot: Snapshot, series: Arc<SeriesIndex>, session: SessionContext) -> Self {
        Self { snapshot, series, session, limit: PROMQL_SERIES }
    }

    /// The same samples; a selection of more than `series` series fails.
    pub fn limited(self, series: usize) -> Self {
        Self { limit: series, ..self }
    }
}

#[async_trait]
impl SampleSource for SnapshotSource {
    async fn select(&self, selection: &Selection, limit: usize) -> Result<Samples, Error> {
        let mut found = self.series.select(&selection.matchers);
        if found.len() > self.limit {
            return Err(too_many_series(found.len(), self.limit));
        }
        if found.len() <= 2 * PART_SERIES {
            found.sort_by(|a, b| a.1.cmp(&b.1));
            return self.read(&found, selection, limit, None).await.map(Samples::Whole);
        }
        // As rows stand in files, so that a part is a stretch of each.
        found.sort_by(|a, b| (a.1.metric(), a.0.to_column()).cmp(&(b.1.metric(), b.0.to_column())));
        let hot = self.hot(&found, selection, limit)?;
        let (source, selection, runtime) = (self.clone(), selection.clone(), Handle::current());
        Ok(Samples::Parts(Box::new(Parts { source, found, selection, hot, runtime })))
    }
}

/// A selection of many series.
struct Parts {
    source: SnapshotSource,
    /// By metric and id.
    found: Vec<(SeriesId, Labels)>,
    selection: Selection,
    /// What of them is in no file yet, unless histograms may be among it.
    hot: Option<Floats>,
    runtime: Handle,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("series", &self.found.len()).finish_non_exhaustive()
    }
}

impl SeriesParts for Parts {
    fn len(&self) -> usize {
        self.found.len().div_ceil(PART_SERIES)
    }

    fn read(&self, part: usize, limit: usize) -> Result<Vec<SeriesSamples>, Error> {
        let first = part * PART_SERIES;
        let found = &self.found[first..self.found.len().min(first + PART_SERIES)];
        let hot = self.hot.as_ref().map(|hot| &hot.series[first..first + found.len()]);
        self.runtime.block_on(self.source.read(found, &self.selection, limit, hot))
    }
}

impl SnapshotSource {
    /// The samples of `found`. Those in no file are `hot` if that was gathered before.
    async fn read(
        &self,
        found: &[(SeriesId, Labels)],
        selection: &Selection,
        limit: usize,
        hot: Option<&[Track<f64>]>,
    ) -> Result<Vec<SeriesSamples>, Error> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut histograms = self.histograms(found, selection, limit).await?;
        let left = histograms.as_ref().map_or(limit, |histograms| histograms.left);
        let mut floats = Floats::new(found.len(), wanted(selection, limit), left);
        let places = places(found);
        let table = self.snapshot.table(Table::Samples);
        let metrics = metrics(found);
        let may_hold = |file: &&DataFile| may_hold(file, &metrics, selection);
        let files: Arc<[DataFile]> = table.files.iter().filter(may_hold).cloned().collect();
        if !files.is_empty() || table.damaged.iter().any(|damaged| may_hold(&&damaged.file)) {
            let published = table.published().with_files(files);
            let append =
                |batch: &RecordBatch| floats.append(batch, &places, stays(&mut histograms, PUBLISHED));
            self.scan(Table::Samples, published, &floats::COLUMNS, filter(found, selection), append).await?;
        }
        match hot {
            Some(hot) => hot.iter().enumerate().try_for_each(|(at, track)| floats.add(at, track))?,
            None => {
                for (seq, batch) in table.hot.iter() {
                    floats.append(batch, &places, stays(&mut histograms, *seq))?;
                }
            }
        }
        Ok(finished(found, floats, histograms))
    }

    /// The numbers of `found` that are in no file yet; none where histograms may be among what is selected, with
    /// which they would have to be compared one by one.
    fn hot(
        &self,
        found: &[(SeriesId, Labels)],
        selection: &Selection,
        limit: usize,
    ) -> Result<Option<Floats>, Error> {
        let histograms = self.snapshot.table(Table::Histograms);
        let metrics = metrics(found);
        let may_hold = |file: &DataFile| may_hold(file, &metrics, selection);
        if !histograms.hot.is_empty() || histograms.files.iter().any(may_hold) {
            return Ok(None);
        }
        let places = places(found);
        let mut floats = Floats::new(found.len(), wanted(selection, limit), limit);
        for (_, batch) in self.snapshot.table(Table::Samples).hot.iter() {
            floats.append(batch, &places, None::<fn(usize, i64) -> bool>)?;
        }
        Ok(Some(floats))
    }
}

/// Whether a number at a place and time, written with the write `rank`, stays beside the histograms.
fn stays(histograms: &mut Option<Histograms>, rank: u64) -> Option<impl FnMut(usize, i64) -> bool> {
    histograms.as_mut().map(|histograms| move |at, time| histograms.yields_to(at, time, rank))
}

fn wanted(selection: &Selection, limit: usize) -> Wanted {
    Wanted { after: selection.after, until: selection.until, limit }
}

fn places(found: &[(SeriesId, Labels)]) -> Places {
    found.iter().enumerate().map(|(at, (id, _))| (id.to_column(), at)).collect()
}

fn metrics(found: &[(SeriesId, Labels)]) -> BTreeSet<&str> {
    found.iter().map(|(_, labels)| labels.metric()).collect()
}

/// The series of `found` that have samples.
fn finished(
    found: &[(SeriesId, Labels)],
    floats: Floats,
    mut histograms: Option<Histograms>,
) -> Vec<SeriesSamples> {
    let mut out = Vec::with_capacity(found.len());
    for (at, ((_, labels), mut floats)) in found.iter().zip(floats.series).enumerate() {
        let histograms = histograms.as_mut().map(|all| all.take(at)).unwrap_or_default();
        if floats.times.is_empty() && histograms.is_empty() {
            continue;
        }
        // The end of a series is a number, whatever the series is of.
        let ended = histograms.iter().filter(|read| read.histogram.is_none());
        ended.for_each(|read| floats.push(read.time, f64::from_bits(STALE_BITS), 0));
        let floats = floats::in_order(floats);
        let mut series = SeriesSamples { labels: labels.clone(), floats, ..SeriesSamples::default() };
        for read in histograms {
            if let Some(histogram) = read.histogram {
                series.histograms.push(read.time, histogram, read.start);
            }
        }
        out.push(series);
    }
    out
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
        let metrics = metrics(found);
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
    let metrics = metrics(found);
    let metric = col("metric").in_list(metrics.into_iter().map(lit).collect(), false);
    let time =
        col("time").gt_eq(micros(selection.after + 1)).and(col("time").lt(micros(selection.until + 1)));
    let all = metric.and(time);
    if found.len() > LISTED_IDS {
        let ids = found.iter().map(|(id, _)| id.to_column());
        let (least, most) = (ids.clone().min().unwrap_or(i64::MIN), ids.max().unwrap_or(i64::MAX));
        return all.and(col("series_id").gt_eq(lit(least))).and(col("series_id").lt_eq(lit(most)));
    }
    let ids = found.iter().map(|(id, _)| lit(id.to_column())).collect();
    all.and(col("series_id").in_list(ids, false))
}
