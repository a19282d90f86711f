//! New label sets from old ones.

use weir_storage::Labels;

/// Labels that tell what a metric is rather than whose: they go when the values no longer are the metric's.
const METADATA: [&str; 3] = ["__name__", "__type__", "__unit__"];

/// `labels` without the metric name and its kin.
pub(super) fn nameless(labels: &Labels) -> Labels {
    if METADATA.iter().all(|name| labels.get(name).is_none()) {
        return labels.clone();
    }
    labels.retained(|name| !METADATA.contains(&name))
}

/// Only the labels in `names`.
pub(super) fn only(labels: &Labels, names: &[String]) -> Labels {
    labels.retained(|name| names.iter().any(|n| n == name))
}

/// All but the labels in `names`.
pub(super) fn without(labels: &Labels, names: &[String]) -> Labels {
    labels.retained(|name| !names.iter().any(|n| n == name))
}

/// All but those in `names`, the metric name and its kin.
pub(super) fn without_and_nameless(labels: &Labels, names: &[String]) -> Labels {
    labels.retained(|name| !METADATA.contains(&name) && !names.iter().any(|n| n == name))
}

/// `labels` with `name` set to `value`; removed where that is empty.
pub(super) fn with(labels: &Labels, name: &str, value: &str) -> Labels {
    labels.with(name, value)
}

/// How Prometheus writes a label set in errors: `{__name__="name", a="b"}`.
pub(super) fn show_set(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// How Prometheus writes a series: `name{a="b"}`.
pub(super) fn show(labels: &Labels) -> String {
    let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value:?}")).collect();
    match (labels.metric(), pairs.is_empty()) {
        ("", _) => format!("{{{}}}", pairs.join(", ")),
        (metric, true) => metric.to_owned(),
        (metric, false) => format!("{metric}{{{}}}", pairs.join(", ")),
    }
}
