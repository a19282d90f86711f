//! The proxy's own outlier detection.

use std::time::Duration;

use weir_model::hint::BreakerState::{Closed, HalfOpen, Open, Ramp};
use weir_model::policy::destination::{OutlierDetection, SuccessRate};
use weir_model::policy::{Length, Percent};

use super::super::Kind::{self, Grpc, Http, NoConnection, Reset, TimedOut};
use super::{World, eject, secs};

const FAST: Duration = Duration::from_millis(5);

#[test]
fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
    let mut world = World::new(3, true);
    for ok in [false, false, false, false, true, false, false, false, false] {
        world.call("p1", ok);
    }
    assert_eq!(world.state("p1"), Closed);
    world.call("p1", false);
    let view = world.view("p1");
    assert_eq!((view.state, view.cause, view.hint, view.ejections), (Open, Some("local"), None, 1));
    assert_eq!(world.gate("p1").share(), 0.0);
}

#[test]
fn with_the_local_breaker_off_nothing_is_ejected() {
    let mut world = World::new(3, false);
    world.calls("p1", 500, false);
    world.calls("p2", 500, true);
    world.wait(secs(3.0));
    assert_eq!(world.state("p1"), Closed);
}

#[test]
fn a_success_rate_far_below_its_peers_ejects() {
    let mut world = World::new(3, true);
    for _ in 0..40 {
        for (name, ok) in [("p1", true), ("p1", false), ("p2", true), ("p2", true), ("p3", true)] {
            world.call(name, ok);
        }
    }
    world.wait(secs(1.0));
    assert_eq!(["p1", "p2", "p3"].map(|name| world.state(name)), [Open, Closed, Closed]);
}

#[test]
fn where_all_fail_alike_nobody_is_an_outlier() {
    let mut world = World::new(3, true);
    for _ in 0..40 {
        for name in ["p1", "p2", "p3"] {
            world.call(name, true);
            world.call(name, false);
        }
    }
    world.wait(secs(2.0));
    assert!(["p1", "p2", "p3"].iter().all(|name| world.state(name) == Closed));
}

#[test]
fn at_most_half_is_ejected_and_never_the_last() {
    for (endpoints, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (7, 3)] {
        let mut world = World::new(endpoints, true);
        for i in 1..=endpoints {
            world.calls(&format!("p{i}"), 50, false);
        }
        let out = (1..=endpoints).filter(|i| world.state(&format!("p{i}")) == Open).count();
        assert_eq!(out, most, "of {endpoints}");
    }
}

#[test]
fn an_ejection_ends_in_half_open_and_probes_decide() {
    let mut world = World::new(3, true);
    world.calls("p1", 5, false);
    assert!(world.probe("p1", secs(9.9), true, FAST) >= 8, "it is probed while it is out");
    assert_eq!(world.state("p1"), Open, "but its time has to pass");
    world.wait(secs(0.2));
    assert_eq!(world.state("p1"), HalfOpen);
    world.probe("p1", secs(1.1), true, FAST);
    assert_eq!(world.state("p1"), Ramp);
    world.wait(secs(10.1));
    assert_eq!(world.state("p1"), Closed);
}

#[test]
fn a_failed_probe_ejects_again_for_longer() {
    let mut world = World::new(3, true);
    world.calls("p1", 5, false);
    world.wait(secs(10.1));
    assert_eq!(world.state("p1"), HalfOpen);
    world.probe("p1", secs(0.2), false, FAST);
    assert_eq!((world.state("p1"), world.view("p1").ejections), (Open, 2));
    world.wait(secs(19.5));
    assert_eq!(world.state("p1"), Open);
    world.wait(secs(1.0));
    assert_eq!(world.state("p1"), HalfOpen);
}

#[test]
fn failures_during_the_ramp_eject_again() {
    let mut world = World::new(3, true);
    world.calls("p1", 5, false);
    world.probe("p1", secs(12.0), true, FAST);
    assert_eq!(world.state("p1"), Ramp);
    world.calls("p1", 5, false);
    assert_eq!(world.state("p1"), Open);
}

