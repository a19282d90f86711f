//! From an exposition to rows: labels of target and sample joined, relabelled and bounded; series remembered from
//! one scrape to the next, so that those that vanish get a stale marker.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use weir_model::prometheus::{Labels, Protocol, ScrapeConfig, relabel};
use weir_model::{SeriesId, limits};
use weir_storage::SeriesIndex;
use weir_storage::columns::At;
use weir_storage::rows::{MetricRows, Native as NativeRow, Refused, STALE_BITS, Series as Stored};

use crate::exposition::{self, Exemplar, Options, Point, Series, Sink, Stop, Told, Value};

mod families;
mod native;

pub(super) use families::{Families, Family};

/// What is remembered of a target's series.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What each series was written as, and what it is here; none where relabelling dropped it.
    written: HashMap<Box<[u8]>, Known>,
    slots: Vec<Option<Slot>>,
    /// Places among the slots that are empty.
    free: Vec<usize>,
    by_id: HashMap<SeriesId, usize>,
    /// The number of the scrape.
    round: u64,
    /// Series of the last scrape that ended well.
    good: usize,
    pub(super) families: Families,
    reports: Vec<(&'static str, Stored)>,
}

#[derive(Debug)]
struct Known {
    slot: Option<usize>,
    round: u64,
}

#[derive(Debug)]
struct Slot {
    series: Stored,
    /// The scrape that had it last.
    round: u64,
    /// Whether a stale marker is owed when it vanishes …
    owed: bool,
    /// … and whether that will be so if the scrape that is being taken in ends well.
    tracked: bool,
    native: bool,
    /// Hashes of the exemplars that came with it last.
    exemplars: HashSet<u64>,
}

/// Series of failed scrapes that are remembered beside twice those of the last good one.
const SPARE_SERIES: usize = 1_000;

/// What came of a scrape.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    /// Samples in the exposition.
    pub(super) scraped: u64,
    /// Of them, those that relabelling left.
    pub(super) kept: u64,
    /// Of them, those of series that were not known.
    pub(super) added: u64,
    /// Samples too far in the future, or refused by the index.
    pub(super) refused: u64,
}

/// Takes one exposition in.
pub(super) struct Append<'a, 'i> {
    job: &'a ScrapeConfig,
    target: &'a Labels,
    memory: &'a mut Memory,
    rows: &'a mut MetricRows<'i>,
    /// Of the scrape, in Unix milliseconds.
    now: i64,
    counted: Counted,
    /// Why the scrape fails.
    error: Option<String>,
    /// Whether samples are only counted, because there are too many.
    counting: bool,
}

impl Memory {
    /// Stores the samples of `body` as of `now`; an error fails the whole scrape, and then nothing may be kept of
    /// `rows`.
    pub(super) fn append(
        &mut self,
        job: &ScrapeConfig,
        target: &Labels,
        (protocol, body): (Protocol, &[u8]),
        now: i64,
        rows: &mut MetricRows<'_>,
    ) -> (Counted, Result<(), String>) {
        self.round += 1;
        let options = Options {
            native: job.scrape_native_histograms,
            classic_too: job.always_scrape_classic_histograms,
            custom: job.convert_classic_histograms_to_nhcb,
        };
        self.families.begin();
        let mut append = Append {
            job,
            target,
            memory: self,
            rows,
            now,
            counted: Counted::default(),
            error: None,
            counting: false,
        };
        let parsed = exposition::parse(protocol, body, options, &mut append);
        let (counted, error) = (append.counted, append.error);
        let result = match (parsed, error) {
            (Err(error), _) => Err(error.to_string()),
            (Ok(()), Some(error)) => Err(error),
            (Ok(()), None) => Ok(()),
        };
        (counted, result)
    }

    /// Ends the series that the scrape just taken in did not have, and forgets them.
    pub(super) fn end_vanished(&mut self, now: i64, rows: &mut MetricRows<'_>) {
        let round = self.round;
        self.written.retain(|_, known| known.round == round);
        for (index, place) in self.slots.iter_mut().enumerate() {
            let Some(slot) = place else { continue };
            if slot.round == round {
                slot.owed = slot.tracked;
                continue;
            }
            slot.end(now, rows);
            self.by_id.remove(&slot.series.id());
            self.free.push(index);
            *place = None;
        }
        self.good = self.written.len();
        self.families.end();
    }

