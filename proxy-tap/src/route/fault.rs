//! Faults on purpose: some requests wait, some are answered with an error.

use std::time::Duration;

use weir_model::policy::route::Fault as Written;

use crate::chance::Chance;

/// What a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    /// An HTTP status.
    Http(u16),
    /// A gRPC status.
    Grpc(u16),
}

/// How many requests wait, and how many are answered with an error; the two are drawn apart, as in Envoy.
#[derive(Debug)]
pub(super) struct Fault {
    delay: Option<(f64, Duration)>,
    abort: Option<(f64, Abort)>,
}

impl Fault {
    /// What is written; `None` where nothing ever happens.
    pub(super) fn new(written: &Written) -> Option<Self> {
        let delay = written.delay.as_ref().map(|delay| (delay.percent.fraction(), delay.fixed.0));
        let abort = written.abort.as_ref().and_then(|abort| {
            let http = abort.status.map(Abort::Http);
            Some((abort.percent.fraction(), http.or(abort.grpc_status.map(Abort::Grpc))?))
        });
        (delay.is_some() || abort.is_some()).then_some(Self { delay, abort })
    }

    /// What happens to one request: first it waits, then it is answered.
    pub(super) fn draw(&self, chance: &Chance) -> (Option<Duration>, Option<Abort>) {
        fn happens<T: Copy>(fault: Option<(f64, T)>, chance: &Chance) -> Option<T> {
            fault.filter(|(share, _)| chance.happens(*share)).map(|(_, what)| what)
        }
        (happens(self.delay, chance), happens(self.abort, chance))
    }
}
