//! OpenMetrics' lines with the time at which counting began. They come behind the points they are about, so that
//! they are read beforehand.

use std::borrow::Cow;
use std::collections::HashMap;

use super::text::{Dialect, Item, walk};
use super::{Kind, ParseError, Value};

/// Unix milliseconds, by what [`key_of`] makes of name and labels.
pub(super) type Starts = HashMap<String, i64>;

/// The times of creation in an exposition.
pub(super) fn starts(text: &str) -> Result<Starts, ParseError> {
    let none = Starts::new();
    let mut starts = Starts::new();
    walk(text, Dialect::OpenMetrics, &none, &mut |item| {
        if let Item::Point(series, point) = item
            && matches!(series.kind(), Kind::Counter | Kind::Histogram | Kind::Summary)
            && let Value::Float(seconds) = point.value
            && let Some(millis) = super::number::millis_of(seconds)
            && let Some(key) = series.created_key(&["_created"])
        {
            starts.insert(key, millis);
        }
        Ok(())
    })?;
    Ok(starts)
}

/// Name and labels as one text, whichever order the labels came in.
pub(super) fn key_of<'a>(name: &str, labels: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> String {
    let mut labels: Vec<_> = labels.collect();
    labels.sort();
    let mut key = name.to_owned();
    for (name, value) in labels {
        key.extend(["\0", &name, "\0", &value]);
    }
    key
}
