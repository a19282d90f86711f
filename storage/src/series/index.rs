//! The label index of one tenant: an inverted index from (name, value) to the series that carry it.
//!
//! Series are numbered in the order they come, so that a posting list grows at its end only and stays
//! sorted; two lists intersect in one pass. A label that a series lacks counts as empty, as in Prometheus,
//! so a condition that an empty value satisfies can only narrow what others have selected.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arrow::array::RecordBatch;
use weir_model::{SeriesId, limits};

use super::{Cardinality, Days, Known, LabelMatcher, Labels, MatchOp, series_of};

/// The series of one tenant.
#[derive(Debug)]
pub struct SeriesIndex {
    index: RwLock<Index>,
    generation: AtomicU32,
}

#[derive(Debug)]
struct Index {
    /// How many series there may be.
    limit: usize,
    by_id: HashMap<SeriesId, Series>,
    /// The id of each stored series, by its number.
    stored: Vec<SeriesId>,
    /// name → value → numbers of the series that carry it, ascending.
    postings: HashMap<Arc<str>, BTreeMap<Arc<str>, Vec<u32>>>,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    /// The latest days whose partition holds its row. Empty: the id is reserved by a write on its way.
    days: Vec<i32>,
}

impl Default for SeriesIndex {
    fn default() -> Self {
        Self::with_limit(limits::SERIES)
    }
}

impl SeriesIndex {
    /// An index of up to `limit` series.
    pub(crate) fn with_limit(limit: usize) -> Self {
        let index = Index { limit, by_id: HashMap::new(), stored: Vec::new(), postings: HashMap::new() };
        Self { index: RwLock::new(index), generation: AtomicU32::new(0) }
    }

    /// The series in batches of the table `series`.
    pub fn of_rows<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Self {
        let index = Self::default();
        for batch in batches {
            index.add(series_of(batch)); // rows of colliding ids are left out
        }
        index
    }

    /// What is known of the series `id` with these labels on the day `date` (days since 1970). A series
    /// that is new has the id from now on, so that no other labels can take it in the meantime.
    pub fn known(&self, id: SeriesId, labels: &Labels, date: i32) -> Known {
        let found = |index: &Index| {
            index.by_id.get(&id).map(|series| match series {
                Series { labels: of_id, .. } if of_id != labels => Known::Collision,
                Series { days, .. } if days.contains(&date) => Known::Stored,
                _ => Known::New,
            })
        };
        if let Some(known) = found(&self.read()) {
            return known;
        }
        let mut index = self.write();
        if let Some(known) = found(&index) {
            return known;
        }
        if index.by_id.len() >= index.limit {
            return Known::TooMany;
        }
        index.by_id.insert(id, Series { labels: labels.clone(), days: Vec::new() });
        Known::New
    }

    /// How often series have been forgotten: what was [`Known::Stored`] before may be no longer.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// The labels of a series.
    pub fn labels(&self, id: SeriesId) -> Option<Labels> {
        let index = self.read();
        index.by_id.get(&id).filter(|series| !series.days.is_empty()).map(|series| series.labels.clone())
    }

    /// How many series are stored.
    pub fn len(&self) -> usize {
        self.read().stored.len()
    }

    /// Whether no series is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The series that satisfy every matcher, in order of id.
    pub fn select(&self, matchers: &[LabelMatcher]) -> Vec<(SeriesId, Labels)> {
        self.select_on(matchers, &Days::ALL)
    }

    /// Those of them that have samples on any of `days`.
    pub fn select_on(&self, matchers: &[LabelMatcher], days: &Days) -> Vec<(SeriesId, Labels)> {
        let index = self.read();
        let mut selected: Vec<_> =
            index.matching(matchers, days).map(|(id, labels)| (id, labels.clone())).collect();
        selected.sort_unstable_by_key(|(id, _)| *id);
        selected
    }

    /// One of the series that satisfy every matcher.
    pub fn any(&self, matchers: &[LabelMatcher]) -> Option<(SeriesId, Labels)> {
        let index = self.read();
        index.matching(matchers, &Days::ALL).next().map(|(id, labels)| (id, labels.clone()))
    }

