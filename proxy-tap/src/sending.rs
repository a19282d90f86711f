//! A request on its way to a service: attempts at its endpoints, one after another or hedged, until one answers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Response;
use http_body::Body;
use tokio::time::{Instant, sleep, timeout_at};
use weir_model::policy::route::Priority;
use weir_model::semconv::REFUSED_HEADER;

use crate::applied::Applied;
use crate::attempt::Attempt;
use crate::balance::Ask;
use crate::body::{Incoming, Replay, ReplyBody, RequestBody};
use crate::call::{Call, Refusal, Security, flag, grpc_status};
use crate::concurrency::Refused;
use crate::config::Protocol;
use crate::forward::{self, Head};
use crate::pool::SendError;
use crate::reply;
use crate::route::{Ended, Hedge, RetryPolicy, retry_after};
use crate::run::Proxy;
use crate::upstream::{Endpoint, Origin, Upstream};

/// Where the attempts of a request get its body from.
#[derive(Debug)]
pub(crate) enum Source {
    Empty,
    /// All of it is here.
    Whole(bytes::Bytes),
    Once(Option<RequestBody>),
    Again(Arc<Replay>),
}

impl Source {
    /// The body of a request that may be sent more than once if `again`.
    pub(crate) fn new(body: Incoming, call: &Call, again: bool) -> Self {
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
            Self::Once(body) => body.take(),
            Self::Again(replay) => replay.body(),
            _ => self.copy(),
        }
    }

    /// The body for an attempt beside another; `None` where it cannot be in two places.
    pub(crate) fn copy(&self) -> Option<RequestBody> {
        match self {
            Self::Empty => Some(RequestBody::Empty),
            Self::Whole(bytes) => Some(RequestBody::Whole(Some(bytes.clone()))),
            Self::Once(_) | Self::Again(_) => None,
        }
    }

    /// Whether there is a body for one more attempt. An attempt under way goes on.
    fn has_next(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => true,
            Self::Once(body) => body.is_some(),
            Self::Again(replay) => replay.is_whole(),
        }
    }
}

/// A request that is being sent, perhaps more than once.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    pub(crate) proxy: &'a Arc<Proxy>,
    pub(crate) upstream: &'a Arc<Upstream>,
    pub(crate) applied: &'a Arc<Applied>,
    pub(crate) subset: &'a str,
    pub(crate) head: Head,
    pub(crate) retries: &'a RetryPolicy,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) priority: Priority,
    /// Until when there must be the head of a response.
    pub(crate) deadline: Option<Instant>,
    /// Until when there must be all of it.
    pub(crate) end: Option<Instant>,
    /// Attempts after failed ones; hedges are none of them.
    pub(crate) retried: u32,
    pub(crate) protocol: Protocol,
    /// What a consistent hash goes by.
    pub(crate) key: Option<u64>,
    pub(crate) edge_probe: bool,
}

/// An attempt that brought no response to pass on, unless nothing else can be had.
#[derive(Debug)]
struct Failed {
    ended: Ended,
    status: u16,
    flags: &'static str,
    message: String,
    /// The response, where there is one that asks for another attempt.
    response: Option<(Response<Incoming>, Attempt)>,
    /// The bound of the proxy's own that it would have exceeded.
    refusal: Option<Refusal>,
}

#[derive(Debug)]
enum Tried {
    Answered(Response<Incoming>, Attempt),
    Failed(Failed),
    TimedOut,
}

