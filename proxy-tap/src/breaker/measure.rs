//! A service with endpoints for the benchmark, which sees nothing else of this crate.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::policy;

use super::{Kind, Outcome};
use crate::upstream::{Endpoint, Upstream};

/// An upstream whose requests never leave the process.
#[derive(Debug)]
pub struct Subject {
    upstream: Arc<Upstream>,
    endpoints: Vec<Arc<Endpoint>>,
}

impl Subject {
    /// An upstream of so many endpoints.
    pub fn new(endpoints: usize) -> Self {
        let told = |i| policy::Endpoint {
            instance: format!("payments-{i:08x}"),
            address: format!("127.0.0.1:{}", i + 1),
            ..policy::Endpoint::default()
        };
        let upstream = Upstream::alone("payments", (0..endpoints).map(told).collect());
        let endpoints = upstream.endpoints().iter().map(Arc::clone).collect();
        Self { upstream, endpoints }
    }

    /// Tells the breakers how the `i`-th request went.
    pub fn result(&self, i: usize, ok: bool) {
        let endpoint = &self.endpoints[i % self.endpoints.len()];
        let kind = Kind::Http(if ok { 200 } else { 500 });
        let outcome = Outcome { ok, latency: Duration::from_millis(1), probe: false, kind };
        self.upstream.result(endpoint, outcome);
    }

    /// Lets the breakers notice that time has gone by.
    pub fn tick(&self) {
        self.upstream.breakers().tick(Instant::now());
    }
}
