//! Requests from the mesh to the local application.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::attempt::Attempt;
use crate::body::ReplyBody;
use crate::call::{Direction, flag, protocol_of};
use crate::config::Protocol;
use crate::forward::{self, Head};
use crate::pool::SendError;
use crate::run::Proxy;
use crate::upstream::Endpoint;
use crate::{headers, reply};

/// Forwards one request to the application and its response back.
pub(crate) async fn handle(
    proxy: Arc<Proxy>,
    app: Arc<Endpoint>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let (mut parts, body) = request.into_parts();
    let client = Arc::new(headers::take_peer(&mut parts.headers));
    let mut call = forward::begin(&proxy, &parts, Direction::Inbound, client, Arc::clone(&proxy.identity));
    if let Err((status, reason)) = headers::check(&parts) {
        return close(reply::fail(call, status, flag::BAD_REQUEST, reason));
    }
    let protocol = match protocol_of(&parts.headers) {
        Protocol::Grpc => Protocol::Grpc,
        Protocol::Http => app.protocol,
    };
    let mut head = Head::new(parts);
    call.facts.trace.inject(&mut head.headers);
    call.facts.address = Some(Arc::clone(&app.address));
    let outgoing = head.request(protocol, forward::once(body, &call));
    let mut attempt = Attempt::begin(&proxy.tap, &call, None, &app, false);
    let sent = timeout(proxy.config.timeout, app.pool.send(protocol, outgoing)).await;
    let (status, flags, message) = match sent {
        Ok(Ok((response, lease))) => return forward::pass_on(response, call, attempt, lease),
        Ok(Err(error @ SendError::Connect { .. })) => (503, flag::NO_CONNECTION, error.to_string()),
        Ok(Err(error)) => (502, flag::RESET, error.to_string()),
        Err(_) => (504, flag::TIMEOUT, "the application did not answer in time".to_owned()),
    };
    attempt.end(status, None, flags);
    reply::fail(call, status, flags, &message)
}

/// After a request that could be read in two ways, nothing more is read from the connection.
pub(crate) fn close(mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    let close = http::HeaderValue::from_static("close");
    response.headers_mut().insert(http::header::CONNECTION, close);
    response
}
