//! Alerts told to those who asked for them: Alertmanagers and webhooks, each with a queue and a pace of its own.
//!
//! An Alertmanager hears of every alert again and again and knows what is new; a webhook hears of what has changed.

mod body;
mod receiver;

use std::fmt::Write;
use std::sync::Arc;

use futures::future;
use tokio_util::sync::CancellationToken;
use weir_model::limits::NOTIFY_QUEUE;
use weir_model::prometheus::relabel::{self, Relabel};
use weir_storage::Labels;

pub use receiver::{Kind, Receiver};

/// An alert as it is told. Moments are Unix milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Who it is.
    pub labels: Labels,
    /// What it tells.
    pub annotations: Labels,
    /// Since when it has been firing.
    pub starts_at_ms: i64,
    /// When it ended, or until when it counts as firing if nothing more is heard of it.
    pub ends_at_ms: i64,
    /// Whether it has ended.
    pub resolved: bool,
    /// Where its expression can be looked at.
    pub generator_url: String,
}

/// Someone who is told of alerts. Telling takes no time: what takes time happens later.
pub trait Notify: Send + Sync {
    /// Takes `alerts` to be told.
    fn notify(&self, alerts: Vec<Notification>);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Notify for Nobody {
    fn notify(&self, _: Vec<Notification>) {}
}

/// Everybody who is told. Clones share the queues.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    receivers: Arc<[Receiver]>,
    external_labels: Labels,
    relabel: Arc<[Relabel]>,
}

impl Notifier {
    /// Tells `receivers` of alerts with `external_labels`, rewritten by `relabel`.
    pub fn new(receivers: Vec<Receiver>, external_labels: Labels, relabel: Vec<Relabel>) -> Self {
        Self { receivers: receivers.into(), external_labels, relabel: relabel.into() }
    }

    /// Sends what is in the queues until `stop`, and then what is left, once.
    pub async fn run(&self, stop: CancellationToken) {
        future::join_all(self.receivers.iter().map(|receiver| receiver.run(&stop))).await;
        stop.cancelled().await;
    }

    /// The addresses at which Alertmanagers take alerts.
    pub fn alertmanagers(&self) -> Vec<String> {
        let all = self.receivers.iter().filter(|receiver| receiver.kind == Kind::Alertmanager);
        all.map(|receiver| receiver.url.clone()).collect()
    }

    /// Appends metrics of the receivers in the Prometheus text format.
    pub fn write_prometheus(&self, out: &mut String) {
        // Writing to a text cannot fail.
        let mut all = |name: &str, kind: &str, help: &str, value: fn(&Receiver) -> u64| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for receiver in self.receivers.iter() {
                let _ = writeln!(out, "{name}{{receiver={:?}}} {}", receiver.url, value(receiver));
            }
        };
        all("weir_notifications_sent_total", "counter", "Alerts sent to a receiver.", |r| r.sent());
        all("weir_notifications_errors_total", "counter", "Requests to a receiver that failed.", |r| {
            r.errors()
        });
        all("weir_notifications_dropped_total", "counter", "Alerts that a receiver was not told of.", |r| {
            r.dropped()
        });
        all("weir_notifications_queue_length", "gauge", "Alerts that wait to be sent.", |r| {
            r.waiting() as u64
        });
        all("weir_notifications_queue_capacity", "gauge", "Alerts that may wait to be sent.", |_| {
            NOTIFY_QUEUE as u64
        });
    }
}

impl Notify for Notifier {
    fn notify(&self, alerts: Vec<Notification>) {
        let told: Vec<Notification> = alerts
            .into_iter()
            .filter_map(|mut alert| {
                // An alert's own labels win over those of this server.
                let labels = Labels::new(self.external_labels.iter().chain(alert.labels.iter()));
                alert.labels = relabelled(labels, &self.relabel)?;
                Some(alert)
            })
            .collect();
        self.receivers.iter().for_each(|receiver| receiver.push(&told));
    }
}

/// `labels` rewritten by `rules`; nothing where those drop them.
fn relabelled(labels: Labels, rules: &[Relabel]) -> Option<Labels> {
    if rules.is_empty() {
        return Some(labels);
    }
    let mut map: relabel::Labels =
        labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    relabel::apply(rules, &mut map).then(|| Labels::new(map))
}

#[cfg(test)]
mod tests;
