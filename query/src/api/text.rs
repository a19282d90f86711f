//! Values as SQL literals, so that a route's question can be shown and asked again.

use chrono::{DateTime, SecondsFormat};
use weir_model::UnixNanos;

/// A text literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A moment literal.
pub(super) fn moment(at: UnixNanos) -> String {
    format!("'{}'", rfc3339(at.0.min(i64::MAX as u64) as i64))
}

/// Nanoseconds since the epoch as RFC 3339, nine digits after the point.
pub(super) fn rfc3339(nanos: i64) -> String {
    DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true)
}
