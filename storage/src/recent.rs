//! What was read of files lately, kept within so many bytes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use weir_model::limits;

use crate::series_files::Decoded;
use crate::shared::lock;
use crate::{BlockFilters, DataFile, Table};

/// What was read lately of the files of all tables.
#[derive(Debug)]
pub(crate) struct Reads {
    /// The block filters of files; none of those that have none.
    pub(crate) filters: Recent<PathBuf, Option<Arc<BlockFilters>>>,
    pub(crate) decoded: Decoded,
}

impl Default for Reads {
    fn default() -> Self {
        Self { filters: Recent::new(limits::BLOCK_FILTER_BYTES), decoded: Decoded::default() }
    }
}

impl Reads {
    /// The block filters of a file that is known to be sound; none where it has none.
    pub(crate) fn filters_of(&self, table: Table, file: &DataFile) -> io::Result<Option<Arc<BlockFilters>>> {
        self.filters.get(&file.path, || {
            let filters = BlockFilters::read(table, file)?.map(Arc::new);
            let bytes = file.path.as_os_str().len() + filters.as_ref().map_or(0, |filters| filters.size());
            Ok((filters, bytes))
        })
    }

    /// Forgets files that are in no table any more.
    pub(crate) fn forget(&self, files: &[DataFile]) {
        for file in files {
            self.filters.forget(&file.path);
            self.decoded.forget(file);
        }
    }
}

/// Values by key, those asked for last.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    held: Mutex<Held<K, V>>,
    /// Bytes of all values; the last one is kept even if it is larger.
    limit: usize,
}

#[derive(Debug)]
struct Held<K, V> {
    entries: HashMap<K, Entry<V>>,
    bytes: usize,
    /// How often anything was asked for.
    asked: u64,
}

#[derive(Debug)]
struct Entry<V> {
    /// Empty while it is made; whoever wants it meanwhile waits.
    value: Arc<Mutex<Option<V>>>,
    bytes: usize,
    asked: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { held: Mutex::new(Held { entries: HashMap::new(), bytes: 0, asked: 0 }), limit }
    }

    /// The value of `key`; `make` gives it and its bytes where it is not there. It is made once, however many ask.
    pub(crate) fn get<E>(&self, key: &K, make: impl FnOnce() -> Result<(V, usize), E>) -> Result<V, E> {
        let slot = lock(&self.held).slot(key);
        let mut value = lock(&slot);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        let (made, bytes) = make().inspect_err(|_| self.forget(key))?;
        *value = Some(made.clone());
        drop(value);
        lock(&self.held).grown(key, bytes + size_of::<Entry<V>>() + size_of::<K>(), self.limit);
        Ok(made)
    }

    /// The value of `key` where it is there.
    pub(crate) fn known<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let slot = lock(&self.held).known(key)?;
        lock(&slot).clone()
    }

    /// Drops the value of `key`.
    pub(crate) fn forget<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        lock(&self.held).remove(key);
    }
}

impl<K: Hash + Eq + Clone, V> Held<K, V> {
    fn known<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<Arc<Mutex<Option<V>>>>
    where
        K: Borrow<Q>,
    {
        self.asked += 1;
        let entry = self.entries.get_mut(key)?;
        entry.asked = self.asked;
        Some(Arc::clone(&entry.value))
    }

    fn slot(&mut self, key: &K) -> Arc<Mutex<Option<V>>> {
        if let Some(slot) = self.known(key) {
            return slot;
        }
        let entry = Entry { value: Arc::default(), bytes: 0, asked: self.asked };
        let slot = Arc::clone(&entry.value);
        self.entries.insert(key.clone(), entry);
        slot
    }

    /// Takes note of the size of what was made, and drops what was not asked for longest.
    fn grown(&mut self, key: &K, bytes: usize, limit: usize) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.bytes = bytes;
        self.bytes += bytes;
        while self.bytes > limit {
            let others = self.entries.iter().filter(|(other, entry)| *other != key && entry.bytes > 0);
            let oldest = others.min_by_key(|(_, entry)| entry.asked).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.remove(&oldest);
        }
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(recent: &Recent<u8, u8>, key: u8, bytes: usize) -> u8 {
        recent.get::<()>(&key, || Ok((key, bytes))).unwrap()
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let recent = Recent::new(1000);
        value(&recent, 1, 400);
        value(&recent, 2, 300);
        assert_eq!(recent.known(&1), Some(1));
        value(&recent, 3, 400);
        assert_eq!([1, 2, 3].map(|key| recent.known(&key)), [Some(1), None, Some(3)]);
    }

    #[test]
    fn a_value_larger_than_all_may_be_stays_alone() {
        let recent = Recent::new(1000);
        value(&recent, 1, 400);
        value(&recent, 2, 5000);
        assert_eq!([1, 2].map(|key| recent.known(&key)), [None, Some(2)]);
        value(&recent, 3, 100);
        assert_eq!([1, 2, 3].map(|key| recent.known(&key)), [None, None, Some(3)]);
    }

    #[test]
    fn what_could_not_be_made_is_tried_again() {
        let recent: Recent<u8, u8> = Recent::new(1000);
        assert_eq!(recent.get(&1, || Err("no")), Err("no"));
        assert_eq!(recent.known(&1), None);
        assert_eq!(recent.get::<()>(&1, || Ok((7, 1))), Ok(7));
        assert_eq!(recent.get::<()>(&1, || Ok((8, 1))), Ok(7));
    }

    #[test]
    fn a_value_is_made_once_however_many_ask() {
        let recent: Recent<u8, usize> = Recent::new(1000);
        let made = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let make = || Ok::<_, ()>((made.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 1));
                    assert_eq!(recent.get(&1, make), Ok(0));
                });
            }
        });
    }
}
