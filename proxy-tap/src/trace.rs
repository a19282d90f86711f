//! Trace context: continued where a request brings a valid one, started where it does not.
//!
//! Two formats are read: W3C's (w3.org/TR/trace-context), which wins where both are valid, and B3
//! ([`b3`]). W3C's is always written, B3 in the form in which the request brought it, so that applications
//! which know nothing else continue the trace. `tracestate` and `baggage` pass untouched, as they came.

mod b3;
mod hex;
mod sampling;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName, HeaderValue};
use weir_model::{SpanId, TraceId};

use crate::chance::Chance;
pub(crate) use b3::B3;
pub(crate) use sampling::Share;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 1;
/// Longest `tracestate` that is exported with a span; W3C asks for as much at least.
const STATE_BYTES: usize = 512;
/// Bytes of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

/// Where one of the proxy's spans stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) flags: u8,
    /// Whether the request brought it in W3C's format.
    pub(crate) w3c: bool,
    /// The first `tracestate` header, for the exported span.
    pub(crate) state: Option<HeaderValue>,
    /// How the request brought B3, in which form it is passed on.
    pub(crate) b3: B3,
}

impl TraceContext {
    /// A new span: a child of the context in `headers`, or the root of a trace, of which `roots` are
    /// sampled. What a caller decided stays decided; where B3 leaves the decision open, it is as for a root.
    pub(crate) fn of(headers: &HeaderMap, chance: &Chance, roots: Share) -> Self {
        let span = SpanId(nonzero(chance).to_be_bytes());
        let told = b3::read(headers);
        let b3 = told.as_ref().map_or(B3::Absent, |told| told.form);
        if let Some((trace, parent, flags)) = headers.get(TRACEPARENT).and_then(|v| parse(v.as_bytes())) {
            let state = headers.get(TRACESTATE).filter(|value| value.len() <= STATE_BYTES).cloned();
            return Self { trace, span, parent: Some(parent), flags, w3c: true, state, b3 };
        }
        let (trace, parent) = match told.as_ref().and_then(|told| told.ids) {
            Some((trace, parent)) => (trace, Some(parent)),
            None => (random_trace(chance), None),
        };
        let sampled = told.and_then(|told| told.sampled).unwrap_or_else(|| roots.takes(&trace));
        let flags = if sampled { SAMPLED } else { 0 };
        Self { trace, span, parent, flags, w3c: false, state: None, b3 }
    }

    /// Whether the span is to be exported.
    pub(crate) fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Makes this span the parent of whoever receives `headers`. A `tracestate` whose `traceparent`
    /// was missing or invalid means nothing and is removed.
    pub(crate) fn inject(&self, headers: &mut HeaderMap) {
        let mut text = [b'-'; PARENT_BYTES];
        text[..2].copy_from_slice(b"00");
        hex::write(&mut text[3..35], &self.trace.0);
        hex::write(&mut text[36..52], &self.span.0);
        hex::write(&mut text[53..], &[self.flags]);
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            headers.insert(TRACEPARENT, value);
        }
        if !self.w3c {
            headers.remove(TRACESTATE);
        }
        if self.b3 != B3::Absent {
            b3::write(headers, self);
        }
    }
}

fn nonzero(chance: &Chance) -> u64 {
    chance.u64().max(1)
}

fn random_trace(chance: &Chance) -> TraceId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&nonzero(chance).to_be_bytes());
    id[8..].copy_from_slice(&chance.u64().to_be_bytes());
    TraceId(id)
}

/// `version-traceid-parentid-flags` in lower case; versions above 00 may carry more after another dash.
fn parse(value: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let (known, more) = value.split_at_checked(PARENT_BYTES)?;
    if known.iter().any(u8::is_ascii_uppercase) || [2, 35, 52].iter().any(|at| known[*at] != b'-') {
        return None;
    }
    let [version] = hex::read(&known[..2])?;
    let fits = match version {
        0 => more.is_empty(),
        0xff => false,
        _ => more.is_empty() || more[0] == b'-',
    };
    let (trace, parent) = (TraceId(hex::read(&known[3..35])?), SpanId(hex::read(&known[36..52])?));
    let [flags] = hex::read(&known[53..])?;
    (fits && !trace.is_zero() && !parent.is_zero()).then_some((trace, parent, flags))
}
