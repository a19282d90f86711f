//! What a target says of its metrics: type, unit, help.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::limits;
use weir_storage::rows::Metadata;

use crate::exposition::{Kind, Told};

/// The families of a target by name.
#[derive(Debug, Default)]
pub(in super::super) struct Families {
    known: BTreeMap<String, (Family, u64)>,
    current: String,
    round: u64,
    changed: bool,
}

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Family {
    pub(in super::super) kind: Kind,
    pub(in super::super) unit: Arc<str>,
    pub(in super::super) help: Arc<str>,
}

impl Families {
    /// A scrape begins.
    pub(super) fn begin(&mut self) {
        self.round += 1;
        self.current.clear();
    }

    /// It has ended well: what it did not describe is forgotten.
    pub(super) fn end(&mut self) {
        let before = self.known.len();
        self.known.retain(|_, (_, round)| *round == self.round);
        self.changed |= self.known.len() != before;
    }

    pub(super) fn describe(&mut self, name: &str, told: Told<'_>) {
        if self.current != name {
            name.clone_into(&mut self.current);
        }
        if !self.known.contains_key(name) {
            if self.known.len() >= limits::SCRAPE_FAMILIES {
                return;
            }
            self.known.insert(name.to_owned(), (Family::default(), 0));
            self.changed = true;
        }
        let Some((family, round)) = self.known.get_mut(name) else { return };
        *round = self.round;
        let set = |text: &mut Arc<str>, told: &str| {
            let differs = text.as_ref() != told;
            if differs {
                *text = told.into();
            }
            differs
        };
        self.changed |= match told {
            Told::Kind(kind) => std::mem::replace(&mut family.kind, kind) != kind,
            Told::Unit(unit) => set(&mut family.unit, unit),
            Told::Help(help) => set(&mut family.help, help),
        };
    }

    /// What is known of the metric `name`, which belongs to the family that was described last if its name begins so.
    pub(super) fn metadata(&self, name: &str) -> Metadata {
        let own = name
            .strip_prefix(self.current.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        let family = self.known.get(&self.current).filter(|_| own && !self.current.is_empty());
        family.map(|(family, _)| metadata(family)).unwrap_or_default()
    }

    /// All of them, if anything has changed since this was asked last.
    pub(in super::super) fn if_changed(&mut self) -> Option<Vec<(String, Family)>> {
        let all = || self.known.iter().map(|(name, (family, _))| (name.clone(), family.clone())).collect();
        std::mem::take(&mut self.changed).then(all)
    }
}

fn metadata(family: &Family) -> Metadata {
    Metadata {
        kind: family.kind.name().into(),
        unit: Arc::clone(&family.unit),
        help: Arc::clone(&family.help),
    }
}

/// What is known of a series about scrapes.
pub(super) fn of_report(name: &str) -> Metadata {
    let (unit, help) = match name {
        "up" => ("", "1 if the target could be scraped, 0 if not."),
        "scrape_duration_seconds" => ("seconds", "How long the scrape took."),
        "scrape_samples_scraped" => ("", "Samples that the target exposed."),
        "scrape_samples_post_metric_relabeling" => ("", "Samples that were left after metric relabeling."),
        "scrape_series_added" => ("", "Series in this scrape that were not in the one before, about."),
        "scrape_timeout_seconds" => ("seconds", "How long the scrape could have taken."),
        "scrape_sample_limit" => ("", "Samples that a scrape may have; 0 is no limit."),
        "scrape_body_size_bytes" => ("bytes", "Size of the exposition, uncompressed."),
        _ => ("", ""),
    };
    Metadata { kind: "gauge".into(), unit: unit.into(), help: help.into() }
}
