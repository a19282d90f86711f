//! How an attempt went, and what that says of the endpoint: Envoy's distinctions.
//!
//! A fault is an answer that says the server failed, or no answer at all. As in Envoy, a missing answer counts
//! as the status that a proxy would give for it (503 without a connection or after a reset, 504 after a
//! timeout) unless local-origin failures are counted apart, and a gRPC status as the HTTP status it corresponds
//! to (`google/rpc/code.proto`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use weir_model::policy::destination::OutlierDetection;

/// How an attempt at an endpoint went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) latency: Duration,
    /// It was let through as a probe, of the endpoint or of the edge.
    pub(crate) probe: bool,
    pub(crate) kind: Kind,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An answer of this HTTP status.
    Http(u16),
    /// An answer of this gRPC status.
    Grpc(u16),
    NoConnection,
    TimedOut,
    Reset,
}

/// Whose fault a failure is, by the counters that count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// 5xx, and what is listed as such.
    Server,
    /// 502, 503 or 504, which are 5xx too.
    Gateway,
    /// No answer, where those are counted apart.
    LocalOrigin,
}

/// Statuses below this can be listed.
const STATUSES: usize = 640;

/// Which answers are faults. Requests read it without a lock.
#[derive(Debug)]
pub(crate) struct Codes {
    /// A bit for each status that a policy lists.
    listed: [AtomicU64; STATUSES / 64],
    split: AtomicBool,
}

impl Codes {
    pub(super) fn new(policy: &OutlierDetection) -> Self {
        let codes = Self { listed: Default::default(), split: AtomicBool::new(false) };
        codes.set(policy);
        codes
    }

    pub(super) fn set(&self, policy: &OutlierDetection) {
        self.split.store(policy.split_external_local_origin_errors, Ordering::Relaxed);
        for (i, word) in self.listed.iter().enumerate() {
            let here = policy.http_error_codes.iter().map(|code| usize::from(*code));
            let bits = here.filter(|code| code / 64 == i).fold(0, |bits, code| bits | 1 << (code % 64));
            word.store(bits, Ordering::Relaxed);
        }
    }

    fn lists(&self, code: u16) -> bool {
        let code = usize::from(code);
        self.listed.get(code / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (code % 64) & 1 == 1)
    }

    /// What is wrong with an outcome; `None` where nothing is.
    pub(super) fn fault(&self, outcome: &Outcome) -> Option<Fault> {
        let (listed, status) = match outcome.kind {
            Kind::Http(status) => (self.lists(status), status),
            Kind::Grpc(code) => (code < 100 && self.lists(code), http_status(code)),
            _ if self.split.load(Ordering::Relaxed) => return Some(Fault::LocalOrigin),
            Kind::TimedOut => (false, 504),
            Kind::NoConnection | Kind::Reset => (false, 503),
        };
        match status {
            502..=504 => Some(Fault::Gateway),
            500.. => Some(Fault::Server),
            _ => (listed || !outcome.ok).then_some(Fault::Server),
        }
    }
}

/// The HTTP status that a gRPC status corresponds to, as far as outlier detection tells statuses apart.
fn http_status(grpc: u16) -> u16 {
    match grpc {
        // Unknown, internal, data loss.
        2 | 13 | 15 => 500,
        // Unimplemented.
        12 => 501,
        // Unavailable.
        14 => 503,
        // Deadline exceeded.
        4 => 504,
        0 => 200,
        _ => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_apart_as_envoy_does() {
        use Fault::{Gateway, LocalOrigin, Server};
        let policy = OutlierDetection { http_error_codes: vec![8, 429, 700], ..OutlierDetection::default() };
        let split = OutlierDetection { split_external_local_origin_errors: true, ..policy.clone() };
        for (kind, ok, together, apart) in [
            (Kind::Http(200), true, None, None),
            (Kind::Http(404), true, None, None),
            (Kind::Http(429), true, Some(Server), Some(Server)),
            (Kind::Http(500), false, Some(Server), Some(Server)),
            (Kind::Http(502), false, Some(Gateway), Some(Gateway)),
            (Kind::Http(504), false, Some(Gateway), Some(Gateway)),
            (Kind::Http(599), false, Some(Server), Some(Server)),
            (Kind::Http(999), false, Some(Server), Some(Server)),
            (Kind::Grpc(0), true, None, None),
            (Kind::Grpc(5), true, None, None),
            (Kind::Grpc(8), true, Some(Server), Some(Server)),
            (Kind::Grpc(12), false, Some(Server), Some(Server)),
            (Kind::Grpc(14), false, Some(Gateway), Some(Gateway)),
            (Kind::Grpc(4), false, Some(Gateway), Some(Gateway)),
            (Kind::NoConnection, false, Some(Gateway), Some(LocalOrigin)),
            (Kind::TimedOut, false, Some(Gateway), Some(LocalOrigin)),
            (Kind::Reset, false, Some(Gateway), Some(LocalOrigin)),
        ] {
            let outcome = Outcome { ok, latency: Duration::ZERO, probe: false, kind };
            assert_eq!(Codes::new(&policy).fault(&outcome), together, "{kind:?}");
            assert_eq!(Codes::new(&split).fault(&outcome), apart, "{kind:?} apart");
        }
        let codes = Codes::new(&policy);
        codes.set(&OutlierDetection::default());
        let outcome = Outcome { ok: true, latency: Duration::ZERO, probe: false, kind: Kind::Http(429) };
        assert_eq!(codes.fault(&outcome), None, "a new policy replaces the old one");
    }
}
