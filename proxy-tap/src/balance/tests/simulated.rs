//! Open-loop load in virtual time: what balancing by load leads to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// How an endpoint serves: how long it takes, and whether it fails.
#[derive(Clone, Copy)]
struct Serves {
    ms: u64,
    end: End,
}

const WELL: Serves = Serves { ms: 50, end: End::Good };

/// The share of requests that each endpoint got, at 100 requests per second for two minutes.
fn shares(balancer: Balancer, serves: &[Serves]) -> Vec<f64> {
    const REQUESTS: u64 = 12_000;
    let mut fixture = Fixture::by(balancer, weighing(&vec![1; serves.len()]));
    let start = fixture.now;
    let mut under_way: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut counts = vec![0.0; serves.len()];
    for n in 0..REQUESTS {
        let at = n * 10;
        while let Some(Reverse((done, i))) =
            under_way.peek().copied().filter(|Reverse((done, _))| *done <= at)
        {
            under_way.pop();
            let Serves { ms, end } = serves[i];

            fixture.all[i].in_flight.fetch_sub(1, Ordering::Relaxed);
            let took = Duration::from_millis(ms);
            fixture.all[i].done(end, took, start + Duration::from_millis(done));
        }
        fixture.now = start + Duration::from_millis(at);
        let i = fixture.pick(&Ask::default()).unwrap();
        fixture.all[i].in_flight.fetch_add(1, Ordering::Relaxed);
        counts[i] += 1.0 / REQUESTS as f64;
        under_way.push(Reverse((at + serves[i].ms, i)));
    }
    counts
}

#[test]
fn a_fast_error_attracts_no_traffic() {
    for balancer in [Balancer::LeastRequest, Balancer::PeakEwma] {
        let at_once = |end| [Serves { ms: 1, end }, WELL, WELL, WELL, WELL];
        let if_good = shares(balancer.clone(), &at_once(End::Good));
        assert!(if_good[0] > 0.25, "whoever answers at once is preferred: {if_good:?}");
        let failing = shares(balancer, &at_once(End::Failed));
        assert!(failing[0] < 0.02, "a tenth of its share of a fifth: {failing:?}");
        assert!(failing[1..].iter().all(|share| *share > 0.2), "{failing:?}");
    }
}

#[test]
fn a_slow_endpoint_gets_less() {
    let serves = [Serves { ms: 500, end: End::Good }, WELL, WELL, WELL, WELL];
    let by_load = shares(Balancer::LeastRequest, &serves);
    assert!(by_load[0] < 0.12, "{by_load:?}");
    let by_latency = shares(Balancer::PeakEwma, &serves);
    assert!(by_latency[0] < 0.02, "{by_latency:?}");
    assert!(by_latency[0] > 0.0002, "but it is asked now and then: {by_latency:?}");
    let blind = shares(Balancer::Random, &serves);
    assert!(blind[0] > 0.18, "{blind:?}");
}

#[test]
fn equals_are_treated_alike() {
    for balancer in [Balancer::LeastRequest, Balancer::PeakEwma] {
        let shares = shares(balancer, &[WELL; 5]);
        assert!(shares.iter().all(|share| (share - 0.2).abs() < 0.04), "{shares:?}");
    }
}
