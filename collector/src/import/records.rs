//! What the records of a request are, told from their fields alone: files do not say which signal they carry.

use crate::decode::wire::Reader;
use crate::decode::{Malformed, Signal};
use crate::encode::{ENTRIES, RECORDS, SCOPES};

/// The messages in the fields of a message that have this number.
pub(super) fn fields(
    mut message: Reader<'_>,
    number: u32,
) -> impl Iterator<Item = Result<Reader<'_>, Malformed>> {
    std::iter::from_fn(move || {
        loop {
            match message.next() {
                Ok(Some(field)) if field.number == number => return Some(field.message()),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(malformed) => {
                    message = Reader::new(&[]);
                    return Some(Err(malformed));
                }
            }
        }
    })
}

/// Data points of a metric; a span and a log record are one.
pub(super) fn count(signal: Signal, mut record: Reader<'_>) -> Result<u64, Malformed> {
    if signal != Signal::Metrics {
        return Ok(1);
    }
    let mut points = None;
    while let Some(field) = record.next()? {
        // Gauge, sum, histogram, exponential histogram, summary; their points have the number 1.
        if matches!(field.number, 5 | 7 | 9 | 10 | 11) {
            let of_field =
                fields(field.message()?, 1).try_fold(0, |points, point| point.map(|_| points + 1))?;
            *points.get_or_insert(0) += of_field;
        }
    }
    // A metric without data is refused as one.
    Ok(points.unwrap_or(1))
}

/// What the records of a request are; `None` where it has none, or none that tells.
pub(super) fn signal(request: &[u8]) -> Result<Option<Signal>, Malformed> {
    for entry in fields(Reader::new(request), ENTRIES) {
        for scope in fields(entry?, SCOPES) {
            for record in fields(scope?, RECORDS) {
                if let Some(signal) = signal_of(record?)? {
                    return Ok(Some(signal));
                }
            }
        }
    }
    Ok(None)
}

/// Whether a request has any record.
pub(super) fn is_empty(request: &[u8]) -> Result<bool, Malformed> {
    for entry in fields(Reader::new(request), ENTRIES) {
        for scope in fields(entry?, SCOPES) {
            if fields(scope?, RECORDS).next().is_some() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Told by the first field that only one of `Span`, `Metric` and `LogRecord` has under its number and in its type.
fn signal_of(mut record: Reader<'_>) -> Result<Option<Signal>, Malformed> {
    while let Some(field) = record.next()? {
        let (fixed64, fixed32) = (field.fixed64().is_ok(), field.fixed32().is_ok());
        let (varint, bytes) = (field.varint().is_ok(), field.bytes().ok());
        let signal = match field.number {
            // `time_unix_nano`, `severity_number`, `flags`, `observed_time_unix_nano`
            1 | 11 if fixed64 => Signal::Logs,
            2 if varint => Signal::Logs,
            8 if fixed32 => Signal::Logs,
            // `start_time_unix_nano`, `end_time_unix_nano`, `kind`
            7 | 8 if fixed64 => Signal::Traces,
            6 if varint => Signal::Traces,
            // `trace_id`; a metric's name is a text, which such an id hardly ever is.
            1 if bytes.is_some_and(|id| id.len() == 16 && std::str::from_utf8(id).is_err()) => Signal::Traces,
            // `sum`; a span's and a log record's 7 are numbers.
            7 if bytes.is_some() => Signal::Metrics,
            // `gauge`, `histogram`, `exponential_histogram` and `summary` begin with a data point, which has a time.
            5 | 9 | 10 | 11 if has_points(field.message()) => Signal::Metrics,
            _ => continue,
        };
        return Ok(Some(signal));
    }
    Ok(None)
}

/// Whether a message has data points: with a time (field 3, in all kinds) in its fields 1.
fn has_points(message: Result<Reader<'_>, Malformed>) -> bool {
    let Ok(message) = message else { return false };
    let is_point = |mut point: Reader<'_>| {
        while let Ok(Some(field)) = point.next() {
            if field.number == 3 {
                return field.fixed64().is_ok();
            }
        }
        false
    };
    fields(message, 1).next().is_some_and(|point| point.is_ok_and(is_point))
}
