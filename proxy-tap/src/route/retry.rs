//! What may be sent again, and after how long.
//!
//! Conditions have Envoy's names and meanings, but for two: what breaks after the server may have seen it is sent
//! again under `reset` and `try-timeout` only where the method is idempotent (RFC 9110 section 9.2.2).

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, Method};
use weir_model::limits;
use weir_model::policy::route::{Retries, RetryOn};

use crate::chance::Chance;

/// How an attempt ended, as far as a retry is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// No connection came about.
    Connect,
    /// The server said that it did not process the request.
    RefusedStream,
    /// The connection broke before the head of a response.
    Reset,
    /// It took longer than one attempt may.
    TryTimeout,
    /// There is an answer: its HTTP status, and the gRPC status in its head.
    Answer(u16, Option<u16>),
}

/// What may be sent again, and how.
#[derive(Debug, Clone)]
pub(crate) struct RetryPolicy {
    /// How many times beside the first.
    pub(crate) attempts: u32,
    /// How long one attempt may take, beside the bound on all of them.
    pub(crate) per_try: Option<Duration>,
    /// Whether endpoints that were tried may be asked again while others are there.
    pub(crate) reuse_hosts: bool,
    /// Whether endpoints far away may be asked.
    pub(crate) other_localities: bool,
    on: u32,
    statuses: Box<[u16]>,
    backoff: Duration,
    max_backoff: Duration,
}

impl RetryPolicy {
    /// What is written, compiled.
    pub(crate) fn new(written: &Retries) -> Self {
        Self {
            attempts: written.attempts,
            per_try: written.per_try_timeout.map(|length| length.0),
            reuse_hosts: written.reuse_hosts,
            other_localities: written.other_localities,
            on: written.on.iter().fold(0, |set, on| set | bit(*on)),
            statuses: written.statuses.as_slice().into(),
            backoff: written.backoff.0,
            max_backoff: written.max_backoff.0,
        }
    }

    /// Whether a request whose attempt ended so may be sent again; how often is `attempts`.
    pub(crate) fn may_retry(&self, ended: Ended, method: &Method) -> bool {
        use RetryOn as On;
        let broken = self.any(&[On::Http5xx, On::GatewayError]);
        let idempotent = |on| method.is_idempotent() && self.any(&[on]);
        match ended {
            Ended::Connect => broken || self.any(&[On::ConnectFailure, On::Reset, On::ResetUnsafe]),
            Ended::RefusedStream => broken || self.any(&[On::RefusedStream, On::Reset, On::ResetUnsafe]),
            Ended::Reset => broken || self.any(&[On::ResetUnsafe]) || idempotent(On::Reset),
            Ended::TryTimeout => broken || idempotent(On::TryTimeout),
            Ended::Answer(status, grpc) => {
                self.has_status(status) || grpc.is_some_and(|code| self.has_grpc(code))
            }
        }
    }

    /// How long to wait before retry number `n`, the first being 0, when the answer before said `retry_after`.
    /// `None`: for longer than anybody would. Those who were told the same moment come back spread out.
    pub(crate) fn pause(&self, n: u32, retry_after: Option<Duration>, chance: &Chance) -> Option<Duration> {
        let most = self.backoff.saturating_mul(1 << n.min(16)).min(self.max_backoff);
        let told = retry_after.unwrap_or_default();
        (told <= limits::RETRY_AFTER).then(|| told + most.mul_f64(chance.f64()))
    }

    fn has_status(&self, status: u16) -> bool {
        use RetryOn as On;
        let on: &[On] = match status {
            409 => &[On::Retriable4xx],
            503 => &[On::Http503, On::GatewayError, On::Http5xx],
            502 | 504 => &[On::GatewayError, On::Http5xx],
            500..=599 => &[On::Http5xx],
            _ => &[],
        };
        self.any(on) || self.statuses.contains(&status)
    }

    fn has_grpc(&self, code: u16) -> bool {
        use RetryOn as On;
        let on: &[On] = match code {
            1 => &[On::Cancelled],
            4 => &[On::DeadlineExceeded],
            8 => &[On::ResourceExhausted],
            13 => &[On::Internal],
            14 => &[On::Unavailable],
            _ => &[],
        };
        self.any(on)
    }

    fn any(&self, conditions: &[RetryOn]) -> bool {
        conditions.iter().any(|on| self.on & bit(*on) != 0)
    }
}

fn bit(on: RetryOn) -> u32 {
    1 << on as u32
}

/// How long a response asks to wait, where it says so in seconds. The other form, a date (RFC 9110 section
/// 10.2.3), takes two clocks that agree.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
