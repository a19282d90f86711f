use std::collections::HashMap;

use proptest::prelude::*;
use weir_model::policy::destination::{HashKey, Locality, Subset, Warmup};
use weir_model::policy::{self, Length, Percent};

use super::*;
use crate::upstream::Connecting;

mod changes;
mod far;
mod simulated;

/// Endpoints of a service, and a set of them.
struct Fixture {
    all: Vec<Arc<Endpoint>>,
    set: Set,
    schedule: Arc<Schedule>,
    chance: Chance,
    now: Instant,
}

fn told(i: usize) -> policy::Endpoint {
    policy::Endpoint {
        instance: format!("e{i}"),
        address: format!("127.0.0.1:{}", 9_000 + i),
        ..policy::Endpoint::default()
    }
}

fn weighing(weights: &[u32]) -> Vec<policy::Endpoint> {
    weights.iter().enumerate().map(|(i, weight)| policy::Endpoint { weight: *weight, ..told(i) }).collect()
}

impl Fixture {
    fn new(told: Vec<policy::Endpoint>, rules: Rules) -> Self {
        let schedule = Arc::<Schedule>::default();
        let all: Vec<_> = told
            .into_iter()
            .map(|told| Endpoint::new(&"payments".into(), told, &Connecting::default()))
            .collect();
        let (rules, now) = (Arc::new(rules), Instant::now());
        for endpoint in &all {
            endpoint.gate.report_to(&schedule);
            // A guess is older for those that were made first; what is measured now is the same for all.
            endpoint.done(End::Good, Duration::from_millis(10), now);
        }
        let set = Set::new(&all, &rules.balancer, &rules, &schedule, now);
        Self { all, set, schedule, chance: Chance::new(3, "t"), now }
    }

    fn by(balancer: Balancer, told: Vec<policy::Endpoint>) -> Self {
        Self::new(told, Rules { balancer, ..Rules::default() })
    }

    fn pick(&self, ask: &Ask<'_>) -> Option<usize> {
        let pick = self.set.pick(ask, &self.chance, self.now)?;
        self.all.iter().position(|endpoint| Arc::ptr_eq(endpoint, &pick.endpoint))
    }

    /// How often each is chosen.
    fn spread(&self, n: usize, ask: &Ask<'_>) -> Vec<usize> {
        let mut counts = vec![0; self.all.len()];
        (0..n).for_each(|_| counts[self.pick(ask).unwrap()] += 1);
        counts
    }

    fn is_out(&self, out: impl IntoIterator<Item = usize>) {
        out.into_iter().for_each(|i| self.all[i].gate.set_share(0.0));
        self.set.refresh(self.now);
    }
}

/// Within five standard deviations of what the shares say.
fn assert_close(counts: &[usize], shares: &[f64]) {
    let n = counts.iter().sum::<usize>() as f64;
    let total: f64 = shares.iter().sum();
    for (count, share) in counts.iter().zip(shares) {
        let p = share / total;
        let off = (*count as f64 - n * p).abs();
        assert!(off <= 5.0 * (n * p * (1.0 - p)).sqrt() + 1e-9, "{counts:?} for {shares:?}");
    }
}

fn hashing() -> [Balancer; 2] {
    let key = || HashKey::SourceIp;
    [Balancer::RingHash { key: key(), points: 1_024 }, Balancer::Maglev { key: key(), entries: 65_537 }]
}

fn not_hashing() -> [Balancer; 4] {
    [Balancer::RoundRobin, Balancer::Random, Balancer::LeastRequest, Balancer::PeakEwma]
}

fn everyone() -> impl Iterator<Item = Balancer> {
    not_hashing().into_iter().chain(hashing())
}

#[test]
fn idle_endpoints_get_what_their_weights_say() {
    // What is hashed is balanced at random without a key.
    for balancer in everyone() {
        let fixture = Fixture::by(balancer, weighing(&[1, 2, 5]));
        assert_close(&fixture.spread(8_000, &Ask::default()), &[1.0, 2.0, 5.0]);
    }
    let fixture = Fixture::by(Balancer::RoundRobin, weighing(&[1, 2, 5]));
    assert_eq!(fixture.spread(8_000, &Ask::default()), [1_000, 2_000, 5_000], "exactly");
    let fixture = Fixture::by(Balancer::RoundRobin, weighing(&[1, 1, 1]));
    assert_eq!(fixture.spread(300, &Ask::default()), [100, 100, 100]);
}

#[test]
fn a_breaker_that_allows_a_share_gets_that_share() {
    for balancer in not_hashing() {
        let fixture = Fixture::by(balancer, weighing(&[1, 2, 1]));
        fixture.all[1].gate.set_share(0.25);
        fixture.set.refresh(fixture.now);
        assert_close(&fixture.spread(8_000, &Ask::default()), &[1.0, 0.5, 1.0]);
    }
}

