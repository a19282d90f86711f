//! What the benchmark `telemetry` measures: the report of one request, in the cases that differ.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use weir_model::{Clock, UnixNanos};

use super::{EdgeKey, Flow, Messages, Observe, Peers, Tap};
use crate::call::{Direction, Facts, Party};
use crate::chance::Chance;
use crate::trace::{Share, TraceContext};

const TOOK: Duration = Duration::from_micros(730);
const NOW: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

/// A proxy's telemetry, and a request to report.
#[derive(Debug)]
pub struct Subject {
    tap: Arc<Tap>,
    facts: Vec<Facts>,
    peers: Peers,
    chance: Chance,
    headers: HeaderMap,
}

impl Subject {
    /// With a collector or without one; with this share of requests that leave a span and a log record.
    pub fn new(exporting: bool, share: f64) -> Self {
        let party = |service: &str, instance: String| {
            Arc::new(Party {
                service: service.into(),
                instance: instance.into(),
                version: "v2".into(),
                ..Party::default()
            })
        };
        let own = party("cart", "cart-1".to_owned());
        let share = Share::of(share);
        let chance = Chance::new(1, "measure");
        let facts = (0..5_u8).map(|i| Facts {
            method: Method::POST,
            path: "/orders/42/items".to_owned(),
            address: Some("10.0.0.7:8443".into()),
            status: 200,
            response_bytes: 345,
            head_after: Some(Duration::from_micros(700)),
            ..Facts::new(
                Direction::Outbound,
                Arc::clone(&own),
                party("payments", format!("payments-{i}")),
                TraceContext::of(&HeaderMap::new(), &chance, share),
                NOW,
            )
        });
        let facts = facts.collect();
        let observe = Observe { exporting, sampled: share, logged: share };
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_static;
        headers.insert("traceparent", value("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        headers.insert("b3", value("0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"));
        Self {
            tap: Tap::with(own, Clock::new(|| NOW), observe),
            facts,
            peers: Peers::default(),
            chance,
            headers,
        }
    }

    /// Reports request number `i`.
    pub fn call(&self, i: usize) {
        self.tap.call(&self.facts[i % self.facts.len()], TOOK);
    }

    /// Reports the attempt of request number `i`.
    pub fn edge(&self, i: usize) {
        let facts = &self.facts[i % self.facts.len()];
        self.tap.edge(EdgeKey::of(facts, facts.class()), TOOK);
    }

    /// Continues the trace of a request that brings both formats.
    pub fn trace(&mut self) {
        TraceContext::of(&self.headers, &self.chance, Share::ALL).inject(&mut self.headers);
    }

    /// Reads a peer header that was seen before.
    pub fn peer(&self) {
        std::hint::black_box(self.peers.get(Some(b"web;web-6f7d8c-x2x1z;v2;shop;main;web"), ""));
    }

    /// Opens a connection, carries some bytes over it and closes it.
    pub fn connection(&self, i: usize) {
        let facts = &self.facts[i % self.facts.len()];
        let (client, server) = (Arc::clone(&facts.client), Arc::clone(&facts.server));
        let open = self.tap.opened(Flow::new(Direction::Outbound, client, server, NOW));
        open.carried().received(120);
        open.carried().sent(4_096);
    }

    /// Counts the gRPC messages in a chunk of 16 KiB, of 128 bytes each.
    pub fn messages(&self) -> u64 {
        let mut messages = Messages::default();
        let chunk = [[0, 0, 0, 0, 123], [0; 5]].concat().into_iter().chain([0; 118]).cycle().take(16 << 10);
        messages.feed(&chunk.collect::<Vec<_>>())
    }

    /// Makes the export requests of what has come together, and forgets them; returns their bytes.
    pub fn collect(&self) -> usize {
        self.tap.collect(self.tap.clock.now(), true);
        std::iter::from_fn(|| self.tap.outbox.try_next()).map(|batch| batch.len()).sum()
    }
}
