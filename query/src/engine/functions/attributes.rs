//! The attributes of one scope as one map of texts, one value of that map, and typed access to it.
//!
//! `attr_long(attributes, 'k')`, `attr_double` and `attr_bool` give the value of a key in that type, or
//! null where it is absent or of another. Texts of the stored types are exact, so nothing is lost by
//! reading them back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, MapArray, MapBuilder, MapFieldNames,
    StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use weir_storage::schema;

use super::any_value;

/// How a stored double reads as text.
pub(super) fn double_text(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => format!("{v:?}"),
    }
}

/// `maps` and `promoted` columns with their keys as one map.
pub(in crate::engine) fn attributes(maps: Vec<Expr>, promoted: Vec<(&'static str, Expr)>) -> Expr {
    let keys: Vec<&'static str> = promoted.iter().map(|(key, _)| *key).collect();
    let args: Vec<Expr> = maps.into_iter().chain(promoted.into_iter().map(|(_, column)| column)).collect();
    let signature = Signature::any(args.len(), Volatility::Immutable);
    ScalarUDF::from(Attributes { keys, signature }).call(args)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Attributes {
    keys: Vec<&'static str>,
    signature: Signature,
}

impl ScalarUDFImpl for Attributes {
    fn name(&self) -> &str {
        "attributes_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(schema::map_of(DataType::Utf8))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let args = ColumnarValue::values_to_arrays(&args.args)?;
        let Some((maps, promoted)) = args.split_at_checked(args.len() - self.keys.len()) else {
            return exec_err!("`attributes_of` lacks columns");
        };
        Ok(ColumnarValue::Array(Arc::new(merged(maps, &self.keys, promoted)?)))
    }
}

/// The value of `key` in [`attributes`], without the map: in the promoted column for it, which comes first if there
/// is one, or in the maps.
pub(in crate::engine) fn attribute(key: &str, columns: Vec<Expr>) -> Expr {
    let args: Vec<Expr> = std::iter::once(lit(key)).chain(columns).collect();
    let signature = Signature::any(args.len(), Volatility::Immutable);
    ScalarUDF::from(Attribute { signature }).call(args)
}

/// The key and the columns of an expression that [`attribute`] made.
pub(in crate::engine) fn as_attribute(expr: &Expr) -> Option<(&str, &[Expr])> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == ATTRIBUTE => match call.args.split_first()? {
            (Expr::Literal(key, _), columns) => Some((key.try_as_str()??, columns)),
            _ => None,
        },
        _ => None,
    }
}

const ATTRIBUTE: &str = "attribute_of";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Attribute {
    signature: Signature,
}

impl ScalarUDFImpl for Attribute {
    fn name(&self) -> &str {
        ATTRIBUTE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((ColumnarValue::Scalar(key), columns)) = args.args.split_first() else {
            return exec_err!("`{ATTRIBUTE}` lacks a key");
        };
        let Some(Some(key)) = key.try_as_str() else { return exec_err!("`{ATTRIBUTE}` lacks a key") };
        let columns = ColumnarValue::values_to_arrays(columns)?;
        Ok(ColumnarValue::Array(Arc::new(values(key, &columns)?)))
    }
}

/// The text of `key` in each row of `columns`, the first that has it.
fn values(key: &str, columns: &[ArrayRef]) -> Result<StringArray> {
    let mut places = Vec::with_capacity(columns.len());
    for column in columns.iter().filter(|column| column.null_count() < column.len()) {
        places.push(match column.as_map_opt() {
            Some(map) => (Some((map, map.keys().as_string::<i32>())), Texts::of(map.values())?),
            None => (None, Texts::of(column)?),
        });
    }
    let rows = columns.first().map_or(0, |column| column.len());
    let mut out = StringBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        let mut found = false;
        for (map, texts) in &places {
            let at = match map {
                None => Some(row),
                Some((map, _)) if map.is_null(row) => None,
                Some((map, keys)) => {
                    let offsets = map.value_offsets();
                    (offsets[row] as usize..offsets[row + 1] as usize).find(|at| keys.value(*at) == key)
                }
            };
            found = at.is_some_and(|at| texts.put(at, &mut out));
            if found {
                break;
            }
        }
        if !found {
            out.append_null();
        }
    }
    Ok(out.finish())
}