#[test]
fn one_that_was_ejected_a_moment_ago_gets_nothing() {
    for balancer in everyone() {
        let fixture = Fixture::by(balancer, weighing(&[1, 1, 1]));
        fixture.all[1].gate.set_share(0.0);
        fixture.all[2].set_healthy(false, fixture.now);
        assert_eq!(fixture.spread(200, &Ask::default()), [200, 0, 0], "before anybody counts");
    }
}

#[test]
fn no_weight_is_no_traffic() {
    for balancer in everyone() {
        let fixture = Fixture::by(balancer.clone(), weighing(&[0, 1, 0]));
        fixture.is_out([1]);
        assert_eq!(fixture.spread(50, &Ask::default()), [0, 50, 0], "not even in a panic");
        assert!(Fixture::by(balancer.clone(), weighing(&[0, 0])).pick(&Ask::default()).is_none());
        assert!(Fixture::by(balancer, Vec::new()).pick(&Ask::default()).is_none());
    }
}

#[test]
fn a_loaded_endpoint_gets_fewer() {
    for balancer in [Balancer::LeastRequest, Balancer::PeakEwma] {
        let fixture = Fixture::by(balancer, weighing(&[1, 1, 1]));
        fixture.all[0].in_flight.store(50, Ordering::Relaxed);
        assert_eq!(fixture.spread(200, &Ask::default())[0], 0, "two that are drawn are two");
        // Load counts per weight.
        let fixture = Fixture::by(Balancer::LeastRequest, weighing(&[1, 100]));
        fixture.all[0].in_flight.store(1, Ordering::Relaxed);
        fixture.all[1].in_flight.store(50, Ordering::Relaxed);
        assert_eq!(fixture.spread(200, &Ask::default())[0], 0);
    }
}

#[test]
fn an_endpoint_that_failed_this_request_is_not_asked_again_while_others_are_there() {
    for balancer in everyone() {
        let fixture = Fixture::by(balancer, weighing(&[1, 1]));
        let ask = Ask { tried: &fixture.all[..1], key: Some(7), ..Ask::default() };
        assert_eq!(fixture.spread(50, &ask), [0, 50]);
        fixture.is_out([1]);
        assert_eq!(fixture.spread(50, &ask), [50, 0], "it may be asked and the other may not");
        let ask = Ask { tried: &fixture.all, ..Ask::default() };
        assert!(fixture.pick(&ask).is_some());
    }
}

#[test]
fn too_few_healthy_ones_are_a_panic() {
    let rules = |threshold: Option<Percent>| Rules {
        balancer: Balancer::RoundRobin,
        panic_threshold: threshold,
        ..Rules::default()
    };
    let fixture = Fixture::new(weighing(&[1; 5]), rules(None));
    fixture.is_out([0, 1]);
    assert_eq!(fixture.spread(500, &Ask::default())[..2], [0, 0], "60 per cent are healthy");
    fixture.is_out([2]);
    assert_eq!(fixture.spread(500, &Ask::default()), [100; 5], "40 per cent");
    let fixture = Fixture::new(weighing(&[1; 5]), rules(Some(Percent::whole(30))));
    fixture.is_out([0, 1, 2]);
    assert_eq!(fixture.spread(500, &Ask::default())[..3], [0, 0, 0]);
    for balancer in everyone() {
        let never = Rules { balancer, ..rules(Some(Percent::whole(0))) };
        let fixture = Fixture::new(weighing(&[1; 5]), never);
        fixture.is_out([0, 1, 2, 3]);
        let key = Ask { key: Some(9), ..Ask::default() };
        assert_eq!(fixture.spread(500, &key), [0, 0, 0, 0, 500]);
        fixture.is_out([4]);
        assert!(fixture.pick(&key).is_none(), "nobody is healthy and panic is forbidden");
    }
}

#[test]
fn a_new_endpoint_warms_up() {
    let warmup = Warmup { duration: Length::secs(100), minimum: Percent::whole(10), aggression: 1.0 };
    let rules = Rules { balancer: Balancer::Random, warmup: Some(warmup), ..Rules::default() };
    let mut fixture = Fixture::new(weighing(&[1, 1]), rules);
    assert_close(&fixture.spread(4_000, &Ask::default()), &[1.0, 1.0]);
    let start = fixture.now;
    // The second one becomes healthy, and so begins, 100 s after the first.
    fixture.all[1].set_healthy(false, start);
    fixture.all[1].set_healthy(true, start + Duration::from_secs(100));
    for (seconds, share) in [(100, 0.1), (125, 0.25), (150, 0.5), (200, 1.0), (900, 1.0)] {
        fixture.now = start + Duration::from_secs(seconds) + Duration::from_millis(5);
        assert_close(&fixture.spread(8_000, &Ask::default()), &[1.0, share]);
    }
}

