//! B3, the trace headers of Zipkin: one header `b3`, or several that begin with `X-B3-`.
//!
//! Format: github.com/openzipkin/b3-propagation. Where a request has both forms the single one counts, and
//! both are written. Ids of 64 bits are padded to 128 with zeros on the left.

use http::{HeaderMap, HeaderName, HeaderValue};
use weir_model::{SpanId, TraceId};

use super::{TraceContext, hex};

const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
/// `traceid-spanid-sampled-parent`.
const SINGLE_BYTES: usize = 32 + 1 + 16 + 1 + 1 + 1 + 16;

/// The form in which a request brought B3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum B3 {
    /// It did not.
    #[default]
    Absent,
    /// In one header, in several, or both; and with the debug flag, which is sampled and more.
    Present { single: bool, several: bool, debug: bool },
}

/// What B3 headers say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) form: B3,
    pub(super) ids: Option<(TraceId, SpanId)>,
    /// `None` where the decision is left to the receiver.
    pub(super) sampled: Option<bool>,
}

/// The decision of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Deny,
    Accept,
    Debug,
}

/// What the headers say; `None` where there is no B3 or it makes no sense.
pub(super) fn read(headers: &HeaderMap) -> Option<Told> {
    // Most requests have none, which a glance at the names tells sooner than looking for each.
    let is_b3 = |name: &HeaderName| name.as_str().starts_with("x-b3-") || name.as_str() == "b3";
    if !headers.keys().any(is_b3) {
        return None;
    }
    let single = headers.get(SINGLE).and_then(|value| read_single(value.as_bytes()));
    let several = read_several(headers);
    let (is_single, is_several) = (single.is_some(), several.is_some());
    let (ids, decision) = single.or(several)?;
    let debug = decision == Some(Decision::Debug);
    Some(Told {
        form: B3::Present { single: is_single, several: is_several, debug },
        ids,
        sampled: decision.map(|decision| decision != Decision::Deny),
    })
}

type Read = (Option<(TraceId, SpanId)>, Option<Decision>);

fn read_single(value: &[u8]) -> Option<Read> {
    if let Some(decision) = decision(value) {
        return Some((None, Some(decision)));
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let ids = (trace(parts.next()?)?, span(parts.next()?)?);
    let decided = match parts.next() {
        Some(text) => Some(decision(text)?),
        None => None,
    };
    // The parent is the caller's business, but must be one.
    if let Some(parent) = parts.next() {
        span(parent)?;
    }
    parts.next().is_none().then_some((Some(ids), decided))
}

fn read_several(headers: &HeaderMap) -> Option<Read> {
    let get = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let debug = (get(FLAGS) == Some(b"1")).then_some(Decision::Debug);
    let decided = debug.or_else(|| match get(SAMPLED)? {
        b"true" => Some(Decision::Accept),
        b"false" => Some(Decision::Deny),
        text => decision(text),
    });
    let ids = get(TRACE).and_then(trace).zip(get(SPAN).and_then(span));
    (ids.is_some() || decided.is_some()).then_some((ids, decided))
}

fn decision(text: &[u8]) -> Option<Decision> {
    match text {
        b"0" => Some(Decision::Deny),
        b"1" => Some(Decision::Accept),
        b"d" => Some(Decision::Debug),
        _ => None,
    }
}

fn trace(text: &[u8]) -> Option<TraceId> {
    let id = match text.len() {
        32 => hex::read(text)?,
        _ => {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&hex::read::<8>(text)?);
            id
        }
    };
    TraceId::from_slice(&id)
}

fn span(text: &[u8]) -> Option<SpanId> {
    SpanId::from_slice(&hex::read::<8>(text)?)
}

/// Makes the span of `context` the parent, in the form in which B3 came.
pub(super) fn write(headers: &mut HeaderMap, context: &TraceContext) {
    let B3::Present { single, several, debug } = context.b3 else { return };
    let mut text = [b'-'; SINGLE_BYTES];
    hex::write(&mut text[..32], &context.trace.0);
    hex::write(&mut text[33..49], &context.span.0);
    text[50] = match (debug, context.sampled()) {
        (true, _) => b'd',
        (_, true) => b'1',
        (_, false) => b'0',
    };
    let end = match context.parent {
        Some(parent) => {
            hex::write(&mut text[52..], &parent.0);
            SINGLE_BYTES
        }
        None => 51,
    };
    let mut set = |name: HeaderName, value: &[u8]| match HeaderValue::from_bytes(value) {
        Ok(value) => headers.insert(name, value),
        Err(_) => None,
    };
    if single {
        set(SINGLE, &text[..end]);
    }
    if several {
        set(TRACE, &text[..32]);
        set(SPAN, &text[33..49]);
        // Debug implies sampled, which is then not said.
        let (told, untold) = if debug { (FLAGS, SAMPLED) } else { (SAMPLED, FLAGS) };
        set(told, if debug { b"1" } else { &text[50..51] });
        if context.parent.is_some() {
            set(PARENT, &text[52..]);
        } else {
            headers.remove(PARENT);
        }
        headers.remove(untold);
    }
}
