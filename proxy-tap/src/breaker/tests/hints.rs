//! What hints do, and how their targets come back.

use std::time::Duration;

use weir_model::hint::{Action, BreakerState, Hint, Mode, Target, Verdict};
use weir_model::limits;

use super::{World, eject, hint, open, secs, slow};

use BreakerState::{Closed, HalfOpen, Open, Ramp, Soft};
use Verdict::{Applied, Clamped, Expired, Reverted, Shadowed, Vetoed};

const FAST: Duration = Duration::from_millis(5);

fn renewed(hint: &Hint, revision: u64) -> Hint {
    Hint { revision, ..hint.clone() }
}

#[test]
fn an_ejected_endpoint_gets_probes_alone_and_comes_back_step_by_step() {
    let mut world = World::new(3, false);
    world.set(1, &[eject("p2")]);
    assert_eq!(world.said(), [(Applied, Open)]);
    let view = world.view("p2");
    assert_eq!((view.state, view.cause, view.hint.as_deref()), (Open, Some("hint"), Some("h-p2")));
    assert_eq!(world.gate("p2").share(), 0.0);
    assert_eq!(world.probe("p2", secs(14.0), false, FAST), 3, "a probe every 4 s");

    world.set(1, &[]);
    assert_eq!(world.said(), [(Reverted, HalfOpen)]);
    assert_eq!(world.view("p2").hint, None);
    assert!(world.probe("p2", secs(12.0), true, FAST) >= 3);
    assert_eq!(world.state("p2"), Ramp);
    assert_eq!(world.said(), [(Reverted, Ramp)]);
    let early = world.gate("p2").share();
    world.wait(secs(5.0));
    let late = world.gate("p2").share();
    assert!(0.0 < early && early < 0.5 && early + 0.4 < late && late < 1.0, "{early} then {late}");
    world.wait(secs(6.0));
    assert_eq!((world.state("p2"), world.gate("p2").share()), (Closed, 1.0));
    assert_eq!(world.said(), [(Reverted, Closed)]);
    assert!(!world.gate("p2").take_probe(world.now + secs(100.0)));
}

#[test]
fn good_probes_do_not_readmit_while_the_hint_holds() {
    let mut world = World::new(3, true);
    for revision in 1..=12 {
        world.set(1, &[renewed(&eject("p2"), revision)]);
        world.probe("p2", secs(5.0), true, FAST);
        assert_eq!(world.state("p2"), Open);
    }
    world.set(1, &[]);
    assert_eq!(world.state("p2"), HalfOpen, "one more probe is asked");
    assert_eq!(world.probe("p2", secs(0.2), true, FAST), 1);
    assert_eq!(world.state("p2"), Ramp);
}

#[test]
fn a_lease_is_renewed_by_a_higher_revision_alone() {
    let mut world = World::new(3, false);
    world.set(1, &[eject("p2")]);
    world.wait(secs(10.0));
    world.set(1, &[renewed(&eject("p2"), 2)]);
    assert_eq!(world.said(), [(Applied, Open)], "a renewal is no news");
    world.wait(secs(14.0));
    assert_eq!(world.state("p2"), Open);
    world.set(1, &[renewed(&eject("p2"), 2)]);
    world.wait(secs(1.1));
    assert_eq!(world.state("p2"), HalfOpen, "the same revision does not renew");
    assert_eq!(world.said(), [(Expired, HalfOpen)]);
    world.set(1, &[renewed(&eject("p2"), 2)]);
    world.set(1, &[renewed(&eject("p2"), 1)]);
    assert_eq!(world.state("p2"), HalfOpen, "nor does it begin again");
    world.set(1, &[renewed(&eject("p2"), 3)]);
    assert_eq!((world.state("p2"), world.said()), (Open, vec![(Applied, Open)]));
}

#[test]
fn no_lease_is_longer_than_the_limit_and_one_of_nothing_never_acts() {
    let mut world = World::new(3, false);
    world.set(1, &[Hint { ttl: Duration::MAX, ..eject("p2") }, Hint { ttl: Duration::ZERO, ..eject("p1") }]);
    world.wait(Duration::from_millis(100));
    assert_eq!((world.state("p1"), world.said().len()), (Closed, 1), "only p2 was ejected");
    world.wait(limits::HINT_TTL);
    assert_eq!((world.state("p2"), world.said()), (HalfOpen, vec![(Expired, HalfOpen)]));
}