    /// Ends all series, because there was no scrape or there will be none.
    pub(super) fn end_all(&mut self, now: i64, rows: &mut MetricRows<'_>) {
        for slot in self.slots.iter_mut().flatten() {
            slot.end(now, rows);
        }
        // Scrapes that fail again and again may show new series each time.
        if self.written.len() > 2 * self.good + SPARE_SERIES {
            self.written.clear();
            self.slots.clear();
            self.free.clear();
            self.by_id.clear();
        }
    }

    /// A sample about the scrape itself; the stale marker ends it.
    pub(super) fn report(
        &mut self,
        target: &Labels,
        name: &'static str,
        at: i64,
        value: f64,
        rows: &mut MetricRows<'_>,
    ) {
        let index = self.reports.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            let mut labels = target.clone();
            labels.insert("__name__".to_owned(), name.to_owned());
            self.reports.push((
                name,
                Stored::described(weir_storage::Labels::new(labels), families::of_report(name)),
            ));
            self.reports.len() - 1
        });
        let _ = rows.sample(&self.reports[index].1, At::from_millis(at), None, value);
    }
}

impl Slot {
    fn end(&mut self, now: i64, rows: &mut MetricRows<'_>) {
        if !std::mem::take(&mut self.owed) {
            return;
        }
        let at = At::from_millis(now);
        // What the index refuses it has refused before.
        let _ = match self.native {
            true => rows.histogram(&self.series, at, None, &NativeRow::stale()),
            false => rows.sample(&self.series, at, None, f64::from_bits(STALE_BITS)),
        };
    }
}

impl Sink for Append<'_, '_> {
    fn describe(&mut self, family: &str, told: Told<'_>) {
        self.memory.families.describe(family, told);
    }

    fn point(&mut self, series: &dyn Series, point: Point<'_>) -> Result<(), Stop> {
        self.counted.scraped += 1;
        let known = self.memory.written.get_mut(series.key());
        let (slot, is_new) = match known {
            Some(known) => {
                known.round = self.memory.round;
                (known.slot, false)
            }
            None => (self.learn(series)?, true),
        };
        let Some(slot) = slot else { return Ok(()) };
        self.counted.kept += 1;
        let most = self.job.limits.samples;
        if most > 0 && self.counted.kept > most {
            self.error.get_or_insert_with(|| format!("sample limit exceeded: more than {most} samples"));
            self.counting = true;
        }
        if is_new {
            self.counted.added += 1;
        }
        if self.counting {
            return Ok(());
        }
        self.store(slot, point)
    }
}

impl Append<'_, '_> {
    fn fail<T>(&mut self, error: String) -> Result<T, Stop> {
        self.error.get_or_insert(error);
        Err(Stop)
    }

    /// Makes the acquaintance of a series; none where relabelling drops it.
    fn learn(&mut self, series: &dyn Series) -> Result<Option<usize>, Stop> {
        if self.memory.written.len() >= limits::SCRAPE_SERIES {
            return self.fail(format!("more than {} series", limits::SCRAPE_SERIES));
        }
        let mut labels = match series.labels() {
            Ok(labels) => labels,
            Err(error) => {
                let written = String::from_utf8_lossy(series.key()).into_owned();
                return self.fail(format!("{error} in `{written}`"));
            }
        };
        let exposed = labels.get("__name__").cloned().unwrap_or_default();
        join(self.target, &mut labels, self.job.honor_labels);
        let kept = relabel::apply(&self.job.metric_relabel, &mut labels);
        labels.retain(|_, value| !value.is_empty());
        let slot = if kept && !labels.is_empty() {
            if let Err(error) = self.check(&labels) {
                return self.fail(error);
            }
            Some(self.slot(labels, &exposed))
        } else {
            None
        };
        let known = Known { slot, round: self.memory.round };
        self.memory.written.insert(series.key().into(), known);
        Ok(slot)
    }

    fn check(&self, labels: &Labels) -> Result<(), String> {
        let names = self.job.name_scheme;
        let name = labels.get("__name__").ok_or("relabelling left a sample without a name")?;
        if !names.is_metric_name(name) {
            return Err(format!("`{name}` is no valid name of a metric"));
        }
        if let Some(label) = labels.keys().find(|label| !names.is_label_name(label)) {
            return Err(format!("`{label}` is no valid name of a label of `{name}`"));
        }
        let bounds = &self.job.limits;
        let over = |length: usize, most: u64| most > 0 && length as u64 > most;
        if over(labels.len(), bounds.labels) || labels.len() > limits::SERIES_LABELS {
            return Err(format!("label limit exceeded: `{name}` has {} labels", labels.len()));
        }
        for (label, value) in labels {
            if over(label.len(), bounds.label_name_length) {
                return Err(format!("label name length limit exceeded: `{label}` of `{name}`"));
            }
            if over(value.len(), bounds.label_value_length) {
                return Err(format!("label value length limit exceeded: `{label}` of `{name}`"));
            }
        }
        Ok(())
    }