#[test]
fn answers_that_come_late_are_no_probes() {
    let mut world = World::new(3, true);
    world.calls("p1", 5, false);
    world.wait(secs(10.1));
    world.calls("p1", 5, true);
    assert_eq!(world.state("p1"), HalfOpen);
    world.calls("p1", 5, false);
    assert_eq!(world.state("p1"), HalfOpen);
}

#[test]
fn an_own_ejection_outlasts_a_hint_and_a_lapsed_hint_leaves_it_to_the_proxy() {
    let mut world = World::new(3, true);
    world.calls("p1", 5, false);
    world.set(1, &[eject("p1")]);
    assert_eq!(world.view("p1").cause, Some("hint"));
    world.set(1, &[]);
    let view = world.view("p1");
    assert_eq!((view.state, view.cause, view.hint), (Open, Some("local"), None));
    world.wait(secs(10.1));
    assert_eq!(world.state("p1"), HalfOpen);

    let mut world = World::new(3, true);
    world.set(1, &[eject("p1")]);
    world.wait(secs(15.1));
    assert_eq!((world.state("p1"), world.view("p1").hint), (HalfOpen, None));
    world.probe("p1", secs(4.1), false, FAST);
    let view = world.view("p1");
    assert_eq!((view.state, view.cause, view.hint), (Open, Some("local"), None));
}

#[test]
fn what_hints_hold_out_counts_for_the_proxys_own_limit() {
    let mut world = World::new(3, true);
    world.set(1, &[eject("p1")]);
    world.calls("p2", 50, false);
    assert_eq!(["p1", "p2"].map(|name| world.state(name)), [Open, Closed]);
}

/// Sends each of these to `p1`, of three endpoints; returns after how many it was ejected.
fn ejected_after(policy: OutlierDetection, outcomes: &[Kind]) -> Option<usize> {
    let mut world = World::with(3, policy);
    let ejects = |kind: &Kind| {
        world.answer("p1", *kind);
        world.state("p1") == Open
    };
    outcomes.iter().position(ejects).map(|i| i + 1)
}

/// Detection by runs of these lengths alone.
fn runs(errors: u32, gateway: u32, local: u32) -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx_errors: errors,
        consecutive_gateway_errors: gateway,
        consecutive_local_origin_failures: local,
        compare_with_peers: false,
        ..OutlierDetection::default()
    }
}

#[test]
fn each_kind_of_failure_has_its_own_run() {
    let split = |policy| OutlierDetection { split_external_local_origin_errors: true, ..policy };
    let listing = |codes: &[u16]| OutlierDetection { http_error_codes: codes.to_vec(), ..runs(2, 0, 0) };
    let (e500, e503, fine) = (Http(500), Http(503), Http(200));
    for (policy, outcomes, after) in [
        (runs(3, 0, 0), vec![e500, e503, Grpc(13)], Some(3)),
        (runs(3, 0, 0), vec![e500, e503, fine, e500, e503], None),
        (runs(3, 0, 0), vec![e500, e503, Http(404), e500, e503], None),
        (runs(0, 2, 0), vec![e500, e500, e500, e503, e500, e503, Grpc(14)], Some(7)),
        (runs(0, 2, 0), vec![Http(502), Http(504)], Some(2)),
        (runs(0, 2, 0), vec![NoConnection, TimedOut], Some(2)),
        (runs(3, 0, 1), vec![e500, Reset, NoConnection], Some(3)),
        (runs(0, 0, 2), vec![NoConnection, NoConnection, NoConnection], None),
        (split(runs(3, 2, 2)), vec![NoConnection, e503, TimedOut, Reset], Some(4)),
        (split(runs(1, 1, 0)), vec![NoConnection, TimedOut, Reset, Reset], None),
        (split(runs(0, 0, 2)), vec![Reset, fine, Reset, Http(500), Reset], None),
        (split(runs(2, 0, 0)), vec![e500, Reset, e500], Some(3)),
        (runs(2, 0, 0), vec![Http(429), Grpc(8), Http(429)], None),
        (listing(&[429, 8]), vec![Http(429), Grpc(8)], Some(2)),
        (listing(&[429, 8]), vec![Http(429), Grpc(7), Http(403), Grpc(8)], None),
        (OutlierDetection { enabled: false, ..runs(1, 1, 1) }, vec![e503, e503], None),
    ] {
        assert_eq!(ejected_after(policy.clone(), &outcomes), after, "{outcomes:?} under {policy:?}");
    }
}

