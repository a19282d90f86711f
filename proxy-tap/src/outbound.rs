//! Requests of the local application to a service of the mesh: admitted, balanced, retried.

use std::sync::Arc;

use http::{HeaderValue, Request, Response};
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, sleep, timeout_at};
use weir_model::semconv::REFUSED_HEADER;

use crate::attempt::Attempt;
use crate::body::{Replay, ReplyBody, RequestBody};
use crate::call::{Call, Direction, flag, grpc_status, protocol_of};
use crate::config::Protocol;
use crate::forward::{self, Head};
use crate::inbound::close;
use crate::pool::{Lease, SendError};
use crate::retry::{self, Failure};
use crate::run::Proxy;
use crate::upstream::{Admission, Endpoint, Upstream};
use crate::{balance, headers, reply};

/// Forwards one request to `upstream` and its response back.
pub(crate) async fn handle(
    proxy: Arc<Proxy>,
    upstream: Arc<Upstream>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let (parts, body) = request.into_parts();
    let (client, server) = (Arc::clone(&proxy.identity), Arc::clone(&upstream.party));
    let call = forward::begin(&proxy, &parts, Direction::Outbound, client, server);
    if let Err((status, reason)) = headers::check(&parts) {
        return close(reply::fail(call, status, flag::BAD_REQUEST, reason));
    }
    let edge_probe = match upstream.admit(Instant::now(), &proxy.chance) {
        Admission::Refused(refusal) => return reply::refuse(call, refusal),
        Admission::Probe => true,
        Admission::Normal => false,
    };
    let protocol = protocol_of(&parts.headers);
    let mut head = Head::new(parts);
    if let Ok(authority) = HeaderValue::from_str(&upstream.name) {
        head.authority = authority;
    }
    headers::set_peer(&mut head.headers, &proxy.peer);
    call.facts.trace.inject(&mut head.headers);
    proxy.budget().deposit();
    let body = Source::new(body, &call, proxy.config.retry.limit > 0);
    let deadline = call.facts.started + proxy.config.timeout;
    Sending { proxy, upstream, head, body, deadline, protocol, edge_probe, tried: Vec::new() }.run(call).await
}

/// Where the attempts of a request get its body from.
enum Source {
    Empty,
    Once(Option<RequestBody>),
    Again(Arc<Replay>),
}

impl Source {
    fn new(body: Incoming, call: &Call, again: bool) -> Self {
        match forward::once(body, call) {
            RequestBody::Once(body, counter) if again && !body.is_end_stream() => {
                Self::Again(Replay::new(body, counter))
            }
            RequestBody::Empty => Self::Empty,
            once => Self::Once(Some(once)),
        }
    }

    /// The body for the next attempt; `None` where it is gone.
    fn next(&mut self) -> Option<RequestBody> {
        match self {
            Self::Empty => Some(RequestBody::Empty),
            Self::Once(body) => body.take(),
            Self::Again(replay) => replay.body(),
        }
    }

    /// Whether there is a body for one more attempt. An attempt under way goes on.
    fn has_next(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body) => body.is_some(),
            Self::Again(replay) => replay.is_whole(),
        }
    }
}

/// A request that is being sent, perhaps more than once.
struct Sending {
    proxy: Arc<Proxy>,
    upstream: Arc<Upstream>,
    head: Head,
    body: Source,
    deadline: Instant,
    protocol: Protocol,
    edge_probe: bool,
    tried: Vec<Arc<Endpoint>>,
}

/// An attempt that brought no response to pass on, unless nothing else can be had.
struct Failed {
    failure: Failure,
    status: u16,
    flags: &'static str,
    message: String,
    /// The response of a server that declined.
    response: Option<(Response<Incoming>, Attempt, Lease)>,
}

enum Tried {
    Answered(Response<Incoming>, Attempt, Lease),
    Failed(Failed),
    TimedOut,
}

