//! The hints that are held: as leases, from receipt, renewed only by a higher revision, of no older epoch.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use weir_model::hint::{Hint, Verdict};
use weir_model::limits;

use super::Settings;
use super::order::{Order, Unfit};

/// What an answer was about: an endpoint, or the edge.
pub(super) type Subject = Option<Arc<str>>;

/// The last answer about a subject.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) verdict: Verdict,
    /// What would have been done, where the verdict is `shadowed`.
    pub(super) would: Option<Verdict>,
    pub(super) success_rate_before: f64,
}

/// A hint that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: Arc<str>,
    pub(super) revision: u64,
    epoch: u64,
    /// Counts receipts, so that older hints keep their room.
    pub(super) arrival: u64,
    expires: Instant,
    lapsed: bool,
    /// Whether the newest set has it.
    listed: bool,
    pub(super) order: Result<Arc<Order>, Unfit>,
    pub(super) said: HashMap<Subject, Said>,
}

impl Held {
    pub(super) fn in_force(&self) -> bool {
        !self.lapsed
    }
}

/// Why a hint is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Lapsed,
    Withdrawn,
}

/// A hint that is over, and what had been said of it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: Arc<str>,
    pub(super) revision: u64,
    pub(super) ending: Ending,
    pub(super) said: HashMap<Subject, Said>,
}

/// A hint that was not taken.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) id: String,
    pub(super) revision: u64,
    pub(super) reason: String,
}

/// What came of a set of hints.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) ended: Vec<Ended>,
    pub(super) refused: Vec<Refused>,
}

/// Hints by id, and the newest run of the collector that was heard of.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    held: Vec<Held>,
    epoch: Option<(u64, Instant)>,
    revision: u64,
    arrivals: u64,
}

impl Ledger {
    /// The highest epoch heard of within the length of a lease.
    fn fence(&self, now: Instant) -> u64 {
        let fresh = |heard: Instant| now.saturating_duration_since(heard) < limits::HINT_TTL;
        self.epoch.filter(|(_, heard)| fresh(*heard)).map_or(0, |(epoch, _)| epoch)
    }

    /// A collector of this epoch is there.
    pub(super) fn heard(&mut self, now: Instant, epoch: u64) {
        if epoch >= self.fence(now) {
            if self.epoch.is_none_or(|(known, _)| known != epoch) {
                self.revision = 0;
            }
            self.epoch = Some((epoch, now));
        }
    }

    /// Takes a set as the whole truth: what is missing from it is withdrawn. A set of an older epoch, or an
    /// older set, changes nothing. Hints that an earlier run of the collector issued are not withdrawn by a
    /// later one, which does not know of them: their leases run out.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        (epoch, revision): (u64, u64),
        hints: Vec<Hint>,
        settings: &Settings,
    ) -> Received {
        let fence = self.fence(now);
        let mut out = Received::default();
        let stale = |epoch: u64| format!("epoch {epoch} is older than {fence}, which was heard of lately");
        if epoch < fence {
            let refuse = |hint: Hint| Refused { reason: stale(epoch), id: hint.id, revision: hint.revision };
            out.refused = hints.into_iter().map(refuse).collect();
            return out;
        }
        self.heard(now, epoch);
        if revision < self.revision {
            return out;
        }
        self.revision = revision;
        self.held.iter_mut().for_each(|held| held.listed = false);
        for hint in hints {
            let mut refuse = |reason: String| {
                out.refused.push(Refused { id: hint.id.clone(), revision: hint.revision, reason });
            };
            if hint.epoch < fence {
                refuse(stale(hint.epoch));
            } else if let Some(held) = self.held.iter_mut().find(|held| *held.id == *hint.id) {
                held.listed = true;
                if hint.revision > held.revision {
                    out.ended.extend(held.renew(now, &hint, settings));
                }
            } else if self.held.len() >= limits::HINTS {
                refuse(format!("{} hints are held already", limits::HINTS));
            } else {
                self.arrivals += 1;
                self.held.push(Held::new(now, &hint, self.arrivals, settings));
            }
        }
        self.held.retain_mut(|held| {
            let gone = !held.listed && held.epoch >= epoch;
            if gone && held.in_force() {
                out.ended.push(held.end(Ending::Withdrawn));
            }
            !gone
        });
        out
    }

    /// Ends the leases that have run out.
    pub(super) fn lapse(&mut self, now: Instant) -> Vec<Ended> {
        let mut ended = vec![];
        self.held.retain_mut(|held| {
            if held.in_force() && now >= held.expires {
                held.lapsed = true;
                ended.push(held.end(Ending::Lapsed));
            }
            // One that is still listed is remembered, lest the same revision begin again.
            held.listed || held.in_force()
        });
        ended
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn held_mut(&mut self) -> &mut [Held] {
        &mut self.held
    }

    /// The leases in force.
    pub(super) fn in_force(&self) -> usize {
        self.held.iter().filter(|held| held.in_force()).count()
    }
}

impl Held {
    fn new(now: Instant, hint: &Hint, arrival: u64, settings: &Settings) -> Self {
        Self {
            id: hint.id.as_str().into(),
            revision: hint.revision,
            epoch: hint.epoch,
            arrival,
            expires: now + hint.ttl.min(limits::HINT_TTL),
            lapsed: false,
            listed: true,
            order: Order::new(hint, settings).map(Arc::new),
            said: HashMap::new(),
        }
    }

    /// Extends the lease; what was asked before has ended where something else is asked now.
    fn renew(&mut self, now: Instant, hint: &Hint, settings: &Settings) -> Option<Ended> {
        let next = Self::new(now, hint, self.arrival, settings);
        let same = match (&self.order, &next.order) {
            (Ok(old), Ok(new)) => old.place == new.place && old.does == new.does && old.shadow == new.shadow,
            (Err(old), Err(new)) => old == new,
            _ => false,
        };
        if same {
            let said = std::mem::take(&mut self.said);
            *self = Self { said, ..next };
            return None;
        }
        let ended = self.in_force().then(|| self.end(Ending::Withdrawn));
        *self = next;
        ended
    }

    fn end(&mut self, ending: Ending) -> Ended {
        let said = std::mem::take(&mut self.said);
        Ended { id: Arc::clone(&self.id), revision: self.revision, ending, said }
    }
}