/// An interval in which `p1` to `p<n>` get 100 requests each, of which so many fail in this way.
fn interval(world: &mut World, failures: &[usize], kind: Kind) {
    for (i, failures) in failures.iter().enumerate() {
        for j in 0..100 {
            // Spread out, so that no run is long.
            let fails = (j * failures) / 100 != ((j + 1) * failures) / 100;
            world.answer(&format!("p{}", i + 1), if fails { kind } else { Http(200) });
        }
    }
    world.wait(secs(1.0));
}

#[test]
fn a_success_rate_below_the_spread_ejects_once_per_interval() {
    let policy = OutlierDetection { success_rate: Some(SuccessRate::default()), ..runs(0, 0, 0) };
    let mut world = World::with(5, policy.clone());
    interval(&mut world, &[0, 0, 0, 0, 40], Http(500));
    assert_eq!((world.state("p4"), world.state("p5")), (Closed, Open));
    let view = world.view("p5");
    assert_eq!((view.cause, view.ejections), (Some("local"), 1));

    let mut world = World::with(5, policy.clone());
    interval(&mut world, &[10, 10, 10, 10, 12], Http(404));
    world.answer("p5", Http(500));
    world.wait(secs(1.0));
    assert_eq!(world.state("p5"), Closed, "a new interval begins from nothing");

    let split = OutlierDetection { split_external_local_origin_errors: true, ..policy.clone() };
    for (policy, kind, out) in
        [(policy, NoConnection, true), (split.clone(), NoConnection, true), (split, Http(500), true)]
    {
        let mut world = World::with(5, policy);
        interval(&mut world, &[0, 40, 0, 0, 0], kind);
        assert_eq!(world.state("p2") == Open, out, "{kind:?}");
    }
}

#[test]
fn without_the_comparison_a_low_rate_ejects_nobody() {
    let mut world = World::with(3, runs(5, 0, 0));
    interval(&mut world, &[50, 0, 0], Http(500));
    assert_eq!(world.state("p1"), Closed);
}

#[test]
fn the_policy_says_how_many_may_be_out_and_how_many_must_be_left() {
    for (endpoints, max_ejection, min_health, most) in [
        (10, 10, 0, 1),
        (10, 15, 0, 1),
        (10, 100, 0, 9),
        (10, 100, 30, 7),
        (10, 0, 0, 0),
        (3, 10, 0, 1),
        (10, 50, 100, 0),
        (1, 100, 0, 0),
    ] {
        let policy = OutlierDetection {
            max_ejection_percent: Percent::whole(max_ejection),
            min_health_percent: Percent::whole(min_health),
            ..OutlierDetection::default()
        };
        let mut world = World::with(endpoints, policy);
        (1..=endpoints).for_each(|i| world.calls(&format!("p{i}"), 5, false));
        let out = (1..=endpoints).filter(|i| world.state(&format!("p{i}")) == Open).count();
        assert_eq!(out, most, "of {endpoints}, {max_ejection} % at most, {min_health} % at least");
    }
}

#[test]
fn what_found_no_room_is_ejected_once_there_is_some() {
    let mut world = World::new(3, true);
    world.calls("p1", 5, false);
    world.calls("p2", 7, false);
    assert_eq!(world.state("p2"), Closed);
    world.endpoints(4);
    world.calls("p2", 3, false);
    assert_eq!(world.state("p2"), Open);
}

#[test]
fn wide_limits_of_its_own_do_not_widen_those_of_hints() {
    let policy = OutlierDetection {
        max_ejection_percent: Percent::ALL,
        min_health_percent: Percent::default(),
        ..OutlierDetection::default()
    };
    let mut world = World::with(4, policy);
    (1..=4).for_each(|i| world.set(1, &(1..=i).map(|i| eject(&format!("p{i}"))).collect::<Vec<_>>()));
    assert_eq!(["p1", "p2", "p3", "p4"].map(|name| world.state(name)), [Open, Open, Closed, Closed]);
    world.calls("p3", 5, false);
    assert_eq!(world.state("p3"), Open, "its own judgement comes first");
    assert_eq!(["p1", "p2"].map(|name| world.state(name)), [Open, Closed], "the newer hint makes room");
}

