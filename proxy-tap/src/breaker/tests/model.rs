//! Arbitrary sequences of hints, outcomes, vanishing endpoints and time, against what must always hold.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;
use weir_model::hint::{Action, BreakerState, Guards, Hint, Mode, Recovery, Target};
use weir_model::limits;
use weir_model::policy::destination::{OutlierDetection, SuccessRate};
use weir_model::policy::{Length, Percent};

use super::super::outlier::{guards, longest};
use super::super::{Kind, Outcome};
use super::{World, hint, outcome};

#[derive(Debug, Clone)]
enum Step {
    Hints {
        epoch: u64,
        hints: Vec<Hint>,
    },
    Calls {
        endpoint: usize,
        n: usize,
        kind: Kind,
        probe: bool,
        latency_ms: u64,
    },
    /// Every endpoint gets so many requests, of which those to one fail.
    Round {
        n: usize,
        failing: usize,
        kind: Kind,
    },
    Checked {
        endpoint: usize,
        healthy: bool,
        good: bool,
    },
    Policy(Box<OutlierDetection>),
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

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Http(200)),
        3 => Just(Kind::Http(500)),
        1 => (200..600_u16).prop_map(Kind::Http),
        2 => (0..17_u16).prop_map(Kind::Grpc),
        1 => Just(Kind::Http(503)),
        2 => prop_oneof![Just(Kind::NoConnection), Just(Kind::TimedOut), Just(Kind::Reset)],
    ]
}

prop_compose! {
    fn policy()(
        enabled in prop::bool::weighted(0.8), split in any::<bool>(), compare_with_peers in any::<bool>(),
        runs in (0..7_u32, 0..7_u32, 0..7_u32),
        codes in prop::collection::vec(prop_oneof![1..17_u16, 300..700_u16], 0..4),
        interval_ms in 50..5_000_u64, base_ms in 0..30_000_u64, max_ms in 0..90_000_u64,
        max_ejection in 0.0..=100.0_f64, min_health in 0.0..=100.0_f64,
        success_rate in prop::option::of((0..6_u32, 0..40_u32, 0..3_000_u32)),
    ) -> OutlierDetection {
        OutlierDetection {
            enabled,
            consecutive_5xx_errors: runs.0,
            consecutive_gateway_errors: runs.1,
            split_external_local_origin_errors: split,
            consecutive_local_origin_failures: runs.2,
            http_error_codes: codes,
            interval: Length::millis(interval_ms),
            base_ejection_time: Length::millis(base_ms),
            max_ejection_time: Length::millis(max_ms),
            max_ejection_percent: Percent::new(max_ejection).unwrap(),
            min_health_percent: Percent::new(min_health).unwrap(),
            success_rate: success_rate.map(|(minimum_hosts, request_volume, stdev_factor)| SuccessRate {
                minimum_hosts,
                request_volume,
                stdev_factor,
            }),
            compare_with_peers,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u64, prop::collection::vec(any_hint(), 0..5))
            .prop_map(|(epoch, hints)| Step::Hints { epoch, hints }),
        6 => (0..6_usize, 1..40_usize, kind(), any::<bool>(), 0..200_u64).prop_map(
            |(endpoint, n, kind, probe, latency_ms)| Step::Calls { endpoint, n, kind, probe, latency_ms }
        ),
        3 => (1..60_usize, 0..6_usize, kind())
            .prop_map(|(n, failing, kind)| Step::Round { n, failing, kind }),
        2 => (0..6_usize, any::<bool>(), any::<bool>())
            .prop_map(|(endpoint, healthy, good)| Step::Checked { endpoint, healthy, good }),
        1 => policy().prop_map(|policy| Step::Policy(Box::new(policy))),
        1 => (0..=6_usize).prop_map(Step::Endpoints),
        5 => (1..20_000_u64).prop_map(Step::Wait),
    ]
}

/// What a plain reading of the rules allows.
struct Model {
    /// Highest epoch heard of, and when.
    epoch: Option<(u64, Instant)>,
    /// When each hint was last received in an epoch that was not stale.
    received: HashMap<String, Instant>,
    policy: OutlierDetection,
    /// The longest ejection of all policies so far.
    longest: Duration,
    unhealthy: HashSet<String>,
    /// State, hint and own ejections of each endpoint when last seen.
    before: HashMap<String, (BreakerState, bool, u32)>,
}

impl Model {
    fn new(policy: OutlierDetection) -> Self {
        Self {
            epoch: None,
            received: HashMap::new(),
            longest: longest(&policy),
            policy,
            unhealthy: HashSet::new(),
            before: HashMap::new(),
        }
    }

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

    /// The proxy's own ejections, and what hints and ejections leave together.
    fn check_room(&self, world: &World) {
        let n = world.gates.len();
        let own = guards(&self.policy);
        let healthy: Vec<_> =
            world.gates.iter().filter(|(name, ..)| !self.unhealthy.contains(&**name)).collect();
        let shares: Vec<f64> = healthy.iter().map(|(.., gate)| gate.share()).collect();
        // Hints keep to half; what the proxy ejects itself keeps to the policy.
        let least = |pct: u8| (n * usize::from(pct)).div_ceil(100).max(1);
        let least = least(own.min_healthy_pct).min(least(50)).min(healthy.len()) as f64;
        let capacity: f64 = shares.iter().sum();
        assert!(capacity >= least - 1e-6, "{shares:?} of {n} is below the healthy minimum {least}");
        assert!(healthy.is_empty() || shares.iter().any(|share| *share > 0.0), "nobody is left");
        let ejected = world.breakers.endpoints.iter().filter(|(name, target)| {
            target.outlier.is_ejected(world.now) && !self.unhealthy.contains(&***name)
        });
        let most = match own.max_ejected_pct {
            0 => 0,
            pct => (n * usize::from(pct) / 100).max(1),
        };
        assert!(ejected.count() <= most, "more than {most} of {n} are ejected");
    }

