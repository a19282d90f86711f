//! W3C trace context: continued where a request brings a valid one, started where it does not.
//!
//! `tracestate` and `baggage` pass untouched, as they came. Format: w3.org/TR/trace-context.

use http::{HeaderMap, HeaderName, HeaderValue};
use weir_model::{SpanId, TraceId};

use crate::chance::Chance;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 1;

/// Where one of the proxy's spans stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) flags: u8,
    /// The first `tracestate` header, for the exported span.
    pub(crate) state: Option<HeaderValue>,
}

impl TraceContext {
    /// A new span: a child of the context in `headers`, or the root of a trace that is sampled.
    pub(crate) fn of(headers: &HeaderMap, chance: &Chance) -> Self {
        let span = SpanId(nonzero(chance).to_be_bytes());
        match headers.get(TRACEPARENT).and_then(|value| parse(value.as_bytes())) {
            Some((trace, parent, flags)) => {
                let state = headers.get(TRACESTATE).filter(|value| value.len() <= 512).cloned();
                Self { trace, span, parent: Some(parent), flags, state }
            }
            None => {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&nonzero(chance).to_be_bytes());
                id[8..].copy_from_slice(&chance.u64().to_be_bytes());
                Self { trace: TraceId(id), span, parent: None, flags: SAMPLED, state: None }
            }
        }
    }

    /// Whether the span is to be exported.
    pub(crate) fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Makes this span the parent of whoever receives `headers`. A `tracestate` whose `traceparent`
    /// was missing or invalid means nothing and is removed.
    pub(crate) fn inject(&self, headers: &mut HeaderMap) {
        let text = format!("00-{}-{}-{:02x}", self.trace, self.span, self.flags);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(TRACEPARENT, value);
        }
        if self.parent.is_none() {
            headers.remove(TRACESTATE);
        }
    }
}

fn nonzero(chance: &Chance) -> u64 {
    chance.u64().max(1)
}

/// `version-traceid-parentid-flags`; versions above 00 may carry more after another dash.
fn parse(value: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let text = std::str::from_utf8(value).ok()?;
    let lower = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if ![version, trace, parent, flags].iter().all(|part| lower(part)) {
        return None;
    }
    let more = parts.next().is_some();
    if version.len() != 2 || flags.len() != 2 || version == "ff" || (version == "00" && more) {
        return None;
    }
    let trace: TraceId = trace.parse().ok()?;
    let parent: SpanId = parent.parse().ok()?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    (!trace.is_zero() && !parent.is_zero()).then_some((trace, parent, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(value: &str) -> TraceContext {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        TraceContext::of(&headers, &Chance::new(1, "t"))
    }

    #[test]
    fn a_valid_context_is_continued_and_passed_on() {
        let context = context(GOOD);
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.parent.unwrap().to_string(), "b7ad6b7169203331");
        assert!(context.sampled());
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        context.inject(&mut headers);
        let out = headers[TRACEPARENT].to_str().unwrap();
        assert_eq!(out, format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", context.span));
        assert_eq!(headers[TRACESTATE], "vendor=1");
    }

    #[test]
    fn an_unsampled_parent_stays_unsampled() {
        assert!(!context(&GOOD.replace("-01", "-00")).sampled());
    }

    #[test]
    fn anything_invalid_starts_a_new_trace() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        ] {
            let context = context(bad);
            assert_eq!(context.parent, None, "{bad}");
            assert!(context.sampled());
            let mut headers = HeaderMap::new();
            headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
            context.inject(&mut headers);
            assert!(!headers.contains_key(TRACESTATE), "{bad}");
        }
        assert!(context(&GOOD.replace("00-0af", "01-0af").replace("-01", "-01-future")).parent.is_some());
    }
}