    fn slot(&mut self, labels: Labels, exposed: &str) -> usize {
        let memory = &mut *self.memory;
        let stored = weir_storage::Labels::new(labels);
        let id = stored.id();
        if let Some(slot) = memory.by_id.get(&id) {
            return *slot;
        }
        let series = Stored::described(stored, memory.families.metadata(exposed));
        let slot =
            Slot { series, round: 0, owed: false, tracked: false, native: false, exemplars: HashSet::new() };
        let index = memory.free.pop().unwrap_or_else(|| {
            memory.slots.push(None);
            memory.slots.len() - 1
        });
        memory.slots[index] = Some(slot);
        memory.by_id.insert(id, index);
        index
    }

    fn store(&mut self, slot: usize, point: Point<'_>) -> Result<(), Stop> {
        let Some(Some(slot)) = self.memory.slots.get_mut(slot) else { return Ok(()) };
        let own_time = point.time.filter(|_| self.job.honor_timestamps);
        let time = own_time.unwrap_or(self.now);
        if time > self.now + limits::SCRAPE_AHEAD.as_millis() as i64 {
            self.counted.refused += 1;
            return Ok(());
        }
        slot.round = self.memory.round;
        slot.tracked = own_time.is_none() || self.job.track_timestamps_staleness;
        let at = At::from_millis(time);
        let start = point.start.filter(|start| *start > 0 && *start <= time).map(At::from_millis);
        let stored = match point.value {
            Value::Float(value) => {
                slot.native = false;
                self.rows.sample(&slot.series, at, start, value)
            }
            Value::Native(native) => {
                slot.native = true;
                let mut fitted;
                let mut native = native;
                if self.job.native_histogram_bucket_limit > 0
                    || self.job.native_histogram_min_bucket_factor > 1.0
                {
                    fitted = native.clone();
                    fitted.widen(self.job.native_histogram_min_bucket_factor);
                    if !fitted.fit(self.job.native_histogram_bucket_limit) {
                        let most = self.job.native_histogram_bucket_limit;
                        let name = slot.series.metric();
                        let error = format!("histogram bucket limit exceeded: `{name}` has more than {most}");
                        return self.fail(error);
                    }
                    native = &fitted;
                }
                self.rows.histogram(&slot.series, at, start, &native::row(native))
            }
        };
        if let Err(Refused::Collision | Refused::TooManySeries) = stored {
            self.counted.refused += 1;
            return Ok(());
        }
        if !point.exemplars.is_empty() || !slot.exemplars.is_empty() {
            let fresh: HashSet<u64> = point.exemplars.iter().map(hash).collect();
            for exemplar in
                point.exemplars.iter().filter(|exemplar| !slot.exemplars.contains(&hash(exemplar)))
            {
                let at = At::from_millis(exemplar.time.unwrap_or(time));
                let labels = exemplar.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
                let _ = self.rows.exemplar(&slot.series, at, exemplar.value, labels);
            }
            slot.exemplars = fresh;
        }
        Ok(())
    }
}

/// By which an exemplar is known that an exporter shows again.
fn hash(exemplar: &Exemplar<'_>) -> u64 {
    let state = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
    let mut of = Vec::with_capacity(exemplar.labels.len());
    of.extend(exemplar.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
    state.hash_one((of, exemplar.value.to_bits(), exemplar.time))
}

/// Adds the labels of the target to those of a sample. Where both have one, the sample's wins where it is
/// honored, and is else moved to a name with `exported_` in front.
fn join(target: &Labels, labels: &mut Labels, honor: bool) {
    for (name, value) in target {
        if honor {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
            continue;
        }
        if let Some(exposed) =
            labels.insert(name.clone(), value.clone()).filter(|exposed| !exposed.is_empty())
        {
            let mut moved = format!("exported_{name}");
            while labels.contains_key(&moved) || target.contains_key(&moved) {
                moved.insert_str(0, "exported_");
            }
            labels.insert(moved, exposed);
        }
    }
}

/// Rows of a scrape for a tenant whose series `index` knows.
pub(super) fn rows(index: &Arc<SeriesIndex>) -> MetricRows<'_> {
    MetricRows::new(index)
}

#[cfg(test)]
mod tests;
