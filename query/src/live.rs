//! The live loop: once a second it feeds what is new to the analysis, stores what came of it and publishes
//! the hints.
//!
//! In: rows of `histograms` and `spans` that storage has acknowledged since the last round. Out: rows of `edges`,
//! `findings` and `hints` through the one [`weir_storage::Writer`], a [`HintSet`] on a watch channel, and
//! metrics. It asks nothing in SQL but once at the start, and holds no row longer than a round.
//!
//! [`Live::new`] fixes the place in storage from which rows count. A crash loses the increments of the last
//! two seconds at most; a clean stop loses none.

mod counters;
mod examples;
mod pairs;
mod points;
mod restart;
mod rounds;
mod rows;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_model::hint::HintSet;
use weir_model::{Clock, TenantId};
use weir_storage::Storage;

use crate::analysis::Config;
use counters::Counters;
use rounds::Rounds;

/// How often the loop runs.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after a whole second a round begins: seconds close on whole seconds.
const MARGIN: Duration = Duration::from_millis(20);

/// The live loop of one tenant. Clones share it.
#[derive(Debug, Clone)]
pub struct Live {
    shared: Arc<Shared>,
    /// What the loop owns, until it runs.
    rounds: Arc<Mutex<Option<Rounds>>>,
}

/// What the loop is given, and what it shows.
#[derive(Debug)]
struct Shared {
    storage: Storage,
    tenant: TenantId,
    clock: Clock,
    config: Config,
    hints: watch::Sender<HintSet>,
    shown: Mutex<Counters>,
}

impl Shared {
    fn show(&self, counters: &Counters) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = counters.clone();
    }
}

impl Live {
    /// A loop that counts the rows which `storage` acknowledges from now on: make it before the collector
    /// begins to write. Hints in force are sent on `hints`; ids carry the storage's epoch.
    pub fn new(
        storage: Storage,
        tenant: TenantId,
        clock: Clock,
        config: Config,
        hints: watch::Sender<HintSet>,
    ) -> Self {
        let shared = Arc::new(Shared { storage, tenant, clock, config, hints, shown: Mutex::default() });
        let rounds = Rounds::new(Arc::clone(&shared));
        Self { shared, rounds: Arc::new(Mutex::new(Some(rounds))) }
    }

    /// Runs until `stop`. At first the findings that an earlier run left open are resolved.
    ///
    /// Once stopped it takes in the rows that are there, stores the increments of the service graph and the
    /// changes that still wait, trying again for some seconds where storage has no room, and returns. Stop
    /// whoever writes telemetry before, and close storage after. Findings stay open and are resolved by
    /// the next run; hints are not withdrawn, their leases lapse.
    ///
    /// A loop runs once; a second call returns at once. A panic of the analysis is passed on.
    pub async fn run(&self, stop: CancellationToken) {
        let rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut rounds) = rounds else {
            tracing::error!("the live loop has been run already");
            return;
        };
        rounds.begin().await;
        while stop.run_until_cancelled(tokio::time::sleep(self.until_next())).await.is_some() {
            rounds = rounds.round(self.shared.clock.now()).await;
        }
        rounds.finish(self.shared.clock.now()).await;
    }

    /// Appends the loop's metrics in the Prometheus text format: how far it is, what it could not use, and
    /// `weir_finding_active` for each open finding.
    pub fn write_prometheus(&self, out: &mut String) {
        let counters = self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        counters.write_prometheus(self.shared.clock.now(), out);
    }

    /// How far the last closed second is behind; nothing before the first one is closed.
    pub fn lag(&self) -> Option<Duration> {
        let closed = self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner).closed_until;
        (closed.0 > 0).then(|| self.shared.clock.now().since(closed))
    }

    /// The time to the next whole second, and a little more.
    fn until_next(&self) -> Duration {
        let into = self.shared.clock.now().0 % INTERVAL.as_nanos() as u64;
        INTERVAL - Duration::from_nanos(into) + MARGIN
    }
}

#[cfg(test)]
mod tests;
