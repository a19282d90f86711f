//! Where samples come from, behind one small trait.

mod memory;

use std::sync::Arc;

use async_trait::async_trait;
use weir_storage::{LabelMatcher, Labels};

use super::error::Error;
use super::histogram::Histogram;

pub use memory::MemorySource;

/// Which samples a selector needs: those of matching series with `after < time <= until`, in milliseconds.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The conditions on labels.
    pub matchers: Vec<LabelMatcher>,
    /// Exclusive lower end.
    pub after: i64,
    /// Inclusive upper end.
    pub until: i64,
}

/// Values and their times, ascending and unique; `starts` is empty or as long as `times`.
#[derive(Debug, Clone, Default)]
pub struct Track<T> {
    /// Unix milliseconds.
    pub times: Vec<i64>,
    /// The values.
    pub values: Vec<T>,
    /// When the count behind a value began, in Unix milliseconds; 0 where unknown.
    pub starts: Vec<i64>,
}

impl<T: Clone> Track<T> {
    /// Adds a point after all others.
    pub fn push(&mut self, time: i64, value: T, start: i64) {
        if start != 0 && self.starts.is_empty() {
            self.starts = vec![0; self.times.len()];
        }
        if start != 0 || !self.starts.is_empty() {
            self.starts.push(start);
        }
        self.times.push(time);
        self.values.push(value);
    }
}

/// The samples of one series; stale markers are among the floats.
#[derive(Debug, Clone, Default)]
pub struct SeriesSamples {
    /// The labels, `__name__` included.
    pub labels: Labels,
    /// Numbers.
    pub floats: Track<f64>,
    /// Native histograms.
    pub histograms: Track<Arc<Histogram>>,
}

impl SeriesSamples {
    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.floats.times.len() + self.histograms.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something that holds samples.
#[async_trait]
pub trait SampleSource: Send + Sync {
    /// The selected samples, series without any left out. Fails where more than `limit` would be held.
    async fn select(&self, selection: &Selection, limit: usize) -> Result<Samples, Error>;
}

/// The samples of a selection.
#[derive(Debug)]
pub enum Samples {
    /// All of them, in order of labels.
    Whole(Vec<SeriesSamples>),
    /// They are read when they are worked on.
    Parts(Box<dyn SeriesParts>),
}

impl Samples {
    /// All series. Reads, where they are in parts: for a thread that may block. Fails where they hold more than `limit`
    /// samples.
    pub fn whole(self, limit: usize) -> Result<Vec<SeriesSamples>, Error> {
        let parts = match self {
            Self::Whole(all) => return Ok(all),
            Self::Parts(parts) => parts,
        };
        let (mut all, mut left) = (Vec::new(), limit);
        for part in 0..parts.len() {
            let read = parts.read(part, left)?;
            let samples: usize = read.iter().map(SeriesSamples::len).sum();
            left = left.checked_sub(samples).ok_or_else(|| too_many(limit))?;
            all.extend(read);
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(all)
    }
}

/// The series of a selection in parts, each series in one of them; in order of labels where that is the only one.
pub trait SeriesParts: std::fmt::Debug + Send + Sync {
    /// How many parts there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads one; for a thread that may block. Fails where it holds more than `limit` samples.
    fn read(&self, part: usize, limit: usize) -> Result<Vec<SeriesSamples>, Error>;
}

/// The error for too many samples.
pub fn too_many(limit: usize) -> Error {
    Error::execution(format!(
        "query processing would load too many samples into memory in query execution (limit {limit})"
    ))
}

/// The error for a selector that matches too many series.
pub fn too_many_series(found: usize, limit: usize) -> Error {
    Error::execution(format!(
        "query processing would read {found} series for one selector (limit {limit}); add conditions on labels"
    ))
}
