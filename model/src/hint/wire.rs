//! Between the hint types and the mesh protocol.

use std::time::Duration;

use super::{
    Ack, Action, BadHint, BreakerState, Evidence, Guards, Hint, HintSet, Mode, Recovery, Scope, Target,
    Verdict,
};
use crate::{UnixNanos, limits, mesh};

impl From<&HintSet> for mesh::HintSet {
    fn from(set: &HintSet) -> Self {
        Self {
            epoch: set.epoch,
            revision: set.revision,
            hints: set.hints.iter().map(mesh::Hint::from).collect(),
        }
    }
}

impl TryFrom<mesh::HintSet> for HintSet {
    type Error = BadHint;

    fn try_from(set: mesh::HintSet) -> Result<Self, BadHint> {
        if set.hints.len() > limits::HINTS {
            return Err(BadHint("too many hints"));
        }
        let hints = set.hints.into_iter().map(Hint::try_from).collect::<Result<_, _>>()?;
        Ok(Self { epoch: set.epoch, revision: set.revision, hints })
    }
}

impl From<&Hint> for mesh::Hint {
    fn from(hint: &Hint) -> Self {
        Self {
            id: hint.id.clone(),
            revision: hint.revision,
            epoch: hint.epoch,
            issued_at_unix_nano: hint.issued_at.0,
            ttl_ms: to_ms(hint.ttl),
            scope: Some((&hint.scope).into()),
            action: Some((&hint.action).into()),
            mode: match hint.mode {
                Mode::DryRun => mesh::hint::Mode::DryRun,
                Mode::Advise => mesh::hint::Mode::Advise,
                Mode::Enforce => mesh::hint::Mode::Enforce,
            }
            .into(),
            holdout_pct: hint.holdout_pct.into(),
            evidence: Some((&hint.evidence).into()),
            guards: Some(mesh::Guards {
                min_healthy_pct: hint.guards.min_healthy_pct.into(),
                max_ejected_pct: hint.guards.max_ejected_pct.into(),
                min_local_samples: hint.guards.min_local_samples,
                local_veto_success_rate: hint.guards.local_veto_success_rate,
            }),
            recovery: Some(mesh::Recovery {
                ramp_ms: to_ms(hint.recovery.ramp),
                probe_rate: hint.recovery.probe_rate,
                probe_successes: hint.recovery.probe_successes,
            }),
        }
    }
}

impl TryFrom<mesh::Hint> for Hint {
    type Error = BadHint;

    fn try_from(hint: mesh::Hint) -> Result<Self, BadHint> {
        let mode = match hint.mode() {
            mesh::hint::Mode::DryRun => Mode::DryRun,
            mesh::hint::Mode::Advise => Mode::Advise,
            mesh::hint::Mode::Enforce => Mode::Enforce,
        };
        let guards = hint.guards.ok_or(BadHint("no guards"))?;
        let recovery = hint.recovery.ok_or(BadHint("no recovery"))?;
        if hint.id.is_empty() {
            return Err(BadHint("no id"));
        }
        Ok(Self {
            id: hint.id,
            revision: hint.revision,
            epoch: hint.epoch,
            issued_at: UnixNanos(hint.issued_at_unix_nano),
            ttl: from_ms(hint.ttl_ms).min(limits::HINT_TTL),
            scope: hint.scope.ok_or(BadHint("no scope"))?.try_into()?,
            action: hint.action.ok_or(BadHint("no action"))?.try_into()?,
            mode,
            holdout_pct: percent(hint.holdout_pct)?,
            evidence: hint.evidence.unwrap_or_default().into(),
            guards: Guards {
                min_healthy_pct: percent(guards.min_healthy_pct)?,
                max_ejected_pct: percent(guards.max_ejected_pct)?,
                min_local_samples: guards.min_local_samples,
                local_veto_success_rate: fraction(guards.local_veto_success_rate)?,
            },
            recovery: Recovery {
                ramp: from_ms(recovery.ramp_ms),
                probe_rate: recovery.probe_rate.clamp(0.0, 1_000.0),
                probe_successes: recovery.probe_successes,
            },
        })
    }
}

impl From<&Scope> for mesh::Scope {
    fn from(scope: &Scope) -> Self {
        Self {
            callers: scope.callers.clone(),
            service: scope.service.clone(),
            target: match &scope.target {
                Target::Service => None,
                Target::Subset(name) => Some(mesh::scope::Target::Subset(name.clone())),
                Target::Endpoint(name) => Some(mesh::scope::Target::Endpoint(name.clone())),
                Target::Zone(name) => Some(mesh::scope::Target::Zone(name.clone())),
            },
            route: scope.route.clone(),
            priority: scope.priority,
        }
    }
}

impl TryFrom<mesh::Scope> for Scope {
    type Error = BadHint;

    fn try_from(scope: mesh::Scope) -> Result<Self, BadHint> {
        if scope.service.is_empty() {
            return Err(BadHint("no service in scope"));
        }
        Ok(Self {
            callers: scope.callers,
            service: scope.service,
            target: match scope.target {
                None => Target::Service,
                Some(mesh::scope::Target::Subset(name)) => Target::Subset(name),
                Some(mesh::scope::Target::Endpoint(name)) => Target::Endpoint(name),
                Some(mesh::scope::Target::Zone(name)) => Target::Zone(name),
            },
            route: scope.route,
            priority: scope.priority,
        })
    }
}

