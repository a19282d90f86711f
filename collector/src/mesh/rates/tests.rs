use proptest::prelude::*;

use super::*;

/// A demand of the limit `key`, of so many requests in a second.
fn demand(key: u8, requests: u32, wanted_per_s: f64) -> Demand {
    Demand { key: vec![key; 16], requests, per_ns: 1_000_000_000, wanted_per_s }
}

/// What `proxy` is granted.
fn per_s(rates: &mut Rates, proxy: StreamId, demand: &Demand, now: Instant) -> f64 {
    rates.claim(proxy, demand, now).unwrap().per_s
}

fn is(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
}

#[tokio::test]
async fn one_alone_gets_everything_whatever_it_wants() {
    let (mut rates, now) = (Rates::default(), Instant::now());
    is(per_s(&mut rates, 1, &demand(1, 100, 2.0), now), 100.0);
    is(per_s(&mut rates, 1, &demand(1, 100, 900.0), now), 100.0);
    is(per_s(&mut rates, 2, &demand(2, 7, 900.0), now), 7.0);
    assert_eq!(rates.len(), 2);
}

#[tokio::test]
async fn who_wants_little_gets_it_and_the_others_get_even_parts_of_the_rest() {
    let (mut rates, now) = (Rates::default(), Instant::now());
    let all = [(1, 10.0), (2, 500.0), (3, 40.0), (4, 60.0)];
    for (proxy, wanted) in all {
        per_s(&mut rates, proxy, &demand(1, 100, wanted), now);
    }
    let parts = all.map(|(proxy, wanted)| per_s(&mut rates, proxy, &demand(1, 100, wanted), now));
    [10.0, 30.0, 30.0, 30.0].into_iter().zip(parts).for_each(|(expected, part)| is(part, expected));
    // Once there is enough for all, everybody has as much more than it wants.
    per_s(&mut rates, 2, &demand(1, 150, 20.0), now);
    is(per_s(&mut rates, 1, &demand(1, 150, 10.0), now), 15.0);
}

#[tokio::test]
async fn who_asks_no_more_gives_its_part_back_when_the_lease_is_over() {
    let (mut rates, start) = (Rates::default(), Instant::now());
    let grant = rates.claim(1, &demand(1, 100, 500.0), start).unwrap();
    let lease = Duration::from_millis(grant.lease_ms.into());
    assert_eq!((lease, &grant.key), (limits::RATE_LEASE_LEAST, &vec![1; 16]));
    is(per_s(&mut rates, 2, &demand(1, 100, 500.0), start + Duration::from_secs(1)), 50.0);
    is(per_s(&mut rates, 2, &demand(1, 100, 500.0), start + lease), 100.0);
    rates.expire(start + lease);
    assert_eq!(rates.len(), 1);
    rates.expire(start + lease * 2);
    assert_eq!((rates.len(), rates.limits.len()), (0, 0));
}

#[tokio::test]
async fn a_lease_is_as_long_as_the_time_of_the_limit_within_bounds() {
    let (mut rates, now) = (Rates::default(), Instant::now());
    let mut lease = |seconds: u64| {
        let demand = Demand { per_ns: seconds * 1_000_000_000, ..demand(1, 100, 1.0) };
        rates.claim(1, &demand, now).unwrap().lease_ms
    };
    assert_eq!([lease(1), lease(10), lease(3_600)], [3_000, 10_000, 60_000]);
}

#[tokio::test]
async fn what_makes_no_sense_and_what_there_is_no_room_for_is_granted_nothing() {
    let (mut rates, now) = (Rates::default(), Instant::now());
    for wrong in [
        Demand { key: vec![1; 15], ..demand(1, 1, 1.0) },
        Demand { per_ns: 0, ..demand(1, 1, 1.0) },
        demand(1, 0, 1.0),
        demand(1, 1, 0.0),
        demand(1, 1, f64::NAN),
        demand(1, 1, f64::INFINITY),
        demand(1, 1, -1.0),
    ] {
        assert_eq!(rates.claim(1, &wrong, now), None, "{wrong:?}");
    }
    assert_eq!(rates.len(), 0);
    for number in 0..limits::RATE_CLAIMS {
        let key = (number as u128).to_le_bytes().to_vec();
        rates.claim(1, &Demand { key, ..demand(0, 10, 1.0) }, now).unwrap();
    }
    assert_eq!(rates.claim(1, &demand(0xff, 10, 1.0), now), None);
    assert_eq!(rates.claim(2, &demand(0, 10, 1.0), now), None);
    assert!(rates.claim(1, &demand(0, 10, 1.0), now).is_some(), "who has a claim keeps it");
    rates.expire(now + limits::RATE_LEASE_LEAST);
    assert!(rates.claim(1, &demand(0xff, 10, 1.0), now).is_some());
}

proptest! {
    /// Against a model that hands out the limit in small coins, one after another to each that still wants some, and
    /// what is left then to everybody.
    #[test]
    fn parts_are_what_handing_out_coins_comes_to(
        limit in 1_u32..2_000,
        wants in prop::collection::vec(1_u32..3_000, 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let now = runtime.block_on(async { Instant::now() });
        let mut rates = Rates::default();
        let claim = |rates: &mut Rates, (proxy, wanted): (usize, &u32)| {
            per_s(rates, proxy as StreamId, &demand(1, limit, f64::from(*wanted)), now)
        };
        for one in wants.iter().enumerate() {
            claim(&mut rates, one);
        }
        let parts: Vec<f64> = wants.iter().enumerate().map(|one| claim(&mut rates, one)).collect();
        let mut left = i64::from(limit) * 10;
        let mut coins = vec![0_i64; wants.len()];
        while left > 0 {
            let open: Vec<usize> = (0..wants.len()).filter(|i| coins[*i] < i64::from(wants[*i]) * 10).collect();
            let all = open.is_empty();
            for i in if all { (0..wants.len()).collect() } else { open } {
                coins[i] += i64::from(left > 0);
                left -= i64::from(left > 0);
            }
            if all && left <= 0 { break; }
        }
        for (part, coins) in parts.iter().zip(&coins) {
            prop_assert!((part - *coins as f64 / 10.0).abs() <= 0.1 + 1e-6, "{parts:?} {coins:?}");
        }
        prop_assert!((parts.iter().sum::<f64>() - f64::from(limit)).abs() < 1e-6);
    }
}
