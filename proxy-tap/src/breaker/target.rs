//! The state machine of one target: closed, soft, open, half-open, ramp, closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::hint::BreakerState;
use weir_model::policy::destination::OutlierDetection;

use super::gate::Gate;
use super::order::{Order, Way};
use super::outcome::{Fault, Outcome};
use super::outlier::{self, Outlier};
use super::recent::Recent;

/// Share of traffic with which a ramp begins.
const RAMP_FROM: f64 = 0.05;

/// Who took a target out of normal traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Local,
    Hint,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Closed,
    Soft(f64),
    Open,
    HalfOpen,
    Ramp { from: f64, since: Instant },
}

/// A hint that is over and whose target is on its way back, which is to be told.
#[derive(Debug, Clone)]
pub(super) struct Story {
    pub(super) id: Arc<str>,
    pub(super) revision: u64,
    pub(super) success_rate_before: f64,
    /// The state that was told last.
    pub(super) told: BreakerState,
}

/// An endpoint or the edge, and its breaker.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) gate: Arc<Gate>,
    pub(super) zone: Arc<str>,
    pub(super) recent: Recent,
    pub(super) outlier: Outlier,
    /// Active checks found it unhealthy: it serves nobody, whatever its breaker says.
    pub(super) is_unhealthy: bool,
    /// The hint that is obeyed now.
    pub(super) order: Option<Arc<Order>>,
    pub(super) story: Option<Story>,
    pub(super) since: Instant,
    /// The last hint that was obeyed, for refusals on the way back.
    pub(super) last_order: Option<Arc<Order>>,
    cause: Cause,
    phase: Phase,
    way: Way,
    /// Good probes in a row.
    good: u32,
}

impl Target {
    pub(super) fn new(gate: Arc<Gate>, zone: Arc<str>, now: Instant) -> Self {
        Self {
            gate,
            zone,
            recent: Recent::new(now),
            outlier: Outlier::default(),
            is_unhealthy: false,
            order: None,
            story: None,
            since: now,
            last_order: None,
            cause: Cause::Local,
            phase: Phase::Closed,
            way: Way::own(Duration::ZERO),
            good: 0,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Soft(_) => BreakerState::Soft,
            Phase::Open => BreakerState::Open,
            Phase::HalfOpen => BreakerState::HalfOpen,
            Phase::Ramp { .. } => BreakerState::Ramp,
        }
    }

