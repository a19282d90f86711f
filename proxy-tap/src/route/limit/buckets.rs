//! The buckets of all routes of a proxy, kept apart from the routes so that a reload of the policy fills none:
//! a rule that did not change finds its buckets again.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;
use weir_model::limits;

use super::shared::{Came, Key, Shared};

/// So that threads seldom wait for one another.
const SHARDS: usize = 16;

/// Buckets, of all rules together [`limits::RATE_LIMIT_KEYS`] that belong to a header's value or a caller.
#[derive(Debug)]
pub(crate) struct Buckets {
    since: Instant,
    singles: Mutex<HashMap<String, Weak<AtomicU64>>>,
    /// Two halves of a key: 128 bits that nobody outside can aim at. Values themselves, which may be secrets of
    /// any length, are not kept.
    secrets: [RandomState; 2],
    shards: [Mutex<Shard>; SHARDS],
    shared: Shared,
}

/// Two generations. A bucket that is used moves to the young one; when that is full the old one is forgotten with
/// all that was not used since, and the young one is the old.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<u128, u64>,
    old: HashMap<u128, u64>,
}

impl Buckets {
    /// No bucket yet. Times before `now` count as `now`.
    pub(crate) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            since: now,
            singles: Mutex::default(),
            secrets: [RandomState::new(), RandomState::new()],
            shards: std::array::from_fn(|_| Mutex::default()),
            shared: Shared::default(),
        })
    }

    /// The buckets of limits that all proxies share.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What came for limits that all proxies share since the last report.
    pub(crate) fn report(&self, now: Instant) -> Vec<Came> {
        self.shared.report(self.nanos(now))
    }

    /// The part of a shared limit that this proxy may admit, in requests of a second, until the lease is over.
    pub(crate) fn grant(&self, key: &Key, per_s: f64, lease: Duration, now: Instant) {
        self.shared.grant(key, per_s, lease, self.nanos(now));
    }

    /// `now` as buckets count it.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_nanos().try_into().unwrap_or(u64::MAX)
    }

    /// The one bucket of a rule. It lives as long as the rule is in some policy.
    pub(super) fn single(&self, rule: &str) -> Arc<AtomicU64> {
        let mut singles = self.singles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = singles.get(rule).and_then(Weak::upgrade) {
            return bucket;
        }
        if singles.len() == singles.capacity() {
            singles.retain(|_, bucket| bucket.strong_count() > 0);
        }
        let bucket = Arc::default();
        singles.insert(rule.to_owned(), Arc::downgrade(&bucket));
        bucket
    }

    /// A short name of a rule that has a bucket for each of something.
    pub(super) fn rule(&self, rule: &str) -> u64 {
        self.secrets[0].hash_one(rule)
    }

    /// Names the bucket of these values and this caller.
    pub(super) fn key<'a>(
        &self,
        rule: u64,
        values: impl Iterator<Item = &'a HeaderValue>,
        source: &str,
    ) -> u128 {
        let [mut high, mut low] = self.secrets.each_ref().map(BuildHasher::build_hasher);
        (rule, source).hash(&mut high);
        (rule, source).hash(&mut low);
        for value in values {
            value.as_bytes().hash(&mut high);
            value.as_bytes().hash(&mut low);
        }
        u128::from(high.finish()) << 64 | u128::from(low.finish())
    }

    /// Changes the bucket `key`, which is full where it is not known.
    pub(super) fn with<R>(&self, key: u128, change: impl FnOnce(&mut u64) -> R) -> R {
        let shard = &self.shards[key as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full) = shard.young.get_mut(&key) {
            return change(full);
        }
        let mut full = shard.old.remove(&key).unwrap_or_default();
        let result = change(&mut full);
        if shard.young.len() >= limits::RATE_LIMIT_KEYS / SHARDS / 2 {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, full);
        result
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap();
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(count).sum()
    }
}

#[cfg(test)]
mod tests;
