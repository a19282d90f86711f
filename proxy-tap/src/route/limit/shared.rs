//! The limits that all proxies share, as far as this one has been granted a part of them.
//!
//! The collector parts each limit among the proxies whose requests ask for it, for a lease. A part is a bucket like any
//! other that fills at the granted rate, so that no request waits for an answer. Where nothing has been granted, or the
//! lease is over because the collector is away, the whole limit counts here: a proxy never refuses a request because of
//! a collector that does not answer. Another part changes how fast a bucket fills, and gives no request that was not
//! there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use weir_model::limits;

use super::{Shape, Standing};

/// So that threads seldom wait for one another.
const SHARDS: usize = 16;
/// After how long without a request a bucket that is full is forgotten.
const IDLE_NS: u64 = 60_000_000_000;

/// Names a bucket, the same on all proxies with the same policy: the start of a SHA-256. So the collector learns nothing
/// of the values, which may be secrets, and nobody can aim at the bucket of another value.
pub(crate) type Key = [u8; 16];

/// The name of the bucket of these values and this caller by a rule.
pub(super) fn key<'a>(rule: &str, values: impl Iterator<Item = &'a HeaderValue>, source: &str) -> Key {
    let mut hash = Sha256::new();
    let mut add = |text: &[u8]| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(rule.as_bytes());
    add(source.as_bytes());
    values.for_each(|value| add(value.as_bytes()));
    let hash: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|i| hash[i])
}

/// This proxy's parts in the limits that all share: [`limits::RATE_LIMIT_SHARED_KEYS`] at most.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    /// Whether something came that has not been reported.
    is_news: AtomicBool,
    news: Notify,
    admitted: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

/// Two generations, of which the old one is forgotten with what was not used since when the young one is full.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Key, Part>,
    old: HashMap<Key, Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    whole: Shape,
    /// What is granted; the whole where nothing is.
    granted: Shape,
    /// When the grant ends.
    until: u64,
    /// When the bucket will be full.
    full: u64,
    /// Requests since the last report.
    came: u32,
    used: u64,
}

/// What is to be reported of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) key: Key,
    pub(crate) requests: u32,
    pub(crate) per: Duration,
    /// Requests since the last report.
    pub(crate) count: u32,
}

impl Part {
    fn new(whole: Shape) -> Self {
        Self { whole, granted: whole, until: 0, full: 0, came: 0, used: 0 }
    }

    /// Fills in another way from now on. What the bucket holds it keeps, as far as there is room.
    fn reshape(&mut self, to: Shape, now: u64) {
        let from = std::mem::replace(&mut self.granted, to);
        let held = from.room.saturating_sub(self.full.saturating_sub(now));
        let held = u128::from(held) * u128::from(to.interval) / u128::from(from.interval);
        let held = u64::try_from(held).unwrap_or(u64::MAX);
        self.full = now.saturating_add(to.room.saturating_sub(held));
    }

    fn take(&mut self, now: u64) -> Result<Standing, Standing> {
        if self.until <= now && self.granted != self.whole {
            self.reshape(self.whole, now);
        }
        self.came = self.came.saturating_add(1);
        self.used = self.used.max(now);
        match self.granted.take(self.full, now) {
            Some(next) => {
                self.full = next;
                Ok(Standing { retry_after: Duration::ZERO, ..self.granted.standing(next, now) })
            }
            None => Err(self.granted.standing(self.full, now)),
        }
    }

    fn is_idle(&self, now: u64) -> bool {
        self.full.max(self.until) <= now && now.saturating_sub(self.used) >= IDLE_NS
    }
}

impl Shard {
    fn get(&mut self, key: &Key) -> Option<&mut Part> {
        self.young.get_mut(key).or_else(|| self.old.get_mut(key))
    }
}

impl Shared {
    /// Takes one request from the bucket `key` of a limit.
    pub(super) fn take(&self, key: &Key, whole: Shape, now: u64) -> Result<Standing, Standing> {
        let taken = {
            let mut shard = self.shard(key);
            let Shard { young, old } = &mut *shard;
            if !young.contains_key(key) {
                let part = old.remove(key).unwrap_or_else(|| Part::new(whole));
                if young.len() >= limits::RATE_LIMIT_SHARED_KEYS / SHARDS / 2 {
                    self.dropped.fetch_add(old.len() as u64, Ordering::Relaxed);
                    *old = std::mem::take(young);
                }
                young.insert(*key, part);
            }
            young.get_mut(key).map_or_else(|| Part::new(whole).take(now), |part| part.take(now))
        };
        if !self.is_news.load(Ordering::Relaxed) && !self.is_news.swap(true, Ordering::Relaxed) {
            self.news.notify_one();
        }
        taken
    }

    /// Puts one back that was not used.
    pub(super) fn give_back(&self, key: &Key) {
        if let Some(part) = self.shard(key).get(key) {
            part.full = part.full.saturating_sub(part.granted.interval);
        }
    }

    /// Counts what became of a request that such limits decided on.
    pub(super) fn decided(&self, is_admitted: bool) {
        let counter = if is_admitted { &self.admitted } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until there is something to report.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// What came since the last report.
    pub(super) fn report(&self, now: u64) -> Vec<Came> {
        // What comes from here on is news, even if it is in the report.
        self.is_news.store(false, Ordering::Relaxed);
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let Shard { young, old } = &mut *shard;
            for parts in [young, old] {
                parts.retain(|_, part| !part.is_idle(now));
                for (key, part) in parts.iter_mut().filter(|(_, part)| part.came > 0) {
                    let count = std::mem::take(&mut part.came);
                    let Shape { requests, per, .. } = part.whole;
                    all.push(Came { key: *key, requests, per: Duration::from_nanos(per), count });
                }
            }
        }
        all
    }

    /// Takes what is granted: so many requests in a second, for a time. Nothing where the bucket is not known any more.
    pub(super) fn grant(&self, key: &Key, per_s: f64, lease: Duration, now: u64) {
        if let Some(part) = self.shard(key).get(key) {
            let granted = part.whole.part(per_s);
            if granted != part.granted {
                part.reshape(granted, now);
            }
            part.until = now.saturating_add(u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Requests that were admitted, and that were refused.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("admitted", get(&self.admitted)), ("refused", get(&self.refused))]
    }

    /// Buckets that were forgotten because there were too many.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Buckets that are kept.
    pub(crate) fn kept(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(count).sum()
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(key[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
