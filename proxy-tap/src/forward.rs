//! What inbound and outbound share: taking a request apart, and putting it together for an attempt.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::{Body, Incoming};

use crate::attempt::{Attempt, Ending};
use crate::body::{ReplyBody, RequestBody};
use crate::call::{Call, Direction, Facts, Party, flag, grpc_status, protocol_of};
use crate::config::Protocol;
use crate::headers;
use crate::pool::Lease;
use crate::run::Proxy;
use crate::trace::TraceContext;

/// The head of a request, ready to be sent any number of times.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) authority: HeaderValue,
    pub(crate) headers: HeaderMap,
}

impl Head {
    /// Takes `parts` apart; fields of this hop are dropped.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { method, uri, mut headers, .. } = parts;
        headers::strip_hop_by_hop(&mut headers);
        let host = headers.remove(HOST);
        let uri = uri.into_parts();
        // The authority of the request target outweighs the header (RFC 9112 section 3.2.2).
        let target_authority = uri.authority.and_then(|a| HeaderValue::from_str(a.as_str()).ok());
        Self {
            method,
            target: uri.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")),
            authority: target_authority.or(host).unwrap_or_else(|| HeaderValue::from_static("")),
            headers,
        }
    }

    /// The request for one attempt, in the form `protocol` needs.
    pub(crate) fn request(&self, protocol: Protocol, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        match protocol {
            Protocol::Http => {
                request.headers_mut().insert(HOST, self.authority.clone());
                *request.uri_mut() = Uri::from(self.target.clone());
            }
            Protocol::Grpc => {
                let mut uri = http::uri::Parts::default();
                uri.scheme = Some(Scheme::HTTP);
                let authority = Authority::try_from(self.authority.as_bytes());
                uri.authority = Some(authority.unwrap_or_else(|_| Authority::from_static("localhost")));
                uri.path_and_query = Some(self.target.clone());
                *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
                *request.version_mut() = Version::HTTP_2;
            }
        }
        request
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
    let facts = Facts {
        direction,
        client,
        server,
        protocol: protocol_of(&parts.headers),
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        version: parts.version,
        trace: TraceContext::of(&parts.headers, &proxy.chance),
        started_at: proxy.clock.now(),
        started: tokio::time::Instant::now(),
        address: None,
        status: 0,
        grpc_status: None,
        flags: flag::NONE,
        refusal: None,
        retries: 0,
        probe: false,
        request_bytes: Arc::new(AtomicU64::new(0)),
        response_bytes: 0,
        head_after: None,
    };
    Call::new(Arc::clone(&proxy.tap), facts)
}

/// The body of a request that is sent once.
pub(crate) fn once(body: Incoming, call: &Call) -> RequestBody {
    if body.is_end_stream() {
        return RequestBody::Empty;
    }
    RequestBody::Once(body, Arc::clone(&call.facts.request_bytes))
}

/// Passes a response on, and notices how it ends.
pub(crate) fn pass_on(
    response: Response<Incoming>,
    mut call: Call,
    attempt: Attempt,
    lease: Lease,
) -> Response<ReplyBody> {
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    let facts = &mut call.facts;
    facts.status = parts.status.as_u16();
    facts.grpc_status = grpc_status(&parts.headers);
    facts.head_after = Some(facts.started.elapsed());
    // The listener that serves the caller has its own version and sets it.
    parts.version = Version::default();
    let ending = Box::new(Ending { call, attempt, lease });
    Response::from_parts(parts, ReplyBody::observed(body, ending))
}
