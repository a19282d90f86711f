//! Samples of a storage snapshot. Of a number and a histogram at one time, as of two of a kind, that stays which was
//! written last.

mod floats;
mod histograms;

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use weir_model::SeriesId;
use weir_model::limits::PROMQL_SERIES;
use weir_storage::rows::STALE_BITS;
use weir_storage::{Bound, DataFile, Labels, SeriesFiles, SeriesIndex, Snapshot, Table, Wanted};

use self::floats::{Floats, Places, Within};
use self::histograms::Histograms;
use super::error::Error;
use super::source::{SampleSource, Samples, Selection, SeriesParts, SeriesSamples, too_many_series};
use crate::engine::Warnings;

/// Samples of a part of a selection, about: what a thread reads and works on at a time fits its cache.
const PART_SAMPLES: u64 = 64 << 10;
/// Series of one, at most.
const PART_SERIES: u64 = 2_048;

/// The samples of one tenant as one snapshot shows them.
#[derive(Clone)]
pub struct SnapshotSource {
    snapshot: Snapshot,
    series: Arc<SeriesIndex>,
    warnings: Arc<Warnings>,
    /// Series that a selection may match.
    limit: usize,
}

impl SnapshotSource {
    /// The samples of `snapshot`, whose labels `series` knows.
    pub fn new(snapshot: Snapshot, series: Arc<SeriesIndex>) -> Self {
        Self { snapshot, series, warnings: Arc::default(), limit: PROMQL_SERIES }
    }

    /// The same samples; a selection of more than `series` series fails.
    pub fn limited(self, series: usize) -> Self {
        Self { limit: series, ..self }
    }

    /// What whoever reads an answer should know of the samples it was made from.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.list()
    }
}

#[async_trait]
impl SampleSource for SnapshotSource {
    async fn select(&self, selection: &Selection, limit: usize) -> Result<Samples, Error> {
        let mut found = self.series.select(&selection.matchers);
        if found.len() > self.limit {
            return Err(too_many_series(found.len(), self.limit));
        }
        // As rows stand in files, so that a part is a stretch of each.
        found.sort_by(|a, b| (a.1.metric(), a.0.to_column()).cmp(&(b.1.metric(), b.0.to_column())));
        let (Some((_, first)), Some((_, last))) = (found.first(), found.last()) else {
            return Ok(Samples::Whole(Vec::new()));
        };
        let metrics = (first.metric(), last.metric());
        let samples = self.files(Table::Samples, metrics, selection).await?;
        let histograms = self.files(Table::Histograms, metrics, selection).await?;
        let mut parts = Parts {
            snapshot: self.snapshot.clone(),
            size: part_size(&samples, self.series.len(), selection),
            found,
            selection: selection.clone(),
            samples: self.snapshot.table(Table::Samples).series_files(samples).await?,
            histograms: self.snapshot.table(Table::Histograms).series_files(histograms).await?,
            hot: None,
        };
        parts.hot = parts.gathered(limit)?;
        Ok(Samples::Parts(Box::new(parts)))
    }
}

impl SnapshotSource {
    /// The files of `table` that may hold what is selected, of metrics within `metrics`.
    async fn files(
        &self,
        table: Table,
        metrics: (&str, &str),
        selection: &Selection,
    ) -> Result<Vec<DataFile>, Error> {
        let view = self.snapshot.table(table);
        let may_hold = |file: &&DataFile| may_hold(file, metrics, selection);
        let files = view.files.iter().filter(may_hold).cloned().collect();
        let checked = view.check(files).await?;
        let known = view.damaged.iter().filter(|damaged| may_hold(&&damaged.file));
        known.chain(&checked.damaged).for_each(|damaged| self.warnings.damaged(table, damaged));
        Ok(checked.sound)
    }
}

/// Series of a part, by how many samples each of the `known` ones may have in `files`.
fn part_size(files: &[DataFile], known: usize, selection: &Selection) -> usize {
    let selected = |file: &DataFile| {
        let (low, high) = times(file)?;
        let (from, to) = (low.max(selection.after), high.min(selection.until));
        let share = to.saturating_sub(from) as f64 / high.saturating_sub(low).max(1) as f64;
        Some((file.rows as f64 * share) as u64)
    };
    let samples: u64 = files.iter().map(|file| selected(file).unwrap_or(file.rows)).sum();
    let of_one = samples / known.max(1) as u64 + 1;
    (PART_SAMPLES / of_one).clamp(1, PART_SERIES) as usize
}

/// The samples of a selection, read when they are worked on.
#[derive(Debug)]
struct Parts {
    snapshot: Snapshot,
    /// Series of a part.
    size: usize,
    /// By metric and id.
    found: Vec<(SeriesId, Labels)>,
    selection: Selection,
    samples: SeriesFiles,
    histograms: SeriesFiles,
    /// What is in no file yet, unless histograms may be among it.
    hot: Option<Floats>,
}

impl SeriesParts for Parts {
    fn len(&self) -> usize {
        self.found.len().div_ceil(self.size)
    }

