//! The series that senders have written before, by the bytes that their labels came in: one that is known costs a hash
//! and a comparison, and its labels are neither read nor checked again.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use weir_model::limits;
use weir_storage::rows::Series;
use xxhash_rust::xxh3::xxh3_64;

/// Parts that are locked apart, so that requests seldom wait for each other.
const PARTS: usize = 16;

/// Series by the bytes of their labels, at most [`limits::REMOTE_WRITE_SERIES`].
#[derive(Debug)]
pub(crate) struct KnownSeries {
    parts: [Mutex<Part>; PARTS],
}

type Part = HashMap<u64, Known, BuildHasherDefault<Hashed>>;

#[derive(Debug)]
struct Known {
    bytes: Box<[u8]>,
    series: Arc<Series>,
}

/// What is a hash already is not hashed again.
#[derive(Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Default for KnownSeries {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl KnownSeries {
    /// The series whose labels came in `bytes` before.
    #[inline]
    pub(super) fn get(&self, bytes: &[u8]) -> Option<Arc<Series>> {
        let hash = xxh3_64(bytes);
        let part = self.part(hash).lock().unwrap_or_else(PoisonError::into_inner);
        part.get(&hash).filter(|known| known.bytes.as_ref() == bytes).map(|known| Arc::clone(&known.series))
    }

    /// Remembers the series whose labels came in `bytes`.
    pub(super) fn put(&self, bytes: &[u8], series: Arc<Series>) {
        if bytes.len() > limits::REMOTE_WRITE_SERIES_BYTES {
            return;
        }
        let hash = xxh3_64(bytes);
        let mut part = self.part(hash).lock().unwrap_or_else(PoisonError::into_inner);
        if part.len() >= limits::REMOTE_WRITE_SERIES / PARTS {
            part.clear(); // costs a look at its labels for each series that is still alive
        }
        part.insert(hash, Known { bytes: bytes.into(), series });
    }

    fn part(&self, hash: u64) -> &Mutex<Part> {
        // Neither the lowest bits nor the highest: by those a table tells its entries apart.
        &self.parts[(hash >> 40) as usize % PARTS]
    }
}
