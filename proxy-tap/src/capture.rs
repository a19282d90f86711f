//! Connections that the kernel redirected to the proxy: requests go where they say, all else where it was going.
//!
//! | a connection that | goes to |
//! |---|---|
//! | names a service of the mesh, in `Host` or by TLS | the service's endpoints |
//! | was for the address of an endpoint | the service's endpoints |
//! | was for any other address | that address, with the name it gave; or nowhere with `--unknown-hosts deny` |
//! | was made to the listener itself | nowhere: 400 |
//! | is the proxy's own | nowhere: 508, as it would come back for ever |
//!
//! Encryption is passed on as it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use http::{Request, Response};

use crate::body::{Incoming, ReplyBody};
use crate::config::UnknownHosts;
use crate::explicit;
use crate::http1::Malformed;
use crate::io::Conn;
use crate::listen::{Caller, Service, Speaks};
use crate::run::Proxy;
use crate::upstream::{Origin, Upstream};
use crate::{outbound, reply, tcp};

/// Ports of protocols in which the server speaks first, in which a client that waits would wait for longer: FTP, SSH,
/// SMTP, POP3, IMAP, SMTP submission, MySQL.
const SERVER_FIRST: [u16; 7] = [21, 22, 25, 110, 143, 587, 3306];

const LOOP: &str = "the kernel redirects the proxy's own connections to it; let those pass that bear --mark";
static LOOP_TOLD: AtomicBool = AtomicBool::new(false);

/// Serves one captured connection.
#[derive(Debug)]
pub(crate) struct Captured {
    proxy: Arc<Proxy>,
    caller: Caller,
    /// Who is at the destination, once somebody needs to know.
    there: OnceLock<Option<Arc<Upstream>>>,
}

impl Captured {
    pub(crate) fn new(proxy: &Arc<Proxy>, caller: Caller) -> Self {
        Self { proxy: Arc::clone(proxy), caller, there: OnceLock::new() }
    }

    /// The service of which `destination` is an endpoint, or that address alone.
    fn by_address(&self, destination: SocketAddr) -> Option<Arc<Upstream>> {
        let find = || {
            let text = destination.to_string();
            let known = self.proxy.services.find(|one| one.origin() != Origin::External && has(one, &text));
            match self.proxy.config.unknown_hosts {
                _ if known.is_some() => known,
                UnknownHosts::Allow => self.proxy.services.external(&text, &self.proxy),
                UnknownHosts::Deny => None,
            }
        };
        self.there.get_or_init(find).clone()
    }

    /// The service called `name`, if it is one of the mesh.
    async fn by_name(&self, name: &str) -> Option<Arc<Upstream>> {
        explicit::known(&self.proxy, name).await.filter(|known| known.is_of_mesh())
    }

    /// Whether it is a connection of the proxy's.
    fn is_own(&self, destination: SocketAddr) -> bool {
        let is_own = self.proxy.is_itself(&self.caller);
        if is_own && !LOOP_TOLD.swap(true, Ordering::Relaxed) {
            tracing::error!(%destination, "{LOOP}");
        }
        is_own
    }
}

/// Whether one of the service's endpoints is at `address`.
fn has(service: &Upstream, address: &str) -> bool {
    service.endpoints().iter().any(|endpoint| *endpoint.address == *address)
}

impl Service for Captured {
    async fn call(&self, request: Request<Incoming>) -> Response<ReplyBody> {
        let Some(destination) = self.caller.local else {
            return reply::plain(400, reply::NOT_REDIRECTED);
        };
        if self.is_own(destination) {
            return reply::plain(508, LOOP);
        }
        let host = explicit::destination(&request).map(|(host, _)| host);
        let named = match &host {
            Some(host) => self.by_name(host).await,
            None => None,
        };
        match named.or_else(|| self.by_address(destination)) {
            Some(upstream) => outbound::handle(&self.proxy, &upstream, self.caller, request).await,
            None => reply::no_route(&self.proxy, &host.unwrap_or_default(), request),
        }
    }

    fn malformed(&self, malformed: Malformed) {
        self.proxy.malformed(malformed);
    }

    fn speaks(&self) -> Speaks {
        let Some(destination) = self.caller.local else { return Speaks::Http };
        let text = destination.to_string();
        let is_known = || self.proxy.services.find(|one| one.is_tcp() && has(one, &text)).is_some();
        let is_tcp = SERVER_FIRST.contains(&destination.port()) || is_known();
        if is_tcp { Speaks::Tcp } else { Speaks::Any }
    }

    async fn stream(&self, conn: Conn, sni: Option<Box<str>>) {
        let Some(destination) = self.caller.local.filter(|at| !self.is_own(*at)) else { return };
        let named = match &sni {
            Some(name) => self.by_name(name).await,
            None => None,
        };
        if let Some(upstream) = named.or_else(|| self.by_address(destination)) {
            tcp::forward(&self.proxy, &upstream, self.caller, conn, sni).await;
        }
    }
}
