//! `--enable-feature`: the names under which Prometheus turns experimental parts on.

use std::collections::BTreeSet;

use weir_query::promql;

/// Names that mean something here.
const KNOWN: [&str; 13] = [
    "created-timestamp-zero-ingestion",
    "exemplar-storage",
    "extra-scrape-metrics",
    "native-histograms",
    "otlp-deltatocumulative",
    "otlp-native-delta-ingestion",
    "promql-binop-fill-modifiers",
    "promql-delayed-name-removal",
    "promql-duration-expr",
    "promql-experimental-functions",
    "promql-extended-range-selectors",
    "type-and-unit-labels",
    "use-start-timestamps",
];

/// Names that Prometheus knows and that ask for what is so here anyhow, or for a way to store, run or show
/// things that is Prometheus' own.
const MOOT: [&str; 17] = [
    "auto-gomaxprocs",
    "auto-gomemlimit",
    "auto-reload-config",
    "concurrent-rule-eval",
    "delayed-compaction",
    "expand-external-labels",
    "memory-snapshot-on-shutdown",
    "metadata-wal-records",
    "new-service-discovery-manager",
    "old-ui",
    "otlp-write-receiver",
    "promql-at-modifier",
    "promql-negative-offset",
    "promql-per-step-stats",
    "remote-write-receiver",
    "st-storage",
    "use-uncached-io",
];

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Features(BTreeSet<String>);

impl Features {
    /// Those in a list of names with commas between them.
    pub(crate) fn named(list: &str) -> Self {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        Self(names.map(str::to_owned).collect())
    }

    /// Whether `name` is on.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// The names as they are written.
    pub(crate) fn list(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// Says in the log what the names do.
    pub(crate) fn announce(&self) {
        for option in &self.0 {
            match option.as_str() {
                name if KNOWN.contains(&name) => tracing::info!(option, "feature enabled"),
                name if MOOT.contains(&name) => {
                    tracing::info!(option, "this option for --enable-feature changes nothing here");
                }
                _ => tracing::warn!(option, "Unknown option for --enable-feature"),
            }
        }
    }

    /// What they change in PromQL.
    pub(crate) fn apply(&self, options: &mut promql::Options) {
        options.features = promql::Features {
            functions: self.has("promql-experimental-functions"),
            durations: self.has("promql-duration-expr"),
            extended_ranges: self.has("promql-extended-range-selectors"),
            fill: self.has("promql-binop-fill-modifiers"),
        };
        options.delayed_name_removal = self.has("promql-delayed-name-removal");
        options.start_timestamps = self.has("use-start-timestamps");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_turns_on_its_own_part_of_promql() {
        let applied = |list: &str| {
            let mut options = promql::Options::default();
            Features::named(list).apply(&mut options);
            let features = options.features;
            [
                features.functions,
                features.durations,
                features.extended_ranges,
                features.fill,
                options.delayed_name_removal,
                options.start_timestamps,
            ]
        };
        assert_eq!(applied(" , nothing-of-that-name"), [false; 6]);
        for (at, name) in [
            "promql-experimental-functions",
            "promql-duration-expr",
            "promql-extended-range-selectors",
            "promql-binop-fill-modifiers",
            "promql-delayed-name-removal",
            "use-start-timestamps",
        ]
        .into_iter()
        .enumerate()
        {
            let mut expected = [false; 6];
            expected[at] = true;
            assert_eq!(applied(&format!("exemplar-storage,{name}")), expected, "{name}");
        }
        assert_eq!(Features::named("b, a,,b").list(), "a,b");
    }
}
