//! The proxy's own judgement of one endpoint: failures in a row, and how long an ejection lasts.
//!
//! Names and meanings are those of Envoy's outlier detection, which Istio's `outlierDetection` configures. The
//! n-th ejection of an endpoint lasts n times the base time; n falls by one for each interval that the endpoint
//! spends with all of its traffic. Where Envoy then trusts the endpoint again, here probes decide first.

use std::time::Duration;

use tokio::time::Instant;
use weir_model::hint::Guards;
use weir_model::policy::Percent;
use weir_model::policy::destination::OutlierDetection;

use super::outcome::Fault;
use super::score::Runs;

/// What the proxy's own judgement says of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Outlier {
    /// Ejected until then.
    until: Option<Instant>,
    /// By what the next ejection but one would be longer than the base time.
    multiplier: u32,
    /// Ejections so far.
    pub(super) ejections: u32,
    /// Requests since rates were last compared, probes aside.
    pub(super) window: Window,
}

/// Requests of an interval by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// Answers, and missing ones where those are not counted apart.
    pub(super) answers: u64,
    /// Faults among them.
    pub(super) bad: u64,
    /// Missing answers, where they are counted apart.
    pub(super) missing: u64,
}

impl Window {
    pub(super) fn count(&mut self, fault: Option<Fault>) {
        match fault {
            Some(Fault::LocalOrigin) => self.missing += 1,
            Some(_) => {
                self.answers += 1;
                self.bad += 1;
            }
            None => self.answers += 1,
        }
    }
}

impl Outlier {
    /// Ejects the endpoint; returns for how long.
    pub(super) fn eject(&mut self, now: Instant, policy: &OutlierDetection) -> Duration {
        let (base, longest) = (policy.base_ejection_time.0, longest(policy));
        self.ejections = self.ejections.saturating_add(1);
        // A multiplier that no longer makes an ejection longer would only be remembered longer.
        if base.saturating_mul(self.multiplier) < longest {
            self.multiplier += 1;
        }
        let length = base.saturating_mul(self.multiplier).min(longest);
        self.until = Some(now + length);
        length
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// How much of an ejection is left.
    #[cfg(test)]
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Ends an ejection before its time.
    pub(super) fn pardon(&mut self) {
        self.until = None;
    }

    /// An interval went by in which it had all of its traffic.
    pub(super) fn behaved(&mut self) {
        self.multiplier = self.multiplier.saturating_sub(1);
    }
}

/// No ejection is longer. As in Envoy, a base time above the highest is meant.
pub(super) fn longest(policy: &OutlierDetection) -> Duration {
    policy.max_ejection_time.0.max(policy.base_ejection_time.0)
}

/// Whether a run has reached the length that ejects. Where that was not possible, another run as long asks again.
pub(super) fn is_full(policy: &OutlierDetection, runs: Runs) -> bool {
    [
        (runs.server, policy.consecutive_5xx_errors),
        (runs.gateway, policy.consecutive_gateway_errors),
        (runs.local, policy.consecutive_local_origin_failures),
    ]
    .iter()
    .any(|(run, limit)| *limit > 0 && *run > 0 && run.is_multiple_of(*limit))
}

/// What the proxy's own ejections leave untouched, in whole per cent.
pub(super) fn guards(policy: &OutlierDetection) -> Guards {
    let pct = |percent: Percent| (percent.fraction() * 100.0).round() as u8;
    let most = policy.max_ejection_percent;
    Guards {
        min_healthy_pct: pct(policy.min_health_percent),
        max_ejected_pct: if most.fraction() > 0.0 { pct(most).max(1) } else { 0 },
        ..Guards::default()
    }
}

#[cfg(test)]
mod tests {
    use weir_model::policy::Length;

    use super::*;

    #[test]
    fn the_nth_ejection_is_n_times_as_long_up_to_the_longest() {
        let policy = OutlierDetection { max_ejection_time: Length::secs(45), ..OutlierDetection::default() };
        let mut outlier = Outlier::default();
        let mut now = Instant::now();
        let mut lengths = vec![];
        for _ in 0..7 {
            let length = outlier.eject(now, &policy);
            assert!(outlier.is_ejected(now) && !outlier.is_ejected(now + length));
            lengths.push(length.as_secs());
            now += length;
        }
        assert_eq!((lengths, outlier.ejections), (vec![10, 20, 30, 40, 45, 45, 45], 7));
        // Five is the smallest multiple above the longest: what is beyond was not counted.
        (0..4).for_each(|_| outlier.behaved());
        assert_eq!(outlier.eject(now, &policy).as_secs(), 20);
        (0..9).for_each(|_| outlier.behaved());
        assert_eq!(outlier.eject(now, &policy).as_secs(), 10);
    }

    #[test]
    fn a_base_time_above_the_longest_holds() {
        let policy =
            OutlierDetection { base_ejection_time: Length::secs(900), ..OutlierDetection::default() };
        let mut outlier = Outlier::default();
        let lengths = [0; 3].map(|_| outlier.eject(Instant::now(), &policy).as_secs());
        assert_eq!(lengths, [900; 3]);
    }

    #[test]
    fn each_run_has_its_own_limit_and_nought_is_none() {
        let policy = OutlierDetection {
            consecutive_5xx_errors: 5,
            consecutive_gateway_errors: 3,
            consecutive_local_origin_failures: 0,
            ..OutlierDetection::default()
        };
        for (server, gateway, local, full) in [
            (4, 2, 9, false),
            (5, 0, 0, true),
            (6, 0, 0, false),
            (10, 0, 0, true),
            (3, 3, 0, true),
            (0, 0, 0, false),
        ] {
            assert_eq!(is_full(&policy, Runs { server, gateway, local }), full, "{server} {gateway} {local}");
        }
    }

    #[test]
    fn shares_of_less_than_one_per_cent_still_allow_one() {
        let with = |max: f64, min: f64| {
            let policy = OutlierDetection {
                max_ejection_percent: Percent::new(max).unwrap(),
                min_health_percent: Percent::new(min).unwrap(),
                ..OutlierDetection::default()
            };
            let guards = guards(&policy);
            (guards.max_ejected_pct, guards.min_healthy_pct)
        };
        assert_eq!((with(0.1, 0.0), with(0.0, 33.4), with(100.0, 100.0)), ((1, 0), (0, 33), (100, 100)));
    }
}
