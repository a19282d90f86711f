//! Breakers: which endpoints of a service get how much traffic, and whether the service gets any.
//!
//! **Signals.** Two drive a breaker. The proxy's own outlier detection ([`own`]) sees the outcome of every
//! attempt: failures in a row ([`outlier`]), and a success rate far below that of the peers ([`rates`]). Hints
//! from the collector ([`ledger`], [`order`]) carry what was concluded from all proxies' numbers. The stricter
//! wins.
//!
//! **States.** Of an endpoint, and of the edge to the service as a whole ([`target`]):
//!
//! ```text
//! CLOSED ──weight, admit──► SOFT ──hint over──► RAMP ──ramp over──► CLOSED
//!    │                        │                  ▲ │
//!    └──eject, open, own ejection──► OPEN        │ └──own ejection──► OPEN
//!                                     │          │
//!          hint over, ejection over   ▼          │ enough good probes in a row
//!                                 HALF-OPEN ─────┘
//! ```
//!
//! **Probes** are real requests, let through one at a time at the rate of the hint's recovery, while a target
//! is open and while it is half-open. A hint in force keeps a target open however well its probes go: it is
//! the analysis that withdraws it.
//!
//! **Leases.** A hint holds for its time to live, counted from receipt, and only a higher revision renews it.
//! One that lapses, because the collector is silent or has no fresh evidence, leaves its target half-open.
//!
//! **Guards** ([`decide`]). No hint takes a service below half of its endpoints or its last healthy one; a hint
//! may ask for more caution and never for less. For the proxy's own ejections the policy says how many have to
//! be left, the last healthy one in any case. Endpoints that active checks found unhealthy are not among those
//! left. A hint about errors that this proxy's own fresh calls contradict is vetoed until they no longer do.
//!
//! **Cost.** A request that went well adds to its endpoint's count without a lock ([`Gate::settles`]); the tick
//! collects. Failures and probes come here, under the lock of whoever owns the breakers.
//!
//! Cold start: everything is closed. Time is an argument; nothing here waits or does I/O.

mod answers;
mod decide;
mod gate;
mod ledger;
#[doc(hidden)]
pub mod measure;
mod order;
mod outcome;
mod outlier;
mod own;
mod rates;
mod recent;
mod score;
mod target;
mod targets;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::UnixNanos;
use weir_model::hint::{Ack, BreakerState, Guards, Hint, Verdict};
use weir_model::policy::destination::OutlierDetection;

use crate::call::Refusal;
use decide::{Decisions, decide};
use ledger::{Ended, Ending, Ledger, Said, Subject};
use target::{Cause, Story, Target};
use targets::Targets;

pub(crate) use answers::{Answer, Answers};
pub(crate) use gate::{Gate, Schedule};
pub(crate) use outcome::{Codes, Kind, Outcome};
pub(crate) use targets::Change;

/// What breakers need to know of their proxy.
#[derive(Debug)]
pub(crate) struct Settings {
    /// How the proxy ejects endpoints by what it sees itself.
    pub(crate) outlier: OutlierDetection,
    pub(crate) caller: Arc<str>,
    pub(crate) instance: Arc<str>,
    pub(crate) service: Arc<str>,
    /// Where answers to hints go.
    pub(crate) answers: Arc<Answers>,
}

/// A breaker as the admin page shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// `None` for the edge.
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) state: BreakerState,
    /// `local` or `hint`; `None` where it is closed.
    pub(crate) cause: Option<&'static str>,
    /// The hint in force.
    pub(crate) hint: Option<Arc<str>>,
    pub(crate) share: f64,
    /// In this state for so long.
    pub(crate) since: Duration,
    /// Share of calls and probes of the last ten seconds that succeeded.
    pub(crate) success_rate: f64,
    /// The proxy's own ejections so far.
    pub(crate) ejections: u32,
}

/// The breakers of one service, as one proxy calls it.
#[derive(Debug)]
pub(crate) struct Breakers {
    settings: Settings,
    codes: Arc<Codes>,
    /// What own ejections leave untouched.
    guards: Guards,
    edge: Target,
    endpoints: Targets,
    ledger: Ledger,
    compared: Instant,
    /// When a tick collects what requests counted without a lock.
    collects: Instant,
}