impl Sending<'_> {
    /// Sends the request until it is answered or no attempt is left.
    pub(crate) async fn run(&mut self, mut call: Call, mut source: Source) -> Response<ReplyBody> {
        let Some(mut body) = source.next() else {
            return reply::fail(call, 500, flag::NONE, "the request body is gone");
        };
        let mut tried = Vec::new();
        loop {
            let Some((endpoint, probe)) = self.pick(&tried) else { return self.nowhere(call) };
            call.facts.probe |= probe;
            call.facts.server = Arc::clone(&endpoint.party);
            call.facts.address = Some(Arc::clone(&endpoint.address));
            if endpoint.pool.is_mutual() {
                call.facts.security = Security::MutualTls;
            }
            let outcome = match self.hedge.filter(|_| !probe && source.copy().is_some()) {
                None => self.attempt(&call, &endpoint, probe, body).await,
                Some(hedge) => self.hedged(&mut call, &endpoint, hedge, &mut tried, (body, &source)).await,
            };
            let failed = match outcome {
                Tried::Answered(response, attempt) => {
                    return forward::pass_on(response, call, attempt, self.end);
                }
                Tried::TimedOut => {
                    let message = format!("`{}` did not answer in time", self.upstream.name);
                    return reply::fail(call, 504, flag::TIMEOUT, &message);
                }
                Tried::Failed(failed) => failed,
            };
            tried.push(endpoint);
            match self.again(&mut call, &failed, &mut source).await {
                Some(next) => body = next,
                None => return self.give_up(call, failed),
            }
        }
    }

    fn pick(&self, tried: &[Arc<Endpoint>]) -> Option<(Arc<Endpoint>, bool)> {
        let ask = Ask {
            tried: if self.retries.reuse_hosts { &[] } else { tried },
            key: self.key,
            tests_no_endpoint: self.edge_probe,
            other_localities: self.retries.other_localities && !tried.is_empty(),
        };
        let pick = self.upstream.pick(self.subset, &ask, &self.proxy.chance, Instant::now())?;
        Some((pick.endpoint, self.edge_probe || pick.probe))
    }

    /// An endpoint for a hedge: none of those that are asked, and none as a test, which would be found out by the wrong
    /// request.
    fn another(&self, tried: &[Arc<Endpoint>], asked: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        let tried = if self.retries.reuse_hosts { &[] } else { tried };
        let tried: Vec<_> = tried.iter().chain(asked).cloned().collect();
        let ask = Ask {
            tried: &tried,
            key: self.key,
            tests_no_endpoint: true,
            other_localities: self.retries.other_localities,
        };
        let pick = self.upstream.pick(self.subset, &ask, &self.proxy.chance, Instant::now())?;
        Some(pick.endpoint).filter(|one| !asked.iter().any(|asked| Arc::ptr_eq(asked, one)))
    }

    /// Attempts beside each other, each begun when those before have not answered in time; the first answer wins.
    async fn hedged(
        &self,
        call: &mut Call,
        first: &Arc<Endpoint>,
        hedge: Hedge,
        tried: &mut Vec<Arc<Endpoint>>,
        (body, copies): (RequestBody, &Source),
    ) -> Tried {
        let one = async |endpoint: Arc<Endpoint>, body: RequestBody, call: &Call| {
            let tried = self.attempt(call, &endpoint, false, body).await;
            (endpoint, tried)
        };
        let mut hedges = 0;
        let (winner, outcome) = {
            let call = &*call;
            let mut running = FuturesUnordered::new();
            running.push(one(Arc::clone(first), body, call));
            let mut asked = vec![Arc::clone(first)];
            loop {
                let more = asked.len() < hedge.attempts as usize;
                tokio::select! {
                    biased;
                    Some((endpoint, outcome)) = running.next() => {
                        if matches!(outcome, Tried::Answered(..)) || running.is_empty() {
                            tried.append(&mut asked);
                            break (endpoint, outcome);
                        }
                    }
                    () = sleep(hedge.after), if more => {
                        let another = self.another(tried, &asked);
                        let budget = || self.applied.budget().withdraw(Instant::now());
                        match another.zip(copies.copy()).filter(|_| budget()) {
                            Some((endpoint, body)) => {
                                hedges += 1;
                                asked.push(Arc::clone(&endpoint));
                                running.push(one(endpoint, body, call));
                            }
                            // Nobody else is there: as if it had been asked.
                            None => asked.push(Arc::clone(first)),
                        }
                    }
                }
            }
        };
        call.facts.retries += hedges;
        call.facts.server = Arc::clone(&winner.party);
        call.facts.address = Some(Arc::clone(&winner.address));
        outcome
    }

    async fn attempt(&self, call: &Call, endpoint: &Arc<Endpoint>, probe: bool, body: RequestBody) -> Tried {
        let protocol = match (self.protocol, endpoint.protocol) {
            (told @ (Protocol::Grpc | Protocol::Http2), _) => told,
            (_, Protocol::Http) if self.applied.service.destination.connections.http2_upgrade => {
                Protocol::Http2
            }
            (_, protocol) => protocol,
        };
        let mut attempt = Attempt::begin(&self.proxy.tap, call, Some(self.upstream), endpoint, probe);
        if self.applied.has_limits {
            match self.applied.limits.admit(self.priority) {
                Ok(permit) => attempt.hold(permit),
                Err(refused) => {
                    attempt.cancel();
                    return self.refused(refused);
                }
            }
        }
        let of_try = self.retries.per_try.map(|bound| attempt.started + bound);
        let until = [self.deadline, of_try].into_iter().flatten().min();
        let limits = Some(&self.applied.limits).filter(|_| self.applied.has_limits);
        let sending = endpoint.pool.send(protocol, &self.head, body, limits);
        let sent = match until {
            Some(until) => timeout_at(until, sending).await,
            None => Ok(sending.await),
        };
        let failed = match sent {
            Ok(Ok(response)) => return self.answered(response, attempt),
            Ok(Err(SendError::Refused(refused))) => {
                attempt.cancel();
                return self.refused(refused);
            }
            Ok(Err(error)) => {
                let (ended, status, flags) = match error {
                    SendError::Connect { .. } => (Ended::Connect, 503, flag::NO_CONNECTION),
                    SendError::RefusedStream { .. } => (Ended::RefusedStream, 502, flag::RESET),
                    SendError::RequestCut => (Ended::Answer(400, None), 400, flag::CALLER_GONE),
                    SendError::Reset { .. } | SendError::Refused(_) => (Ended::Reset, 502, flag::RESET),
                };
                Failed { ended, status, flags, message: error.to_string(), response: None, refusal: None }
            }
            Err(_) if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                attempt.end(504, None, flag::TIMEOUT);
                return Tried::TimedOut;
            }
            Err(_) => {
                let message = format!("`{}` did not answer in time", self.upstream.name);
                let (ended, status, flags) = (Ended::TryTimeout, 504, flag::TIMEOUT);
                Failed { ended, status, flags, message, response: None, refusal: None }
            }
        };
        attempt.end(failed.status, None, failed.flags);
        Tried::Failed(failed)
    }

    /// The request would have exceeded a bound of the proxy's own.
    fn refused(&self, refused: Refused) -> Tried {
        Tried::Failed(Failed {
            ended: Ended::Answer(503, None),
            status: 503,
            flags: flag::REFUSED,
            message: String::new(),
            response: None,
            refusal: Some(refused.refusal(self.applied.limits.limit(refused))),
        })
    }

    /// A response is the answer, unless it asks for another attempt: then it may be somebody else's turn. A refusal
    /// of a breaker further on is no reason to ask again.
    fn answered(&self, response: Response<Incoming>, mut attempt: Attempt) -> Tried {
        if self.retries.attempts == 0 {
            return Tried::Answered(response, attempt);
        }
        let is_grpc = self.protocol == Protocol::Grpc;
        let grpc = if is_grpc { grpc_status(response.headers()) } else { None };
        let status = response.status().as_u16();
        let ended = Ended::Answer(status, grpc);
        if !self.retries.may_retry(ended, &self.head.method)
            || response.headers().contains_key(REFUSED_HEADER)
        {
            return Tried::Answered(response, attempt);
        }
        // The breaker hears of it whether or not it is made good elsewhere, and before a pause.
        attempt.end(status, grpc, flag::NONE);
        Tried::Failed(Failed {
            ended,
            status,
            flags: flag::NONE,
            message: String::new(),
            response: Some((response, attempt)),
            refusal: None,
        })
    }

    /// The body for another attempt, after a pause, if policy, budget and body allow one.
    async fn again(&mut self, call: &mut Call, failed: &Failed, source: &mut Source) -> Option<RequestBody> {
        let sent_again = self.retried;
        let refused = failed.flags == flag::REFUSED || failed.flags == flag::CALLER_GONE;
        if refused
            || sent_again >= self.retries.attempts
            || !self.retries.may_retry(failed.ended, &self.head.method)
        {
            return None;
        }
        let told = failed.response.as_ref().and_then(|(response, _)| retry_after(response.headers()));
        let pause = self.retries.pause(sent_again, told, &self.proxy.chance)?;
        if self.deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
            return None;
        }
        // Taking the body ends the attempt that has it, whose answer may still be passed on: so it comes last.
        if !source.has_next() || !self.applied.budget().withdraw(Instant::now()) {
            return None;
        }
        if pause > Duration::ZERO {
            sleep(pause).await;
        }
        let body = source.next()?;
        self.retried += 1;
        call.facts.retries += 1;
        Some(body)
    }

    fn nowhere(&self, call: Call) -> Response<ReplyBody> {
        let name = &self.upstream.name;
        if self.upstream.ever_had_one() {
            return reply::fail(call, 503, flag::NO_ENDPOINT, &format!("`{name}` has no endpoint now"));
        }
        let why = match self.upstream.origin() {
            Origin::File | Origin::Policy => "has no endpoint: its list of them is empty",
            Origin::Dns => "has no endpoint: its name has no address in the DNS yet",
            Origin::Registry | Origin::External => "is unknown: neither the registry nor --endpoints has it",
        };
        reply::fail(call, 503, flag::NO_ROUTE, &format!("`{name}` {why}"))
    }

    fn give_up(&self, mut call: Call, failed: Failed) -> Response<ReplyBody> {
        match (failed.response, failed.refusal) {
            (Some((response, attempt)), _) => {
                if self.retried > 0 {
                    call.facts.flags = flag::RETRIES_SPENT;
                }
                forward::pass_on(response, call, attempt, self.end)
            }
            (None, Some(refusal)) => reply::refuse(call, refusal),
            (None, None) => reply::fail(call, failed.status, failed.flags, &failed.message),
        }
    }
}
