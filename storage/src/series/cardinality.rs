//! What makes a label index large: the metrics, labels and pairs that most series carry.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

/// Names with their counts, the largest first.
pub(super) type Counts = Vec<(String, u64)>;

/// Counts over all series of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series.
    pub series: usize,
    /// Distinct pairs of a label and its value.
    pub label_pairs: usize,
    /// Series of each metric.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values of each label.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of each label's values, over all series that carry them.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series of each pair, written `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}

impl Cardinality {
    pub(super) fn of(
        series: usize,
        postings: &HashMap<Arc<str>, BTreeMap<Arc<str>, Vec<u32>>>,
        limit: usize,
    ) -> Self {
        let (mut metrics, mut values, mut bytes, mut pairs) =
            (Largest::new(limit), Largest::new(limit), Largest::new(limit), Largest::new(limit));
        for (name, of_name) in postings {
            values.push(of_name.len() as u64, || name.to_string());
            let mut size = 0;
            for (value, numbers) in of_name {
                let count = numbers.len() as u64;
                size += count * value.len() as u64;
                pairs.push(count, || format!("{name}={value}"));
                if name.as_ref() == "__name__" {
                    metrics.push(count, || value.to_string());
                }
            }
            bytes.push(size, || name.to_string());
        }
        Self {
            series,
            label_pairs: postings.values().map(BTreeMap::len).sum(),
            series_by_metric: metrics.sorted(),
            values_by_label: values.sorted(),
            bytes_by_label: bytes.sorted(),
            series_by_pair: pairs.sorted(),
        }
    }
}

/// The largest of many counts; of equal ones those whose names come first.
struct Largest {
    limit: usize,
    smallest_first: BinaryHeap<(Reverse<u64>, String)>,
}

impl Largest {
    fn new(limit: usize) -> Self {
        Self { limit, smallest_first: BinaryHeap::new() }
    }

    fn push(&mut self, count: u64, name: impl FnOnce() -> String) {
        let full = self.smallest_first.len() >= self.limit;
        if full && self.smallest_first.peek().is_none_or(|(Reverse(least), _)| count < *least) {
            return;
        }
        self.smallest_first.push((Reverse(count), name()));
        if full {
            self.smallest_first.pop();
        }
    }

    fn sorted(self) -> Counts {
        let ascending = self.smallest_first.into_sorted_vec();
        ascending.into_iter().map(|(Reverse(count), name)| (name, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Labels, SeriesIndex};

    #[test]
    fn the_most_frequent_come_first_and_no_more_than_asked_for() {
        let index = SeriesIndex::default();
        let series = [("up", "a"), ("up", "b"), ("up", "c"), ("down", "a"), ("left", "long value")];
        let rows = series.map(|(metric, job)| {
            let labels = Labels::new([("__name__", metric), ("job", job)]);
            (labels.id(), labels, 1)
        });
        index.add(rows);
        let all = index.cardinality(10);
        assert_eq!((all.series, all.label_pairs), (5, 7));
        let counts = |pairs: &[(&str, u64)]| -> super::Counts {
            pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        assert_eq!(all.series_by_metric, counts(&[("up", 3), ("down", 1), ("left", 1)]));
        assert_eq!(all.values_by_label, counts(&[("job", 4), ("__name__", 3)]));
        assert_eq!(all.bytes_by_label, counts(&[("__name__", 14), ("job", 14)]));
        let two = index.cardinality(2);
        assert_eq!(two.series_by_metric, counts(&[("up", 3), ("down", 1)]));
        assert_eq!(two.series_by_pair, counts(&[("__name__=up", 3), ("job=a", 2)]));
        assert_eq!(index.cardinality(0).series_by_pair, []);
    }
}
