//! `[promql]`.

use std::time::Duration;

use weir_model::limits;

use super::{Take, units};

/// How PromQL is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promql {
    /// How long a query may take.
    pub(crate) timeout: Duration,
    /// Samples that it may hold.
    pub(crate) max_samples: usize,
    /// Series that one of its selectors may match.
    pub(crate) max_series: usize,
    /// Queries that run at once.
    pub(crate) max_concurrency: usize,
    /// How long a sample stands for its series.
    pub(crate) lookback_delta: Duration,
}

impl Default for Promql {
    fn default() -> Self {
        Self {
            timeout: limits::PROMQL_TIMEOUT,
            max_samples: limits::PROMQL_SAMPLES,
            max_series: limits::PROMQL_SERIES,
            max_concurrency: limits::QUERIES,
            lookback_delta: LOOKBACK,
        }
    }
}

/// As in Prometheus.
const LOOKBACK: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);

impl Take<'_> {
    pub(super) fn promql(&mut self) -> Promql {
        let default = Promql::default();
        let mut length = |key: &str, default: Duration| {
            self.value(key, "a duration from 1ms to 24h, as in `2m`", default, |text| {
                units::duration(text).filter(|length| (Duration::from_millis(1)..=DAY).contains(length))
            })
        };
        let timeout = length("promql.timeout", default.timeout);
        let lookback_delta = length("promql.lookback_delta", default.lookback_delta);
        let mut count = |key: &str, default: usize, most: usize| {
            self.value(key, &format!("a number from 1 to {most}"), default, |text| {
                text.parse().ok().filter(|count| (1..=most).contains(count))
            })
        };
        Promql {
            timeout,
            max_samples: count("promql.max_samples", default.max_samples, 10_000_000_000),
            max_series: count("promql.max_series", default.max_series, limits::SERIES),
            max_concurrency: count("promql.max_concurrency", default.max_concurrency, 1_000),
            lookback_delta,
        }
    }
}