    /// Every label name in use among the series that satisfy every matcher and have samples on any of `days`,
    /// sorted.
    pub fn label_names(&self, matchers: &[LabelMatcher], days: &Days) -> Vec<String> {
        let index = self.read();
        let names: BTreeSet<&str> = if matchers.is_empty() && days.is_all() {
            index.postings.keys().map(AsRef::as_ref).collect()
        } else {
            let found = index.matching(matchers, days);
            found.flat_map(|(_, labels)| labels.iter().map(|(name, _)| name)).collect()
        };
        names.into_iter().map(str::to_owned).collect()
    }

    /// Every value of a label in use among the series that satisfy every matcher and have samples on any of
    /// `days`, sorted.
    pub fn label_values(&self, name: &str, matchers: &[LabelMatcher], days: &Days) -> Vec<String> {
        let index = self.read();
        let values: BTreeSet<&str> = if matchers.is_empty() && days.is_all() {
            index.postings.get(name).into_iter().flat_map(BTreeMap::keys).map(AsRef::as_ref).collect()
        } else {
            index.matching(matchers, days).filter_map(|(_, labels)| labels.get(name)).collect()
        };
        values.into_iter().map(str::to_owned).collect()
    }

    /// How many series carry what; the `limit` most frequent of each kind.
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let index = self.read();
        Cardinality::of(index.stored.len(), &index.postings, limit)
    }

    /// Takes note that the series' row is stored in the partition of each day. Rows whose id belongs to
    /// other labels are left out; their number is returned.
    pub(crate) fn add(&self, rows: impl IntoIterator<Item = (SeriesId, Labels, i32)>) -> u64 {
        let mut index = self.write();
        let mut collisions = 0;
        for (id, labels, day) in rows {
            collisions += u64::from(!index.add(id, labels, day));
        }
        collisions
    }

    /// Forgets the series whose last row is in the partition of an earlier day than `day`.
    pub(crate) fn forget_before(&self, day: i32) {
        let is_old = |series: &Series| series.days.iter().max().is_some_and(|last| *last < day);
        if self.read().by_id.values().any(is_old) {
            self.write().retain(|series| !is_old(series));
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// Whether the id belongs to these labels.
    fn add(&mut self, id: SeriesId, labels: Labels, day: i32) -> bool {
        match self.by_id.get_mut(&id) {
            Some(series) if series.labels != labels => return false,
            Some(series) if !series.days.is_empty() => {
                if !series.days.contains(&day) {
                    series.days.push(day);
                    if series.days.len() > limits::SERIES_DAYS {
                        series.days.sort_unstable();
                        series.days.remove(0);
                    }
                }
                return true;
            }
            _ => {}
        }
        let number = self.stored.len() as u32; // limits::SERIES is far below
        let labels = self.post(number, &labels);
        self.stored.push(id);
        self.by_id.insert(id, Series { labels, days: vec![day] });
        true
    }

    /// Keeps the series that satisfy `keep`, under new numbers in the order of the old ones.
    fn retain(&mut self, keep: impl Fn(&Series) -> bool) {
        self.by_id.retain(|_, series| keep(series));
        self.postings.clear();
        let numbered = std::mem::take(&mut self.stored);
        for id in numbered {
            let Some(labels) = self.by_id.get(&id).map(|series| series.labels.clone()) else { continue };
            let number = self.stored.len() as u32; // limits::SERIES is far below
            let labels = self.post(number, &labels);
            self.stored.push(id);
            self.by_id.entry(id).and_modify(|series| series.labels = labels);
        }
    }

    /// Enters a series into the posting lists; gives its labels in the index' own copies of their texts.
    fn post(&mut self, number: u32, labels: &Labels) -> Labels {
        let mut own = Vec::with_capacity(labels.0.len());
        for (name, value) in labels.0.iter() {
            let name = self.postings.get_key_value(name).map_or(name, |(name, _)| name).clone();
            let values = self.postings.entry(Arc::clone(&name)).or_default();
            let value = values.get_key_value(value).map_or(value, |(value, _)| value).clone();
            values.entry(Arc::clone(&value)).or_default().push(number);
            own.push((name, value));
        }
        Labels(own.into())
    }

    fn matching(&self, matchers: &[LabelMatcher], days: &Days) -> impl Iterator<Item = (SeriesId, &Labels)> {
        let numbers = self.select(matchers);
        let lives = |id: SeriesId| self.by_id.get(&id).is_some_and(|series| days.meet(&series.days));
        numbers.into_iter().filter_map(|number| self.series(number)).filter(move |(id, _)| lives(*id))
    }

    fn series(&self, number: u32) -> Option<(SeriesId, &Labels)> {
        let id = *self.stored.get(number as usize)?;
        Some((id, &self.by_id.get(&id)?.labels))
    }

    /// The numbers of the series that satisfy every matcher, ascending.
    fn select(&self, matchers: &[LabelMatcher]) -> Vec<u32> {
        let (exact, others): (Vec<_>, Vec<_>) =
            matchers.iter().partition(|m| m.op == MatchOp::Equal && !m.value.is_empty());
        let mut selected: Option<Vec<u32>> = None;
        let mut lists: Vec<&[u32]> = exact.iter().map(|matcher| self.postings(matcher)).collect();
        lists.sort_unstable_by_key(|list| list.len());
        for list in lists {
            selected = Some(selected.map_or_else(|| list.to_vec(), |so_far| intersection(&so_far, list)));
        }
        for matcher in others {
            let values = self.postings.get(matcher.name.as_str());
            let value_count = values.map_or(0, BTreeMap::len);
            let few = selected.as_ref().is_some_and(|so_far| so_far.len() <= value_count);
            selected = Some(match selected {
                Some(so_far) if few || matcher.matches("") => self.narrow(so_far, matcher),
                None if matcher.matches("") => self.narrow((0..self.stored.len() as u32).collect(), matcher),
                so_far => {
                    // Lists of different values of one label are disjoint.
                    let matching = values.into_iter().flatten().filter(|(value, _)| matcher.matches(value));
                    let mut union: Vec<u32> = matching.flat_map(|(_, list)| list).copied().collect();
                    union.sort_unstable();
                    so_far.map_or_else(|| union.clone(), |so_far| intersection(&so_far, &union))
                }
            });
        }
        selected.unwrap_or_else(|| (0..self.stored.len() as u32).collect())
    }

    fn postings(&self, matcher: &LabelMatcher) -> &[u32] {
        let values = self.postings.get(matcher.name.as_str());
        values.and_then(|values| values.get(matcher.value.as_str())).map_or(&[], Vec::as_slice)
    }

    /// Those of `numbers` whose series satisfies the matcher; asks it once for each distinct value.
    fn narrow(&self, mut numbers: Vec<u32>, matcher: &LabelMatcher) -> Vec<u32> {
        let mut asked: HashMap<&str, bool> = HashMap::new();
        numbers.retain(|number| {
            let labels = self.series(*number).map(|(_, labels)| labels);
            let value = labels.and_then(|labels| labels.get(&matcher.name)).unwrap_or_default();
            *asked.entry(value).or_insert_with(|| matcher.matches(value))
        });
        numbers
    }
}

/// What two ascending lists share. The shorter is `a`: its numbers are looked up where `b` is far longer.
fn intersection(a: &[u32], b: &[u32]) -> Vec<u32> {
    if b.len() / 32 > a.len() {
        return a.iter().copied().filter(|number| b.binary_search(number).is_ok()).collect();
    }
    let mut shared = Vec::with_capacity(a.len().min(b.len()));
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => _ = a.next(),
            std::cmp::Ordering::Greater => _ = b.next(),
            std::cmp::Ordering::Equal => {
                shared.push(**x);
                a.next();
                b.next();
            }
        }
    }
    shared
}
