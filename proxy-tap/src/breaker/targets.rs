//! The endpoints' breakers by name, and the few of them that anything has to be decided about.
//!
//! Of ten thousand endpoints nearly all are at rest: closed, under no order, healthy, with nothing to tell. Whoever
//! may have changed one of them [wakes](Targets::wake) it, and what looks at every target that is out or weakened
//! looks at those that are awake. A change of the endpoints is made ready before it is applied, so that the lock of
//! the breakers is held for what differs alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::gate::Gate;
use super::target::Target;

/// What there is of an endpoint, for its breaker: name, zone and gate.
pub(crate) type Known = (Arc<str>, Arc<str>, Arc<Gate>);

/// Endpoints that go and endpoints that come.
#[derive(Debug, Default)]
pub(crate) struct Change {
    gone: Vec<Arc<str>>,
    come: Vec<(Arc<str>, Box<Target>)>,
    /// Holds those that are gone until the change is dropped, after the lock.
    left: Vec<(Arc<str>, Box<Target>)>,
}

impl Change {
    /// Endpoints of these names go, and these come then; one that is replaced does both.
    pub(crate) fn new(now: Instant, gone: Vec<Arc<str>>, come: impl Iterator<Item = Known>) -> Self {
        let come: Vec<_> =
            come.map(|(name, zone, gate)| (name, Box::new(Target::new(gate, zone, now)))).collect();
        Self { left: Vec::with_capacity(gone.len()), gone, come }
    }

    /// Those that are gone.
    pub(super) fn left(&mut self) -> impl Iterator<Item = &mut Target> {
        self.left.iter_mut().map(|(_, target)| &mut **target)
    }
}

/// The endpoints' breakers.
#[derive(Debug, Default)]
pub(super) struct Targets {
    // In boxes, so that a table that grows moves little.
    all: HashMap<Arc<str>, Box<Target>>,
    awake: HashSet<Arc<str>>,
}

impl Targets {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Target> {
        self.all.get(name).map(|target| &**target)
    }

    pub(super) fn entry(&self, name: &str) -> Option<(&Arc<str>, &Target)> {
        self.all.get_key_value(name).map(|(name, target)| (name, &**target))
    }

    /// One whose state stays as it is.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Target> {
        self.all.get_mut(name).map(|target| &mut **target)
    }

    /// One whose state may change: it is awake until [`Targets::rest`].
    pub(super) fn wake(&mut self, name: &str) -> Option<&mut Target> {
        let (known, _) = self.all.get_key_value(name)?;
        self.awake.insert(Arc::clone(known));
        self.get_mut(name)
    }

    /// Lets those sleep that are at rest again.
    pub(super) fn rest(&mut self) {
        let all = &self.all;
        self.awake.retain(|name| all.get(name).is_some_and(|target| !target.is_at_rest()));
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Target)> {
        self.all.iter().map(|(name, target)| (name, &**target))
    }

    /// All of them, whose states stay as they are.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        self.all.values_mut().map(|target| &mut **target)
    }

    /// Those that are awake, in no order.
    pub(super) fn awake(&self) -> impl Iterator<Item = (&Arc<str>, &Target)> {
        self.awake.iter().filter_map(|name| self.entry(name))
    }

    /// The names of those that are awake.
    pub(super) fn awake_names(&self) -> Vec<Arc<str>> {
        self.awake.iter().cloned().collect()
    }

    /// Whether all of them are at rest.
    pub(super) fn are_at_rest(&self) -> bool {
        self.awake.is_empty()
    }

    pub(super) fn apply(&mut self, change: &mut Change) {
        for name in &change.gone {
            self.awake.remove(name);
            change.left.extend(self.all.remove_entry(name));
        }
        self.all.extend(change.come.drain(..));
    }
}
