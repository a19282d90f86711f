//! What a proxy must do to headers: refuse the ambiguous, drop what belongs to one hop, say who calls.
//!
//! RFC 9110 section 7.6.1 (hop-by-hop fields), RFC 9112 section 6.3 (message length).

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use weir_model::semconv::PEER_HEADER;

use crate::call::Party;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Longest value of the peer header that is believed.
const PEER_BYTES: usize = 400;

/// Why a request is not forwarded: status and reason.
pub(crate) type Unfit = (u16, &'static str);

/// Whether two readers could disagree about where this request ends or what it asks for.
pub(crate) fn check(parts: &Parts) -> Result<(), Unfit> {
    if parts.method == Method::CONNECT {
        return Err((405, "CONNECT is not supported"));
    }
    let lengths = parts.headers.get_all(CONTENT_LENGTH).iter().count();
    if lengths > 1 {
        return Err((400, "more than one content-length"));
    }
    if lengths > 0 && parts.headers.contains_key(TRANSFER_ENCODING) {
        return Err((400, "content-length beside transfer-encoding"));
    }
    if parts.headers.get_all(TRANSFER_ENCODING).iter().count() > 1 {
        return Err((400, "more than one transfer-encoding"));
    }
    let coding = parts.headers.get(TRANSFER_ENCODING);
    if coding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err((501, "transfer-encoding other than chunked"));
    }
    match parts.headers.get_all(HOST).iter().count() {
        0 if parts.version == Version::HTTP_11 => Err((400, "no host")),
        0 | 1 => Ok(()),
        _ => Err((400, "more than one host")),
    }
}

/// Removes the fields that belong to one hop, and those that `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let trailers = headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        EXPECT,
    ] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Says to the next proxy who is calling.
pub(crate) fn set_peer(headers: &mut HeaderMap, peer: &HeaderValue) {
    headers.insert(HeaderName::from_static(PEER_HEADER), peer.clone());
}

/// The value of the peer header for `party`.
pub(crate) fn peer_value(party: &Party) -> HeaderValue {
    let text = format!("{};{};{}", party.service, party.instance, party.version);
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Who the request says it comes from; the header is removed. `unknown` where it says nothing usable.
pub(crate) fn take_peer(headers: &mut HeaderMap) -> Party {
    let value = headers.remove(HeaderName::from_static(PEER_HEADER));
    let text = value.as_ref().and_then(|value| value.to_str().ok()).filter(|text| text.len() <= PEER_BYTES);
    let mut parts = text.unwrap_or_default().split(';');
    let service = parts.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
    let mut next = || parts.next().unwrap_or_default().into();
    Party { service: service.into(), instance: next(), version: next() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request.into_parts().0
    }

    #[test]
    fn ambiguous_lengths_are_refused() {
        let refused = |headers: &[_]| check(&parts(headers)).map_err(|(status, _)| status);
        assert_eq!(refused(&[("host", "a"), ("content-length", "3")]), Ok(()));
        assert_eq!(refused(&[("host", "a"), ("content-length", "3"), ("content-length", "3")]), Err(400));
        assert_eq!(
            refused(&[("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")]),
            Err(400)
        );
        assert_eq!(refused(&[("host", "a"), ("transfer-encoding", "gzip, chunked")]), Err(501));
        assert_eq!(refused(&[("host", "a"), ("host", "b")]), Err(400));
        assert_eq!(refused(&[]), Err(400));
    }

    #[test]
    fn fields_of_the_hop_are_removed_and_te_trailers_kept() {
        let mut headers = parts(&[
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ])
        .headers;
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-kept"]);
    }

    #[test]
    fn the_peer_is_read_once_and_unknown_where_absent() {
        let party = Party { service: "cart".into(), instance: "cart-1".into(), version: "v2".into() };
        let mut headers = HeaderMap::new();
        set_peer(&mut headers, &peer_value(&party));
        assert_eq!(take_peer(&mut headers), party);
        assert_eq!(&*take_peer(&mut headers).service, "unknown");
    }
}
