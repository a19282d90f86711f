//! TCP connections: opened and closed once, their bytes counted while they carry them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_model::semconv::edge;
use weir_model::{UnixNanos, limits};

use super::istio::{Key, Peer};
use super::series::{Place, Totals};
use super::{EdgeKey, Tap, lock};
use crate::call::{Direction, Party, Security, Speaks, class_of_flags, flag};
use crate::tunnel::Count;

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) direction: Direction,
    pub(crate) client: Arc<Party>,
    pub(crate) server: Arc<Party>,
    pub(crate) security: Security,
    /// The name that a TLS client asked for.
    pub(crate) sni: Option<Arc<str>>,
    /// Where it goes.
    pub(crate) address: Option<Arc<str>>,
    /// Where it comes from.
    pub(crate) peer_address: Option<SocketAddr>,
    pub(crate) started_at: UnixNanos,
    pub(crate) started: Instant,
    /// When the other side had been reached, after the start.
    pub(crate) connected_after: Option<Duration>,
    pub(crate) flags: &'static str,
}

impl Flow {
    /// A connection of which nothing is known yet but who asks whom, and when.
    pub(crate) fn new(
        direction: Direction,
        client: Arc<Party>,
        server: Arc<Party>,
        started_at: UnixNanos,
    ) -> Self {
        Self {
            direction,
            client,
            server,
            security: Security::None,
            sni: None,
            address: None,
            peer_address: None,
            started_at,
            started: Instant::now(),
            connected_after: None,
            flags: flag::NONE,
        }
    }

    /// The edge metric's class.
    pub(super) fn class(&self) -> &'static str {
        match self.flags {
            flag::REFUSED => edge::REFUSED,
            flags => class_of_flags(flags).unwrap_or(edge::OK),
        }
    }

    fn key(&self) -> Key {
        let peer = match self.direction {
            Direction::Inbound => &self.client,
            Direction::Outbound => &self.server,
        };
        Key {
            direction: self.direction,
            peer: Peer(Arc::clone(peer)),
            speaks: Speaks::Tcp,
            status: 0,
            grpc_status: None,
            flags: self.flags,
            security: self.security,
        }
    }
}

/// Bytes that a connection has carried, for those who carry them.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Carried {
    /// Bytes went to the caller.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes came from the caller.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Sent and received.
    pub(super) fn so_far(&self) -> Bytes {
        Bytes { sent: self.sent.load(Ordering::Relaxed), received: self.received.load(Ordering::Relaxed) }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bytes {
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Count for Carried {
    fn received(&self, bytes: usize) {
        Self::received(self, bytes);
    }

    fn sent(&self, bytes: usize) {
        Self::sent(self, bytes);
    }
}

/// A connection that is reported once more when this is dropped: as closed. Set its flags before.
#[derive(Debug)]
pub(crate) struct OpenFlow {
    tap: Arc<Tap>,
    number: u64,
    carried: Arc<Carried>,
    pub(crate) flow: Flow,
}

impl OpenFlow {
    /// Where its bytes are counted.
    pub(crate) fn carried(&self) -> &Arc<Carried> {
        &self.carried
    }
}

impl Drop for OpenFlow {
    fn drop(&mut self) {
        self.tap.closed(self.number, &self.carried, &self.flow, self.flow.started.elapsed());
    }
}

/// The open connections, of which [`limits::PROXY_FLOWS`] are counted while they last.
#[derive(Debug, Default)]
pub(super) struct Flows {
    next: u64,
    open: HashMap<u64, Live>,
}

#[derive(Debug)]
struct Live {
    carried: Arc<Carried>,
    place: Place,
    counted: Bytes,
}

impl Live {
    /// What was carried since the last time.
    fn more(&mut self) -> Bytes {
        let now = self.carried.so_far();
        let before = std::mem::replace(&mut self.counted, now);
        Bytes { sent: now.sent - before.sent, received: now.received - before.received }
    }
}

impl Flows {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Adds to `totals` what open connections have carried since the last time.
    pub(super) fn fold(&mut self, totals: &mut Totals) {
        for live in self.open.values_mut() {
            let more = live.more();
            if let Some(connections) = totals.connections(live.place) {
                connections.sent += more.sent;
                connections.received += more.received;
            }
        }
    }
}

impl Tap {
    /// A connection was accepted. Where it goes is known: `flow.server` counts for all its life.
    pub(crate) fn opened(self: &Arc<Self>, flow: Flow) -> OpenFlow {
        let place = self.place_of_flow(&flow, |connections| connections.opened += 1);
        let carried = Arc::<Carried>::default();
        let mut flows = lock(&self.flows);
        let number = flows.next;
        flows.next += 1;
        if flows.open.len() < limits::PROXY_FLOWS {
            let live = Live { carried: Arc::clone(&carried), place, counted: Bytes::default() };
            flows.open.insert(number, live);
        }
        drop(flows);
        OpenFlow { tap: Arc::clone(self), number, carried, flow }
    }

    /// A connection is over: what of its bytes was not counted yet is, with the flags it ended with.
    fn closed(&self, number: u64, carried: &Carried, flow: &Flow, took: Duration) {
        let live = lock(&self.flows).open.remove(&number);
        let more = live.map_or_else(|| carried.so_far(), |mut live| live.more());
        self.place_of_flow(flow, |connections| {
            connections.closed += 1;
            connections.sent += more.sent;
            connections.received += more.received;
        });
        let key = EdgeKey {
            client: &flow.client,
            server: &flow.server,
            speaks: Speaks::Tcp,
            class: flow.class(),
            direction: flow.direction,
            probe: false,
        };
        // How long a connection lasts says nothing about the server; how long it took to reach it does.
        self.edge(key, flow.connected_after.unwrap_or(took));
        self.log_flow(flow, carried.so_far(), took);
    }

    fn place_of_flow(&self, flow: &Flow, count: impl FnOnce(&mut super::istio::Connections)) -> Place {
        let mut totals = lock(&self.totals);
        let place = totals.place(flow.key());
        totals.connections(place).map(count);
        drop(totals);
        if place.folded {
            self.dropped.sets_full.fetch_add(1, Ordering::Relaxed);
        }
        place
    }
}