#[test]
fn a_probe_goes_to_one_that_is_out_and_only_when_it_is_due() {
    let mut fixture = Fixture::by(Balancer::RoundRobin, weighing(&[1; 4]));
    assert!((0..20).all(|_| !fixture.set.pick(&Ask::default(), &fixture.chance, fixture.now).unwrap().probe));
    fixture.is_out([2]);
    let start = fixture.now;
    fixture.all[2].gate.probe_every(Duration::from_secs(4), start + Duration::from_secs(1));
    let mut probed = Vec::new();
    for tenth in 0..200 {
        fixture.now = start + Duration::from_millis(100 * tenth);
        let tried = Ask { tried: &fixture.all[..1], ..Ask::default() };
        for ask in [tried, Ask { tests_no_endpoint: true, ..Ask::default() }] {
            assert!(!fixture.set.pick(&ask, &fixture.chance, fixture.now).unwrap().probe);
        }
        let pick = fixture.set.pick(&Ask::default(), &fixture.chance, fixture.now).unwrap();
        assert_eq!(pick.probe, Arc::ptr_eq(&pick.endpoint, &fixture.all[2]));
        probed.extend(pick.probe.then_some(tenth));
    }
    assert_eq!(probed, [10, 50, 90, 130, 170]);
    // Another one is to be probed sooner.
    fixture.all[3].gate.probe_every(Duration::from_secs(4), fixture.now);
    let pick = fixture.set.pick(&Ask::default(), &fixture.chance, fixture.now).unwrap();
    assert!(pick.probe && Arc::ptr_eq(&pick.endpoint, &fixture.all[3]));
}

#[test]
fn a_subset_is_chosen_from_by_its_own_rules() {
    let version = |i: usize, version: &str| policy::Endpoint { version: version.into(), ..told(i) };
    let all = vec![version(0, "v1"), version(1, "v1"), version(2, "v2")];
    let subset = |name: &str, balancer| Subset {
        name: name.into(),
        labels: [("version".to_owned(), name.to_owned())].into(),
        balancer,
    };
    let subsets = vec![subset("v1", Some(Balancer::RoundRobin)), subset("v2", None), subset("v3", None)];
    let [_, maglev] = hashing();
    let rules = Rules { balancer: maglev, subsets, ..Rules::default() };
    let fixture = Fixture::new(all, rules.clone());
    let sets = Sets::new(&fixture.all, &Arc::new(rules), &fixture.schedule, fixture.now);
    let pick = |subset: &str| sets.of(subset).unwrap().pick(&Ask::default(), &fixture.chance, fixture.now);
    let first: Vec<_> = (0..4).map(|_| pick("v1").unwrap().endpoint.party.instance.to_string()).collect();
    assert!(first[0] != first[1] && first[..2] == first[2..], "in turn: {first:?}");
    assert!(sets.of("v1").unwrap().keyed().is_none() && sets.of("v2").unwrap().keyed().is_some());
    assert!((0..20).all(|_| &*pick("v2").unwrap().endpoint.party.instance == "e2"));
    assert!(pick("v3").is_none() && sets.of("v4").is_none());
    // A probe of another subset is nobody's business here.
    fixture.all[2].gate.probe_every(Duration::from_secs(4), fixture.now);
    assert!(!pick("v1").unwrap().probe);
    assert!(pick("v2").unwrap().probe);
}

proptest! {
    /// Whatever the state: who may be taken and was not tried comes first, and nobody without weight comes.
    #[test]
    fn a_pick_is_allowed(
        states in prop::collection::vec((0_u32..4, 0_u8..3, any::<bool>(), 0_u32..3), 1..12),
        which in 0_usize..6, key: Option<u64>, seed: u64,
    ) {
        let told = states.iter().enumerate().map(|(i, (weight, _, _, priority))| {
            policy::Endpoint { weight: *weight, priority: *priority, ..told(i) }
        });
        let balancer = everyone().nth(which).unwrap();
        let rules = Rules { balancer, panic_threshold: Percent::new(0.0), ..Rules::default() };
        let mut fixture = Fixture::new(told.collect(), rules);
        fixture.chance = Chance::new(seed, "");
        for (endpoint, (_, share, ..)) in fixture.all.iter().zip(&states) {
            endpoint.gate.set_share(f64::from(*share) / 2.0);
        }
        let tried: Vec<_> = fixture.all.iter().zip(&states).filter(|(_, s)| s.2).map(|(e, _)| e.clone()).collect();
        let may = |i: usize| states[i].0 > 0 && states[i].1 > 0;
        let fresh = (0..states.len()).any(|i| may(i) && !states[i].2);
        for other_localities in [false, true] {
            let ask = Ask { tried: &tried, key, other_localities, tests_no_endpoint: false };
            match fixture.pick(&ask) {
                Some(i) => prop_assert!(may(i) && !(fresh && states[i].2), "{i}"),
                None => prop_assert!(!(0..states.len()).any(may)),
            }
        }
    }
}