impl Breakers {
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        let edge = Target::new(Arc::default(), "".into(), now);
        Self {
            codes: Arc::new(Codes::new(&settings.outlier)),
            guards: outlier::guards(&settings.outlier),
            settings,
            edge,
            endpoints: Targets::default(),
            ledger: Ledger::default(),
            compared: now,
            collects: now,
        }
    }

    /// Which answers are faults: with it and an endpoint's gate, a request can tell whether the breakers need to
    /// hear of it ([`Gate::settles`]).
    pub(crate) fn codes(&self) -> Arc<Codes> {
        Arc::clone(&self.codes)
    }

    /// The gate that every request to the service passes.
    pub(crate) fn edge_gate(&self) -> Arc<Gate> {
        Arc::clone(&self.edge.gate)
    }

    /// Replaces endpoints. What is gone is still in `change`, to be dropped without the lock.
    pub(crate) fn change_endpoints(&mut self, now: Instant, change: &mut Change) {
        self.endpoints.apply(change);
        let good = change.left().map(|target| target.collect(now)).sum();
        self.edge.recent.succeeded(now, good);
        if !self.is_at_rest() {
            self.settle(now, vec![]);
        }
    }

    /// A collector of this epoch is there.
    pub(crate) fn heard(&mut self, now: Instant, epoch: u64) {
        self.ledger.heard(now, epoch);
    }

    /// Takes the hints about this service that are in force.
    pub(crate) fn hints(&mut self, now: Instant, epoch: u64, revision: u64, mut hints: Vec<Hint>) {
        hints.retain(|hint| {
            let callers = &hint.scope.callers;
            *hint.scope.service == *self.settings.service
                && (callers.is_empty() || callers.iter().any(|caller| **caller == *self.settings.caller))
        });
        self.collect(now);
        let mut ended = self.ledger.lapse(now);
        let received = self.ledger.receive(now, (epoch, revision), hints, &self.settings);
        for refused in received.refused {
            let before = self.edge.recent.sums(now).overall();
            self.answer(
                now,
                Ack {
                    id: refused.id,
                    revision: refused.revision,
                    verdict: Verdict::Vetoed,
                    reason: refused.reason,
                    success_rate_before: before,
                    success_rate_after: before,
                    state: self.edge.state(),
                    at: UnixNanos(0),
                },
            );
        }
        ended.extend(received.ended);
        // A lease of no length is over before it is obeyed.
        ended.extend(self.ledger.lapse(now));
        self.settle(now, ended);
    }

    /// Why the request that the edge's gate did not let through is refused; `None` where it is not.
    pub(crate) fn edge_refusal(&self) -> Option<Refusal> {
        let state = self.edge.state();
        let order = self.edge.last_order.as_ref().filter(|_| state != BreakerState::Closed)?;
        let reason = match state {
            BreakerState::HalfOpen => format!("half-open, probes decide; was {}", order.why),
            BreakerState::Ramp => format!("ramp, traffic grows back; was {}", order.why),
            state => format!("{state}; {}", order.why),
        };
        Some(Refusal {
            by: Arc::clone(&order.id),
            is_hint: true,
            reason: reason.into(),
            status: order.status,
            retry_after: Some(order.retry_after),
        })
    }

    /// An attempt at an endpoint is over.
    pub(crate) fn result(&mut self, now: Instant, endpoint: &str, outcome: Outcome) {
        let (policy, fault) = (&self.settings.outlier, self.codes.fault(&outcome));
        self.edge.record(now, outcome, fault, policy);
        let Some(target) = self.endpoints.get_mut(endpoint) else { return };
        let asks = target.record(now, outcome, fault, policy);
        if asks && policy.enabled {
            self.try_eject(now, endpoint);
        }
        let moving = |target: &Target| target.state() == BreakerState::HalfOpen;
        if outcome.probe && (moving(&self.edge) || self.endpoints.get(endpoint).is_some_and(moving)) {
            self.settle(now, vec![]);
        }
    }

    /// Time has gone by.
    pub(crate) fn tick(&mut self, now: Instant) {
        let compares = now.saturating_duration_since(self.compared) >= self.settings.outlier.interval.0;
        if compares || now >= self.collects {
            self.collect(now);
        }
        if compares {
            self.compared = now;
            self.compare(now);
        }
        let ended = self.ledger.lapse(now);
        if !(ended.is_empty() && self.is_at_rest()) {
            self.settle(now, ended);
        }
    }

    /// Whether time changes nothing.
    fn is_at_rest(&self) -> bool {
        self.ledger.is_empty() && self.edge.is_at_rest() && self.endpoints.are_at_rest()
    }

    /// All breakers: the edge first, then the endpoints in no order.
    pub(crate) fn views(&self, now: Instant) -> Vec<View> {
        let view = |endpoint: Option<&Arc<str>>, target: &Target| View {
            endpoint: endpoint.cloned(),
            state: target.state(),
            cause: target.cause().map(|cause| match cause {
                Cause::Local => "local",
                Cause::Hint => "hint",
            }),
            hint: target.order.as_ref().map(|order| Arc::clone(&order.id)),
            share: target.gate.share(),
            since: now.saturating_duration_since(target.since),
            success_rate: target.recent.sums(now).overall(),
            ejections: target.outlier.ejections,
        };
        let endpoints = self.endpoints.iter().map(|(name, target)| view(Some(name), target));
        std::iter::once(view(None, &self.edge)).chain(endpoints).collect()
    }

    /// How many hints about this service are in force.
    pub(crate) fn hints_in_force(&self) -> usize {
        self.ledger.in_force()
    }

    /// Brings every target in line with hints, ejections and time, and answers.
    fn settle(&mut self, now: Instant, ended: Vec<Ended>) {
        let Decisions { orders, edge, readmitted, made } =
            decide(now, self.ledger.held_mut(), &self.endpoints, &self.edge, &self.guards);
        for name in &readmitted {
            if let Some(target) = self.endpoints.wake(name) {
                target.readmit(now);
            }
        }
        for name in orders.keys() {
            self.endpoints.wake(name);
        }
        let clamped = clamped(&made);
        for name in self.endpoints.awake_names() {
            let (order, Some(target)) = (orders.get(&name), self.endpoints.get_mut(&name)) else { continue };
            if order.is_none() && target.order.is_some() && clamped.contains(&name) {
                target.readmit(now);
            }
            target.settle(now, order);
        }
        self.edge.settle(now, edge.as_ref());
        ended.into_iter().for_each(|ended| self.tell_end(now, ended));
        made.into_iter().for_each(|decision| self.tell_decision(now, decision));
        self.tell_stories(now);
        self.endpoints.rest();
    }

    fn target(&mut self, subject: &Subject) -> Option<&mut Target> {
        match subject {
            None => Some(&mut self.edge),
            Some(name) => self.endpoints.wake(name),
        }
    }

    /// A hint is over: its targets are on their way back.
    fn tell_end(&mut self, now: Instant, ended: Ended) {
        for (subject, said) in ended.said {
            if said.verdict != Verdict::Applied {
                continue;
            }
            let Some(target) = self.target(&subject) else { continue };
            let (verdict, reason) = match ended.ending {
                Ending::Lapsed => (Verdict::Expired, "the lease ended without renewal"),
                Ending::Withdrawn => {
                    target.withdrawn();
                    (Verdict::Reverted, "the hint was withdrawn")
                }
            };
            let story = Story {
                id: Arc::clone(&ended.id),
                revision: ended.revision,
                success_rate_before: said.success_rate_before,
                told: target.state(),
            };
            let ack = ack_of(&story, now, target, verdict, reason.to_owned());
            target.story =
                Some(story).filter(|_| target.order.is_none() && ack.state != BreakerState::Closed);
            self.answer(now, ack);
        }
    }

    /// Answers a hint where the answer is a new one.
    fn tell_decision(&mut self, now: Instant, decision: decide::Decision) {
        let target = match &decision.subject {
            None => &self.edge,
            Some(name) => match self.endpoints.get(name) {
                Some(target) => target,
                None => return,
            },
        };
        let Some(held) = self.ledger.held_mut().get_mut(decision.held) else { return };
        let known = held.said.get(&decision.subject);
        if known.is_some_and(|said| said.verdict == decision.verdict && said.would == decision.would) {
            return;
        }
        let rate = target.recent.sums(now).overall();
        let before = known.map_or(rate, |said| said.success_rate_before);
        let ack = Ack {
            id: held.id.to_string(),
            revision: held.revision,
            verdict: decision.verdict,
            reason: about(&decision.subject, &decision.reason),
            success_rate_before: before,
            success_rate_after: rate,
            state: target.state(),
            at: UnixNanos(0),
        };
        let (verdict, would) = (decision.verdict, decision.would);
        held.said.insert(decision.subject, Said { verdict, would, success_rate_before: before });
        self.answer(now, ack);
    }

    /// Tells what became of targets whose hint is over.
    fn tell_stories(&mut self, now: Instant) {
        let mut acks = vec![];
        let awake = self.endpoints.awake_names();
        for subject in awake.into_iter().map(Some).chain(std::iter::once(None)) {
            let Some(target) = self.target(&subject) else { continue };
            let state = target.state();
            let Some(mut story) = target.story.take() else { continue };
            if story.told != state {
                story.told = state;
                let reason = match state {
                    BreakerState::Closed => "traffic is normal again",
                    BreakerState::Ramp => "its probes succeeded, traffic grows back",
                    BreakerState::HalfOpen => "probes decide",
                    BreakerState::Open => "ejected by this proxy's own judgement",
                    BreakerState::Soft => "another hint holds",
                };
                acks.push(ack_of(&story, now, target, Verdict::Reverted, reason.to_owned()));
            }
            target.story = Some(story).filter(|_| state != BreakerState::Closed);
        }
        acks.into_iter().for_each(|ack| self.answer(now, ack));
    }

    fn answer(&self, now: Instant, ack: Ack) {
        self.settings.answers.push(Answer { given: now, ack });
    }
}

/// The endpoints of which a hint was clamped.
fn clamped(made: &[decide::Decision]) -> HashSet<Arc<str>> {
    let clamped = made.iter().filter(|made| made.verdict == Verdict::Clamped);
    clamped.filter_map(|made| made.subject.clone()).collect()
}

fn about(subject: &Subject, reason: &str) -> String {
    match subject {
        Some(name) => format!("{name}: {reason}"),
        None => reason.to_owned(),
    }
}

fn ack_of(story: &Story, now: Instant, target: &Target, verdict: Verdict, reason: String) -> Ack {
    Ack {
        id: story.id.to_string(),
        revision: story.revision,
        verdict,
        reason,
        success_rate_before: story.success_rate_before,
        success_rate_after: target.recent.sums(now).overall(),
        state: target.state(),
        at: UnixNanos(0),
    }
}

#[cfg(test)]
mod tests;
