//! Round robin by weight: smooth, without a lock, and exact over a round.
//!
//! Each unit of weight is a turn of a round. Few turns are listed: an endpoint's are at equal distances, and
//! endpoints begin at different ones, so that they interleave. Many turns are not: they walk around the units
//! by a stride that has no divisor in common with their number, so that a round visits each once, and that is
//! near the golden section of the round, which spreads the visits to one endpoint evenly (three-distance
//! theorem: Sós, 1958).

use std::sync::atomic::{AtomicU64, Ordering};

use weir_model::limits;

use crate::chance::Chance;

const GOLDEN: f64 = 0.618_033_988_749_895;

/// Strides that are looked at.
const STRIDES: u64 = 64;

/// The turns of a group.
#[derive(Debug)]
pub(super) struct Turn {
    /// The next turn; 0 before the first.
    cursor: AtomicU64,
    /// Turns of a round.
    round: u64,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// All weigh the same.
    Each,
    Listed(Vec<u32>),
    Stride {
        stride: u64,
        /// Of each endpoint, the unit of weight after its last.
        ends: Vec<u64>,
    },
}

impl Turn {
    /// Turns for `weights`, which are above 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let unit = weights.iter().fold(0, |unit, weight| gcd(unit, u64::from(*weight)));
        let weights = || weights.iter().map(|weight| u64::from(*weight) / unit);
        let round: u64 = weights().sum();
        let order = if weights().all(|weight| weight == 1) {
            Order::Each
        } else if round <= limits::LISTED_TURNS {
            let turns = weights().enumerate().flat_map(|(i, weight)| {
                let begins = (i as f64 * GOLDEN).fract();
                (0..weight).map(move |n| ((n as f64 + begins) / weight as f64, i as u32))
            });
            let mut turns: Vec<(f64, u32)> = turns.collect();
            turns.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            Order::Listed(turns.into_iter().map(|(_, i)| i).collect())
        } else {
            let ends = weights().scan(0, |end, weight| {
                *end += weight;
                Some(*end)
            });
            Order::Stride { stride: stride(round), ends: ends.collect() }
        };
        Self { cursor: AtomicU64::new(0), round, order }
    }

    /// Whose turn it is.
    pub(super) fn next(&self, chance: &Chance) -> usize {
        let mut turn = self.cursor.fetch_add(1, Ordering::Relaxed);
        if turn == 0 {
            // Proxies that begin together, or that hear of a change together, do not all begin with the same.
            turn = chance.u64() >> 1;
            self.cursor.store(turn + 1, Ordering::Relaxed);
        }
        let turn = turn % self.round;
        match &self.order {
            Order::Each => turn as usize,
            Order::Listed(turns) => turns[turn as usize] as usize,
            Order::Stride { stride, ends } => {
                let unit = (u128::from(turn) * u128::from(*stride) % u128::from(self.round)) as u64;
                ends.partition_point(|end| *end <= unit)
            }
        }
    }
}

/// Of some strides near the golden section of the round, the one that is hardest to approximate by a simple
/// fraction of it: the largest quotient of its continued fraction is the least. A single large one, which the
/// nearest stride may well have, lets an endpoint be tens of turns off.
fn stride(round: u64) -> u64 {
    let golden = (round as f64 * GOLDEN) as u64;
    let candidates = (golden..golden + STRIDES).filter(|stride| gcd(*stride, round) == 1);
    candidates.min_by_key(|stride| largest_quotient(*stride, round)).unwrap_or(1)
}

fn largest_quotient(part: u64, whole: u64) -> u64 {
    whole.checked_div(part).map_or(0, |quotient| quotient.max(largest_quotient(whole % part, part)))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over any full round each comes as often as its weight says, and never far from it in between.
        #[test]
        fn weights_are_exact_over_a_round_and_close_within(
            weights in prop_oneof![
                prop::collection::vec(1_u32..40, 1..12),
                prop::collection::vec(5_000_u32..10_000, 4..6),
            ],
            seed: u64,
        ) {
            let (turn, chance) = (Turn::new(&weights), Chance::new(seed, "turn"));
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let mut counts = vec![0_u64; weights.len()];
            for n in 1..=turn.round {
                counts[turn.next(&chance)] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let off = (*count as f64 - f64::from(*weight) / total * n as f64).abs();
                    prop_assert!(off < 6.0 + weights.len() as f64 / 2.0, "off by {off} after {n} turns");
                }
            }
            let unit = weights.iter().fold(0, |unit, w| gcd(unit, u64::from(*w)));
            let expected: Vec<u64> = weights.iter().map(|w| u64::from(*w) / unit).collect();
            prop_assert_eq!(counts, expected);
        }
    }

    #[test]
    fn a_heavy_endpoint_does_not_get_its_turns_in_a_row() {
        let (turn, chance) = (Turn::new(&[30, 20, 10]), Chance::new(1, "turn"));
        let turns: Vec<usize> = (0..40).map(|_| turn.next(&chance)).collect();
        assert!(turns.windows(3).all(|three| three != [0, 0, 0]), "{turns:?}");
        assert!(turns.windows(2).all(|two| two != [1, 1] && two != [2, 2]), "{turns:?}");
    }

    #[test]
    fn equal_weights_come_each_in_turn() {
        let (turn, chance) = (Turn::new(&[4, 4, 4]), Chance::new(1, "turn"));
        let turns: Vec<usize> = (0..9).map(|_| turn.next(&chance)).collect();
        assert!(turns.windows(2).all(|two| two[1] == (two[0] + 1) % 3), "{turns:?}");
    }

    #[test]
    fn huge_weights_do_not_overflow() {
        let (turn, chance) = (Turn::new(&[u32::MAX, u32::MAX - 1]), Chance::new(1, "turn"));
        let first = (0..1_000).filter(|_| turn.next(&chance) == 0).count();
        assert!((495..=505).contains(&first), "{first}");
    }
}
