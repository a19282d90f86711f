//! Requests of the local application to a service of the mesh: routed, admitted, balanced, retried.

use std::sync::Arc;

use http::header::SET_COOKIE;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Version};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tokio::time::{Instant, sleep};
use weir_model::limits;

use crate::applied::Applied;
use crate::body::{Incoming, ReplyBody};
use crate::call::{Call, Direction, flag};
use crate::config::Protocol;
use crate::forward::{self, Head};
use crate::http1::Malformed;
use crate::inbound::close;
use crate::io::Conn;
use crate::listen::{Caller, Service, Speaks};
use crate::route::{Abort, Found, Patience, Route, Standing, Target, Verdict, View};
use crate::run::Proxy;
use crate::sending::{Sending, Source};
use crate::upstream::{Admission, Origin, Upstream};
use crate::{headers, mirror, reply, tcp};

/// Serves one connection of the application to a service.
#[derive(Debug)]
pub(crate) struct Outbound {
    proxy: Arc<Proxy>,
    upstream: Arc<Upstream>,
    caller: Caller,
}

impl Outbound {
    pub(crate) fn new(proxy: &Arc<Proxy>, upstream: &Arc<Upstream>, caller: Caller) -> Self {
        Self { proxy: Arc::clone(proxy), upstream: Arc::clone(upstream), caller }
    }
}

impl Service for Outbound {
    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Response<ReplyBody>> + Send {
        handle(&self.proxy, &self.upstream, self.caller, request)
    }

    fn malformed(&self, malformed: Malformed) {
        self.proxy.malformed(malformed);
    }

    fn speaks(&self) -> Speaks {
        if self.upstream.is_tcp() { Speaks::Tcp } else { Speaks::Http }
    }

    fn stream(&self, conn: Conn, sni: Option<Box<str>>) -> impl Future<Output = ()> + Send {
        tcp::forward(&self.proxy, &self.upstream, self.caller, conn, sni)
    }
}

/// Forwards one request to `upstream`, or where its routes lead, and the response back.
pub(crate) async fn handle(
    proxy: &Arc<Proxy>,
    upstream: &Arc<Upstream>,
    caller: Caller,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let (parts, body) = request.into_parts();
    let (client, server) = (Arc::clone(&proxy.identity), Arc::clone(&upstream.party));
    let mut call = forward::begin(proxy, &parts, Direction::Outbound, client, server);
    call.facts.peer_address = Some(caller.address);
    if let Err((status, reason)) = headers::check(&parts) {
        return close(reply::fail(call, status, flag::BAD_REQUEST, reason));
    }
    let applied = upstream.applied();
    if !applied.has_routes {
        let target = &applied.own;
        let way = Way { proxy, upstream, applied: &applied, target, route: None, prefix: None };
        return way.send(call, parts, body, caller).await.0;
    }
    let root = PathAndQuery::from_static("/");
    let view = view(&parts, &root, &proxy.identity.service);
    let Some(Found { route, prefix, path_pattern }) = applied.routes.find(&view) else {
        let message = format!("no route of `{}` matches the request", upstream.name);
        return reply::fail(call, 404, flag::NO_ROUTE, &message);
    };
    call.facts.route = Some(Arc::clone(&route.name));
    call.facts.path_pattern = path_pattern.cloned();
    if let Some(answer) = route.preflight(&view) {
        return reply::own(call, answer);
    }
    let origin = route.origin(&parts.headers);
    let (delay, abort) = route.fault(&proxy.chance);
    if let Some(delay) = delay {
        call.facts.flags = flag::DELAYED;
        sleep(delay).await;
    }
    if let Some(abort) = abort {
        let mut response = match abort {
            Abort::Http(status) => reply::fail(call, status, flag::ABORTED, "fault on purpose"),
            Abort::Grpc(code) => reply::grpc(call, code, flag::ABORTED, "fault on purpose"),
        };
        route.permit(origin, response.headers_mut());
        return response;
    }
    let standing = match route.admit(&view, Instant::now()) {
        Verdict::Allowed(standing) => standing,
        Verdict::Refused(standing) => {
            let mut response = reply::fail(call, 429, flag::RATE_LIMITED, "too many requests");
            standing.tell(response.headers_mut());
            route.permit(origin, response.headers_mut());
            return response;
        }
    };
    if let Some(answer) = route.answer(&view, prefix) {
        return reply::own(call, answer);
    }
    let target = route.target(proxy.chance.u64());
    let leads_away = *target.host != *upstream.name;
    let other = if leads_away { proxy.services.get_or_add(&target.host, proxy) } else { None };
    let to = match (leads_away, &other) {
        (false, _) => upstream,
        (true, Some(other)) => other,
        (true, None) => {
            let message = format!("there is no room for another service, `{}`", target.host);
            return reply::fail(call, 503, flag::NO_ROUTE, &message);
        }
    };
    let to_applied = if leads_away { to.applied() } else { Arc::clone(&applied) };
    call.facts.server = Arc::clone(&to.party);
    let way = Way { proxy, upstream: to, applied: &to_applied, target, route: Some(route), prefix };
    let (mut response, cookie) = way.send(call, parts, body, caller).await;
    let headers = response.headers_mut();
    route.respond(target, origin, headers);
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
    }
    if let Some(standing) = standing {
        Standing::tell(&standing, headers);
    }
    response
}