/// One map per row: the promoted columns that have a value, then the entries of the maps.
pub(super) fn merged(maps: &[ArrayRef], keys: &[&str], promoted: &[ArrayRef]) -> Result<MapArray> {
    let rows = maps.iter().chain(promoted).map(|column| column.len()).next().unwrap_or_default();
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_values_field(Field::new("value", DataType::Utf8, true));
    let maps: Vec<&MapArray> = maps.iter().map(|map| map.as_map()).collect();
    let values: Vec<Texts<'_>> = maps.iter().map(|map| Texts::of(map.values())).collect::<Result<_>>()?;
    let columns: Vec<Texts<'_>> = promoted.iter().map(Texts::of).collect::<Result<_>>()?;
    for row in 0..rows {
        for (key, column) in keys.iter().zip(&columns) {
            if column.put(row, out.values()) {
                out.keys().append_value(key);
            }
        }
        for (map, values) in maps.iter().zip(&values).filter(|(map, _)| map.is_valid(row)) {
            let texts = map.keys().as_string::<i32>();
            let offsets = map.value_offsets();
            for at in offsets[row] as usize..offsets[row + 1] as usize {
                let key = texts.value(at);
                let stands = keys.iter().position(|known| *known == key);
                if stands.is_some_and(|place| promoted[place].is_valid(row)) {
                    continue;
                }
                out.keys().append_value(key);
                if !values.put(at, out.values()) {
                    out.values().append_null();
                }
            }
        }
        out.append(true)?;
    }
    Ok(out.finish())
}

/// A column whose values are wanted as text.
enum Texts<'a> {
    Text(&'a StringArray),
    Long(&'a Int64Array),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
    Any(&'a arrow::array::BinaryArray),
}

impl<'a> Texts<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Utf8 => Self::Text(column.as_string()),
            DataType::Int64 => Self::Long(column.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::Double(column.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Bool(column.as_boolean()),
            DataType::Binary => Self::Any(column.as_binary()),
            other => return exec_err!("no attribute is of type {other}"),
        })
    }

    /// Appends the value at `row`; whether there is one.
    fn put(&self, row: usize, out: &mut StringBuilder) -> bool {
        let valid = match self {
            Self::Text(column) => column.is_valid(row),
            Self::Long(column) => column.is_valid(row),
            Self::Double(column) => column.is_valid(row),
            Self::Bool(column) => column.is_valid(row),
            Self::Any(column) => column.is_valid(row),
        };
        if valid {
            match self {
                Self::Text(column) => out.append_value(column.value(row)),
                Self::Long(column) => out.append_value(column.value(row).to_string()),
                Self::Double(column) => out.append_value(double_text(column.value(row))),
                Self::Bool(column) => out.append_value(if column.value(row) { "true" } else { "false" }),
                Self::Any(column) => out.append_value(any_value::to_text(column.value(row))),
            }
        }
        valid
    }
}

/// `attr_long`, `attr_double`, `attr_bool`.
pub(super) fn typed() -> [ScalarUDF; 3] {
    let signature = Signature::any(2, Volatility::Immutable);
    [("attr_long", DataType::Int64), ("attr_double", DataType::Float64), ("attr_bool", DataType::Boolean)]
        .map(|(name, output)| ScalarUDF::from(Typed { name, output, signature: signature.clone() }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Typed {
    name: &'static str,
    output: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Typed {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [map, DataType::Utf8] if *map == schema::map_of(DataType::Utf8) => Ok(self.output.clone()),
            _ => datafusion::common::plan_err!("`{}` takes a map of attributes and a key", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let args = ColumnarValue::values_to_arrays(&args.args)?;
        let (map, wanted) = (args[0].as_map(), args[1].as_string::<i32>());
        let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
        let found = |row: usize| {
            let range = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
            let wanted = (map.is_valid(row) && wanted.is_valid(row)).then(|| wanted.value(row))?;
            let at = range.into_iter().find(|at| keys.value(*at) == wanted)?;
            values.is_valid(at).then(|| values.value(at))
        };
        let texts = (0..map.len()).map(found);
        Ok(ColumnarValue::Array(match self.output {
            DataType::Int64 => Arc::new(texts.map(|t| t?.parse().ok()).collect::<Int64Array>()),
            DataType::Float64 => Arc::new(texts.map(|t| t?.parse().ok()).collect::<Float64Array>()),
            _ => Arc::new(texts.map(|t| t?.parse().ok()).collect::<BooleanArray>()),
        }))
    }
}
