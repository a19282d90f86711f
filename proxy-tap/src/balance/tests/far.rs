//! Levels and places.

use weir_model::policy::destination::Distribute;

use super::*;

fn at(i: usize, region: &str, zone: &str) -> policy::Endpoint {
    policy::Endpoint { region: region.into(), zone: zone.into(), ..told(i) }
}

fn from_eu_1(locality: Locality, balancer: Balancer) -> Rules {
    Rules { balancer, locality, region: "eu".into(), zone: "eu-1".into(), ..Rules::default() }
}

fn near() -> Locality {
    Locality { prefer: true, ..Locality::default() }
}

#[test]
fn traffic_stays_in_the_zone_and_spills_over_as_it_fails() {
    let zones = [("eu", "eu-1"), ("eu", "eu-2"), ("us", "us-1")];
    for balancer in not_hashing() {
        let all = zones.iter().flat_map(|zone| [*zone; 4]).enumerate();
        let all = all.map(|(i, (region, zone))| at(i, region, zone)).collect();
        let fixture = Fixture::new(all, from_eu_1(near(), balancer));
        let by_zone =
            || fixture.spread(10_000, &Ask::default()).chunks(4).map(|zone| zone.iter().sum()).collect();
        let counts: Vec<usize> = by_zone();
        assert_eq!(counts, [10_000, 0, 0]);
        fixture.is_out([0, 1]);
        // Half are healthy: 1.4 times that stays.
        assert_close(&by_zone(), &[0.7, 0.3, 0.0]);
        fixture.is_out([0, 1, 2, 4, 5, 6]);
        assert_close(&by_zone(), &[0.35, 0.35, 0.3]);
        fixture.is_out(0..8);
        assert_eq!(by_zone(), [0, 0, 10_000]);
    }
}

#[test]
fn priorities_come_before_distance() {
    let second = policy::Endpoint { priority: 1, ..at(0, "eu", "eu-1") };
    let fixture = Fixture::new(vec![second, at(1, "us", "us-1")], from_eu_1(near(), Balancer::Random));
    assert_eq!(fixture.spread(100, &Ask::default()), [0, 100]);
    fixture.is_out([1]);
    assert_eq!(fixture.spread(100, &Ask::default()), [100, 0]);
}

#[test]
fn a_distribution_replaces_the_preference() {
    let to = [("eu/eu-1", 60), ("eu/*", 30), ("us/*", 10)].map(|(place, weight)| (place.to_owned(), weight));
    let distribute = vec![Distribute { from: "eu/*".into(), to: to.into() }];
    let locality = Locality { distribute, ..near() };
    let all = vec![
        at(0, "eu", "eu-1"),
        at(1, "eu", "eu-2"),
        at(2, "eu", "eu-3"),
        at(3, "us", "us-1"),
        at(4, "asia", "asia-1"),
    ];
    let fixture = Fixture::new(all, from_eu_1(locality, Balancer::Random));
    assert_close(&fixture.spread(10_000, &Ask::default()), &[60.0, 15.0, 15.0, 10.0, 0.0]);
    // A place that fails leaves its part to the others of the level; 1.4 times one half of a place remains.
    fixture.is_out([0]);
    assert_close(&fixture.spread(10_000, &Ask::default()), &[0.0, 15.0, 15.0, 10.0, 0.0]);
    fixture.is_out([1]);
    fixture.all[0].gate.set_share(1.0);
    fixture.set.refresh(fixture.now);
    assert_close(&fixture.spread(10_000, &Ask::default()), &[60.0, 0.0, 21.0, 10.0, 0.0]);
}