    fn read(&self, part: usize, limit: usize) -> Result<Vec<SeriesSamples>, Error> {
        let first = part * self.size;
        let found = &self.found[first..self.found.len().min(first + self.size)];
        let hot = self.hot.as_ref().map(|hot| &hot.series[first..first + found.len()]);
        let ids = Ids::of(found);
        let mut histograms = self.histograms(found.len(), &ids, limit)?;
        let left = histograms.as_ref().map_or(limit, |histograms| histograms.left);
        let mut floats = Floats::new(found.len(), within(&self.selection, limit), left);
        self.samples.samples(&ids.wanted(&self.selection), |at, stretch| {
            let at = ids.places[at];
            match &mut histograms {
                None => floats.extend(at, &stretch),
                Some(histograms) => {
                    floats.extend_where(at, &stretch, |at, time| histograms.yields_to(at, time, PUBLISHED))
                }
            }
        })?;
        match hot {
            Some(hot) => hot.iter().enumerate().try_for_each(|(at, track)| floats.add(at, track))?,
            None => {
                let places = ids.map();
                for (seq, batch) in self.snapshot.table(Table::Samples).hot.iter() {
                    floats.append(batch, &places, stays(&mut histograms, *seq))?;
                }
            }
        }
        let mut read = finished(found, floats, histograms);
        if self.len() == 1 {
            read.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        Ok(read)
    }
}

impl Parts {
    /// The numbers that are in no file yet; none where histograms may be among what is selected, with which they would
    /// have to be compared one by one.
    fn gathered(&self, limit: usize) -> Result<Option<Floats>, Error> {
        if !self.histograms.is_empty() || !self.snapshot.table(Table::Histograms).hot.is_empty() {
            return Ok(None);
        }
        let mut floats = Floats::new(self.found.len(), within(&self.selection, limit), limit);
        let table = self.snapshot.table(Table::Samples);
        if !table.hot.is_empty() {
            let places = Ids::of(&self.found).map();
            for (_, batch) in table.hot.iter() {
                floats.append(batch, &places, None::<fn(usize, i64) -> bool>)?;
            }
        }
        Ok(Some(floats))
    }

    /// The histograms of `series` series that have these `ids`; nothing where none of them can be one.
    fn histograms(&self, series: usize, ids: &Ids<'_>, limit: usize) -> Result<Option<Histograms>, Error> {
        let table = self.snapshot.table(Table::Histograms);
        let wanted = ids.wanted(&self.selection);
        if table.hot.is_empty() && !self.histograms.has_any(&wanted)? {
            return Ok(None);
        }
        let map = ids.map();
        let place = |id: i64, time: i64| {
            let wanted = time > self.selection.after && time <= self.selection.until;
            map.get(&id).copied().filter(|_| wanted)
        };
        let mut histograms = Histograms::new(series, limit);
        let append = |batch: &RecordBatch| histograms.append(batch, PUBLISHED, place);
        self.histograms.rows(&wanted, &histograms::COLUMNS, append)?;
        for (seq, batch) in table.hot.iter() {
            histograms.append(batch, *seq, place)?;
        }
        histograms.sort();
        Ok(Some(histograms))
    }
}

/// Series by id.
struct Ids<'a> {
    /// Ascending.
    ids: Vec<i64>,
    /// Where each of them is among the series.
    places: Vec<usize>,
    metrics: (&'a str, &'a str),
}

impl<'a> Ids<'a> {
    /// Those of `found`, by metric and id.
    fn of(found: &'a [(SeriesId, Labels)]) -> Self {
        let mut places: Vec<usize> = (0..found.len()).collect();
        places.sort_by_key(|at| found[*at].0.to_column()); // sorted already where the metric is one
        let ids = places.iter().map(|at| found[*at].0.to_column()).collect();
        let metric = |of: Option<&'a (SeriesId, Labels)>| of.map_or("", |(_, labels)| labels.metric());
        Self { ids, places, metrics: (metric(found.first()), metric(found.last())) }
    }

    fn wanted(&self, selection: &Selection) -> Wanted<'_> {
        let (first, last) = self.metrics;
        Wanted { ids: &self.ids, metrics: first..=last, after: selection.after, until: selection.until }
    }

    fn map(&self) -> Places {
        self.ids.iter().copied().zip(self.places.iter().copied()).collect()
    }
}

/// Whether a number at a place and time, written with the write `rank`, stays beside the histograms.
fn stays(histograms: &mut Option<Histograms>, rank: u64) -> Option<impl FnMut(usize, i64) -> bool> {
    histograms.as_mut().map(|histograms| move |at, time| histograms.yields_to(at, time, rank))
}

fn within(selection: &Selection, limit: usize) -> Within {
    Within { after: selection.after, until: selection.until, limit }
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

/// The rank of what is in files: all that is not in one yet was written later.
const PUBLISHED: u64 = 0;

/// Whether the bounds of `file` allow for rows of metrics within `metrics` in the selected time.
fn may_hold(file: &DataFile, (least, greatest): (&str, &str), selection: &Selection) -> bool {
    let in_time = times(file).is_none_or(|(low, high)| low <= selection.until && high > selection.after);
    let has_metric = match file.bounds.get("metric") {
        Some((Bound::Text(low), Bound::Text(high))) => low.as_str() <= greatest && high.as_str() >= least,
        _ => true,
    };
    in_time && has_metric
}

/// The first and last time in `file`, in milliseconds.
fn times(file: &DataFile) -> Option<(i64, i64)> {
    match file.bounds.get("time") {
        Some((Bound::Micros(low), Bound::Micros(high))) => {
            Some((low.div_euclid(1000), high.div_euclid(1000)))
        }
        _ => None,
    }
}
