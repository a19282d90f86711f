//! The analysis in a simulated mesh: the right target is named in time, callers are not, hints come and go,
//! and nothing is said where nothing is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use weir_model::hint::Mode;
use weir_model::{Sketch, UnixNanos, limits};

use self::sim::{Fault, Mesh, found, service, shop};
use super::{Class, Config, EdgeKey, FindingState, HintChange, Reporter, SeriesKey, State, Tick, step};

mod sim;

const ONSET: u64 = 120;

fn named(mesh: &Mesh) -> BTreeSet<String> {
    let target = |f: &super::Finding| f.endpoint.clone().unwrap_or_else(|| f.service.clone());
    mesh.findings.iter().map(|(_, event)| target(&event.finding)).collect()
}

fn changes(mesh: &Mesh, change: HintChange) -> usize {
    mesh.hints.iter().filter(|(_, event)| event.change == change).count()
}

fn assert_found(mesh: &Mesh, service: &str, endpoint: Option<&str>, within: u64) {
    let story = mesh.story().join("\n");
    let after = found(mesh, service, endpoint, ONSET);
    assert!(after.is_some_and(|after| after <= Duration::from_secs(within)), "{after:?}\n{story}");
    let target = endpoint.unwrap_or(service).to_owned();
    assert_eq!(named(mesh), BTreeSet::from([target]), "others were named\n{story}");
}

fn payments_2(fault: Fault, seed: u64) -> Mesh {
    let mut mesh = Mesh::new(shop(), 50.0, seed, Mode::Enforce);
    mesh.fault("payments", Some(1), fault, ONSET, ONSET + 60);
    mesh.run(ONSET + 180);
    mesh
}

#[test]
fn a_replica_that_fails_is_found_ejected_and_let_back() {
    for seed in 0..10 {
        let mesh = payments_2(Fault::Errors(1.0), seed);
        assert_found(&mesh, "payments", Some("payments-2"), 7);
        let story = mesh.story().join("\n");
        assert!(
            mesh.success(ONSET + 8, ONSET + 60) > 0.99,
            "{}\n{story}",
            mesh.success(ONSET + 8, ONSET + 60)
        );
        assert_eq!(changes(&mesh, HintChange::Issued), 1, "{story}");
        assert!(changes(&mesh, HintChange::Renewed) >= 5, "{story}");
        assert_eq!(changes(&mesh, HintChange::Withdrawn), 1, "{story}");
        let (_, last) = mesh.findings.last().unwrap();
        assert_eq!(last.state, FindingState::Resolved, "{story}");
    }
}

#[test]
fn a_replica_that_is_ten_times_slower_is_found() {
    for seed in 0..10 {
        let mesh = payments_2(Fault::Slow(10.0), seed);
        assert_found(&mesh, "payments", Some("payments-2"), 8);
        let (before, after) = (mesh.quantile(0.99, 30, ONSET), mesh.quantile(0.99, ONSET + 12, ONSET + 60));
        assert!(after < 2.0 * before, "{after} after {before}\n{}", mesh.story().join("\n"));
        assert_eq!(mesh.state.open_findings(), 0, "{}", mesh.story().join("\n"));
    }
}

#[test]
fn a_replica_that_is_gone_is_an_outage() {
    for seed in 0..5 {
        let mesh = payments_2(Fault::Outage, seed);
        assert_found(&mesh, "payments", Some("payments-2"), 7);
        assert_eq!(
            mesh.findings.last().unwrap().1.finding.kind.name(),
            "outage",
            "{}",
            mesh.story().join("\n")
        );
        assert_eq!(mesh.findings[0].1.finding.causal_path.last().unwrap(), "payments-2");
    }
}

#[test]
fn half_broken_and_a_little_slow_replicas_are_found_too() {
    for seed in 0..5 {
        for (fault, within) in [
            (Fault::Errors(0.5), 8),
            (Fault::Errors(0.3), 10),
            (Fault::Errors(0.1), 30),
            (Fault::Slow(4.0), 15),
        ] {
            let mesh = payments_2(fault, seed);
            assert_found(&mesh, "payments", Some("payments-2"), within);
        }
    }
}

#[test]
fn without_hints_nothing_gets_better() {
    let mut mesh = Mesh::new(shop(), 50.0, 1, Mode::DryRun);
    mesh.fault("payments", Some(1), Fault::Errors(1.0), ONSET, ONSET + 60);
    mesh.run(ONSET + 120);
    assert!(mesh.success(ONSET + 20, ONSET + 60) < 0.9);
    assert_found(&mesh, "payments", Some("payments-2"), 7);
    assert_eq!(mesh.state.open_findings(), 0, "{}", mesh.story().join("\n"));
}

