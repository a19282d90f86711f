//! The label sets of all series, in memory: who has which labels, and which series match a selector.

use std::sync::Arc;

use weir_model::SeriesId;

/// A label set sorted by name, `__name__` included; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

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
            MatchOp::Regex | MatchOp::NotRegex => Some(regex::Regex::new(&format!("^(?s:{value})$"))?),
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

/// The series of one tenant.
#[derive(Debug, Default)]
pub struct SeriesIndex {}

impl SeriesIndex {
    /// What is known of the series `id` with these labels on the day `date` (days since 1970).
    pub fn known(&self, _id: SeriesId, _labels: &Labels, _date: i32) -> Known {
        unimplemented!()
    }

    /// The labels of a series.
    pub fn labels(&self, _id: SeriesId) -> Option<Labels> {
        unimplemented!()
    }

    /// The series that satisfy every matcher, in order of id.
    pub fn select(&self, _matchers: &[LabelMatcher]) -> Vec<(SeriesId, Labels)> {
        unimplemented!()
    }

    /// Every label name in use among the series that satisfy every matcher, sorted.
    pub fn label_names(&self, _matchers: &[LabelMatcher]) -> Vec<String> {
        unimplemented!()
    }

    /// Every value of a label in use among the series that satisfy every matcher, sorted.
    pub fn label_values(&self, _name: &str, _matchers: &[LabelMatcher]) -> Vec<String> {
        unimplemented!()
    }
}
