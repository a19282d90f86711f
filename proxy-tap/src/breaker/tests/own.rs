//! The proxy's own outlier detection.

use std::time::Duration;

use weir_model::hint::BreakerState::{Closed, HalfOpen, Open, Ramp};

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
fn a_failed_probe_ejects_again_for_twice_as_long() {
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
