//! What senders say of metrics: 1.0 sends it apart from the series, once a minute, by the name of the metric family.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use weir_model::{UnixNanos, limits};
use weir_storage::columns::At;
use weir_storage::rows::{Metadata, MetricRows, Series};
use weir_storage::{LabelMatcher, Labels, MatchOp, SeriesIndex};

/// What the series of a family may add to its name.
const PARTS: [&str; 6] = ["", "_bucket", "_count", "_sum", "_total", "_created"];

/// Prometheus' types of metrics, by their numbers in both versions.
const KINDS: [&str; 8] =
    ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

/// The name of a type.
pub(super) fn kind(number: u64) -> &'static str {
    usize::try_from(number).ok().and_then(|number| KINDS.get(number)).copied().unwrap_or("unknown")
}

/// Metadata by family, at most [`limits::REMOTE_WRITE_FAMILIES`].
#[derive(Debug, Default)]
pub(crate) struct Described {
    families: Mutex<HashMap<String, Family>>,
}

#[derive(Debug)]
struct Family {
    metadata: Metadata,
    /// The last day for which a row of `series` says so.
    day: Option<i32>,
}

impl Described {
    /// A sender says this of `family`.
    pub(super) fn note(&self, family: &str, metadata: Metadata) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = families.len() < limits::REMOTE_WRITE_FAMILIES;
        match families.get_mut(family) {
            Some(known) if known.metadata == metadata => {}
            Some(known) => *known = Family { metadata, day: None },
            None if has_room => {
                families.insert(family.to_owned(), Family { metadata, day: None });
            }
            None => tracing::debug!(family, "metadata left out: there are too many metric families"),
        }
    }

    /// What is known of the metric that series called `name` are of.
    pub(super) fn of(&self, name: &str) -> Option<Metadata> {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = PARTS.iter().filter_map(|part| name.strip_suffix(part));
        names.find_map(|family| families.get(family)).map(|family| family.metadata.clone())
    }

    /// Writes what has been said and is not stored yet for today, to the row of one series of each family.
    pub(super) fn describe(&self, index: &SeriesIndex, now: UnixNanos, rows: &mut MetricRows<'_>) {
        let time = At::from_nanos(now.0);
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in families.iter_mut().filter(|(_, family)| family.day != Some(time.day())) {
            let Some(labels) = PARTS.iter().find_map(|part| any(index, &format!("{name}{part}"))) else {
                continue; // its series come later, and say so themselves
            };
            let series = Series::described(labels, family.metadata.clone());
            if rows.describe(&series, time, &family.metadata).is_ok() {
                family.day = Some(time.day());
            }
        }
    }
}

/// The labels of a series called `name`.
fn any(index: &SeriesIndex, name: &str) -> Option<Labels> {
    let matcher = LabelMatcher::new("__name__", MatchOp::Equal, name).ok()?;
    index.any(&[matcher]).map(|(_, labels)| labels)
}
