//! Every transition of the breakers, on a clock that the tests own.

mod hints;
mod model;
mod own;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::UnixNanos;
use weir_model::hint::{
    Ack, Action, BreakerState, Evidence, Guards, Hint, Mode, Recovery, Scope, Target as HintTarget, Verdict,
};
use weir_model::policy::destination::OutlierDetection;

use super::{Answers, Breakers, Change, Codes, Gate, Kind, Outcome, Settings, View};

/// One proxy's breakers of `payments`, with endpoints `p1`, `p2`, …, and its clock.
pub(super) struct World {
    pub(super) breakers: Breakers,
    pub(super) now: Instant,
    pub(super) gates: Vec<(Arc<str>, Arc<str>, Arc<Gate>)>,
    pub(super) edge: Arc<Gate>,
    pub(super) answers: Arc<Answers>,
    codes: Arc<Codes>,
    revision: u64,
}

pub(super) fn secs(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

impl World {
    pub(super) fn new(endpoints: usize, local: bool) -> Self {
        Self::with(endpoints, OutlierDetection { enabled: local, ..OutlierDetection::default() })
    }

    pub(super) fn with(endpoints: usize, outlier: OutlierDetection) -> Self {
        let answers = Arc::new(Answers::default());
        let settings = Settings {
            outlier,
            caller: "checkout".into(),
            instance: "checkout-1".into(),
            service: "payments".into(),
            answers: Arc::clone(&answers),
        };
        let now = Instant::now();
        let breakers = Breakers::new(settings, now);
        let (edge, codes) = (breakers.edge_gate(), breakers.codes());
        let mut world = Self { breakers, now, gates: vec![], edge, answers, codes, revision: 0 };
        world.endpoints(endpoints);
        world
    }

    /// From now on there are `p1` to `p<n>`, in zones `a` and `b` by turns.
    pub(super) fn endpoints(&mut self, n: usize) {
        self.gates.truncate(n);
        for i in self.gates.len()..n {
            let zone = if i % 2 == 0 { "a" } else { "b" };
            self.gates.push((format!("p{}", i + 1).into(), zone.into(), Arc::default()));
        }
        let known = &self.breakers.endpoints;
        let same = |gate: &Arc<Gate>| known.iter().any(|(_, target)| Arc::ptr_eq(&target.gate, gate));
        let come: Vec<_> = self.gates.iter().filter(|(.., gate)| !same(gate)).cloned().collect();
        let stays = |gate| self.gates.iter().any(|(.., own)| Arc::ptr_eq(own, gate));
        let gone = known.iter().filter(|(_, target)| !stays(&target.gate)).map(|(name, _)| Arc::clone(name));
        let mut change = Change::new(self.now, gone.collect(), come.into_iter());
        self.breakers.change_endpoints(self.now, &mut change);
    }

    /// Lets time go by in the steps of a running proxy.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(100)).min(end);
            self.breakers.tick(self.now);
        }
    }

    pub(super) fn set(&mut self, epoch: u64, hints: &[Hint]) {
        self.revision += 1;
        self.breakers.hints(self.now, epoch, self.revision, hints.to_vec());
    }

    pub(super) fn call(&mut self, endpoint: &str, ok: bool) {
        self.answer(endpoint, Kind::Http(if ok { 200 } else { 500 }));
    }

    /// A request to `endpoint` ends like this, and those are told who have to know.
    pub(super) fn answer(&mut self, endpoint: &str, kind: Kind) {
        self.result(endpoint, Outcome { latency: Duration::from_millis(5), ..outcome(kind, false) });
    }

    pub(super) fn result(&mut self, endpoint: &str, outcome: Outcome) {
        let gate = self.gates.iter().find(|(name, ..)| **name == *endpoint).map(|(.., gate)| gate);
        if !gate.is_some_and(|gate| gate.settles(&self.codes, &outcome)) {
            self.breakers.result(self.now, endpoint, outcome);
        }
    }

    pub(super) fn calls(&mut self, endpoint: &str, n: usize, ok: bool) {
        (0..n).for_each(|_| self.call(endpoint, ok));
    }

    pub(super) fn gate(&self, endpoint: &str) -> &Arc<Gate> {
        &self.gates.iter().find(|(name, ..)| **name == *endpoint).unwrap().2
    }

    /// Sends each probe of `endpoint` that falls due within `time`, with this outcome; returns how many.
    pub(super) fn probe(&mut self, endpoint: &str, time: Duration, ok: bool, latency: Duration) -> usize {
        let end = self.now + time;
        let mut probes = 0;
        while self.now < end {
            if self.gate(endpoint).take_probe(self.now) {
                probes += 1;
                let kind = Kind::Http(if ok { 200 } else { 500 });
                self.breakers.result(self.now, endpoint, Outcome { latency, ..outcome(kind, true) });
            }
            self.wait(Duration::from_millis(100));
        }
        probes
    }

    pub(super) fn view(&self, endpoint: &str) -> View {
        let views = self.breakers.views(self.now);
        views.into_iter().find(|view| view.endpoint.as_deref() == Some(endpoint)).unwrap()
    }

    pub(super) fn edge(&self) -> View {
        self.breakers.views(self.now).remove(0)
    }

    pub(super) fn state(&self, endpoint: &str) -> BreakerState {
        self.view(endpoint).state
    }

    pub(super) fn acks(&self) -> Vec<Ack> {
        std::iter::from_fn(|| self.answers.try_next()).map(|answer| answer.ack).collect()
    }

    /// Verdicts and states of the answers since the last call.
    pub(super) fn said(&self) -> Vec<(Verdict, BreakerState)> {
        self.acks().iter().map(|ack| (ack.verdict, ack.state)).collect()
    }
}

/// An outcome that counts as the request path has it.
pub(super) fn outcome(kind: Kind, probe: bool) -> Outcome {
    let ok = match kind {
        Kind::Http(status) => status < 500,
        Kind::Grpc(code) => !matches!(code, 2 | 4 | 12 | 13 | 14 | 15),
        Kind::NoConnection | Kind::TimedOut | Kind::Reset => false,
    };
    Outcome { ok, latency: Duration::ZERO, probe, kind }
}

pub(super) fn hint(id: &str, revision: u64, target: HintTarget, action: Action) -> Hint {
    Hint {
        id: id.to_owned(),
        revision,
        epoch: 1,
        issued_at: UnixNanos(0),
        ttl: secs(15.0),
        scope: Scope { service: "payments".to_owned(), target, ..Scope::default() },
        action,
        mode: Mode::Enforce,
        holdout_pct: 0,
        evidence: Evidence {
            metric: "error_rate".to_owned(),
            observed: 0.9,
            baseline: 0.01,
            ..Evidence::default()
        },
        guards: Guards::default(),
        recovery: Recovery { ramp: secs(10.0), probe_rate: 0.25, probe_successes: 3 },
    }
}

pub(super) fn eject(endpoint: &str) -> Hint {
    hint(&format!("h-{endpoint}"), 1, HintTarget::Endpoint(endpoint.to_owned()), Action::Eject)
}

pub(super) fn open() -> Hint {
    hint("h-open", 1, HintTarget::Service, Action::Open { status: 503, retry_after: secs(5.0) })
}

pub(super) fn slow(mut hint: Hint) -> Hint {
    hint.evidence.metric = "latency_p50_seconds".to_owned();
    (hint.evidence.observed, hint.evidence.baseline) = (0.050, 0.005);
    hint
}
