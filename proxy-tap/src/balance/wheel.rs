//! Consistent hashing: where a key stands among the endpoints, and who comes next.
//!
//! A wheel is a circle of places with an owner each. A key's place is the first choice; the owners that
//! follow are the next ones, so that the keys of an endpoint that is out go to others and come back, and no
//! other key moves.

use weir_model::limits;

use crate::chance::mix;

/// Points of the lightest endpoint of a ring, at least.
const RING_POINTS_EACH: f64 = 16.0;

/// A circle of places.
#[derive(Debug)]
pub(super) struct Wheel {
    owners: Vec<u32>,
    /// Where the places of a ring are, in order; empty where places are at equal distances (Maglev).
    points: Vec<u64>,
}

impl Wheel {
    /// A ring of points at pseudo-random places (ketama: Jones, 2007), at least `points` of them, by weight.
    /// Members are name hashes and weights above 0.
    pub(super) fn ring(points: u32, members: &[(u64, u32)]) -> Self {
        let total: f64 = members.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let lightest = members.iter().map(|(_, weight)| *weight).min().unwrap_or(1);
        // A power of two, so that the points of those who stay rarely change when others come and go.
        let mut unit = (f64::from(points) * f64::from(lightest) / total).max(RING_POINTS_EACH).log2().ceil();
        let per_weight = |unit: f64| unit.exp2() / f64::from(lightest);
        while per_weight(unit) * total > limits::RING_POINTS as f64 {
            unit -= 1.0;
        }
        let per_weight = per_weight(unit);
        let mut places: Vec<(u64, u32)> = Vec::with_capacity((per_weight * total) as usize + members.len());
        for (owner, (hash, weight)) in members.iter().enumerate() {
            let own = (f64::from(*weight) * per_weight).round().max(1.0) as u64;
            places.extend((0..own).map(|i| (mix(hash ^ mix(i)), owner as u32)));
        }
        places.sort_unstable();
        let (points, owners) = places.into_iter().unzip();
        Self { owners, points }
    }

    /// A table of at least `entries` (a prime) that members fill in turn, each by its own permutation
    /// (Eisenbud et al., "Maglev", NSDI 2016, section 3.4); those of a lower weight sit out turns.
    pub(super) fn maglev(entries: u32, members: &[(u64, u32)]) -> Self {
        const FREE: u32 = u32::MAX;
        let size = prime_from((entries as usize).max(2 * members.len()).min(limits::MAGLEV_ENTRIES)) as u64;
        let heaviest = f64::from(members.iter().map(|(_, weight)| *weight).max().unwrap_or(1));
        struct Filler {
            at: u64,
            skip: u64,
            part: f64,
            credit: f64,
        }
        let filler = |(hash, weight): &(u64, u32)| {
            let part = f64::from(*weight) / heaviest;
            // In the first turn everybody gets one.
            Filler { at: hash % size, skip: mix(*hash) % (size - 1) + 1, part, credit: 1.0 - part }
        };
        let mut fillers: Vec<Filler> = members.iter().map(filler).collect();
        let mut owners = vec![FREE; size as usize];
        let mut free = if members.is_empty() { 0 } else { owners.len() };
        while free > 0 {
            for (owner, filler) in fillers.iter_mut().enumerate() {
                filler.credit += filler.part;
                // Parts that add up to one may miss it by a rounding.
                if filler.credit < 1.0 - 1e-9 || free == 0 {
                    continue;
                }
                filler.credit -= 1.0;
                while owners[filler.at as usize] != FREE {
                    filler.at += filler.skip;
                    if filler.at >= size {
                        filler.at -= size;
                    }
                }
                owners[filler.at as usize] = owner as u32;
                free -= 1;
            }
        }
        Self { owners, points: Vec::new() }
    }

    /// The owners from the place of `key` on, once around at most; one may come several times.
    pub(super) fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let len = self.owners.len();
        let start = match self.points.is_empty() {
            true => ((u128::from(key) * len as u128) >> 64) as usize,
            false => self.points.partition_point(|point| *point < key) % len,
        };
        self.owners[start..].iter().chain(&self.owners[..start]).map(|owner| *owner as usize)
    }
}

fn prime_from(number: usize) -> usize {
    let is_prime = |n: &usize| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (number.max(3)..).find(is_prime).unwrap_or(number)
}

#[cfg(test)]
mod tests;
