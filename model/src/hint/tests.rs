use std::time::Duration;

use super::*;
use crate::mesh;

fn hint() -> Hint {
    Hint {
        id: "h-3-7".into(),
        revision: 2,
        epoch: 3,
        issued_at: UnixNanos(1_700_000_000_123_456_789),
        ttl: Duration::from_secs(15),
        scope: Scope {
            service: "payments".into(),
            target: Target::Endpoint("payments-2".into()),
            ..Scope::default()
        },
        action: Action::Eject,
        mode: Mode::Enforce,
        holdout_pct: 5,
        evidence: Evidence { detector: "errors".into(), samples: 300, ..Evidence::default() },
        guards: Guards::default(),
        recovery: Recovery::default(),
    }
}

#[test]
fn every_action_survives_the_wire_and_json() {
    for action in [
        Action::Weight(0.25),
        Action::Eject,
        Action::LimitConcurrency(8),
        Action::Admit(0.5),
        Action::RetryBudget(10.0),
        Action::Timeout(Duration::from_millis(250)),
        Action::Open { status: 503, retry_after: Duration::from_secs(5) },
        Action::Baseline(Duration::from_millis(3)),
    ] {
        let hint = Hint { action, ..hint() };
        let set = HintSet { epoch: 3, revision: 9, hints: vec![hint] };
        assert_eq!(HintSet::try_from(mesh::HintSet::from(&set)), Ok(set.clone()));
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<HintSet>(&json).unwrap(), set);
    }
}

#[test]
fn a_lease_cannot_be_longer_than_the_bound() {
    let mut wire = mesh::Hint::from(&hint());
    wire.ttl_ms = u32::MAX;
    assert_eq!(Hint::try_from(wire).unwrap().ttl, crate::limits::HINT_TTL);
}

#[test]
fn malformed_hints_say_what_is_wrong() {
    type Spoil = fn(&mut mesh::Hint);
    let cases: [(Spoil, &str); 5] = [
        (|h| h.id.clear(), "no id"),
        (|h| h.scope = None, "no scope"),
        (|h| h.action = None, "no action"),
        (|h| h.holdout_pct = 101, "percentage above 100"),
        (
            |h| h.action = Some(mesh::Action { kind: Some(mesh::action::Kind::Weight(f64::NAN)) }),
            "share outside 0 to 1",
        ),
    ];
    for (spoil, reason) in cases {
        let mut wire = mesh::Hint::from(&hint());
        spoil(&mut wire);
        assert_eq!(Hint::try_from(wire), Err(BadHint(reason)));
    }
}

#[test]
fn acks_survive_the_wire() {
    let ack = Ack {
        id: "h-3-7".into(),
        revision: 2,
        verdict: Verdict::Clamped,
        reason: "max_ejected_pct".into(),
        success_rate_before: 0.66,
        success_rate_after: 1.0,
        state: BreakerState::HalfOpen,
        at: UnixNanos(5),
    };
    assert_eq!(Ack::try_from(mesh::HintAck::from(&ack)), Ok(ack));
}
