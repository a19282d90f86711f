//! Requests that say where they go, as clients send them with `HTTP_PROXY` set: absolute targets, and `CONNECT`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, Uri};
use tokio::time::timeout;

use crate::body::{Incoming, ReplyBody};
use crate::config::UnknownHosts;
use crate::http1::Malformed;
use crate::listen::{Caller, Service};
use crate::run::Proxy;
use crate::upstream::Upstream;
use crate::{connect, outbound, reply};

/// How long the registry may take to say whether it knows a host.
const REGISTRY: Duration = Duration::from_millis(500);

/// Serves one connection of an application that uses the proxy by name.
#[derive(Debug)]
pub(crate) struct Explicit {
    proxy: Arc<Proxy>,
    caller: Caller,
}

impl Explicit {
    pub(crate) fn new(proxy: &Arc<Proxy>, caller: Caller) -> Self {
        Self { proxy: Arc::clone(proxy), caller }
    }
}

impl Service for Explicit {
    async fn call(&self, request: Request<Incoming>) -> Response<ReplyBody> {
        if self.proxy.is_itself(&self.caller) {
            return reply::plain(508, "the request leads back to the proxy that sends it");
        }
        // The proxy would have to encrypt what it was sent in the clear.
        if request.uri().scheme_str() == Some("https") {
            return reply::plain(400, "https is asked for by CONNECT");
        }
        let Some((host, port)) = destination(&request) else {
            return reply::plain(400, "the request does not say which host it is for");
        };
        match find(&self.proxy, &host, port).await {
            Some(upstream) if request.method() == Method::CONNECT => {
                connect::handle(&self.proxy, &upstream, request).await
            }
            Some(upstream) => outbound::handle(&self.proxy, &upstream, self.caller, request).await,
            None => reply::no_route(&self.proxy, &host, request),
        }
    }

    fn malformed(&self, malformed: Malformed) {
        self.proxy.malformed(malformed);
    }
}

/// Host and port that a request is for.
pub(crate) fn destination(request: &Request<Incoming>) -> Option<(String, u16)> {
    let of_header = || {
        let host = request.headers().get(http::header::HOST)?.to_str().ok()?;
        host.parse::<Uri>().ok()?.into_parts().authority
    };
    let authority = request.uri().authority().cloned().or_else(of_header)?;
    let default = match (request.method(), request.uri().scheme_str()) {
        (&Method::CONNECT, _) => return Some((authority.host().to_ascii_lowercase(), authority.port_u16()?)),
        (_, Some("https")) => 443,
        _ => 80,
    };
    Some((authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(default)))
}

/// The service called `host`: one that is known, one that the registry has, or a host outside the mesh.
pub(crate) async fn find(proxy: &Arc<Proxy>, host: &str, port: u16) -> Option<Arc<Upstream>> {
    let known = known(proxy, host).await;
    let is_last = proxy.config.unknown_hosts == UnknownHosts::Deny;
    if let Some(known) = known.filter(|known| is_last || known.is_of_mesh()) {
        return Some(known);
    }
    match proxy.config.unknown_hosts {
        UnknownHosts::Allow => proxy.services.external(&format!("{host}:{port}"), proxy),
        UnknownHosts::Deny => None,
    }
}

/// The service called `host`: one that is known, which need not be of the mesh, or that the registry has.
pub(crate) async fn known(proxy: &Arc<Proxy>, host: &str) -> Option<Arc<Upstream>> {
    let bare = host.trim_end_matches('.');
    if let Some(known) = proxy.services.get(bare) {
        return Some(known);
    }
    // An address is nobody's name.
    let is_address = bare.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if proxy.config.collector.is_none() || is_address {
        return None;
    }
    let asked = proxy.services.get_or_add(bare, proxy)?;
    // The first request to a service waits for what the registry says of it.
    let _ = timeout(REGISTRY, asked.told()).await;
    Some(asked).filter(|asked| !asked.endpoints().is_empty())
}