#[test]
fn after_a_lapse_a_slow_answer_is_no_good_probe() {
    let mut world = World::new(3, true);
    world.set(1, &[slow(eject("p2"))]);
    world.wait(secs(16.0));
    assert_eq!(world.state("p2"), HalfOpen);
    assert!(world.probe("p2", secs(40.0), true, Duration::from_millis(50)) >= 9);
    assert_eq!(world.state("p2"), HalfOpen, "it answers, but as slowly as before");
    world.probe("p2", secs(12.0), true, FAST);
    assert_eq!(world.state("p2"), Ramp);
}

#[test]
fn weights_soften_and_go_back_by_a_ramp() {
    let mut world = World::new(3, false);
    let half = hint("h-w", 1, Target::Endpoint("p1".into()), Action::Weight(0.5));
    world.set(1, std::slice::from_ref(&half));
    assert_eq!((world.state("p1"), world.gate("p1").share()), (Soft, 0.5));
    assert_eq!(world.said(), [(Applied, Soft)]);
    world.set(1, &[]);
    assert_eq!(world.said(), [(Reverted, Ramp)]);
    assert!(world.gate("p1").share() >= 0.5, "a way back does not take traffic away");
    world.wait(secs(10.1));
    assert_eq!((world.state("p1"), world.said()), (Closed, vec![(Reverted, Closed)]));
}

#[test]
fn the_stricter_of_two_hints_holds_and_the_higher_priority_decides() {
    let mut world = World::new(4, false);
    let weight = |id: &str, share, priority| {
        let mut hint = hint(id, 1, Target::Endpoint("p1".into()), Action::Weight(share));
        hint.scope.priority = priority;
        hint
    };
    world.set(1, &[weight("h-1", 0.5, 0), weight("h-2", 0.25, 0)]);
    assert_eq!(world.gate("p1").share(), 0.25);
    world.set(1, &[weight("h-1", 0.5, 7), weight("h-2", 0.25, 0)]);
    world.set(1, &[weight("h-3", 0.5, 7), weight("h-2", 0.25, 0)]);
    assert_eq!(world.gate("p1").share(), 0.5);
    assert!(world.acks().iter().any(|ack| ack.id == "h-2" && ack.verdict == Clamped));
}

#[test]
fn a_zone_is_ejected_as_far_as_the_guards_allow() {
    let mut world = World::new(4, false);
    world.set(1, &[hint("h-z", 1, Target::Zone("a".into()), Action::Eject)]);
    assert_eq!(["p1", "p2", "p3", "p4"].map(|name| world.state(name)), [Open, Closed, Open, Closed]);
    let mut world = World::new(3, false);
    world.set(1, &[hint("h-z", 1, Target::Zone("a".into()), Action::Eject)]);
    assert_eq!(["p1", "p2", "p3"].map(|name| world.state(name)), [Open, Closed, Closed]);
    let mut verdicts: Vec<_> = world.said();
    verdicts.sort_by_key(|(verdict, _)| verdict.name());
    assert_eq!(verdicts, [(Applied, Open), (Clamped, Closed)]);
}

#[test]
fn hints_never_take_more_than_half_nor_the_last_endpoint() {
    for (endpoints, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
        let mut world = World::new(endpoints, false);
        let all: Vec<Hint> = (1..=endpoints)
            .map(|i| {
                let mut hint = eject(&format!("p{i}"));
                (hint.guards.min_healthy_pct, hint.guards.max_ejected_pct) = (0, 100);
                hint
            })
            .collect();
        world.set(1, &all);
        let out = (1..=endpoints).filter(|i| world.state(&format!("p{i}")) == Open).count();
        assert_eq!(out, most, "of {endpoints}");
        let clamped = world.said().iter().filter(|said| said.0 == Clamped).count();
        assert_eq!(clamped, endpoints - most);
    }
}

#[test]
fn a_hint_may_ask_for_more_caution_than_the_proxy_has() {
    let mut world = World::new(10, false);
    let mut careful = eject("p1");
    careful.guards.max_ejected_pct = 0;
    let mut healthy = eject("p2");
    healthy.guards.min_healthy_pct = 100;
    world.set(1, &[careful, healthy]);
    assert_eq!(world.said(), [(Clamped, Closed), (Clamped, Closed)]);
}

#[test]
fn when_endpoints_vanish_remote_ejections_are_dropped_first() {
    let mut world = World::new(4, true);
    world.calls("p1", 5, false);
    world.set(1, &[eject("p2")]);
    assert_eq!(["p1", "p2"].map(|name| world.state(name)), [Open, Open]);
    world.said();
    world.endpoints(3);
    assert_eq!(["p1", "p2", "p3"].map(|name| world.state(name)), [Open, Closed, Closed]);
    assert_eq!(world.said(), [(Clamped, Closed)]);
    world.endpoints(1);
    assert_eq!(world.state("p1"), Closed, "the last one is in whatever it did");
}

