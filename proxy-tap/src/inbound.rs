//! Requests from the mesh to the local application.

use std::sync::Arc;

use http::{Request, Response, Version};
use tokio::time::timeout;
use weir_model::semconv::HEALTH_CHECK_PEER;

use crate::attempt::Attempt;
use crate::body::{Incoming, ReplyBody};
use crate::call::{Direction, Security, flag};
use crate::config::Protocol;
use crate::forward::{self, Head};
use crate::http1::Malformed;
use crate::io::Conn;
use crate::listen::{Caller, Service, Speaks};
use crate::pool::SendError;
use crate::reply::NOT_REDIRECTED;
use crate::run::Proxy;
use crate::upstream::Endpoint;
use crate::{headers, reply, tcp};

/// Serves one connection from the mesh.
#[derive(Debug)]
pub(crate) struct Inbound {
    proxy: Arc<Proxy>,
    goes: Goes,
    caller: Caller,
}

/// Where a connection from the mesh goes.
#[derive(Debug)]
enum Goes {
    /// To the application, as the configuration has it.
    App(Arc<Endpoint>),
    /// To another port that was asked for, of which nothing else is known.
    Port(Arc<Endpoint>),
    /// Nowhere: it was made to a listener for redirected ones.
    Nowhere,
}

impl Inbound {
    /// A redirected connection keeps its destination, and with it the port: other ports than the application's are
    /// other servers. It is not led to loopback, where servers may listen that are not meant for others.
    pub(crate) fn new(proxy: &Arc<Proxy>, app: &Arc<Endpoint>, caller: &Caller) -> Self {
        let is_app = |port: u16| {
            let ports = [port_of(&app.address), proxy.inbound.map(|at| at.port())];
            ports.contains(&Some(port))
        };
        let goes = match caller.local {
            Some(at) if caller.captured && !is_app(at.port()) => Goes::Port(proxy.port(at)),
            None if caller.captured => Goes::Nowhere,
            _ => Goes::App(Arc::clone(app)),
        };
        Self { proxy: Arc::clone(proxy), goes, caller: *caller }
    }
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

impl Service for Inbound {
    async fn call(&self, request: Request<Incoming>) -> Response<ReplyBody> {
        match &self.goes {
            Goes::App(app) => handle(&self.proxy, app, app.protocol, self.caller, request).await,
            Goes::Port(port) if request.version() == Version::HTTP_2 => {
                handle(&self.proxy, port, Protocol::Http2, self.caller, request).await
            }
            Goes::Port(port) => handle(&self.proxy, port, Protocol::Http, self.caller, request).await,
            Goes::Nowhere => reply::plain(400, NOT_REDIRECTED),
        }
    }

    fn malformed(&self, malformed: Malformed) {
        self.proxy.malformed(malformed);
    }

    fn speaks(&self) -> Speaks {
        match &self.goes {
            Goes::App(app) if app.protocol == Protocol::Tcp => Speaks::Tcp,
            Goes::App(_) | Goes::Nowhere => Speaks::Http,
            Goes::Port(_) => Speaks::Any,
        }
    }

    async fn stream(&self, down: Conn, _sni: Option<Box<str>>) {
        let (Goes::App(to) | Goes::Port(to)) = &self.goes else { return };
        tcp::inward(&self.proxy, to, self.caller, down).await;
    }
}

/// Forwards one request to the application and its response back.
async fn handle(
    proxy: &Arc<Proxy>,
    app: &Arc<Endpoint>,
    speaks: Protocol,
    caller: Caller,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let (mut parts, body) = request.into_parts();
    let security = if caller.is_mutual_tls { Security::MutualTls } else { Security::None };
    let client = headers::take_peer(&mut parts.headers, proxy.tap.peers(), "");
    let mut call = forward::begin(proxy, &parts, Direction::Inbound, client, Arc::clone(&proxy.identity));
    if *call.facts.client.service == *HEALTH_CHECK_PEER {
        // Whoever calls the service through a proxy cannot say so: the proxy says who it is.
        proxy.checked();
        call.hide();
    }
    call.facts.peer_address = Some(caller.address);
    call.facts.security = security;
    call.facts.is_https = caller.is_mutual_tls;
    if let Err((status, reason)) = headers::check(&parts) {
        return close(reply::fail(call, status, flag::BAD_REQUEST, reason));
    }
    let protocol = match call.facts.protocol {
        Protocol::Grpc => Protocol::Grpc,
        _ => speaks,
    };
    let mut head = Head::new(parts);
    call.facts.trace.inject(&mut head.headers);
    call.facts.address = Some(Arc::clone(&app.address));
    let body = forward::once(body, &call);
    let mut attempt = Attempt::begin(&proxy.tap, &call, None, app, false);
    let sent = timeout(proxy.config.timeout, app.pool.send(protocol, &head, body, None)).await;
    let (status, flags, message) = match sent {
        Ok(Ok(response)) => return forward::pass_on(response, call, attempt, None),
        Ok(Err(error @ SendError::Connect { .. })) => (503, flag::NO_CONNECTION, error.to_string()),
        Ok(Err(error @ SendError::RequestCut)) => (400, flag::CALLER_GONE, error.to_string()),
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
