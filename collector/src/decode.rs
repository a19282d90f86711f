//! From OTLP protobuf bytes to Arrow batches in the tables' schemas, in one pass over the bytes.
//!
//! Decoding is total: a message that is not protobuf is refused as a whole with the place of the fault;
//! a record that breaks a rule is rejected alone, with its reason; everything else becomes rows.

mod any_value;
mod attributes;
mod logs;
mod metrics;
mod origin;
mod traces;
pub(crate) mod wire;

use std::collections::BTreeMap;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use weir_model::{UnixNanos, limits};
use weir_storage::Table;

pub use metrics::{DeltaState, Series};
pub use wire::Malformed;

/// The kinds of telemetry that OTLP carries and the collector takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metric data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// Its name in paths and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal: $said:literal,)*) => {
        /// Why a single record is rejected.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name, as metrics show it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What the sender is told.
            pub fn message(self) -> &'static str {
                match self { $(Self::$name => $said,)* }
            }
        }
    };
}

reasons! {
    /// A trace id of other than 16 bytes, or all zero.
    TraceId = "bad_trace_id": "trace id is not 16 bytes or all zero",
    /// A span id of other than 8 bytes, or all zero.
    SpanId = "bad_span_id": "span id is not 8 bytes or all zero",
    /// A text that is not UTF-8.
    InvalidUtf8 = "invalid_utf8": "text is not valid UTF-8",
    /// An attribute value nested deeper than [`limits::ANY_VALUE_DEPTH`].
    TooDeep = "too_deep": "attribute value is nested more than 32 deep",
    /// A span in JSON with a value of another type than its format's.
    Form = "bad_form": "span lacks an id or has a value of the wrong type",
    /// A record of more parts than [`limits::RECORD_PARTS`].
    ManyParts = "too_many_parts": "record has more than 100000 attributes, events and links",
    /// A time further ahead than [`limits::FUTURE_SKEW`].
    Future = "in_the_future": "time is more than 1 h ahead of the collector's clock",
    /// The request grows beyond [`limits::DECODED_BYTES`] when its resources are repeated in each row.
    TooLarge = "too_large": "request grows beyond 256 MiB when decoded, send fewer records at once",
    /// A data point without a value.
    NoValue = "no_value": "data point has no value",
    /// A data point without a time.
    NoTime = "no_time": "data point has no time",
    /// A metric without a name that can be used.
    MetricName = "bad_metric_name": "metric name has no letter or digit",
    /// A metric whose kind of data is missing or unknown.
    NoData = "no_data": "metric has no known kind of data",
    /// A sum or histogram that says neither delta nor cumulative.
    Temporality = "bad_temporality": "aggregation temporality is neither delta nor cumulative",
    /// Bucket counts that do not fit their bounds.
    Buckets = "bad_buckets": "bucket counts do not fit the bounds, or bounds do not rise",
    /// A histogram or summary of more parts than [`limits::HISTOGRAM_BUCKETS`], or an exponential
    /// histogram of more than [`limits::EXPONENTIAL_BUCKETS`] on one side.
    ManyBuckets = "too_many_buckets": "histogram or summary has more than 1000 parts, or 32768 if exponential",
    /// An exponential histogram of a scale that no SDK has.
    Scale = "bad_scale": "exponential histogram's scale is not in -10 to 20",
    /// A data point with more attributes than [`limits::SERIES_LABELS`].
    Labels = "too_many_labels": "data point has more than 128 attributes",
    /// A delta point that overlaps the last one of its series, or comes before it.
    OutOfOrder = "out_of_order": "delta point overlaps the last one of its series or comes before it",
    /// More delta series than [`limits::DELTA_SERIES`].
    DeltaSeries = "too_many_delta_series": "too many delta series, send cumulative ones",
    /// More exemplars than [`limits::POINT_EXEMPLARS`].
    ManyExemplars = "too_many_exemplars": "data point has more than 1001 exemplars",
    /// A native histogram of a schema that there is not.
    Schema = "bad_schema": "native histogram's schema is neither in -4 to 52 nor -53",
    /// Labels of which a name is empty or repeated, or none is the metric's.
    LabelNames = "bad_labels": "labels have an empty or a repeated name, or no `__name__`",
    /// A time that no file can be named after.
    Past = "too_far_back": "time is before the year 1",
    /// Another label set has the same series id.
    Collision = "series_collision": "another series has the same id",
    /// The tenant has as many series as it may.
    Series = "too_many_series": "too many series",
}

/// How many records were rejected, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected(BTreeMap<Reason, u64>);

impl Rejected {
    pub(crate) fn add(&mut self, reason: Reason, count: u64) {
        if count > 0 {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Counts by reason.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }

    /// What the sender is told: every reason with its count.
    pub fn message(&self) -> String {
        let parts: Vec<String> =
            self.iter().map(|(reason, count)| format!("{count} rejected: {}", reason.message())).collect();
        parts.join("; ")
    }
}

/// What became of a request.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows, in the schemas of their tables.
    pub parts: Vec<(Table, RecordBatch)>,
    /// Spans, data points or log records in `parts`.
    pub accepted: u64,
    /// Records that are not.
    pub rejected: Rejected,
    /// Attributes left out because their key was there already.
    pub repeated_attributes: u64,
    /// Exemplars that are not in `parts` although their data points are.
    pub dropped_exemplars: Rejected,
}

/// Why nothing of a request was taken.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The sender's fault.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A fault of this program: columns that do not fit the schema.
    #[error("decoded columns do not fit the table: {0}")]
    Columns(#[from] ArrowError),
}

/// Decodes an export request of `signal`. `now` decides what lies too far ahead; `series` is asked about
/// the label sets of metrics.
pub fn decode(
    signal: Signal,
    request: &[u8],
    now: UnixNanos,
    series: &Series<'_>,
) -> Result<Decoded, DecodeError> {
    match signal {
        Signal::Traces => traces::decode(request, now),
        Signal::Logs => logs::decode(request, now),
        Signal::Metrics => metrics::decode(request, now, series),
    }
}

/// What one request may still add to memory when its resources are repeated in every row.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(limits::DECODED_BYTES)
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Reason> {
        self.0 = self.0.checked_sub(bytes).ok_or(Reason::TooLarge)?;
        Ok(())
    }
}

/// Refuses times that lie too far ahead of `now`.
fn check_not_ahead(nanos: u64, now: UnixNanos) -> Result<(), Reason> {
    if UnixNanos(nanos) > now + limits::FUTURE_SKEW { Err(Reason::Future) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests;
