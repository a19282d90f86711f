//! Transparent capture from end to end: the proxy's binary on a machine of its own, whose connections the rules of
//! `examples/transparent` redirect, between programs that know nothing of it.

#![allow(clippy::unwrap_used, reason = "this is a test")]
#![allow(clippy::print_stderr, reason = "it says why it is passed over")]

mod actors;
mod inbound;
mod loops;
mod net;
mod outbound;
mod own;

use actors::{ADMIN, Peer, Proxy};
use net::{Net, capture};

/// The proxy's mark in all tests; the script's own default.
const MARK: &str = "1337";
const CAPTURE: u16 = 15_001;
const CAPTURE_INBOUND: u16 = 15_006;

/// An application whose connections go through a proxy, and a machine with servers.
struct Stage {
    // Programs end before their machine goes.
    app: Peer,
    servers: Peer,
    _proxy: Proxy,
    net: Net,
}

impl Stage {
    /// `None` where connections cannot be captured.
    fn new(flags: &[&str]) -> Option<Self> {
        let net = Net::new()?;
        let captured = ["--capture", "[::]:15001", "--mark", MARK];
        let proxy = Proxy::on(&net.client, &[&captured[..], flags].concat());
        capture(&net.client, "up", &[]);
        Some(Self { app: Peer::on(&net.client), servers: Peer::on(&net.server), _proxy: proxy, net })
    }
}

/// Requests that the proxy of the peer's machine has counted whose labels have all of these words.
fn counted(peer: &Peer, words: &[&str]) -> f64 {
    let page = peer.gets("127.0.0.1", ADMIN, "localhost").body;
    let is_meant = |line: &&str| {
        line.starts_with("istio_requests_total{") && words.iter().all(|word| line.contains(word))
    };
    page.lines().filter(is_meant).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