    /// What holds for each endpoint by itself.
    fn check_endpoints(&self, world: &World) {
        let awake = world.breakers.endpoints.awake_names();
        for (name, target) in world.breakers.endpoints.iter() {
            assert!(target.is_at_rest() || awake.contains(name), "{name} is forgotten: {target:?}");
            let left = target.outlier.left(world.now);
            assert!(left <= self.longest, "{name} is ejected for {left:?}");
            assert!(left.is_zero() || self.policy.enabled, "{name} is ejected without detection");
            // The stricter of the two.
            let asked = target.order.as_ref().map_or(1.0, |order| order.share);
            let allowed = if left.is_zero() { asked } else { 0.0 };
            assert!(target.gate.share() <= allowed, "{name} has more than {allowed}");
        }
    }

    /// Time alone went by: what was open by a hint that lapsed is half-open now.
    fn check_lapses(&self, world: &World) {
        // A hint that is left, or an ejection, may have taken the room that kept it out.
        let grew = |name: &str, ejections: u32| self.before.get(name).is_none_or(|b| b.2 != ejections);
        let views = world.breakers.views(world.now);
        let displaced = world.breakers.hints_in_force() > 0
            || views
                .iter()
                .any(|view| view.endpoint.as_deref().is_some_and(|name| grew(name, view.ejections)));
        for view in views {
            let name = view.endpoint.as_deref().unwrap_or_default();
            let Some((BreakerState::Open, true, ejections)) = self.before.get(name) else { continue };
            if view.hint.is_none() {
                let by_itself = view.cause == Some("local") && view.state == BreakerState::Open;
                let half_open = view.state == BreakerState::HalfOpen;
                let room_is_gone = displaced && view.state == BreakerState::Closed;
                assert!(half_open || by_itself || room_is_gone, "{view:?}, {ejections} ejections before");
            }
        }
    }

    fn remember(&mut self, world: &World) {
        let view = |view: super::super::View| {
            let name = view.endpoint.as_deref().unwrap_or_default().to_owned();
            (name, (view.state, view.hint.is_some(), view.ejections))
        };
        self.before = world.breakers.views(world.now).into_iter().map(view).collect();
    }

    fn check(&self, world: &World) {
        self.check_room(world);
        self.check_endpoints(world);
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
            let probes_by = world.now + Duration::from_secs(5);
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

fn take(step: Step, world: &mut World, model: &mut Model) {
    let name = |i: usize| format!("p{}", i + 1);
    match step {
        Step::Hints { epoch, hints } => {
            model.receive(world.now, epoch, &hints);
            world.set(epoch, &hints);
        }
        Step::Calls { endpoint, n, kind, probe, latency_ms } => {
            let outcome = Outcome { latency: Duration::from_millis(latency_ms), ..outcome(kind, probe) };
            (0..n).for_each(|_| world.result(&name(endpoint), outcome));
        }
        Step::Round { n, failing, kind } => {
            for i in (0..world.gates.len()).cycle().take(n * world.gates.len()) {
                world.answer(&name(i), if i == failing { kind } else { Kind::Http(200) });
            }
        }
        Step::Checked { endpoint, healthy, good } => {
            if endpoint < world.gates.len() {
                match healthy {
                    true => model.unhealthy.remove(&name(endpoint)),
                    false => model.unhealthy.insert(name(endpoint)),
                };
            }
            world.breakers.checked(world.now, &name(endpoint), healthy, good);
        }
        Step::Policy(policy) => {
            model.policy = *policy.clone();
            model.longest = model.longest.max(longest(&policy));
            world.breakers.set_outlier(world.now, *policy);
        }
        Step::Endpoints(n) => {
            model.unhealthy.retain(|name| name[1..].parse::<usize>().unwrap() <= n);
            world.endpoints(n);
        }
        Step::Wait(ms) => {
            // A tick at a time: which hints are in force matters for what may happen in it.
            let mut left = Duration::from_millis(ms);
            while !left.is_zero() {
                let tick = left.min(Duration::from_millis(100));
                left -= tick;
                model.remember(world);
                world.wait(tick);
                model.check_lapses(world);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_of_events_breaks_the_guards(
        endpoints in 0..=6_usize, policy in policy(), steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut model = Model::new(policy.clone());
        let mut world = World::with(endpoints, policy);
        for step in steps {
            take(step, &mut world, &mut model);
            model.check(&world);
        }
        // Whatever happened, leases end, and traffic that succeeds closes everything.
        world.wait(limits::HINT_TTL + Duration::from_secs(1));
        prop_assert_eq!(world.breakers.hints_in_force(), 0);
        for _ in 0..2_000 {
            for (name, ..) in world.gates.clone() {
                world.result(&name, outcome(Kind::Http(200), true));
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
