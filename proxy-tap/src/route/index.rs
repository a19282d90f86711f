//! Which rules may match a path, found without trying them all.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Rules by what their paths begin with.
///
/// Sorted, all beginnings of a path are ancestors (beginnings of beginnings) of the last entry that is not
/// greater than the path, or that entry: what lies between a text and one that it begins has the same beginning.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    /// Whether keys are in lowercase and paths are compared so.
    fold: bool,
    entries: Box<[Entry]>,
}

#[derive(Debug)]
struct Entry {
    key: Box<str>,
    /// Ascending.
    rules: Box<[u32]>,
    /// The longest other key that this one begins with.
    parent: Option<u32>,
}

impl Beginnings {
    /// An index over rules, ascending for each key.
    pub(super) fn new(fold: bool, keys: BTreeMap<String, Vec<u32>>) -> Self {
        let mut entries: Vec<Entry> = Vec::with_capacity(keys.len());
        let mut open: Vec<u32> = Vec::new();
        for (n, (key, rules)) in (0..).zip(keys) {
            while open.pop_if(|top| !key.starts_with(&*entries[*top as usize].key)).is_some() {}
            entries.push(Entry { key: key.into(), rules: rules.into(), parent: open.last().copied() });
            open.push(n);
        }
        Self { fold, entries: entries.into() }
    }

    /// The rules of every key that `path` begins with, and of some that it does not.
    pub(super) fn candidates(&self, path: &str) -> impl Iterator<Item = &[u32]> {
        let after = self.entries.partition_point(|entry| self.order(&entry.key, path) != Ordering::Greater);
        let nearest = after.checked_sub(1).map(|at| &self.entries[at]);
        std::iter::successors(nearest, |entry| entry.parent.map(|at| &self.entries[at as usize]))
            .map(|entry| &*entry.rules)
    }

    fn order(&self, key: &str, path: &str) -> Ordering {
        if self.fold {
            key.bytes().cmp(path.bytes().map(|byte| byte.to_ascii_lowercase()))
        } else {
            key.as_bytes().cmp(path.as_bytes())
        }
    }
}
