//! What inbound and outbound share: taking a request apart, and putting it together for an attempt.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, UPGRADE, USER_AGENT};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use tokio::time::Instant;

use crate::attempt::{Attempt, Ending};
use crate::body::{Counter, Incoming, ReplyBody, RequestBody};
use crate::call::{Call, Direction, Facts, Party, grpc_status, protocol_of};
use crate::config::Protocol;
use crate::headers;
use crate::http1::head::upgrade;
use crate::run::Proxy;
use crate::telemetry::Messages;
use crate::trace::TraceContext;
use crate::tunnel::Tunnel;

/// The head of a request, ready to be sent any number of times.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) authority: HeaderValue,
    pub(crate) headers: HeaderMap,
    /// The protocol that the connection is to change to.
    pub(crate) upgrade: Option<HeaderValue>,
}

impl Head {
    /// Takes `parts` apart; fields of this hop are dropped.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { method, uri, mut headers, version, .. } = parts;
        if version == Version::HTTP_2 {
            headers::join_cookies(&mut headers);
        }
        let upgrade = upgrade(&headers);
        headers::strip_hop_by_hop(&mut headers);
        let host = headers.remove(HOST);
        let uri = uri.into_parts();
        // The authority of the request target outweighs the header (RFC 9112 section 3.2.2).
        let target_authority = uri.authority.and_then(|a| HeaderValue::from_str(a.as_str()).ok());
        Self {
            method,
            target: uri.path_and_query.and_then(rooted).unwrap_or_else(|| PathAndQuery::from_static("/")),
            authority: target_authority.or(host).unwrap_or_else(|| HeaderValue::from_static("")),
            headers,
            upgrade,
        }
    }

    /// The head of a copy, whose host says that it is one.
    pub(crate) fn shadow(&self) -> Self {
        let mut host = self.authority.as_bytes().to_vec();
        let end = host.iter().position(|b| *b == b':').unwrap_or(host.len());
        host.splice(end..end, *b"-shadow");
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            authority: HeaderValue::from_bytes(&host).unwrap_or_else(|_| self.authority.clone()),
            headers: self.headers.clone(),
            upgrade: None,
        }
    }

    /// The request for one attempt, as HTTP/2 has it.
    pub(crate) fn http2_request(&self, body: RequestBody, is_https: bool) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(if is_https { Scheme::HTTPS } else { Scheme::HTTP });
        let authority = Authority::try_from(self.authority.as_bytes());
        uri.authority = Some(authority.unwrap_or_else(|_| Authority::from_static("localhost")));
        uri.path_and_query = Some(self.target.clone());
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        request
    }
}

/// The target with the path that an absolute one such as `http://a?q` leaves out (RFC 9112 section 3.2.1).
fn rooted(target: PathAndQuery) -> Option<PathAndQuery> {
    match target.as_str() {
        text if text.starts_with('?') => format!("/{text}").parse().ok(),
        _ => Some(target),
    }
}

/// Begins the record of a request.
pub(crate) fn begin(
    proxy: &Arc<Proxy>,
    parts: &Parts,
    direction: Direction,
    client: Arc<Party>,
    server: Arc<Party>,
) -> Call {
    let trace = TraceContext::of(&parts.headers, &proxy.chance, proxy.tap.sampled());
    let protocol = protocol_of(&parts.headers);
    let facts = Facts {
        protocol,
        request_messages: (protocol == Protocol::Grpc).then(Arc::default),
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        version: parts.version,
        user_agent: parts.headers.get(USER_AGENT).cloned(),
        ..Facts::new(direction, client, server, trace, proxy.clock.now())
    };
    Call::new(Arc::clone(&proxy.tap), facts)
}

/// The body of a request that is sent once.
pub(crate) fn once(body: Incoming, call: &Call) -> RequestBody {
    if body.is_end_stream() {
        return RequestBody::Empty;
    }
    let (bytes, messages) = (Arc::clone(&call.facts.request_bytes), call.facts.request_messages.clone());
    RequestBody::Once(body, Counter::new(bytes, messages))
}

/// Passes a response on, and notices how it ends. What is not over by `end` is cut off, unless the connection speaks
/// another protocol by then.
pub(crate) fn pass_on(
    response: Response<Incoming>,
    mut call: Call,
    attempt: Attempt,
    end: Option<Instant>,
) -> Response<ReplyBody> {
    let (mut parts, body) = response.into_parts();
    let is_upgraded = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = if is_upgraded { parts.headers.get(UPGRADE).cloned() } else { None };
    headers::strip_hop_by_hop(&mut parts.headers);
    let facts = &mut call.facts;
    facts.status = parts.status.as_u16();
    if facts.protocol == Protocol::Grpc {
        facts.grpc_status = grpc_status(&parts.headers);
    }
    facts.head_after = Some(facts.started.elapsed());
    if parts.status == StatusCode::NO_CONTENT {
        // There is nothing that it could be the length of (RFC 9110 section 8.6).
        parts.headers.remove(CONTENT_LENGTH);
    }
    // The listener that serves the caller has its own version and sets it.
    parts.version = Version::default();
    let ending = Box::new(Ending { call, attempt, messages: Messages::default() });
    let body = match body {
        Incoming::Upgraded(client) => {
            parts.headers.extend(protocol.map(|protocol| (UPGRADE, protocol)));
            ReplyBody::Tunnel(Box::new(Tunnel { up: client.conn, ending }))
        }
        body => ReplyBody::observed(body, ending, end),
    };
    Response::from_parts(parts, body)
}
