//! How the API behaves: limits, features, and what it says of the program around it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use weir_model::limits::{PROMQL_TIMEOUT, REMOTE_READS};
use weir_model::prometheus::Config;
use weir_model::{Clock, UnixNanos};
use weir_storage::Labels;

use crate::promql::{Options, duration};

/// What the API is told when it starts.
#[derive(Debug)]
pub struct Settings {
    /// How queries are evaluated: look-back, limits, features.
    pub options: Options,
    /// How long a query may take, and at most what its parameter `timeout` may ask for.
    pub timeout: Duration,
    /// Prometheus' own configuration as it is now.
    pub config: watch::Receiver<Arc<Config>>,
    /// When the program started.
    pub started: UnixNanos,
    /// The folder that tables are in, and that the program runs in.
    pub folder: PathBuf,
    /// How long samples are kept, as people write it.
    pub retention: String,
    /// What `status/flags` shows besides the limits above, by the names Prometheus' flags have.
    pub flags: BTreeMap<String, String>,
    /// Remote reads that run at once.
    pub(super) reads: Semaphore,
}

impl Settings {
    /// The defaults, which are those of Prometheus.
    pub fn new(clock: &Clock) -> Self {
        Self {
            options: Options::default(),
            timeout: PROMQL_TIMEOUT,
            config: watch::channel(Arc::default()).1,
            started: clock.now(),
            folder: PathBuf::new(),
            retention: "forever".to_owned(),
            flags: BTreeMap::new(),
            reads: Semaphore::new(REMOTE_READS),
        }
    }

    /// Labels that remote read and federation add to series that lack them.
    pub(super) fn external_labels(&self) -> Labels {
        let config = self.config.borrow();
        Labels::new(config.global.external_labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// How long a query may take that asks for `wanted`.
    pub(super) fn timeout(&self, wanted: Option<Duration>) -> Duration {
        wanted.map_or(self.timeout, |wanted| wanted.min(self.timeout))
    }

    /// The flags that Prometheus would have been started with.
    pub(super) fn shown_flags(&self, concurrency: usize) -> BTreeMap<String, String> {
        let ms = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let own = [
            ("query.lookback-delta", duration::show_ms(self.options.lookback_ms)),
            ("query.max-concurrency", concurrency.to_string()),
            ("query.max-samples", self.options.samples.to_string()),
            ("query.timeout", duration::show_ms(ms(self.timeout))),
            ("storage.remote.read-concurrent-limit", REMOTE_READS.to_string()),
            ("storage.remote.read-max-bytes-in-frame", super::read::FRAME_BYTES.to_string()),
            ("storage.remote.read-sample-limit", self.options.samples.to_string()),
            ("storage.tsdb.path", self.folder.display().to_string()),
            ("storage.tsdb.retention.time", self.retention.clone()),
            ("web.cors.origin", ".*".to_owned()),
            ("web.enable-admin-api", "false".to_owned()),
            ("web.enable-remote-write-receiver", "true".to_owned()),
        ];
        let mut all: BTreeMap<String, String> =
            own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend(self.flags.clone());
        all
    }
}