impl From<&Action> for mesh::Action {
    fn from(action: &Action) -> Self {
        use mesh::action::Kind;
        let kind = match action {
            Action::Weight(share) => Kind::Weight(*share),
            Action::Eject => Kind::Eject(mesh::Eject {}),
            Action::LimitConcurrency(n) => Kind::LimitConcurrency(*n),
            Action::Admit(share) => Kind::Admit(*share),
            Action::RetryBudget(pct) => Kind::RetryBudgetPct(*pct),
            Action::Timeout(after) => Kind::TimeoutMs(to_ms(*after)),
            Action::Open { status, retry_after } => {
                Kind::Open(mesh::Open { status: (*status).into(), retry_after_ms: to_ms(*retry_after) })
            }
            Action::Baseline(latency) => Kind::BaselineNs(latency.as_nanos() as u64),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<mesh::Action> for Action {
    type Error = BadHint;

    fn try_from(action: mesh::Action) -> Result<Self, BadHint> {
        use mesh::action::Kind;
        Ok(match action.kind.ok_or(BadHint("no kind of action"))? {
            Kind::Weight(share) => Self::Weight(fraction(share)?),
            Kind::Eject(mesh::Eject {}) => Self::Eject,
            Kind::LimitConcurrency(n) => Self::LimitConcurrency(n),
            Kind::Admit(share) => Self::Admit(fraction(share)?),
            Kind::RetryBudgetPct(pct) => Self::RetryBudget(pct.clamp(0.0, 100.0)),
            Kind::TimeoutMs(ms) => Self::Timeout(from_ms(ms)),
            Kind::Open(open) => Self::Open {
                status: u16::try_from(open.status)
                    .ok()
                    .filter(|status| (400..600).contains(status))
                    .ok_or(BadHint("status outside 400 to 599"))?,
                retry_after: from_ms(open.retry_after_ms),
            },
            Kind::BaselineNs(ns) => Self::Baseline(Duration::from_nanos(ns)),
        })
    }
}

impl From<&Evidence> for mesh::Evidence {
    fn from(evidence: &Evidence) -> Self {
        Self {
            detector: evidence.detector.clone(),
            metric: evidence.metric.clone(),
            window_ms: to_ms(evidence.window),
            observed: evidence.observed,
            baseline: evidence.baseline,
            score: evidence.score,
            samples: evidence.samples,
            callers_agreeing: evidence.callers_agreeing,
            trace_ids: evidence.trace_ids.clone(),
            causal_path: evidence.causal_path.clone(),
            query: evidence.query.clone(),
            finding: evidence.finding.clone(),
        }
    }
}

impl From<mesh::Evidence> for Evidence {
    fn from(evidence: mesh::Evidence) -> Self {
        Self {
            detector: evidence.detector,
            metric: evidence.metric,
            window: from_ms(evidence.window_ms),
            observed: evidence.observed,
            baseline: evidence.baseline,
            score: evidence.score,
            samples: evidence.samples,
            callers_agreeing: evidence.callers_agreeing,
            trace_ids: evidence.trace_ids,
            causal_path: evidence.causal_path,
            query: evidence.query,
            finding: evidence.finding,
        }
    }
}

impl From<&Ack> for mesh::HintAck {
    fn from(ack: &Ack) -> Self {
        use mesh::hint_ack::Verdict as Wire;
        Self {
            id: ack.id.clone(),
            revision: ack.revision,
            verdict: match ack.verdict {
                Verdict::Applied => Wire::Applied,
                Verdict::Shadowed => Wire::Shadowed,
                Verdict::Clamped => Wire::Clamped,
                Verdict::Vetoed => Wire::Vetoed,
                Verdict::Expired => Wire::Expired,
                Verdict::Reverted => Wire::Reverted,
            }
            .into(),
            reason: ack.reason.clone(),
            success_rate_before: ack.success_rate_before,
            success_rate_after: ack.success_rate_after,
            state: ack.state.name().to_owned(),
            at_unix_nano: ack.at.0,
        }
    }
}

impl TryFrom<mesh::HintAck> for Ack {
    type Error = BadHint;

    fn try_from(ack: mesh::HintAck) -> Result<Self, BadHint> {
        use mesh::hint_ack::Verdict as Wire;
        let verdict = match ack.verdict() {
            Wire::Applied => Verdict::Applied,
            Wire::Shadowed => Verdict::Shadowed,
            Wire::Clamped => Verdict::Clamped,
            Wire::Vetoed => Verdict::Vetoed,
            Wire::Expired => Verdict::Expired,
            Wire::Reverted => Verdict::Reverted,
        };
        Ok(Self {
            id: ack.id,
            revision: ack.revision,
            verdict,
            reason: ack.reason,
            success_rate_before: ack.success_rate_before,
            success_rate_after: ack.success_rate_after,
            state: BreakerState::from_name(&ack.state).ok_or(BadHint("unknown breaker state"))?,
            at: UnixNanos(ack.at_unix_nano),
        })
    }
}

fn to_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn from_ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

fn percent(value: u32) -> Result<u8, BadHint> {
    u8::try_from(value).ok().filter(|pct| *pct <= 100).ok_or(BadHint("percentage above 100"))
}

fn fraction(value: f64) -> Result<f64, BadHint> {
    (0.0..=1.0).contains(&value).then_some(value).ok_or(BadHint("share outside 0 to 1"))
}
