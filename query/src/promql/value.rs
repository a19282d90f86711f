//! Samples, matrices of them, and answers.

use std::sync::Arc;
use std::time::Duration;

use weir_storage::Labels;

use super::error::Annotations;
use super::histogram::Histogram;

/// A sample, or none at that step.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Sample {
    /// No sample.
    #[default]
    Absent,
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

impl Sample {
    /// Whether there is one.
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The number, if it is one.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The histogram, if it is one.
    pub fn histogram(&self) -> Option<&Arc<Histogram>> {
        match self {
            Self::Histogram(histogram) => Some(histogram),
            _ => None,
        }
    }

    /// `float` and `histogram`, as messages call them.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Histogram(_) => "histogram",
            _ => "float",
        }
    }
}

impl From<Option<f64>> for Sample {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Absent, Self::Float)
    }
}

impl From<Histogram> for Sample {
    fn from(histogram: Histogram) -> Self {
        Self::Histogram(Arc::new(histogram))
    }
}

/// One series of a matrix: its labels once, and a cell per step.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its labels.
    pub labels: Labels,
    /// Whether the metric name is to go at the end of the query.
    pub drop_name: bool,
    /// A sample per step.
    pub cells: Vec<Sample>,
}

/// Series × steps.
pub type Matrix = Vec<Row>;

/// The steps of an evaluation: `start`, `start + step`, … up to `end`, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// First step.
    pub start: i64,
    /// No step is after it.
    pub end: i64,
    /// Distance; positive.
    pub step: i64,
}

impl Grid {
    /// One step.
    pub fn at(time: i64) -> Self {
        Self { start: time, end: time, step: 1 }
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        if self.end < self.start { 0 } else { ((self.end - self.start) / self.step.max(1)) as usize + 1 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.end < self.start
    }

    /// The time of step `index`.
    pub fn time(&self, index: usize) -> i64 {
        self.start + self.step * index as i64
    }

    /// The times of all steps.
    pub fn times(self) -> impl ExactSizeIterator<Item = i64> {
        (0..self.len()).map(move |index| self.time(index))
    }
}

/// The points of one series of an answer: Unix milliseconds and a present sample each.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    /// Its labels.
    pub labels: Labels,
    /// Its points in order of time.
    pub points: Vec<(i64, Sample)>,
}

/// What a query yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A number at a moment.
    Scalar(i64, f64),
    /// A text at a moment.
    Text(i64, String),
    /// A sample per series, all at one moment.
    Vector(i64, Vec<(Labels, Sample)>),
    /// Many points per series.
    Matrix(Vec<Points>),
}

/// An output with the remarks made on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The result.
    pub output: Output,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// What it took.
    pub stats: Stats,
}

/// What a query took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// How often a sample went into a result.
    pub samples: usize,
    /// Most samples that were held at once.
    pub peak_samples: usize,
    /// Time before its turn came.
    pub queued: Duration,
    /// Time until it was known what to read.
    pub prepared: Duration,
    /// Time of reading and evaluation.
    pub evaluated: Duration,
}