#[test]
fn a_clamped_hint_is_obeyed_once_there_is_room() {
    let mut world = World::new(2, false);
    world.set(1, &[eject("p1"), eject("p2")]);
    assert_eq!(["p1", "p2"].map(|name| world.state(name)), [Open, Closed]);
    world.said();
    world.endpoints(4);
    assert_eq!((world.state("p2"), world.said()), (Open, vec![(Applied, Open)]));
}

#[test]
fn own_fresh_calls_veto_a_hint_about_errors_until_they_agree() {
    let mut world = World::new(3, false);
    world.calls("p2", 30, true);
    world.set(1, &[eject("p2")]);
    assert_eq!(world.said(), [(Vetoed, Closed)]);
    world.call("p2", false);
    world.wait(Duration::from_millis(100));
    assert_eq!(world.said(), [(Applied, Open)]);
}

#[test]
fn few_or_old_calls_veto_nothing() {
    let mut world = World::new(3, false);
    world.calls("p2", 19, true);
    world.set(1, &[eject("p2")]);
    assert_eq!(world.state("p2"), Open);
    let mut world = World::new(3, false);
    world.calls("p2", 500, true);
    world.wait(secs(11.0));
    world.set(1, &[eject("p2")]);
    assert_eq!(world.state("p2"), Open);
}

#[test]
fn a_success_rate_does_not_contradict_slowness() {
    let mut world = World::new(3, false);
    world.calls("p2", 500, true);
    world.set(1, &[slow(eject("p2"))]);
    assert_eq!(world.state("p2"), Open);
}

#[test]
fn dry_runs_advice_and_held_out_proxies_say_what_they_would_have_done() {
    let mut world = World::new(3, false);
    let mut held_out = eject("p3");
    held_out.holdout_pct = 100;
    world.set(
        1,
        &[Hint { mode: Mode::DryRun, ..eject("p1") }, Hint { mode: Mode::Advise, ..eject("p2") }, held_out],
    );
    let acks = world.acks();
    assert!(acks.iter().all(|ack| ack.verdict == Shadowed && ack.state == Closed), "{acks:?}");
    let reasons: Vec<_> = acks.iter().map(|ack| ack.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "p1: dry run; would be ejected",
            "p2: advice; would be ejected",
            "p3: held out for comparison; would be ejected",
        ]
    );
    assert!(["p1", "p2", "p3"].iter().all(|name| world.state(name) == Closed));
    world.calls("p1", 5, false);
    world.wait(secs(20.0));
    assert_eq!(world.said(), [], "and nothing is undone when they end");
}

#[test]
fn what_is_not_supported_is_said() {
    let mut world = World::new(3, false);
    let endpoint = || Target::Endpoint("p1".into());
    let mut route = eject("p1");
    route.scope.route = "/pay".to_owned();
    let hints = [
        hint("h-1", 1, Target::Service, Action::Eject),
        hint("h-2", 1, endpoint(), Action::LimitConcurrency(3)),
        hint("h-3", 1, Target::Service, Action::RetryBudget(5.0)),
        hint("h-4", 1, Target::Service, Action::Timeout(secs(1.0))),
        hint("h-5", 1, endpoint(), Action::Baseline(secs(1.0))),
        hint("h-6", 1, Target::Subset("v2".into()), Action::Eject),
        route,
        eject("p77"),
    ];
    world.set(1, &hints);
    let acks = world.acks();
    assert_eq!(acks.len(), hints.len());
    for ack in acks {
        assert!(ack.verdict == Shadowed && ack.state == Closed, "{ack:?}");
        assert!(ack.reason.contains("not supported") || ack.reason.contains("no such endpoint"), "{ack:?}");
    }
}

#[test]
fn hints_for_other_callers_and_services_are_not_ours() {
    let mut world = World::new(3, false);
    let mut other = eject("p1");
    other.scope.callers = vec!["web".to_owned()];
    let mut elsewhere = eject("p2");
    elsewhere.scope.service = "stock".to_owned();
    let mut ours = eject("p3");
    ours.scope.callers = vec!["web".to_owned(), "checkout".to_owned()];
    world.set(1, &[other, elsewhere, ours]);
    assert_eq!(world.said(), [(Applied, Open)]);
    assert_eq!(["p1", "p2", "p3"].map(|name| world.state(name)), [Closed, Closed, Open]);
}

