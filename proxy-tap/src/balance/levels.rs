//! How much traffic each priority level gets, by how many of its endpoints are healthy: Envoy's "Priority
//! levels" and "Panic threshold" (its documentation of load balancing).

/// The endpoints of a level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) healthy: u32,
    pub(super) total: u32,
}

impl Count {
    pub(super) fn add(&mut self, other: Self) {
        self.healthy += other.healthy;
        self.total += other.total;
    }

    fn healthy_share(self) -> f64 {
        f64::from(self.healthy) / f64::from(self.total.max(1))
    }

    /// The part of its traffic that it can take, when it can take `factor` times that of its healthy share.
    pub(super) fn availability(self, factor: f64) -> f64 {
        (self.healthy_share() * factor).min(1.0)
    }
}

/// What a level gets.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Load {
    /// Its share of the traffic; all levels together get 1.
    pub(super) share: f64,
    /// Too few are healthy: all of them are used.
    pub(super) panic: bool,
}

/// The load of each of `counts`, best level first, into `loads`.
///
/// A level takes what it can; the next takes what is left. If all together cannot take everything, each
/// takes its part of what they can, and those whose healthy share is below `panic_below` panic; if all of
/// them do, each takes traffic by its size.
pub(super) fn loads(counts: &[Count], factor: f64, panic_below: f64, loads: &mut [Load]) {
    let available: f64 = counts.iter().map(|count| count.availability(factor)).sum();
    let mut left = 1.0;
    for (load, count) in loads.iter_mut().zip(counts) {
        let share = count.availability(factor) / available.clamp(f64::MIN_POSITIVE, 1.0);
        let panic = available < 1.0 && count.healthy_share() < panic_below;
        *load = Load { share: share.min(left), panic };
        left -= load.share;
    }
    let loads = &mut loads[..counts.len()];
    if loads.iter().all(|load| load.panic) {
        let total: f64 = counts.iter().map(|count| f64::from(count.total)).sum();
        for (load, count) in loads.iter_mut().zip(counts) {
            load.share = f64::from(count.total) / total.max(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Healthy per cent of each level to per cent of the traffic.
    fn table(healthy: &[u32], panic_below: f64) -> Vec<(u32, bool)> {
        let counts: Vec<_> = healthy.iter().map(|n| Count { healthy: *n, total: 100 }).collect();
        let mut out = vec![Load::default(); counts.len()];
        loads(&counts, 1.4, panic_below, &mut out);
        out.iter().map(|load| ((load.share * 100.0).round() as u32, load.panic)).collect()
    }

    #[test]
    fn traffic_spills_over_as_envoy_documents() {
        let shares = |healthy: &[u32]| table(healthy, 0.0).iter().map(|load| load.0).collect::<Vec<_>>();
        // Two levels, of which the second is well.
        for (first, expected) in
            [(100, [100, 0]), (72, [100, 0]), (71, [99, 1]), (50, [70, 30]), (25, [35, 65]), (0, [0, 100])]
        {
            assert_eq!(shares(&[first, 100]), expected, "{first} per cent healthy");
        }
        assert_eq!(shares(&[71, 71]), [99, 1]);
        assert_eq!(shares(&[50, 60]), [70, 30]);
        assert_eq!(shares(&[25, 25]), [50, 50], "normalised where not all can be taken");
        // Three levels.
        assert_eq!(shares(&[100, 100, 100]), [100, 0, 0]);
        assert_eq!(shares(&[25, 25, 100]), [35, 35, 30]);
        assert_eq!(shares(&[25, 25, 20]), [36, 36, 29]);
        assert_eq!(shares(&[0, 0, 100]), [0, 0, 100]);
    }

    #[test]
    fn a_level_panics_only_when_the_others_cannot_take_its_traffic() {
        assert_eq!(table(&[10, 100], 0.5), [(14, false), (86, false)]);
        assert_eq!(table(&[49], 0.5), [(100, true)]);
        assert_eq!(table(&[50], 0.5), [(100, false)]);
        assert_eq!(table(&[60, 0], 0.5), [(100, false), (0, true)]);
        assert_eq!(table(&[0, 0], 0.5), [(50, true), (50, true)], "all panic: by size");
        assert_eq!(table(&[5, 65], 0.5), [(7, true), (93, false)]);
    }

    proptest! {
        #[test]
        fn the_shares_add_up(healthy in prop::collection::vec(0_u32..=100, 1..8)) {
            let counts: Vec<_> = healthy.iter().map(|n| Count { healthy: *n, total: 100 }).collect();
            let mut out = vec![Load::default(); counts.len()];
            loads(&counts, 1.4, 0.5, &mut out);
            let sum: f64 = out.iter().map(|load| load.share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        }
    }
}