fn view<'a>(parts: &'a Parts, root: &'a PathAndQuery, source: &'a str) -> View<'a> {
    let target = parts.uri.path_and_query();
    let of_header = || parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let authority = parts.uri.authority().map(|authority| authority.as_str()).or_else(of_header);
    let (target, authority) = (target.unwrap_or(root), authority.unwrap_or_default());
    let scheme = parts.uri.scheme_str().unwrap_or("http");
    View::new(&parts.method, target, authority, scheme, &parts.headers, source)
}

/// Where a request goes, and by what.
struct Way<'a> {
    proxy: &'a Arc<Proxy>,
    upstream: &'a Arc<Upstream>,
    applied: &'a Arc<Applied>,
    target: &'a Target,
    route: Option<&'a Arc<Route>>,
    /// How much of the path a prefix matched.
    prefix: Option<usize>,
}

impl Way<'_> {
    /// The response, and the cookie that brings the caller back to the same endpoint where it needs one.
    async fn send(
        &self,
        call: Call,
        parts: Parts,
        body: Incoming,
        caller: Caller,
    ) -> (Response<ReplyBody>, Option<HeaderValue>) {
        let edge_probe = match self.upstream.admit(Instant::now(), &self.proxy.chance) {
            Admission::Refused(refusal) => return (reply::refuse(call, refusal), None),
            Admission::Probe => true,
            Admission::Normal => false,
        };
        let subset = self.target.subset.as_deref().unwrap_or_default();
        let (key, cookie) = self.key(subset, &parts, caller);
        let is_outside = self.upstream.origin() == Origin::External;
        let protocol = match call.facts.protocol {
            // Whoever was to be spoken to with HTTP/2 may know nothing else.
            Protocol::Http if is_outside && caller.captured && parts.version == Version::HTTP_2 => {
                Protocol::Http2
            }
            protocol => protocol,
        };
        let mut head = Head::new(parts);
        // Outside the mesh one address may have many names.
        if !is_outside || head.authority.is_empty() {
            head.authority = HeaderValue::from_str(&self.upstream.name).unwrap_or(head.authority);
        }
        if let Some(route) = self.route {
            if route.upgrade == Some(false) {
                head.upgrade = None;
            }
            let Head { target, authority, headers, .. } = &mut head;
            if route.rewrite(self.target, self.prefix, target, authority, headers).is_err() {
                let message = "the path cannot be sent as it is rewritten";
                return (reply::fail(call, 400, flag::BAD_REQUEST, message), None);
            }
        }
        if !is_outside {
            headers::set_peer(&mut head.headers, &self.proxy.peer);
        }
        call.facts.trace.inject(&mut head.headers);
        self.applied.budget().deposit();
        let retries = self.route.and_then(|route| route.retries.as_ref()).unwrap_or(&self.applied.retries);
        let again = retries.attempts > 0;
        let source = match self.route {
            None => Source::new(body, &call, again),
            Some(route) => match self.mirrored(route, &call, &head, body).await {
                Ok(source) => source,
                Err(body) => Source::new(body, &call, again),
            },
        };
        let patience = match self.route {
            Some(route) => route.patience(self.applied.timeout),
            None => Patience::head(self.applied.timeout),
        };
        let from_start = |bound| call.facts.started + bound;
        let mut sending = Sending {
            proxy: self.proxy,
            upstream: self.upstream,
            applied: self.applied,
            subset,
            head,
            retries,
            hedge: self.route.and_then(|route| route.hedge),
            priority: self.route.map(|route| route.priority).unwrap_or_default(),
            deadline: patience.head.map(from_start),
            end: patience.whole.map(from_start),
            retried: 0,
            protocol,
            key,
            edge_probe,
        };
        (sending.run(call, source).await, cookie)
    }

    /// What a consistent hash goes by.
    fn key(&self, subset: &str, parts: &Parts, caller: Caller) -> (Option<u64>, Option<HeaderValue>) {
        let sets = self.upstream.sets();
        let Some(keyed) = sets.of(subset).and_then(|set| set.keyed()) else { return (None, None) };
        match keyed.key(&parts.headers, &parts.uri, caller.address.ip()) {
            Some(key) => (Some(key), None),
            None => match keyed.cookie(&self.proxy.chance) {
                Some((key, cookie)) => (Some(key), Some(cookie)),
                None => (None, None),
            },
        }
    }

    /// Sends copies where the route says so. They need the whole body, so it is gathered first; one that is longer
    /// than [`limits::RETRY_BODY_BYTES`] by what it says of itself is not copied, and given back.
    async fn mirrored(
        &self,
        route: &Route,
        call: &Call,
        head: &Head,
        body: Incoming,
    ) -> Result<Source, Incoming> {
        let targets: Vec<&Target> = route.mirrors(&self.proxy.chance).collect();
        if targets.is_empty() {
            return Err(body);
        }
        let most = limits::RETRY_BODY_BYTES;
        let source = if body.is_end_stream() {
            Source::Empty
        } else if body.size_hint().upper().is_none_or(|length| length > most as u64) {
            self.proxy.mirror.too_long();
            return Err(body);
        } else {
            match Limited::new(body, most).collect().await {
                Ok(whole) => {
                    let bytes = whole.to_bytes();
                    let counter = &call.facts.request_bytes;
                    counter.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
                    Source::Whole(bytes)
                }
                // The caller broke off, which sending what is left would hide.
                Err(_) => return Err(Incoming::Broken),
            }
        };
        for target in targets {
            mirror::send(self.proxy, target, head, &source);
        }
        Ok(source)
    }
}
