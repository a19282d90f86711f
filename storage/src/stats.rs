//! What is known of a file without opening it: its bounds, and the same as Delta Lake writes them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use crate::{Bound, Table};

/// Texts longer than this make no bound: the log is no place for them.
const BOUND_TEXT_BYTES: usize = 256;

/// Smallest and largest value of each statistics column.
pub(crate) type Bounds = HashMap<&'static str, (Bound, Bound)>;

/// Widens `bounds` to hold the values of a piece of the statistics column `name`. A column that has no bounds in one
/// piece must have none at all: `first` says that no piece came before.
pub(crate) fn widen(bounds: &mut Bounds, name: &'static str, column: &dyn Array, first: bool) {
    match (bounds_of(column), bounds.remove(name)) {
        (Some(new), None) if first => _ = bounds.insert(name, new),
        (Some((low, high)), Some((old_low, old_high))) => {
            let low = if low < old_low { low } else { old_low };
            let high = if high > old_high { high } else { old_high };
            bounds.insert(name, (low, high));
        }
        _ => {}
    }
}

fn bounds_of(column: &dyn Array) -> Option<(Bound, Bound)> {
    match column.data_type() {
        DataType::Int64 => {
            let column = column.as_primitive_opt::<Int64Type>()?;
            Some((Bound::Long(compute::min(column)?), Bound::Long(compute::max(column)?)))
        }
        DataType::Timestamp(..) => {
            let column = column.as_primitive_opt::<TimestampMicrosecondType>()?;
            Some((Bound::Micros(compute::min(column)?), Bound::Micros(compute::max(column)?)))
        }
        DataType::Utf8 => {
            let column = column.as_string_opt::<i32>()?;
            let text = |text: &str| (text.len() <= BOUND_TEXT_BYTES).then(|| Bound::Text(text.to_owned()));
            Some((text(compute::min_string(column)?)?, text(compute::max_string(column)?)?))
        }
        _ => None,
    }
}

/// The `stats` of an Add action.
pub(crate) fn to_delta(table: Table, rows: u64, bounds: &Bounds) -> String {
    let mut low = Map::new();
    let mut high = Map::new();
    let mut nulls = Map::new();
    for name in table.stats_columns() {
        if let Some((min, max)) = bounds.get(name) {
            low.insert((*name).to_owned(), to_json(min));
            high.insert((*name).to_owned(), to_json(max));
            nulls.insert((*name).to_owned(), json!(0)); // none of these columns is nullable
        }
    }
    json!({ "numRecords": rows, "minValues": low, "maxValues": high, "nullCount": nulls }).to_string()
}

fn to_json(bound: &Bound) -> Value {
    match bound {
        Bound::Long(value) => json!(value),
        Bound::Text(text) => json!(text),
        Bound::Micros(micros) => DateTime::from_timestamp_micros(*micros)
            .map_or(Value::Null, |time| json!(time.to_rfc3339_opts(SecondsFormat::Micros, true))),
    }
}

/// Rows and bounds that an Add action's `stats` tell; whatever cannot be read is missing.
pub(crate) fn from_delta(table: Table, stats: &str) -> (Option<u64>, Arc<Bounds>) {
    let stats: Value = serde_json::from_str(stats).unwrap_or_default();
    let schema = table.schema();
    let mut bounds = Bounds::new();
    for name in table.stats_columns() {
        let Ok(field) = schema.field_with_name(name) else { continue };
        let bound = |side: &str| from_json(field.data_type(), stats.get(side)?.get(name)?);
        if let (Some(low), Some(high)) = (bound("minValues"), bound("maxValues")) {
            bounds.insert(name, (low, high));
        }
    }
    (stats.get("numRecords").and_then(Value::as_u64), Arc::new(bounds))
}

fn from_json(data_type: &DataType, value: &Value) -> Option<Bound> {
    match data_type {
        DataType::Int64 => value.as_i64().map(Bound::Long),
        DataType::Utf8 => value.as_str().map(|text| Bound::Text(text.to_owned())),
        DataType::Timestamp(..) => {
            let time = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
            Some(Bound::Micros(time.timestamp_micros()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
