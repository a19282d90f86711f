//! `CONNECT` (RFC 9110 section 9.3.6): a request that opens a connection of bytes, as clients send it for `https`
//! with `HTTPS_PROXY` set.

use std::sync::Arc;

use http::{Request, Response, Version};
use http_body::Body;
use tokio::time::Instant;

use crate::attempt::{Attempt, Ending};
use crate::body::{Incoming, ReplyBody};
use crate::call::{Direction, flag};
use crate::inbound::close;
use crate::run::Proxy;
use crate::tunnel::Tunnel;
use crate::upstream::{Admission, Upstream};
use crate::{forward, reply, tcp};

/// Connects the caller to an endpoint of `upstream`; one call, with the bytes of both directions.
pub(crate) async fn handle(
    proxy: &Arc<Proxy>,
    upstream: &Arc<Upstream>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let (parts, body) = request.into_parts();
    let (client, server) = (Arc::clone(&proxy.identity), Arc::clone(&upstream.party));
    let mut call = forward::begin(proxy, &parts, Direction::Outbound, client, server);
    if parts.version > Version::HTTP_11 {
        return reply::fail(call, 405, flag::BAD_REQUEST, "CONNECT is taken over HTTP/1.1 alone");
    }
    // What such a body means is not defined: it could be taken for the first bytes of the connection.
    if !body.is_end_stream() {
        return close(reply::fail(call, 400, flag::BAD_REQUEST, "CONNECT has no body"));
    }
    let edge_probe = match upstream.admit(Instant::now(), &proxy.chance) {
        Admission::Refused(refusal) => return reply::refuse(call, refusal),
        Admission::Probe => true,
        Admission::Normal => false,
    };
    let (endpoint, up) = match tcp::connect(proxy, upstream, edge_probe).await {
        Ok(connected) => connected,
        Err(Some(refused)) => {
            return reply::refuse(call, refused.refusal(upstream.applied().limits.limit(refused)));
        }
        Err(None) => {
            let (name, known) = (&upstream.name, !upstream.endpoints().is_empty());
            return match known {
                true => reply::fail(call, 503, flag::NO_CONNECTION, &format!("cannot connect to `{name}`")),
                false => reply::fail(call, 503, flag::NO_ENDPOINT, &format!("`{name}` has no endpoint now")),
            };
        }
    };
    call.facts.server = Arc::clone(&endpoint.party);
    call.facts.address = Some(Arc::clone(&endpoint.address));
    call.facts.status = 200;
    call.facts.head_after = Some(call.facts.started.elapsed());
    // The breaker was told of the connection, which is all that it can judge.
    let attempt = Attempt::begin(&proxy.tap, &call, None, &endpoint, false);
    let ending = Box::new(Ending { call, attempt, messages: Default::default() });
    Response::new(ReplyBody::Tunnel(Box::new(Tunnel { up, ending })))
}