#[test]
fn ejections_are_n_times_as_long_and_an_interval_in_order_makes_up_for_one() {
    let policy = OutlierDetection {
        interval: Length::secs(7),
        base_ejection_time: Length::secs(4),
        max_ejection_time: Length::secs(10),
        ..OutlierDetection::default()
    };
    let mut world = World::with(3, policy);
    let eject = |world: &mut World, length: f64| {
        world.calls("p1", 5, false);
        world.wait(secs(length - 0.1));
        assert_eq!(world.state("p1"), Open, "within {length} s");
        world.wait(secs(0.2));
        assert_eq!(world.state("p1"), HalfOpen, "after {length} s");
        world.probe("p1", secs(3.5), true, FAST);
        assert_eq!(world.state("p1"), Ramp);
    };
    for length in [4.0, 8.0, 10.0, 10.0] {
        eject(&mut world, length);
    }
    world.wait(secs(8.8));
    assert_eq!(world.state("p1"), Closed, "the ramp is over");
    // Two intervals end within this time, at 56 and at 63 s.
    world.wait(secs(10.0));
    eject(&mut world, 8.0);
    world.wait(secs(60.0));
    eject(&mut world, 4.0);
}

#[test]
fn a_policy_that_switches_detection_off_lets_the_ejected_go() {
    let mut world = World::new(5, true);
    world.calls("p1", 5, false);
    world.calls("p2", 4, false);
    let off = OutlierDetection { enabled: false, ..OutlierDetection::default() };
    world.breakers.set_outlier(world.now, off);
    assert_eq!(world.state("p1"), HalfOpen, "by way of probes");
    world.calls("p2", 50, false);
    assert_eq!(world.state("p2"), Closed);
    let strict = OutlierDetection { http_error_codes: vec![418], ..runs(1, 0, 0) };
    world.breakers.set_outlier(world.now, strict);
    world.answer("p3", Http(418));
    assert_eq!(world.state("p3"), Open, "requests know of the new policy at once");
}

#[test]
fn an_endpoint_that_its_checks_find_well_again_is_let_go_and_probes_decide() {
    let mut world = World::new(3, true);
    world.calls("p1", 5, false);
    for (healthy, good) in [(true, true), (false, false), (false, true)] {
        world.breakers.checked(world.now, "p1", healthy, good);
        assert_eq!(world.state("p1"), Open, "{healthy} {good}");
    }
    world.breakers.checked(world.now, "p1", true, true);
    assert_eq!(world.state("p1"), HalfOpen);
    world.probe("p1", secs(1.1), false, FAST);
    assert_eq!((world.state("p1"), world.view("p1").ejections), (Open, 2), "it only answers checks");
    world.set(1, &[eject("p2")]);
    world.breakers.checked(world.now, "p2", true, true);
    assert_eq!(world.state("p2"), Closed, "there was no room for the hint");
}

#[test]
fn endpoints_that_checks_found_unhealthy_are_not_among_those_left() {
    let mut world = World::new(4, true);
    world.breakers.checked(world.now, "p1", false, false);
    world.breakers.checked(world.now, "p2", false, false);
    world.calls("p3", 5, false);
    world.set(1, &[eject("p4")]);
    assert_eq!(["p3", "p4"].map(|name| world.state(name)), [Closed, Closed]);
    world.calls("p1", 5, false);
    assert_eq!(world.state("p1"), Open, "which takes nothing away");
    world.breakers.checked(world.now, "p2", true, true);
    assert_eq!(world.state("p4"), Open, "now there is room for the hint");
    world.calls("p3", 5, false);
    assert_eq!(world.state("p3"), Closed, "and none for another");
    world.breakers.checked(world.now, "p1", true, true);
    assert_eq!(["p1", "p3", "p4"].map(|name| world.state(name)), [HalfOpen, Closed, Open]);
}
