//! Samples in memory, for scripts and tests.

use std::collections::BTreeMap;

use async_trait::async_trait;
use weir_storage::Labels;

use super::{SampleSource, Samples, Selection, SeriesParts, SeriesSamples, Track, too_many};
use crate::promql::error::Error;
use crate::promql::value::Sample;

/// Series by their labels.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    series: BTreeMap<Labels, SeriesSamples>,
    /// How many series a part has; 0 where there are no parts.
    part: usize,
}

impl MemorySource {
    /// Stores a sample; one at the same time is replaced. A start of 0 is none.
    pub fn insert(&mut self, labels: &Labels, time: i64, sample: Sample, start: i64) {
        let series = self
            .series
            .entry(labels.clone())
            .or_insert_with(|| SeriesSamples { labels: labels.clone(), ..SeriesSamples::default() });
        match sample {
            Sample::Absent => {}
            Sample::Float(value) => place(&mut series.floats, time, value, start),
            Sample::Histogram(histogram) => place(&mut series.histograms, time, histogram, start),
        }
    }

    /// The same samples, given in parts of `series` each.
    #[cfg(test)]
    pub(crate) fn in_parts_of(series: usize) -> Self {
        Self { part: series, ..Self::default() }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.series.clear();
    }
}

fn place<T: Clone>(track: &mut Track<T>, time: i64, value: T, start: i64) {
    if track.times.last().is_none_or(|last| *last < time) {
        track.push(time, value, start);
        return;
    }
    let at = track.times.partition_point(|t| *t < time);
    if track.times.get(at) == Some(&time) {
        track.values[at] = value;
    } else {
        track.times.insert(at, time);
        track.values.insert(at, value);
        if !track.starts.is_empty() {
            track.starts.insert(at, start);
        }
    }
}

fn within<T: Clone>(track: &Track<T>, selection: &Selection) -> Track<T> {
    let from = track.times.partition_point(|t| *t <= selection.after);
    let to = track.times.partition_point(|t| *t <= selection.until).max(from);
    let starts = track.starts.get(from..to).unwrap_or(&[]).to_vec();
    Track { times: track.times[from..to].to_vec(), values: track.values[from..to].to_vec(), starts }
}

#[async_trait]
impl SampleSource for MemorySource {
    async fn select(&self, selection: &Selection, limit: usize) -> Result<Samples, Error> {
        let matches = |labels: &Labels| {
            let value = |name: &str| labels.get(name).unwrap_or_default();
            selection.matchers.iter().all(|matcher| matcher.matches(value(&matcher.name)))
        };
        let mut out = Vec::new();
        let mut left = limit;
        for (labels, series) in self.series.iter().filter(|(labels, _)| matches(labels)) {
            let found = SeriesSamples {
                labels: labels.clone(),
                floats: within(&series.floats, selection),
                histograms: within(&series.histograms, selection),
            };
            left = left.checked_sub(found.len()).ok_or_else(|| too_many(limit))?;
            if !found.is_empty() {
                out.push(found);
            }
        }
        if self.part > 0 && out.len() > self.part {
            return Ok(Samples::Parts(Box::new(Chunks(
                out.chunks(self.part).rev().map(<[_]>::to_vec).collect(),
            ))));
        }
        Ok(Samples::Whole(out))
    }
}

/// Parts in memory, the last series first: nobody may rely on their order.
#[derive(Debug)]
struct Chunks(Vec<Vec<SeriesSamples>>);

impl SeriesParts for Chunks {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, part: usize, _: usize) -> Result<Vec<SeriesSamples>, Error> {
        Ok(self.0[part].clone())
    }
}
