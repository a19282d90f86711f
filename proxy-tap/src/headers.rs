//! What a proxy must do to headers: refuse the ambiguous, drop what belongs to one hop, say who calls.
//!
//! RFC 9110 section 7.6.1 (hop-by-hop fields), RFC 9112 section 6.3 (message length).

use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use weir_model::limits;
use weir_model::semconv::PEER_HEADER;

use crate::call::Party;
use crate::http1::head::is_host;
use crate::telemetry::{Peers, written};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Why a request is not forwarded: status and reason.
pub(crate) type Unfit = (u16, &'static str);

/// Whether two readers could disagree about where this request ends or what it asks for.
pub(crate) fn check(parts: &Parts) -> Result<(), Unfit> {
    if parts.method == Method::CONNECT {
        return Err((405, "CONNECT is not taken here"));
    }
    if parts.headers.len() > limits::HEADERS {
        return Err((431, "too many header fields"));
    }
    target(parts)?;
    match parts.version {
        Version::HTTP_2 => check_http2(parts),
        // The rest was made sure of when the head was read.
        _ if parts.uri.authority().is_some_and(|host| !is_host(host.as_str().as_bytes())) => {
            Err((400, "bad host"))
        }
        _ => Ok(()),
    }
}

fn check_http2(parts: &Parts) -> Result<(), Unfit> {
    let headers = &parts.headers;
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err((400, "transfer-encoding in HTTP/2"));
    }
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err((400, "more than one content-length"));
    }
    host(parts)?;
    // White space at the ends is no part of a value.
    if headers.values().any(|value| value.as_bytes().trim_ascii().len() != value.len()) {
        return Err((400, "white space around a header value"));
    }
    Ok(())
}

/// A path, or `*` where the request is about the server (RFC 9112 section 3.2, RFC 9113 section 8.3.1). In HTTP/1
/// an absolute target may have none.
fn target(parts: &Parts) -> Result<(), Unfit> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let absolute = parts.version != Version::HTTP_2 && parts.uri.scheme().is_some();
    match target {
        "*" if parts.method == Method::OPTIONS => Ok(()),
        // Where there is neither host nor path, the crate makes up a path.
        _ if parts.uri.path().is_empty() => Err((400, "no path")),
        target if target.starts_with('/') || absolute => Ok(()),
        _ => Err((400, "the target is no path")),
    }
}

/// One host, said once or twice the same way, without a user's name before it (RFC 9110 section 4.2.4).
fn host(parts: &Parts) -> Result<(), Unfit> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, authority) = (hosts.next(), parts.uri.authority());
    if hosts.next().is_some() {
        return Err((400, "more than one host"));
    }
    let said = [host.map(HeaderValue::as_bytes), authority.map(|authority| authority.as_str().as_bytes())];
    if said.iter().flatten().any(|host| !is_host(host)) {
        return Err((400, "bad host"));
    }
    match said {
        [None, None] => Err((400, "no host")),
        [Some(host), Some(authority)] if !host.eq_ignore_ascii_case(authority) => {
            Err((400, "host is not the authority"))
        }
        _ => Ok(()),
    }
}

/// Makes one field of the cookies that HTTP/2 may have split (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

/// The fields that belong to one hop.
const OF_THIS_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// Removes the fields that belong to one hop, and those that `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have few of them or none, which a glance at the names tells sooner than looking for each.
    let of_this_hop = |headers: &HeaderMap| headers.keys().find(|name| OF_THIS_HOP.contains(name)).cloned();
    let mut trailers = false;
    while let Some(name) = of_this_hop(headers) {
        if name == CONNECTION {
            for name in named(headers) {
                headers.remove(name);
            }
        }
        let value = headers.remove(&name);
        trailers |= name == TE && value.is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The fields that `Connection` names, but for those that go anyway.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let options = values.flat_map(|value| value.split(',')).map(str::trim);
    let others =
        options.filter(|option| !OF_THIS_HOP.iter().any(|name| option.eq_ignore_ascii_case(name.as_str())));
    others.filter_map(|name| name.parse().ok()).collect()
}

/// Says to the next proxy who is calling.
pub(crate) fn set_peer(headers: &mut HeaderMap, peer: &HeaderValue) {
    headers.insert(HeaderName::from_static(PEER_HEADER), peer.clone());
}

/// The value of the peer header for `party`.
pub(crate) fn peer_value(party: &Party) -> HeaderValue {
    HeaderValue::from_str(&written(party)).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Who the request says it comes from; the header is removed. `unknown` where it says nothing usable. The
/// `principal` is what the connection's certificate proves, empty where it has none.
pub(crate) fn take_peer(headers: &mut HeaderMap, peers: &Peers, principal: &str) -> Arc<Party> {
    let value = headers.remove(HeaderName::from_static(PEER_HEADER));
    peers.get(value.as_ref().map(HeaderValue::as_bytes), principal)
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
        let refused = |headers: &[_]| {
            let mut parts = parts(headers);
            parts.version = Version::HTTP_2;
            check(&parts).map_err(|(status, _)| status)
        };
        assert_eq!(refused(&[("host", "a"), ("content-length", "3")]), Ok(()));
        assert_eq!(refused(&[("host", "a"), ("content-length", "3"), ("content-length", "3")]), Err(400));
        assert_eq!(refused(&[("host", "a"), ("transfer-encoding", "chunked")]), Err(400));
        assert_eq!(refused(&[("host", "a"), ("host", "b")]), Err(400));
        assert_eq!(refused(&[]), Err(400));
    }

    fn asked(
        method: &str,
        target: &str,
        version: Version,
        headers: &[(&'static str, &'static str)],
    ) -> Parts {
        let mut parts = parts(headers);
        (parts.method, parts.uri) = (method.parse().unwrap(), target.parse().unwrap());
        parts.version = version;
        parts
    }

    #[test]
    fn targets_and_hosts_that_mean_nothing_or_two_things_are_refused() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (method, target, version, host, fits) in [
            ("GET", "/", one, "a", true),
            ("OPTIONS", "*", one, "a", true),
            ("GET", "*", one, "a", false),
            ("GET", "http://b", one, "a", true),
            ("GET", "http://b?q", one, "a", true),
            ("GET", "b:80", one, "a", false),
            ("GET", "http://u@b/", one, "a", false),
            ("GET", "http://a:80/", two, "A:80", true),
            ("GET", "http://a:80/", two, "a", false),
            ("GET", "http://a?q", two, "a", false),
            ("GET", "/", two, "a/b", false),
            ("GET", "/", two, "a", true),
        ] {
            let header: [(&'static str, &'static str); 1] = [("host", host)];
            let found = check(&asked(method, target, version, &header));
            assert_eq!(found.is_ok(), fits, "{method} {target} {version:?} {host}: {found:?}");
        }
        assert_eq!(check(&asked("GET", "/", two, &[])), Err((400, "no host")));
        let spaced = [("host", "a"), ("x-a", "1 ")];
        assert!(check(&asked("GET", "/", two, &spaced)).is_err());
    }

    #[test]
    fn split_cookies_become_one() {
        let mut headers =
            parts(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]).headers;
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
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
        let party = Party {
            service: "cart".into(),
            instance: "cart-1".into(),
            version: "v2".into(),
            namespace: "shop".into(),
            zone: "z1".into(),
            ..Party::default()
        };
        let (mut headers, peers) = (HeaderMap::new(), Peers::default());
        set_peer(&mut headers, &peer_value(&party));
        assert_eq!(*take_peer(&mut headers, &peers, ""), party);
        assert_eq!(&*take_peer(&mut headers, &peers, "").service, "unknown");
    }
}
