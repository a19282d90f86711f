//! Alerts told to those who asked for them: Alertmanagers and webhooks, each with a queue and a pace of its own.
//!
//! An Alertmanager hears of every alert again and again and knows what is new; a webhook hears of what has changed.

mod body;
mod receiver;

use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_model::limits::NOTIFY_QUEUE;
use weir_model::prometheus::relabel::{self, Relabel};
use weir_storage::Labels;

pub use receiver::{Kind, Post, Receiver};

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

/// Who is told of alerts, and what they are told of them.
#[derive(Debug, Default)]
pub struct Told {
    /// Everybody who is told.
    pub receivers: Vec<Arc<Receiver>>,
    /// Labels that all alerts carry.
    pub external_labels: Labels,
    /// Rules for the labels of all alerts.
    pub relabel: Vec<Relabel>,
}

/// Tells everybody of alerts. Clones share the queues.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    told: RwLock<Arc<Told>>,
    changed: tokio::sync::Notify,
}

impl Notifier {
    /// From now on those of `told` hear of alerts. Who was told before goes on where it is.
    pub fn follow(&self, told: Told) {
        let mut held = self.0.told.write().unwrap_or_else(PoisonError::into_inner);
        for receiver in &told.receivers {
            let same =
                |earlier: &&Arc<Receiver>| (earlier.kind, &earlier.url) == (receiver.kind, &receiver.url);
            if let Some(earlier) = held.receivers.iter().find(same) {
                receiver.take_over(earlier);
            }
        }
        *held = Arc::new(told);
        drop(held);
        self.0.changed.notify_one();
    }

    fn told(&self) -> Arc<Told> {
        Arc::clone(&self.0.told.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends what is in the queues until `stop`, and then what is left, once.
    pub async fn run(&self, stop: CancellationToken) {
        let mut running: Vec<(Arc<Receiver>, CancellationToken)> = Vec::new();
        let mut tasks = JoinSet::new();
        loop {
            let told = self.told();
            running.retain(|(receiver, gone)| {
                let stays = told.receivers.iter().any(|other| Arc::ptr_eq(other, receiver));
                if !stays {
                    gone.cancel();
                }
                stays
            });
            for receiver in &told.receivers {
                if !running.iter().any(|(other, _)| Arc::ptr_eq(other, receiver)) {
                    let gone = stop.child_token();
                    running.push((Arc::clone(receiver), gone.clone()));
                    let receiver = Arc::clone(receiver);
                    tasks.spawn(async move { receiver.run(&gone).await });
                }
            }
            if stop.run_until_cancelled(self.0.changed.notified()).await.is_none() {
                break;
            }
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
    }

    /// The addresses at which Alertmanagers take alerts.
    pub fn alertmanagers(&self) -> Vec<String> {
        let told = self.told();
        let all = told.receivers.iter().filter(|receiver| receiver.kind == Kind::Alertmanager);
        all.map(|receiver| receiver.url.clone()).collect()
    }

    /// Appends metrics of the receivers in the Prometheus text format.
    pub fn write_prometheus(&self, out: &mut String) {
        let told = self.told();
        // Writing to a text cannot fail.
        let mut all = |name: &str, kind: &str, help: &str, value: fn(&Receiver) -> u64| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for receiver in &told.receivers {
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
        // Held while they go into the queues, so that none goes into one that has been taken over.
        let told = self.0.told.read().unwrap_or_else(PoisonError::into_inner);
        let alerts: Vec<Notification> = alerts
            .into_iter()
            .filter_map(|mut alert| {
                // An alert's own labels win over those of this server.
                let labels = Labels::new(told.external_labels.iter().chain(alert.labels.iter()));
                alert.labels = relabelled(labels, &told.relabel)?;
                Some(alert)
            })
            .collect();
        told.receivers.iter().for_each(|receiver| receiver.push(&alerts));
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
