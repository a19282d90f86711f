//! What the collector counts of itself; labels are names of its own, never what a sender sent.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::decode::{Decoded, Reason, Signal};
use crate::status::Refusal;

/// Counters of one collector.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    signals: [PerSignal; Signal::ALL.len()],
    /// Hint answers that could not be stored.
    pub(crate) acks_lost: AtomicU64,
    /// Streams of proxies that were ended because they read too slowly.
    pub(crate) slow_proxies: AtomicU64,
    /// Limits that proxies share and of which they were granted nothing.
    pub(crate) rate_demands_dropped: AtomicU64,
}

#[derive(Debug)]
struct PerSignal {
    requests: AtomicU64,
    bytes: AtomicU64,
    accepted: AtomicU64,
    repeated_attributes: AtomicU64,
    rejected: Vec<AtomicU64>,
    dropped_exemplars: Vec<AtomicU64>,
    refused: [AtomicU64; Refusal::NAMES.len()],
}

impl Default for PerSignal {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            bytes: AtomicU64::default(),
            accepted: AtomicU64::default(),
            repeated_attributes: AtomicU64::default(),
            rejected: Reason::ALL.iter().map(|_| AtomicU64::default()).collect(),
            dropped_exemplars: Reason::ALL.iter().map(|_| AtomicU64::default()).collect(),
            refused: Default::default(),
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    fn of(&self, signal: Signal) -> &PerSignal {
        &self.signals[signal as usize]
    }

    /// A request has arrived.
    pub(crate) fn request(&self, signal: Signal) {
        add(&self.of(signal).requests, 1);
    }

    /// A request of that many uncompressed bytes was read in full.
    pub(crate) fn read(&self, signal: Signal, bytes: usize) {
        add(&self.of(signal).bytes, bytes as u64);
    }

    /// A request was stored.
    pub(crate) fn stored(&self, signal: Signal, decoded: &Decoded) {
        let counters = self.of(signal);
        add(&counters.accepted, decoded.accepted);
        add(&counters.repeated_attributes, decoded.repeated_attributes);
        for (reason, count) in decoded.rejected.iter() {
            add(&counters.rejected[reason as usize], count);
        }
        for (reason, count) in decoded.dropped_exemplars.iter() {
            add(&counters.dropped_exemplars[reason as usize], count);
        }
    }

    /// A request was refused.
    pub(crate) fn refused(&self, signal: Signal, refusal: &Refusal) {
        if let Some(index) = Refusal::NAMES.iter().position(|name| *name == refusal.name()) {
            add(&self.of(signal).refused[index], 1);
        }
    }

    /// Appends everything in the Prometheus text format.
    pub(crate) fn write_prometheus(&self, out: &mut String) {
        type Pick = fn(&PerSignal) -> &AtomicU64;
        let plain: [(&str, &str, Pick); 4] = [
            ("requests", "OTLP requests that arrived.", |c| &c.requests),
            ("bytes", "Bytes of OTLP requests after decompression.", |c| &c.bytes),
            ("accepted", "Spans, data points and log records stored.", |c| &c.accepted),
            ("repeated_attributes", "Attributes left out because their key was there already.", |c| {
                &c.repeated_attributes
            }),
        ];
        for (name, help, pick) in plain {
            head(out, name, help);
            for signal in Signal::ALL {
                line(out, name, &format!("signal=\"{}\"", signal.name()), pick(self.of(signal)));
            }
        }
        head(out, "rejected", "Records rejected singly.");
        for signal in Signal::ALL {
            for reason in Reason::ALL {
                let counter = &self.of(signal).rejected[*reason as usize];
                if counter.load(Ordering::Relaxed) > 0 {
                    let labels = format!("signal=\"{}\",reason=\"{}\"", signal.name(), reason.name());
                    line(out, "rejected", &labels, counter);
                }
            }
        }
        head(out, "dropped_exemplars", "Exemplars dropped although their data points were stored.");
        for reason in Reason::ALL {
            let counter = &self.of(Signal::Metrics).dropped_exemplars[*reason as usize];
            if counter.load(Ordering::Relaxed) > 0 {
                line(out, "dropped_exemplars", &format!("reason=\"{}\"", reason.name()), counter);
            }
        }
        head(out, "refused", "Requests refused as a whole.");
        for signal in Signal::ALL {
            for (name, counter) in Refusal::NAMES.iter().zip(&self.of(signal).refused) {
                line(out, "refused", &format!("signal=\"{}\",reason=\"{name}\"", signal.name()), counter);
            }
        }
        head(out, "hint_acks_lost", "Answers to hints that could not be stored.");
        line(out, "hint_acks_lost", "", &self.acks_lost);
        head(out, "slow_proxies", "Mesh streams ended because the proxy read too slowly.");
        line(out, "slow_proxies", "", &self.slow_proxies);
        let name = "rate_demands_dropped";
        head(out, name, "Demands for a part of a shared limit that made no sense or had no room.");
        line(out, name, "", &self.rate_demands_dropped);
    }
}

fn head(out: &mut String, name: &str, help: &str) {
    let _ = writeln!(out, "# HELP weir_collector_{name}_total {help}");
    let _ = writeln!(out, "# TYPE weir_collector_{name}_total counter");
}

fn line(out: &mut String, name: &str, labels: &str, counter: &AtomicU64) {
    let value = counter.load(Ordering::Relaxed);
    let _ = match labels {
        "" => writeln!(out, "weir_collector_{name}_total {value}"),
        labels => writeln!(out, "weir_collector_{name}_total{{{labels}}} {value}"),
    };
}