impl Sending {
    async fn run(mut self, mut call: Call) -> Response<ReplyBody> {
        let Some(mut body) = self.body.next() else {
            return reply::fail(call, 500, flag::NONE, "the request body is gone");
        };
        loop {
            let (balancer, chance) = (self.proxy.config.balancer, &self.proxy.chance);
            let picked = balance::pick(&self.upstream, &self.tried, self.edge_probe, balancer, chance);
            let Some(pick) = picked else {
                return self.nowhere(call);
            };
            let probe = self.edge_probe || pick.probe;
            call.facts.server = Arc::clone(&pick.endpoint.party);
            call.facts.address = Some(Arc::clone(&pick.endpoint.address));
            call.facts.probe |= probe;
            let failed = match self.attempt(&call, &pick.endpoint, probe, body).await {
                Tried::Answered(response, attempt, lease) => {
                    return forward::pass_on(response, call, attempt, lease);
                }
                Tried::TimedOut => {
                    let message = format!("`{}` did not answer in time", self.upstream.name);
                    return reply::fail(call, 504, flag::TIMEOUT, &message);
                }
                Tried::Failed(failed) => failed,
            };
            self.tried.push(pick.endpoint);
            match self.again(&mut call, failed.failure).await {
                Some(next) => body = next,
                None => return give_up(call, failed),
            }
        }
    }

    async fn attempt(&self, call: &Call, endpoint: &Arc<Endpoint>, probe: bool, body: RequestBody) -> Tried {
        let protocol = match self.protocol {
            Protocol::Grpc => Protocol::Grpc,
            Protocol::Http => endpoint.protocol,
        };
        let request = self.head.request(protocol, body);
        let mut attempt = Attempt::begin(&self.proxy.tap, call, Some(&self.upstream), endpoint, probe);
        let failed = match timeout_at(self.deadline, endpoint.pool.send(protocol, request)).await {
            Ok(Ok((response, lease))) => return answered(response, attempt, lease),
            Ok(Err(error)) => {
                let (failure, status, flags) = match error {
                    SendError::Connect { .. } => (Failure::NotProcessed, 503, flag::NO_CONNECTION),
                    SendError::RefusedStream { .. } => (Failure::NotProcessed, 502, flag::RESET),
                    SendError::Reset { .. } => (Failure::Reset, 502, flag::RESET),
                };
                Failed { failure, status, flags, message: error.to_string(), response: None }
            }
            Err(_) => {
                attempt.end(504, None, flag::TIMEOUT);
                return Tried::TimedOut;
            }
        };
        attempt.end(failed.status, None, failed.flags);
        Tried::Failed(failed)
    }

    /// The body for another attempt, after a pause, if policy, budget and body allow one.
    async fn again(&mut self, call: &mut Call, failure: Failure) -> Option<RequestBody> {
        let sent_again = call.facts.retries;
        if sent_again >= self.proxy.config.retry.limit || !retry::may_repeat(failure, &self.head.method) {
            return None;
        }
        // Taking the body ends the attempt that has it, whose answer may still be passed on: so it comes last.
        if !self.body.has_next() || !self.proxy.budget().withdraw(Instant::now()) {
            return None;
        }
        let pause = retry::pause(sent_again, &self.proxy.chance);
        if Instant::now() + pause >= self.deadline {
            return None;
        }
        sleep(pause).await;
        let body = self.body.next()?;
        call.facts.retries += 1;
        Some(body)
    }

    fn nowhere(&self, call: Call) -> Response<ReplyBody> {
        let name = &self.upstream.name;
        if self.upstream.ever_had_one() {
            return reply::fail(call, 503, flag::NO_ENDPOINT, &format!("`{name}` has no endpoint now"));
        }
        let message = format!("`{name}` is unknown: neither the registry nor --endpoints has it");
        reply::fail(call, 503, flag::NO_ROUTE, &message)
    }
}

/// A response is the answer, unless the server declined: then it may be somebody else's turn. A refusal
/// of a breaker further on is no reason to ask again.
fn answered(response: Response<Incoming>, attempt: Attempt, lease: Lease) -> Tried {
    let declined = response.status() == 503 || grpc_status(response.headers()) == Some(14);
    if !declined || response.headers().contains_key(REFUSED_HEADER) {
        return Tried::Answered(response, attempt, lease);
    }
    Tried::Failed(Failed {
        failure: Failure::Declined,
        status: response.status().as_u16(),
        flags: flag::NONE,
        message: String::new(),
        response: Some((response, attempt, lease)),
    })
}

fn give_up(mut call: Call, failed: Failed) -> Response<ReplyBody> {
    match failed.response {
        Some((response, attempt, lease)) => {
            if call.facts.retries > 0 {
                call.facts.flags = flag::RETRIES_SPENT;
            }
            forward::pass_on(response, call, attempt, lease)
        }
        None => reply::fail(call, failed.status, failed.flags, &failed.message),
    }
}
