//! Arrow types in SQL's words.

use arrow::datatypes::{DataType, TimeUnit};

/// The name of a type, as answers and the catalogue show it.
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "null".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt32 => "bigint".to_owned(),
        DataType::UInt64 => "ubigint".to_owned(),
        DataType::Float16 | DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".to_owned()
        }
        DataType::Timestamp(unit, _) => format!("timestamp({})", unit_name(*unit)),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("time({})", unit_name(*unit)),
        DataType::Duration(_) | DataType::Interval(_) => "interval".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("list<{}>", sql_type(item.data_type()))
        }
        DataType::Map(entry, _) => match entry.data_type() {
            DataType::Struct(fields) => {
                let inner: Vec<_> = fields.iter().map(|field| sql_type(field.data_type())).collect();
                format!("map<{}>", inner.join(","))
            }
            _ => "map".to_owned(),
        },
        DataType::Struct(fields) => {
            let inner: Vec<_> = fields
                .iter()
                .map(|field| format!("{} {}", field.name(), sql_type(field.data_type())))
                .collect();
            format!("struct<{}>", inner.join(","))
        }
        DataType::Dictionary(_, value) => sql_type(value),
        other => other.to_string().to_lowercase(),
    }
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}