#[test]
fn a_service_that_is_bad_as_a_whole_is_named_and_its_callers_are_not() {
    for seed in 0..5 {
        for (target, fault) in [
            ("payments", Fault::Errors(1.0)),
            ("payments", Fault::Slow(10.0)),
            ("payments", Fault::Outage),
            ("db", Fault::Errors(0.6)),
            ("bank", Fault::Slow(8.0)),
            ("store", Fault::Slow(20.0)),
            ("store", Fault::Outage),
            ("checkout", Fault::Errors(0.5)),
            ("checkout", Fault::Slow(10.0)),
            ("frontend", Fault::Errors(0.2)),
        ] {
            let mut mesh = Mesh::new(shop(), 50.0, seed, Mode::Enforce);
            mesh.fault(target, None, fault, ONSET, ONSET + 60);
            mesh.run(ONSET + 180);
            let story = mesh.story().join("\n");
            println!("seed {seed} {target} {fault:?}\n{story}");
            assert_found(&mesh, target, None, 15);
            assert_eq!(mesh.state.open_findings(), 0, "{story}");
        }
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same() {
    let (one, two) = (payments_2(Fault::Slow(10.0), 3), payments_2(Fault::Slow(10.0), 3));
    assert_eq!(one.findings, two.findings);
    assert_eq!(one.hints, two.hints);
    assert!(!one.findings.is_empty());
}

fn steady(replicas: usize) -> Vec<sim::Service> {
    let names = ["frontend", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11"];
    let mut services: Vec<_> = names.iter().map(|name| service(name, replicas, 5.0, &[])).collect();
    services[0].calls = names[1..].iter().map(|name| (*name, 0.4)).collect();
    for service in &mut services {
        service.error_rate = 0.01;
        service.sigma = 1.2; // the 99th percentile is sixteen times the median
    }
    services
}

#[test]
fn steady_traffic_raises_no_alarm() {
    for seed in 0..2 {
        let mut mesh = Mesh::new(steady(3), 30.0, seed, Mode::Enforce);
        mesh.run(7_200);
        assert!(mesh.findings.is_empty(), "seed {seed}: {}", mesh.story().join("\n"));
        assert!(mesh.state.edges() >= 36);
    }
}

#[test]
fn surges_and_idle_times_raise_no_alarm() {
    for seed in 0..4 {
        let mut mesh = Mesh::new(steady(3), 20.0, seed, Mode::Enforce);
        for (until, rps) in [(300, 20.0), (400, 100.0), (500, 1.0), (700, 0.0), (900, 60.0), (1_200, 2.0)] {
            mesh.rps = rps;
            mesh.run(until);
        }
        assert!(mesh.findings.is_empty(), "seed {seed}: {}", mesh.story().join("\n"));
    }
}

#[test]
fn a_fault_right_after_the_start_is_found_by_comparing_replicas() {
    for seed in 0..5 {
        for fault in [Fault::Errors(1.0), Fault::Slow(10.0)] {
            let mut mesh = Mesh::new(shop(), 40.0, seed, Mode::Enforce);
            mesh.fault("payments", Some(2), fault, 12, 60);
            mesh.run(60);
            let story = mesh.story().join("\n");
            let after = found(&mesh, "payments", Some("payments-3"), 12);
            assert!(
                after.is_some_and(|after| after <= Duration::from_secs(10)),
                "{fault:?} {after:?}\n{story}"
            );
            assert_eq!(named(&mesh).len(), 1, "{story}");
        }
    }
}

#[test]
fn a_replica_that_stays_bad_stays_ejected_with_renewed_leases() {
    let mut mesh = Mesh::new(shop(), 50.0, 5, Mode::Enforce);
    mesh.fault("payments", Some(0), Fault::Errors(1.0), ONSET, ONSET + 1_000);
    mesh.run(ONSET + 600);
    let story = mesh.story().join("\n");
    assert_eq!(changes(&mesh, HintChange::Withdrawn), 0, "{story}");
    assert!(mesh.success(ONSET + 8, ONSET + 600) > 0.99, "{story}");
    let renewals: Vec<u64> = mesh.hints.iter().map(|(at, _)| *at).collect();
    assert!(renewals.windows(2).all(|pair| pair[1] - pair[0] < 15), "{renewals:?}");
    let revisions: Vec<u64> = mesh.hints.iter().map(|(_, event)| event.hint.revision).collect();
    assert!(revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{revisions:?}");
}

#[test]
fn a_hint_lapses_when_nobody_calls_and_is_issued_again_when_the_target_is_still_bad() {
    let mut mesh = Mesh::new(shop(), 50.0, 6, Mode::Enforce);
    mesh.fault("payments", Some(0), Fault::Errors(1.0), ONSET, ONSET + 200);
    mesh.run(ONSET + 20);
    assert_eq!(mesh.state.hints().len(), 1);
    mesh.rps = 0.0;
    mesh.run(ONSET + 60);
    assert_eq!(mesh.state.hints().len(), 0, "{}", mesh.story().join("\n"));
    assert_eq!(mesh.state.open_findings(), 1, "a lack of calls proves nothing");
    mesh.rps = 50.0;
    mesh.run(ONSET + 80);
    assert_eq!(mesh.state.hints().len(), 1, "{}", mesh.story().join("\n"));
    assert_eq!(mesh.state.hints()[0].id, "h-7-2");
    mesh.rps = 0.0;
    mesh.run(ONSET + 180);
    assert_eq!(mesh.state.open_findings(), 0, "{}", mesh.story().join("\n"));
}

#[test]
fn never_more_than_half_of_the_replicas_nor_the_last_healthy_one() {
    for seed in 0..5 {
        let mut services = shop();
        services[4].replicas = 4;
        let mut mesh = Mesh::new(services, 60.0, seed, Mode::Enforce);
        for (replica, from) in [(0, ONSET), (1, ONSET + 10), (2, ONSET + 20), (3, ONSET + 30)] {
            mesh.fault("payments", Some(replica), Fault::Errors(0.9), from, ONSET + 80);
        }
        for second in 0..ONSET + 160 {
            mesh.run(second);
            let ejected = mesh.state.hints().iter().filter(|h| h.action.name() == "eject").count();
            assert!(ejected <= 2, "{ejected} at {second}");
        }
        assert!(
            mesh.findings.iter().all(|(_, e)| e.finding.service == "payments"),
            "{}",
            mesh.story().join("\n")
        );
    }
}

#[test]
fn a_machine_short_of_breath_is_no_services_fault() {
    for seed in 0..5 {
        let mut mesh = Mesh::new(shop(), 40.0, seed, Mode::Enforce);
        for name in ["frontend", "catalog", "cart", "checkout", "payments", "stock", "db", "store", "bank"] {
            mesh.fault(name, None, Fault::Slow(3.0), ONSET, ONSET + 20);
        }
        mesh.run(ONSET + 60);
        assert!(mesh.findings.is_empty(), "seed {seed}: {}", mesh.story().join("\n"));
    }
}

fn any_tick() -> impl Strategy<Value = Tick> {
    let number = prop_oneof![3 => 0..40_u64, 1 => any::<u64>()];
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("")];
    let seconds = prop_oneof![3 => 0.0..0.2_f64, 1 => any::<f64>()];
    let class =
        prop_oneof![Just(Class::Ok), Just(Class::ClientError), Just(Class::Error), Just(Class::Refused)];
    let cell = (name.clone(), name.clone(), name, class, any::<bool>(), number, seconds, 0..3_u8);
    (0..40_u64, prop::collection::vec(cell, 0..8)).prop_map(|(second, cells)| {
        let mut tick = Tick { second, now: UnixNanos(second), ..Tick::default() };
        for (client, server, endpoint, class, probe, number, seconds, reporter) in cells {
            let reporter = [Reporter::Source, Reporter::Destination, Reporter::Span][usize::from(reporter)];
            let names = [client, server, endpoint, "http"].map(std::sync::Arc::from);
            let [client, server, endpoint, protocol] = names;
            let edge = EdgeKey { client, server, endpoint, protocol, reporter };
            let mut latency = Sketch::default();
            latency.record_many(seconds, number.min(1 << 40));
            tick.cells.entry(edge.clone()).or_default().add(
                &SeriesKey { edge, class, probe },
                number,
                &latency,
            );
        }
        tick
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn odd_ticks_do_no_harm(ticks in prop::collection::vec(any_tick(), 1..80)) {
        let config = Config::default();
        let (mut one, mut two) = (State::new(1), State::new(1));
        let mut second = 0;
        for mut tick in ticks {
            second += tick.second; // gaps, and now and then the same second twice
            tick.second = second;
            let outcome = step(&mut one, &tick, &config);
            prop_assert_eq!(outcome, step(&mut two, &tick, &config));
            prop_assert!(one.hints().iter().all(|hint| !hint.id.is_empty()));
        }
    }
}

#[test]
fn no_more_edges_are_watched_than_the_limit() {
    let config = Config::default();
    let mut state = State::new(1);
    for second in 1..4 {
        let mut tick = Tick { second, ..Tick::default() };
        for n in 0..limits::ANALYSIS_EDGES as u64 {
            let [client, server, endpoint, protocol] =
                ["a".to_owned(), "b".to_owned(), format!("{}", n + second * 1_000), "http".to_owned()]
                    .map(Into::into);
            let edge = EdgeKey { client, server, endpoint, protocol, reporter: Reporter::Source };
            tick.cells.entry(edge).or_default().traffic.ok = 1;
        }
        step(&mut state, &tick, &config);
    }
    assert_eq!(state.edges(), limits::ANALYSIS_EDGES);
    assert_eq!(state.dropped_edges(), 1_000 + 2_000);
}
