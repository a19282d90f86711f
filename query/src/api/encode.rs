//! Answers as JSON, CSV and Arrow.
//!
//! 64-bit integers are JSON numbers, NaN and infinities the texts `NaN`, `+Inf` and `-Inf`, moments RFC 3339
//! with nanoseconds, maps and structs objects, binary base64.

use std::collections::HashSet;
use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::array_value_to_string;
use serde_json::json;

use super::text;
use crate::engine::{Answer, sql_type};

/// The whole answer as one JSON object.
pub(super) fn json(answer: &Answer) -> String {
    let names = unique_names(answer);
    let columns: Vec<_> = names
        .iter()
        .zip(answer.schema.fields())
        .map(|(name, field)| json!({ "name": name, "type": sql_type(field.data_type()) }))
        .collect();
    let keys: Vec<String> = names.iter().map(|name| format!("{}:", json!(name))).collect();
    let mut out = format!("{{\"columns\":{},\"rows\":[", json!(columns));
    let mut first = true;
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            out.push_str(if std::mem::take(&mut first) { "{" } else { ",{" });
            for (index, (key, column)) in keys.iter().zip(batch.columns()).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(key);
                put_json(&mut out, column, row);
            }
            out.push('}');
        }
    }
    let (warnings, stats) = (json!(answer.warnings), json!(answer.stats));
    // Writing to a text cannot fail.
    let _ = write!(out, "],\"warnings\":{warnings},\"stats\":{stats}}}");
    out
}

/// Column names; the second of a name gets a number, or an object could not hold both.
fn unique_names(answer: &Answer) -> Vec<String> {
    let mut seen = HashSet::new();
    let fields = answer.schema.fields().iter();
    fields
        .map(|field| {
            let mut name = field.name().clone();
            let mut number = 1;
            while !seen.insert(name.clone()) {
                number += 1;
                name = format!("{}_{number}", field.name());
            }
            name
        })
        .collect()
}

/// The answer as CSV (RFC 4180) with a header line; nested values as JSON, null as nothing.
pub(super) fn csv(answer: &Answer) -> String {
    let mut out = String::new();
    put_csv_line(&mut out, unique_names(answer));
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            put_csv_line(&mut out, batch.columns().iter().map(|column| cell(column, row)));
        }
    }
    out
}

fn put_csv_line(out: &mut String, cells: impl IntoIterator<Item = String>) {
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            let _ = write!(out, "\"{}\"", cell.replace('"', "\"\""));
        } else {
            out.push_str(&cell);
        }
    }
    out.push_str("\r\n");
}

fn cell(column: &ArrayRef, row: usize) -> String {
    let mut json = String::new();
    put_json(&mut json, column, row);
    match serde_json::from_str(&json) {
        Ok(serde_json::Value::Null) => String::new(),
        Ok(serde_json::Value::String(text)) => text,
        _ => json,
    }
}

/// The answer as an Arrow IPC stream.
pub(super) fn arrow(answer: &Answer) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &answer.schema)?;
    answer.batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.into_inner()
}

/// Appends the value of `column` at `row`.
pub(super) fn put_json(out: &mut String, column: &dyn Array, row: usize) {
    if column.is_null(row) {
        return out.push_str("null");
    }
    macro_rules! number {
        ($kind:ty) => {{
            let _ = write!(out, "{}", column.as_primitive::<$kind>().value(row));
        }};
    }
    macro_rules! moment {
        ($kind:ty, $nanos:expr) => {{
            let value = column.as_primitive::<$kind>().value(row);
            let _ = write!(out, "\"{}\"", text::rfc3339(value.saturating_mul($nanos)));
        }};
    }
    match column.data_type() {
        DataType::Boolean => out.push_str(if column.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => put_double(out, column.as_primitive::<Float16Type>().value(row).into()),
        DataType::Float32 => put_double(out, column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => put_double(out, column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => put_text(out, column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => put_text(out, column.as_string::<i64>().value(row)),
        DataType::Utf8View => put_text(out, column.as_string_view().value(row)),
        DataType::Binary => put_base64(out, column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => put_base64(out, column.as_binary::<i64>().value(row)),
        DataType::BinaryView => put_base64(out, column.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => put_base64(out, column.as_fixed_size_binary().value(row)),
        DataType::Timestamp(TimeUnit::Second, _) => moment!(TimestampSecondType, 1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => moment!(TimestampMillisecondType, 1_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => moment!(TimestampMicrosecondType, 1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => moment!(TimestampNanosecondType, 1),
        DataType::Date32 => {
            let day = Date32Type::to_naive_date_opt(column.as_primitive::<Date32Type>().value(row));
            put_text(out, &day.map(|day| day.to_string()).unwrap_or_default());
        }
        DataType::List(_) => put_list(out, &column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => put_list(out, &column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => put_list(out, &column.as_fixed_size_list().value(row)),
        DataType::Map(..) => put_map(out, &column.as_map().value(row)),
        DataType::Struct(_) => put_struct(out, column.as_struct(), row),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            put_json(out, dictionary.values(), dictionary.normalized_keys()[row]);
        }
        _ => put_text(out, &array_value_to_string(column, row).unwrap_or_default()),
    }
}

fn put_double(out: &mut String, value: f64) {
    match value {
        v if v.is_nan() => out.push_str("\"NaN\""),
        f64::INFINITY => out.push_str("\"+Inf\""),
        f64::NEG_INFINITY => out.push_str("\"-Inf\""),
        v => {
            let _ = write!(out, "{}", json!(v));
        }
    }
}

fn put_text(out: &mut String, text: &str) {
    let _ = write!(out, "{}", json!(text));
}

fn put_list(out: &mut String, values: &ArrayRef) {
    out.push('[');
    for index in 0..values.len() {
        if index > 0 {
            out.push(',');
        }
        put_json(out, values, index);
    }
    out.push(']');
}

fn put_map(out: &mut String, entries: &arrow::array::StructArray) {
    out.push('{');
    for index in 0..entries.len() {
        if index > 0 {
            out.push(',');
        }
        put_text(out, &array_value_to_string(entries.column(0), index).unwrap_or_default());
        out.push(':');
        put_json(out, entries.column(1), index);
    }
    out.push('}');
}

fn put_struct(out: &mut String, value: &arrow::array::StructArray, row: usize) {
    out.push('{');
    for (index, (field, column)) in value.fields().iter().zip(value.columns()).enumerate() {
        if index > 0 {
            out.push(',');
        }
        put_text(out, field.name());
        out.push(':');
        put_json(out, column, row);
    }
    out.push('}');
}

/// Base64 with padding (RFC 4648, section 4).
fn put_base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push('"');
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        let encoded = |bytes: &[u8]| {
            let mut out = String::new();
            put_base64(&mut out, bytes);
            out
        };
        let known = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (text, base64) in known {
            assert_eq!(encoded(text.as_bytes()), format!("\"{base64}\""));
        }
        assert_eq!(encoded(&[0xfb, 0xff]), "\"+/8=\"");
    }
}