#[test]
fn a_retry_may_go_elsewhere() {
    let all = vec![at(0, "eu", "eu-1"), at(1, "eu", "eu-1"), at(2, "eu", "eu-2"), at(3, "us", "us-1")];
    let fixture = Fixture::new(all, from_eu_1(near(), Balancer::Random));
    let tried = fixture.all[..1].to_vec();
    let here = Ask { tried: &tried, ..Ask::default() };
    assert_eq!(fixture.spread(100, &here), [0, 100, 0, 0]);
    assert_eq!(fixture.spread(100, &Ask { other_localities: true, ..here }), [0, 0, 100, 0]);
    let tried = [fixture.all[0].clone(), fixture.all[2].clone()];
    let ask = Ask { tried: &tried, other_localities: true, ..Ask::default() };
    assert_eq!(fixture.spread(100, &ask), [0, 0, 0, 100]);
    let ask = Ask { other_localities: true, ..Ask::default() };
    assert_eq!(fixture.spread(100, &ask)[2..], [0, 0], "a first attempt has nowhere to turn away from");
}

#[test]
fn more_levels_than_there_may_be_are_one_at_the_end() {
    let all = (0..100).map(|i| policy::Endpoint { priority: i, ..told(i as usize) }).collect();
    let rules = Rules { balancer: Balancer::Random, panic_threshold: Percent::new(0.0), ..Rules::default() };
    let fixture = Fixture::new(all, rules);
    assert_eq!(fixture.set.groups.len(), limits::BALANCER_GROUPS);
    assert_eq!(fixture.spread(50, &Ask::default())[0], 50);
    fixture.is_out(0..99);
    assert_eq!(fixture.spread(50, &Ask::default())[99], 50);
}

fn owners(fixture: &Fixture) -> Vec<usize> {
    (0..3_000).map(|key| fixture.pick(&Ask { key: Some(mix(key)), ..Ask::default() }).unwrap()).collect()
}

#[test]
fn keys_of_one_that_is_out_go_elsewhere_and_come_back() {
    for balancer in hashing() {
        let fixture = Fixture::by(balancer.clone(), weighing(&[1; 8]));
        let before = owners(&fixture);
        assert_eq!(owners(&fixture), before, "a key stays");
        let listed_otherwise = Fixture::by(balancer, (0..8).rev().map(told).collect());
        let mirrored: Vec<_> = owners(&listed_otherwise).into_iter().map(|i| 7 - i).collect();
        assert_eq!(mirrored, before, "all callers agree");
        fixture.is_out([3]);
        let without = owners(&fixture);
        let moved: HashMap<usize, usize> = before.iter().zip(&without).filter(|(b, a)| b != a).fold(
            HashMap::new(),
            |mut moved, (before, after)| {
                assert_eq!(*before, 3, "only its keys move");
                *moved.entry(*after).or_default() += 1;
                moved
            },
        );
        assert_eq!(moved.values().sum::<usize>(), before.iter().filter(|owner| **owner == 3).count());
        assert!(moved.len() > 4, "and not to one neighbour alone: {moved:?}");
        fixture.all[3].gate.set_share(0.5);
        let half = owners(&fixture);
        let back = half.iter().filter(|owner| **owner == 3).count() as f64;
        let all = before.iter().filter(|owner| **owner == 3).count() as f64;
        assert!((0.35..0.65).contains(&(back / all)), "{back} of {all}");
        assert!(half.iter().zip(&before).all(|(half, before)| *half != 3 || *before == 3));
        fixture.all[3].gate.set_share(1.0);
        assert_eq!(owners(&fixture), before);
    }
}

#[test]
fn keys_agree_even_when_hardly_anybody_is_left() {
    for balancer in hashing() {
        let rules = Rules { balancer, panic_threshold: Percent::new(0.0), ..Rules::default() };
        let fixture = Fixture::new(weighing(&[1; 900]), rules);
        fixture.is_out((0..900).filter(|i| i % 300 != 0));
        let left = owners(&fixture);
        assert_eq!(owners(&fixture), left);
        let counts: Vec<_> = [0, 300, 600].map(|i| left.iter().filter(|owner| **owner == i).count()).into();
        assert!(counts.iter().all(|n| *n > 700), "{counts:?}");
    }
}
