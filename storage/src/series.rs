//! The label sets of all series, in memory: who has which labels, and which series match a selector.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use weir_model::SeriesId;

mod cardinality;
mod days;
mod index;

pub use cardinality::Cardinality;
pub use days::Days;
pub use index::SeriesIndex;

/// A label set sorted by name, `__name__` included; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        // Series of one index share their texts.
        let text = |a: &Arc<str>, b: &Arc<str>| if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) };
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        let pairs = self.0.iter().zip(other.0.iter());
        let mut compared = pairs.map(|(a, b)| text(&a.0, &b.0).then_with(|| text(&a.1, &b.1)));
        compared.find(|order| order.is_ne()).unwrap_or_else(|| self.0.len().cmp(&other.0.len()))
    }
}

impl Labels {
    /// The set made of `pairs`, sorted; of a repeated name the last value wins, empty values are left out.
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut sorted: Vec<(Arc<str>, Arc<str>)> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        let mut unique: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(sorted.len());
        for pair in sorted {
            match unique.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => unique.push(pair),
            }
        }
        unique.retain(|(_, value)| !value.is_empty());
        Self(unique.into())
    }

    /// Those of the labels whose names `keep` agrees to.
    pub fn retained(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// The same with `name` set to `value`; without it where that is empty.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let at = self.0.partition_point(|(other, _)| other.as_ref() < name);
        let rest = &self.0[at..];
        let rest =
            if rest.first().is_some_and(|(other, _)| other.as_ref() == name) { &rest[1..] } else { rest };
        let set = (!value.is_empty()).then(|| (Arc::from(name), Arc::from(value)));
        Self(self.0[..at].iter().cloned().chain(set).chain(rest.iter().cloned()).collect())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// The metric name, or empty.
    pub fn metric(&self) -> &str {
        self.get("__name__").unwrap_or_default()
    }

    /// The id that series with these labels have: xxh3 over names and values, each followed by a byte
    /// that UTF-8 never contains.
    pub fn id(&self) -> SeriesId {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for (name, value) in self.iter() {
            hash.update(name.as_bytes());
            hash.update(&[0xff]);
            hash.update(value.as_bytes());
            hash.update(&[0xff]);
        }
        SeriesId(hash.digest())
    }
}

/// What the index knows of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Its row is stored for that day: none need be written.
    Stored,
    /// A row must be written with the samples.
    New,
    /// Another label set has this id: the samples must be rejected.
    Collision,
    /// The tenant has as many series as it may.
    TooMany,
}

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`
    NotRegex,
}

/// One condition of a selector; a missing label counts as empty.
#[derive(Debug, Clone)]
pub struct LabelMatcher {
    /// The label.
    pub name: String,
    /// How to compare.
    pub op: MatchOp,
    /// The value or pattern.
    pub value: String,
    regex: Option<regex::Regex>,
}

impl LabelMatcher {
    /// A matcher; fails where `value` is a pattern that does not compile.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, regex::Error> {
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => {
                regex::Regex::new(value)?; // on its own first: `a)|(b` would pass within the group
                Some(regex::Regex::new(&format!("^(?s:{value})$"))?)
            }
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    /// Whether `value` satisfies the condition.
    pub fn matches(&self, value: &str) -> bool {
        let pattern = |value: &str| self.regex.as_ref().is_some_and(|regex| regex.is_match(value));
        match self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex => pattern(value),
            MatchOp::NotRegex => !pattern(value),
        }
    }
}

/// The days since 1970 of a moment in microseconds.
pub(crate) fn day_of(micros: i64) -> i32 {
    i32::try_from(micros.div_euclid(86_400_000_000)).unwrap_or(i32::MAX)
}

/// The series in rows of the table `series`, each with the day of its row.
pub(crate) fn series_of(batch: &RecordBatch) -> Vec<(SeriesId, Labels, i32)> {
    let columns =
        (batch.column_by_name("series_id"), batch.column_by_name("time"), batch.column_by_name("labels"));
    let (Some(ids), Some(times), Some(labels)) = columns else { return Vec::new() };
    let typed = (
        ids.as_primitive_opt::<Int64Type>(),
        times.as_primitive_opt::<TimestampMicrosecondType>(),
        labels.as_map_opt(),
    );
    let (Some(ids), Some(times), Some(labels)) = typed else { return Vec::new() };
    let texts = (labels.keys().as_string_opt::<i32>(), labels.values().as_string_opt::<i32>());
    let (Some(names), Some(values)) = texts else { return Vec::new() };
    let offsets = labels.value_offsets();
    (0..batch.num_rows())
        .map(|row| {
            let entries = offsets[row] as usize..offsets[row + 1] as usize;
            let value = |at| if values.is_null(at) { "" } else { values.value(at) };
            let labels = Labels::new(entries.map(|at| (names.value(at), value(at))));
            (SeriesId::from_column(ids.value(row)), labels, day_of(times.value(row)))
        })
        .collect()
}

#[cfg(test)]
mod tests;
