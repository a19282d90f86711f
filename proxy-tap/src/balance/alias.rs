//! Draws in proportion to weights, in constant time: Walker's alias method as Vose builds it
//! ("A linear algorithm for generating random numbers with a given distribution", 1991).

/// A table from which indices are drawn.
#[derive(Debug)]
pub(super) struct Alias {
    len: u64,
    /// Of each index: the chance, in parts of 2^32, that it stays itself, and what it is otherwise. Empty
    /// where all weigh the same.
    slots: Vec<(u32, u32)>,
}

impl Alias {
    /// The table for `weights`, which are above 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let len = weights.len() as u64;
        if weights.iter().all(|weight| *weight == weights[0]) {
            return Self { len, slots: Vec::new() };
        }
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mut parts: Vec<f64> = weights.iter().map(|w| f64::from(*w) * len as f64 / total).collect();
        let mut slots: Vec<(u32, u32)> = (0..weights.len()).map(|i| (u32::MAX, i as u32)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|i| parts[*i] < 1.0);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            slots[poor] = ((parts[poor] * 4_294_967_296.0) as u32, rich as u32);
            parts[rich] -= 1.0 - parts[poor];
            if parts[rich] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        Self { len, slots }
    }

    /// The index that a uniform random number stands for; 0 where there is none.
    pub(super) fn draw(&self, random: u64) -> usize {
        let index = (((random >> 32) * self.len) >> 32) as usize;
        match self.slots.get(index) {
            Some((stays, other)) if random as u32 >= *stays => *other as usize,
            _ => index,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chance::Chance;

    proptest! {
        /// Adding up the table gives the weights back.
        #[test]
        fn the_table_holds_the_weights(weights in prop::collection::vec(1_u32..5_000, 1..60)) {
            let alias = Alias::new(&weights);
            let mut parts = vec![0.0; weights.len()];
            for i in 0..weights.len() {
                let (stays, other) = alias.slots.get(i).copied().unwrap_or((u32::MAX, i as u32));
                let stays = f64::from(stays) / 4_294_967_296.0;
                parts[i] += stays;
                parts[other as usize] += 1.0 - stays;
            }
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                let expected = f64::from(*weight) * weights.len() as f64 / total;
                prop_assert!((part - expected).abs() < 1e-6, "{part} for {expected}");
            }
        }
    }

    #[test]
    fn draws_follow_the_weights() {
        let (alias, chance) = (Alias::new(&[1, 2, 7]), Chance::new(5, "alias"));
        let mut counts = [0; 3];
        for _ in 0..100_000 {
            counts[alias.draw(chance.u64())] += 1;
        }
        for (count, expected) in counts.iter().zip([10_000_i32, 20_000, 70_000]) {
            assert!((count - expected).abs() < 600, "{counts:?}");
        }
    }
}
