//! Arbitrary sequences of hints, outcomes, vanishing endpoints and time, against what must always hold.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;
use weir_model::hint::{Action, BreakerState, Guards, Hint, Mode, Recovery, Target};
use weir_model::limits;

use super::super::Outcome;
use super::{World, hint};

#[derive(Debug, Clone)]
enum Step {
    Hints { epoch: u64, hints: Vec<Hint> },
    Calls { endpoint: usize, n: usize, ok: bool, probe: bool, latency_ms: u64 },
    Endpoints(usize),
    Wait(u64),
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        6 => (1..=6_usize).prop_map(|i| Target::Endpoint(format!("p{i}"))),
        2 => "[ab]".prop_map(Target::Zone),
        3 => Just(Target::Service),
        1 => Just(Target::Subset("v".to_owned())),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let open = Action::Open { status: 503, retry_after: Duration::from_secs(1) };
    prop_oneof![
        5 => Just(Action::Eject),
        3 => (0.0..=1.0_f64).prop_map(Action::Weight),
        3 => Just(open),
        2 => (0.0..=1.0_f64).prop_map(Action::Admit),
        1 => Just(Action::LimitConcurrency(1)),
    ]
}

prop_compose! {
    fn any_hint()(
        id in 0..8_u8, revision in 1..6_u64, epoch in 0..4_u64, target in target(), action in action(),
        ttl_ms in 0..100_000_u64, mode in prop_oneof![Just(Mode::Enforce), Just(Mode::DryRun)],
        guards in (0..=100_u8, 0..=100_u8, any::<u32>(), 0.0..=1.0_f64), priority in 0..3_u32,
        probe_rate in prop_oneof![Just(0.0), Just(f64::NAN), 0.0..1000.0_f64],
        probe_successes in any::<u32>(), ramp_ms in any::<u32>(), holdout in prop_oneof![Just(0_u8), 0..=100_u8],
        latency in any::<bool>(),
    ) -> Hint {
        let (min_healthy_pct, max_ejected_pct, min_local_samples, local_veto_success_rate) = guards;
        let mut hint = hint(&format!("h-{id}"), revision, target, action);
        hint.epoch = epoch;
        hint.ttl = Duration::from_millis(ttl_ms);
        hint.mode = mode;
        hint.holdout_pct = holdout;
        hint.scope.priority = priority;
        hint.guards = Guards { min_healthy_pct, max_ejected_pct, min_local_samples, local_veto_success_rate };
        hint.recovery =
            Recovery { ramp: Duration::from_millis(ramp_ms.into()), probe_rate, probe_successes };
        if latency { super::slow(hint) } else { hint }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u64, prop::collection::vec(any_hint(), 0..5))
            .prop_map(|(epoch, hints)| Step::Hints { epoch, hints }),
        6 => (0..6_usize, 1..40_usize, any::<bool>(), any::<bool>(), 0..200_u64).prop_map(
            |(endpoint, n, ok, probe, latency_ms)| Step::Calls { endpoint, n, ok, probe, latency_ms }
        ),
        1 => (0..=6_usize).prop_map(Step::Endpoints),
        5 => (1..20_000_u64).prop_map(Step::Wait),
    ]
}

/// What a plain reading of the rules allows.
#[derive(Default)]
struct Model {
    /// Highest epoch heard of, and when.
    epoch: Option<(u64, Instant)>,
    /// When each hint was last received in an epoch that was not stale.
    received: HashMap<String, Instant>,
}

impl Model {
    fn fence(&self, now: Instant) -> u64 {
        let fresh = |heard: Instant| now.duration_since(heard) < limits::HINT_TTL;
        self.epoch.filter(|(_, heard)| fresh(*heard)).map_or(0, |(epoch, _)| epoch)
    }

    fn receive(&mut self, now: Instant, epoch: u64, hints: &[Hint]) {
        let fence = self.fence(now);
        if epoch < fence {
            return;
        }
        self.epoch = Some((epoch, now));
        for hint in hints.iter().filter(|hint| hint.epoch >= fence) {
            self.received.insert(hint.id.clone(), now);
        }
    }

    fn check(&self, world: &World) {
        let shares: Vec<f64> = world.gates.iter().map(|(.., gate)| gate.share()).collect();
        let n = shares.len();
        let capacity: f64 = shares.iter().sum();
        if n > 0 {
            let least = n.div_ceil(2).max(1) as f64;
            assert!(capacity >= least - 1e-6, "{shares:?} of {n} is below the healthy minimum {least}");
            assert!(shares.iter().any(|share| *share > 0.0), "nobody is left");
        }
        for view in world.breakers.views(world.now) {
            if let Some(id) = &view.hint {
                let received = self.received.get(&**id);
                let age = received.map(|at| world.now.duration_since(*at));
                assert!(
                    age.is_some_and(|age| age <= limits::HINT_TTL),
                    "{id} acts on {:?}, last received {age:?} ago",
                    view.endpoint
                );
            }
            let gate = match &view.endpoint {
                None => &world.edge,
                Some(name) => world.gate(name),
            };
            let probes_by = world.now + Duration::from_secs(if view.endpoint.is_none() { 5 } else { 10 });
            match view.state {
                BreakerState::Open | BreakerState::HalfOpen => {
                    assert!(view.share == 0.0, "{view:?}");
                    assert!(gate.is_probe_due(probes_by), "{view:?} is never probed");
                }
                BreakerState::Closed => assert!(view.share == 1.0 && view.cause.is_none(), "{view:?}"),
                BreakerState::Soft | BreakerState::Ramp => assert!(view.share > 0.0, "{view:?}"),
            }
            let refusing = view.endpoint.is_none() && view.state != BreakerState::Closed;
            assert_eq!(
                view.endpoint.is_none() && world.breakers.edge_refusal().is_some(),
                refusing,
                "{view:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_of_events_breaks_the_guards(
        endpoints in 0..=6_usize, local in any::<bool>(), steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new(endpoints, local);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Hints { epoch, hints } => {
                    model.receive(world.now, epoch, &hints);
                    world.set(epoch, &hints);
                }
                Step::Calls { endpoint, n, ok, probe, latency_ms } => {
                    let outcome = Outcome { ok, latency: Duration::from_millis(latency_ms), probe };
                    for _ in 0..n {
                        world.breakers.result(world.now, &format!("p{}", endpoint + 1), outcome);
                    }
                }
                Step::Endpoints(n) => world.endpoints(n),
                Step::Wait(ms) => world.wait(Duration::from_millis(ms)),
            }
            model.check(&world);
        }
        // Whatever happened, leases end, and traffic that succeeds closes everything.
        world.wait(limits::HINT_TTL + Duration::from_secs(1));
        prop_assert_eq!(world.breakers.hints_in_force(), 0);
        for _ in 0..2_000 {
            for (name, ..) in world.gates.clone() {
                let outcome = Outcome { ok: true, latency: Duration::ZERO, probe: true };
                world.breakers.result(world.now, &name, outcome);
            }
            if world.gates.is_empty() {
                world.endpoints(1);
            }
            world.wait(Duration::from_millis(500));
        }
        for view in world.breakers.views(world.now) {
            prop_assert_eq!(view.state, BreakerState::Closed, "{:?}", view);
        }
    }
}