#[test]
fn an_older_epoch_is_refused_for_the_length_of_a_lease() {
    let mut world = World::new(4, false);
    let of = |epoch, hint: Hint| Hint { epoch, ..hint };
    world.set(5, &[of(5, eject("p1"))]);
    world.set(4, &[of(4, eject("p2"))]);
    assert_eq!(world.said(), [(Applied, Open), (Vetoed, Closed)]);
    assert_eq!(["p1", "p2"].map(|name| world.state(name)), [Open, Closed], "nor does it withdraw");
    world.set(5, &[of(5, eject("p1")), of(4, eject("p2"))]);
    assert_eq!(world.said(), [(Vetoed, Closed)], "nor does it act within a newer set");
    world.wait(limits::HINT_TTL);
    world.set(4, &[of(4, eject("p2"))]);
    assert_eq!(world.state("p2"), Open);
    world.breakers.heard(world.now, 9);
    world.set(8, &[]);
    assert_eq!(world.state("p2"), Open, "a welcome counts as hearing of an epoch");
}

#[test]
fn a_new_run_of_the_collector_withdraws_nothing_it_does_not_know() {
    let mut world = World::new(3, false);
    world.set(1, &[eject("p2")]);
    world.set(2, &[]);
    assert_eq!(world.state("p2"), Open);
    world.wait(secs(15.1));
    assert_eq!(world.said(), [(Applied, Open), (Expired, HalfOpen)]);
}

#[test]
fn an_older_set_changes_nothing() {
    let mut world = World::new(3, false);
    world.breakers.hints(world.now, 1, 9, vec![eject("p2")]);
    world.breakers.hints(world.now, 1, 8, vec![]);
    assert_eq!(world.state("p2"), Open);
    world.wait(secs(15.1));
    world.breakers.hints(world.now, 2, 1, vec![Hint { epoch: 2, ..eject("p1") }]);
    assert_eq!(world.state("p1"), Open, "revisions begin anew with an epoch");
}

#[test]
fn an_open_edge_refuses_and_keeps_probing() {
    let mut world = World::new(3, false);
    world.calls("p1", 10, false);
    world.set(1, &[open()]);
    let edge = world.edge();
    assert_eq!((edge.state, edge.cause, edge.hint.as_deref()), (Open, Some("hint"), Some("h-open")));
    let refusal = world.breakers.edge_refusal().unwrap();
    assert!(refusal.is_hint && &*refusal.by == "h-open" && refusal.status == 503, "{refusal:?}");
    assert_eq!(&*refusal.reason, "open; error_rate 0.900 where 0.010 is usual");
    assert_eq!(refusal.retry_after, Some(secs(5.0)));
    let end = world.now + secs(14.0);
    let mut probes = 0;
    while world.now < end {
        probes += usize::from(world.edge.take_probe(world.now));
        world.wait(Duration::from_millis(100));
    }
    assert_eq!(probes, 3, "one every 4 s");
    assert_eq!(world.state("p1"), Closed, "its endpoints are not concerned");
}

#[test]
fn an_open_edge_probes_every_five_seconds_whatever_the_hint_says() {
    let mut world = World::new(1, false);
    let mut hint = open();
    hint.recovery.probe_rate = 0.0;
    world.set(1, &[hint]);
    assert!(!world.edge.take_probe(world.now + secs(4.9)));
    assert!(world.edge.take_probe(world.now + secs(5.0)));
}

#[test]
fn an_edge_comes_back_by_half_open_and_ramp() {
    let mut world = World::new(3, true);
    world.set(1, &[open()]);
    world.wait(secs(15.1));
    assert_eq!(world.edge().state, HalfOpen);
    assert!(world.breakers.edge_refusal().unwrap().reason.starts_with("half-open"));
    let probe = |world: &mut World, ok| {
        let kind = super::Kind::Http(if ok { 200 } else { 500 });
        world.breakers.result(world.now, "p1", super::outcome(kind, true));
    };
    for ok in [true, true, false, true, true] {
        probe(&mut world, ok);
    }
    assert_eq!(world.edge().state, HalfOpen, "in a row");
    probe(&mut world, true);
    assert_eq!(world.edge().state, Ramp);
    assert!(world.breakers.edge_refusal().unwrap().reason.starts_with("ramp"));
    world.wait(secs(10.1));
    assert_eq!((world.edge().state, world.edge.share()), (Closed, 1.0));
    assert_eq!(world.breakers.edge_refusal(), None);
    let story = [(Applied, Open), (Expired, HalfOpen), (Reverted, Ramp), (Reverted, Closed)];
    assert_eq!(world.said(), story);
}

