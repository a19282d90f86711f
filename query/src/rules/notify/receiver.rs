//! One receiver of alerts: its queue, and the loop that empties it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use http::StatusCode;
use tokio_util::sync::CancellationToken;
use weir_model::limits::{NOTIFY_BACKOFF, NOTIFY_BATCH, NOTIFY_KNOWN, NOTIFY_QUEUE, NOTIFY_TRIES};
use weir_model::prometheus::relabel::Relabel;
use weir_storage::Labels;

use super::{Notification, body, relabelled};

/// What a receiver understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The API v2 of Alertmanager.
    Alertmanager,
    /// The message that Alertmanager's webhooks send.
    Webhook,
}

/// A way to hand a message to a receiver.
#[async_trait]
pub trait Post: Send + Sync {
    /// Sends `body` to `url`: the status of the answer, or why there is none.
    async fn post(&self, url: &str, body: &serde_json::Value) -> Result<StatusCode, String>;
}

#[async_trait]
impl Post for reqwest::Client {
    async fn post(&self, url: &str, body: &serde_json::Value) -> Result<StatusCode, String> {
        let sent = reqwest::Client::post(self, url).json(body).send().await;
        sent.map(|answer| answer.status()).map_err(|error| error.without_url().to_string())
    }
}

/// A receiver of alerts.
pub struct Receiver {
    pub(super) kind: Kind,
    /// Where it takes alerts.
    pub(super) url: String,
    client: Arc<dyn Post>,
    relabel: Vec<Relabel>,
    queue: Mutex<Queue>,
    filled: tokio::sync::Notify,
    sent: AtomicU64,
    errors: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Notification>,
    /// Firing alerts that a webhook has been told of.
    known: BTreeSet<Labels>,
}

impl Receiver {
    /// The receiver at `url`, spoken to through `client`.
    pub fn new(kind: Kind, url: String, client: Arc<dyn Post>) -> Self {
        Self {
            kind,
            url,
            client,
            relabel: Vec::new(),
            queue: Mutex::default(),
            filled: tokio::sync::Notify::new(),
            sent: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// With rules for the labels of what it is sent.
    pub fn with_relabel(mut self, relabel: Vec<Relabel>) -> Self {
        self.relabel = relabel;
        self
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `alerts` into the queue; the oldest go where there are too many.
    pub(super) fn push(&self, alerts: &[Notification]) {
        let mut queue = self.queue();
        for alert in alerts {
            let Some(labels) = relabelled(alert.labels.clone(), &self.relabel) else { continue };
            if self.kind == Kind::Webhook && !queue.is_news(&labels, alert.resolved) {
                continue;
            }
            if queue.waiting.len() >= NOTIFY_QUEUE {
                queue.waiting.pop_front();
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            queue.waiting.push_back(Notification { labels, ..alert.clone() });
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// The next alerts to be sent together: of one name where the receiver is a webhook.
    pub(super) fn batch(&self) -> Vec<Notification> {
        let mut queue = self.queue();
        let name = |alert: &Notification| alert.labels.get("alertname").unwrap_or_default().to_owned();
        let first = queue.waiting.front().map(name);
        let fits = |alert: &&Notification| self.kind == Kind::Alertmanager || Some(name(alert)) == first;
        let count = queue.waiting.iter().take(NOTIFY_BATCH).take_while(fits).count();
        queue.waiting.drain(..count).collect()
    }

    /// Sends what is in the queue until `stop`, and then what is left, once.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                if stop.is_cancelled() {
                    return;
                }
                let _ = stop.run_until_cancelled(self.filled.notified()).await;
            } else {
                self.send(&batch, stop).await;
            }
        }
    }

    /// Sends `batch`; tries again with growing pauses where that may help.
    async fn send(&self, batch: &[Notification], stop: &CancellationToken) {
        let body = match self.kind {
            Kind::Alertmanager => body::alertmanager(batch),
            Kind::Webhook => body::webhook(batch),
        };
        let mut pause = NOTIFY_BACKOFF;
        for tried in 1..=NOTIFY_TRIES {
            let (problem, hopeless) = match self.client.post(&self.url, &body).await {
                Ok(status) if status.is_success() => {
                    self.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    return;
                }
                Ok(status) => {
                    let refused = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
                    (format!("it answered {status}"), refused)
                }
                Err(problem) => (problem, false),
            };
            self.errors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(receiver = self.url, problem, alerts = batch.len(), "alerts were not taken");
            if hopeless || tried == NOTIFY_TRIES {
                break;
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
            pause *= 2;
        }
        self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }

    /// Goes on with what `earlier`, which is the same receiver under other settings, has not sent.
    pub(super) fn take_over(&self, earlier: &Self) {
        *self.queue() = std::mem::take(&mut *earlier.queue());
        for (own, theirs) in
            [(&self.sent, &earlier.sent), (&self.errors, &earlier.errors), (&self.dropped, &earlier.dropped)]
        {
            own.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("kind", &self.kind).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Queue {
    /// Whether a webhook has not been told this, which it is now.
    fn is_news(&mut self, labels: &Labels, resolved: bool) -> bool {
        if resolved {
            return self.known.remove(labels);
        }
        self.known.len() >= NOTIFY_KNOWN || self.known.insert(labels.clone())
    }
}
