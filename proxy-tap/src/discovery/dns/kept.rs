//! What of the answers so far is in force, and when to ask again: no clock and no network of its own.

use std::time::Duration;

use tokio::time::Instant;

use super::Bounds;
use weir_model::policy::Endpoint;

/// What came of asking.
#[derive(Debug)]
pub(super) enum Heard {
    /// Endpoints, and for how long the answer holds. Partial, where an older answer had to stand in for some.
    Found { endpoints: Vec<Endpoint>, ttl: Duration, partial: bool },
    /// An answer that there are none.
    Absent { ttl: Duration },
    /// No answer, and why.
    Failed(String),
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    /// Endpoints that take the place of the former.
    pub(super) set: Option<Vec<Endpoint>>,
    /// How long until to ask again.
    pub(super) wait: Duration,
}

/// The answer in force.
#[derive(Debug)]
pub(super) struct Kept {
    /// For the log.
    target: String,
    bounds: Bounds,
    endpoints: Vec<Endpoint>,
    /// When the answer in force was given last.
    good_at: Option<Instant>,
    /// Since when the DNS says that there are none.
    absent_since: Option<Instant>,
    /// The next pause after a failure, before jitter; none, while there is no failure.
    pause: Option<Duration>,
}

impl Kept {
    pub(super) fn new(target: String, bounds: Bounds) -> Self {
        Self { target, bounds, endpoints: Vec::new(), good_at: None, absent_since: None, pause: None }
    }

    /// When the answer in force was given last.
    pub(super) fn good_at(&self) -> Option<Instant> {
        self.good_at
    }

    /// How many endpoints are in force.
    pub(super) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// Takes in what came of asking; `draw` from 0 to 1 spreads the pauses after failures.
    pub(super) fn heard(&mut self, now: Instant, heard: Heard, draw: f64) -> Step {
        match heard {
            Heard::Found { endpoints, ttl, partial } => {
                self.found(now, endpoints, ttl, partial.then_some(draw))
            }
            Heard::Absent { ttl } => self.absent(now, ttl),
            Heard::Failed(why) => self.failed(now, &why, draw),
        }
    }

    fn found(&mut self, now: Instant, endpoints: Vec<Endpoint>, ttl: Duration, partial: Option<f64>) -> Step {
        self.good_at = Some(now);
        self.absent_since = None;
        let ttl = ttl.min(self.bounds.ttl_most).max(self.bounds.ttl_least);
        let wait = match partial {
            Some(draw) => ttl.min(self.back_off(draw)),
            None => {
                if self.pause.take().is_some() {
                    tracing::info!(target = self.target, "the DNS answers again");
                }
                ttl
            }
        };
        Step { set: self.replace(endpoints), wait }
    }

    fn absent(&mut self, now: Instant, ttl: Duration) -> Step {
        self.pause = None;
        if self.absent_since.is_none() {
            tracing::warn!(
                target = self.target,
                in_use = self.endpoints.len(),
                "the DNS says that there are no endpoints"
            );
        }
        let since = *self.absent_since.get_or_insert(now);
        let left = (since + self.bounds.absent).saturating_duration_since(now);
        let wait = ttl.min(self.bounds.absent).max(self.bounds.ttl_least);
        if self.endpoints.is_empty() || left.is_zero() {
            // That there are none is an answer as well, and this is how old it is.
            self.good_at = Some(now);
            return Step { set: self.replace(Vec::new()), wait };
        }
        Step { set: None, wait: wait.min(left) }
    }

    fn failed(&mut self, now: Instant, why: &str, draw: f64) -> Step {
        let in_use = self.endpoints.len();
        match self.pause {
            None => {
                tracing::warn!(target = self.target, why, in_use, "the DNS fails; endpoints stay as they are")
            }
            Some(_) => tracing::debug!(target = self.target, why, in_use, "the DNS still fails"),
        }
        let wait = self.back_off(draw);
        let Some(good_at) = self.good_at else { return Step { set: None, wait } };
        let left = (good_at + self.bounds.stale).saturating_duration_since(now);
        if !left.is_zero() {
            return Step { set: None, wait: wait.min(left) };
        }
        let age_s = self.bounds.stale.as_secs();
        tracing::warn!(
            target = self.target,
            age_s,
            in_use,
            "the DNS has failed for too long; its endpoints go"
        );
        (self.good_at, self.absent_since) = (None, None);
        Step { set: self.replace(Vec::new()), wait }
    }

    fn back_off(&mut self, draw: f64) -> Duration {
        let pause = self.pause.unwrap_or(self.bounds.pause_first);
        self.pause = Some((pause * 2).min(self.bounds.pause_longest));
        pause.mul_f64(0.5 + draw / 2.0)
    }

    /// What to set, where that is not what is in force already.
    fn replace(&mut self, endpoints: Vec<Endpoint>) -> Option<Vec<Endpoint>> {
        if endpoints == self.endpoints {
            return None;
        }
        tracing::info!(
            target = self.target,
            now = endpoints.len(),
            before = self.endpoints.len(),
            "endpoints changed"
        );
        self.endpoints.clone_from(&endpoints);
        Some(endpoints)
    }
}

#[cfg(test)]
mod tests;
