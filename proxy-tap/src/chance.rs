//! Randomness from one seed, without a lock: ids, balancing draws and jitter.

use std::sync::atomic::{AtomicU64, Ordering};

/// A SplitMix64 sequence (Steele, Lea, Flood 2014) that threads may share.
#[derive(Debug)]
pub(crate) struct Chance(AtomicU64);

impl Chance {
    /// The sequence of `seed`, told apart by `name`, so that proxies with one seed differ.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mixed =
            name.bytes().fold(seed ^ 0x51_7c_c1_b7_27_22_0a_95, |hash, byte| mix(hash ^ u64::from(byte)));
        Self(AtomicU64::new(mixed))
    }

    /// The next number.
    pub(crate) fn u64(&self) -> u64 {
        mix(self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }

    /// The next number in 0 to 1, 1 excluded.
    pub(crate) fn f64(&self) -> f64 {
        fraction(self.u64())
    }

    /// Whether an event of this probability happens.
    pub(crate) fn happens(&self, probability: f64) -> bool {
        probability >= 1.0 || self.f64() < probability
    }
}

/// A uniform random number as one in 0 to 1, 1 excluded.
pub(crate) fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