#[test]
fn admit_lets_a_share_through_and_says_so() {
    let mut world = World::new(3, false);
    world.set(1, &[hint("h-a", 1, Target::Service, Action::Admit(0.3))]);
    assert_eq!((world.edge().state, world.edge.share()), (Soft, 0.3));
    let refusal = world.breakers.edge_refusal().unwrap();
    assert!(refusal.status == 503 && refusal.reason.starts_with("soft"), "{refusal:?}");
    world.set(1, &[]);
    assert_eq!(world.edge().state, Ramp);
}

#[test]
fn own_calls_that_succeed_veto_an_open_edge() {
    let mut world = World::new(2, false);
    world.calls("p1", 15, true);
    world.calls("p2", 15, true);
    world.set(1, &[open()]);
    assert_eq!((world.edge().state, world.said()), (Closed, vec![(Vetoed, Closed)]));
}

#[test]
fn an_answer_tells_the_success_rate_before_and_after() {
    let mut world = World::new(3, false);
    world.calls("p2", 4, true);
    world.calls("p2", 4, false);
    world.set(1, &[eject("p2")]);
    world.wait(secs(12.0));
    world.set(1, &[]);
    let rates: Vec<_> = world.acks().iter().map(|a| (a.success_rate_before, a.success_rate_after)).collect();
    assert_eq!(rates, [(0.5, 0.5), (0.5, 1.0)]);
}

#[test]
fn a_hint_that_asks_for_something_else_ends_what_it_asked_before() {
    let mut world = World::new(4, false);
    world.set(1, &[eject("p1")]);
    let mut moved = renewed(&eject("p2"), 2);
    moved.id = "h-p1".to_owned();
    world.set(1, &[moved]);
    assert_eq!(["p1", "p2"].map(|name| world.state(name)), [HalfOpen, Open]);
    assert_eq!(world.said(), [(Applied, Open), (Reverted, HalfOpen), (Applied, Open)]);
}

#[test]
fn hints_beyond_the_limit_are_refused_and_answers_beyond_theirs_counted() {
    let mut world = World::new(3, false);
    let many: Vec<Hint> = (0..=limits::HINTS)
        .map(|i| Hint { id: format!("h-{i}"), mode: Mode::DryRun, ..eject("p1") })
        .collect();
    world.set(1, &many);
    assert_eq!(world.answers.len(), limits::PROXY_ACKS);
    assert_eq!(world.answers.dropped(), 1);
    assert_eq!(world.breakers.hints_in_force(), limits::HINTS);
}

#[test]
fn a_new_process_under_an_old_name_starts_closed_and_is_under_the_same_hint() {
    let mut world = World::new(3, true);
    world.calls("p1", 5, false);
    world.set(1, &[eject("p2")]);
    assert_eq!(["p1", "p2"].map(|name| world.state(name)), [Open, Closed], "one of three at most");
    world.gates[0].2 = Default::default();
    world.endpoints(3);
    assert_eq!(["p1", "p2"].map(|name| world.state(name)), [Closed, Open]);
}

#[test]
fn an_endpoint_counts_with_what_it_has_and_not_with_what_a_hint_leaves_it() {
    let zone = || hint("h-zone", 1, Target::Zone("a".to_owned()), Action::Weight(0.6));
    let mut world = World::new(3, true);
    world.calls("p3", 5, false);
    assert_eq!(world.state("p3"), Open);
    world.set(1, &[zone()]);
    for _ in 0..140 {
        let shares = ["p1", "p2", "p3"].map(|name| world.gate(name).share());
        assert!(shares.iter().sum::<f64>() >= 2.0, "{shares:?}, p3 is {}", world.state("p3"));
        world.wait(secs(0.1));
    }

    let mut world = World::new(2, false);
    world.set(1, &[eject("p2")]);
    let weight =
        |id: &str, endpoint: &str| hint(id, 1, Target::Endpoint(endpoint.to_owned()), Action::Weight(0.5));
    world.set(1, &[weight("h-1", "p1"), weight("h-2", "p2")]);
    let shares = ["p1", "p2"].map(|name| world.gate(name).share());
    assert!(shares.iter().sum::<f64>() >= 1.0, "{shares:?}, p2 is {}", world.state("p2"));
}