    /// Whether nothing is to be decided about it, nor told.
    pub(super) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Closed && self.order.is_none() && self.story.is_none() && !self.is_unhealthy
    }

    /// Why it is not closed; `None` where it is.
    pub(super) fn cause(&self) -> Option<Cause> {
        (self.phase != Phase::Closed).then_some(self.cause)
    }

    /// Whether requests other than probes go there.
    pub(super) fn has_traffic(&self) -> bool {
        self.share_at(self.since) > 0.0
    }

    /// The share of its traffic that it would have without hints in force and without an ejection.
    pub(super) fn share_on_the_way(&self, now: Instant) -> f64 {
        match self.phase {
            Phase::Closed => 1.0,
            Phase::Soft(share) => share,
            Phase::Open | Phase::HalfOpen => 0.0,
            Phase::Ramp { .. } => self.share_at(now),
        }
    }

    fn share_at(&self, now: Instant) -> f64 {
        match self.phase {
            Phase::Closed => 1.0,
            Phase::Soft(share) => share,
            Phase::Open | Phase::HalfOpen => 0.0,
            Phase::Ramp { from, since } => {
                let passed = now.saturating_duration_since(since).as_secs_f64();
                let part = passed / self.way.ramp.as_secs_f64().max(1e-9);
                (from + (1.0 - from) * part).clamp(RAMP_FROM, 1.0)
            }
        }
    }

    /// Takes the successes that requests counted since the last call; returns how many.
    pub(super) fn collect(&mut self, now: Instant) -> u64 {
        let good = self.gate.score.collect();
        if good > 0 {
            self.recent.succeeded(now, good);
            self.outlier.window.answers += good;
        }
        good
    }

    /// Counts an outcome; true where it asks for an ejection by the proxy itself.
    pub(super) fn record(
        &mut self,
        now: Instant,
        outcome: Outcome,
        fault: Option<Fault>,
        policy: &OutlierDetection,
    ) -> bool {
        let ok = fault.is_none();
        self.recent.record(now, ok, outcome.probe);
        match self.phase {
            Phase::Closed | Phase::Soft(_) | Phase::Ramp { .. } => {
                self.outlier.window.count(fault);
                match fault {
                    Some(fault) => outlier::is_full(policy, self.gate.score.failed(fault)),
                    None => {
                        self.gate.score.end_runs();
                        false
                    }
                }
            }
            // An answer to a request from before the target was taken out says nothing about now.
            Phase::Open | Phase::HalfOpen if !outcome.probe => false,
            Phase::Open | Phase::HalfOpen => {
                let slow = self.way.slow.is_some_and(|limit| outcome.latency > limit);
                self.good = if ok && !slow { self.good.saturating_add(1) } else { 0 };
                !ok && self.phase == Phase::HalfOpen
            }
        }
    }

    /// The proxy ejects it by its own judgement.
    pub(super) fn eject(&mut self, now: Instant, policy: &OutlierDetection) {
        let length = self.outlier.eject(now, policy);
        self.gate.score.end_runs();
        if self.order.is_none() {
            self.way = Way::own(length);
            self.enter(now, Phase::Open, Cause::Local);
        }
    }

    /// Too few targets are left: whatever holds this one back is dropped.
    pub(super) fn readmit(&mut self, now: Instant) {
        self.outlier.pardon();
        self.gate.score.end_runs();
        self.order = None;
        self.enter(now, Phase::Closed, self.cause);
    }

    /// The hint was withdrawn by those who know more of the target than a probe tells.
    pub(super) fn withdrawn(&mut self) {
        self.way.slow = None;
    }

    /// Moves on with the time, under `order` if there is one. The stricter of hint and own judgement wins.
    pub(super) fn settle(&mut self, now: Instant, order: Option<&Arc<Order>>) {
        if let Some(order) = order {
            let same = self.order.as_ref().is_some_and(|held| Arc::ptr_eq(held, order));
            if !same {
                self.way = order.way.clone();
                self.order = Some(Arc::clone(order));
                self.last_order = self.order.clone();
                self.story = None;
                self.schedule_probes(now);
            }
        } else {
            self.order = None;
        }
        let own = self.outlier.is_ejected(now);
        let asked = order.map_or(1.0, |order| order.share);
        if asked <= 0.0 {
            self.enter(now, Phase::Open, Cause::Hint);
        } else if own {
            self.enter(now, Phase::Open, Cause::Local);
        } else {
            self.come_back(now, asked);
        }
        self.gate.set_share(self.share_at(now));
    }

    fn come_back(&mut self, now: Instant, asked: f64) {
        if self.phase == Phase::Open {
            self.enter(now, Phase::HalfOpen, self.cause);
        }
        if self.phase == Phase::HalfOpen && self.good >= self.way.successes {
            self.enter(now, Phase::Ramp { from: 0.0, since: now }, self.cause);
        }
        if let (Phase::Soft(share), true) = (self.phase, asked >= 1.0) {
            // Traffic flowed all the time: probes have nothing to find out.
            self.enter(now, Phase::Ramp { from: share, since: now }, self.cause);
        }
        let reached = self.share_at(now) >= asked;
        match self.phase {
            Phase::Ramp { .. } if reached && asked >= 1.0 => self.enter(now, Phase::Closed, self.cause),
            Phase::Ramp { .. } if reached => self.enter(now, Phase::Soft(asked), Cause::Hint),
            Phase::Closed | Phase::Soft(_) if asked < 1.0 => {
                self.enter(now, Phase::Soft(asked), Cause::Hint);
            }
            _ => {}
        }
    }

    fn enter(&mut self, now: Instant, phase: Phase, cause: Cause) {
        self.cause = cause;
        if self.phase == phase {
            return;
        }
        let before = std::mem::replace(&mut self.phase, phase);
        self.since = now;
        match phase {
            Phase::Open => {
                self.good = 0;
                self.schedule_probes(now);
            }
            Phase::HalfOpen => {
                // What probes said while it was open counts, but one more is asked.
                self.good = if before == Phase::Open { self.good.min(self.way.successes - 1) } else { 0 };
                self.gate.probe_every(self.way.probe_every, now);
            }
            Phase::Closed | Phase::Soft(_) | Phase::Ramp { .. } => {
                self.gate.no_probes();
                self.gate.score.end_runs();
            }
        }
        self.gate.set_share(self.share_at(now));
    }

    fn schedule_probes(&self, now: Instant) {
        if self.phase == Phase::Open {
            self.gate.probe_every(self.way.probe_every, now + self.way.probe_every);
        }
    }
}
