use std::collections::HashMap;

use super::*;
use crate::breaker::{Breakers, Settings};
use crate::config::{Protocol, StaticEndpoint};

fn upstream(n: usize) -> Arc<Upstream> {
    let told = (0..n).map(|i| StaticEndpoint {
        instance: format!("e{i}"),
        address: format!("127.0.0.1:{}", 9000 + i),
        version: String::new(),
        zone: String::new(),
        protocol: Protocol::Http,
    });
    let settings = Settings {
        local: true,
        caller: "web".into(),
        instance: "web-1".into(),
        service: "payments".into(),
        answers: Arc::default(),
    };
    Upstream::new("payments", Breakers::new(settings, Instant::now()), Some(told.collect()))
}

fn spread(upstream: &Upstream, policy: Balancer, n: usize) -> HashMap<String, usize> {
    let chance = Chance::new(3, "t");
    let mut counts = HashMap::new();
    for _ in 0..n {
        let pick = pick(upstream, &[], false, policy, &chance).unwrap();
        *counts.entry(pick.endpoint.party.instance.to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn each_in_turn_is_even() {
    let counts = spread(&upstream(3), Balancer::RoundRobin, 300);
    assert!(counts.len() == 3 && counts.values().all(|n| *n == 100), "{counts:?}");
}

#[test]
fn two_choices_spread_idle_endpoints_about_evenly() {
    let counts = spread(&upstream(3), Balancer::LeastRequest, 3_000);
    assert!(counts.len() == 3 && counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
}

#[test]
fn a_loaded_endpoint_gets_fewer() {
    let upstream = upstream(3);
    upstream.endpoints()[0].in_flight.store(50, Ordering::Relaxed);
    let counts = spread(&upstream, Balancer::LeastRequest, 3_000);
    // It wins only when it is drawn twice: one time in nine.
    assert!(counts["e0"] < 450, "{counts:?}");
}

#[test]
fn an_endpoint_that_failed_this_request_is_not_asked_again_while_others_are_there() {
    let upstream = upstream(2);
    let all = upstream.endpoints();
    let chance = Chance::new(3, "t");
    for policy in [Balancer::LeastRequest, Balancer::RoundRobin] {
        for _ in 0..50 {
            let pick = pick(&upstream, &all[..1], false, policy, &chance).unwrap();
            assert_eq!(&*pick.endpoint.party.instance, "e1");
        }
    }
    assert!(pick(&upstream, &all[..], false, Balancer::RoundRobin, &chance).is_some());
}

#[test]
fn no_endpoint_is_no_pick() {
    assert!(pick(&upstream(0), &[], false, Balancer::LeastRequest, &Chance::new(1, "")).is_none());
}
