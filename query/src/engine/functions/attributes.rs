//! The attributes of one scope as one map of texts, one value of that map, and typed access to it.
//!
//! `attr_long(attributes, 'k')`, `attr_double` and `attr_bool` give the value of a key in that type, or
//! null where it is absent or of another. Texts of the stored types are exact, so nothing is lost by
//! reading them back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder as _, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, MapArray,
    MapBuilder, MapFieldNames, StringArray, StringBuilder, StringViewArray, StringViewBuilder,
};
use arrow::compute::interleave;
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
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((ColumnarValue::Scalar(key), columns)) = args.args.split_first() else {
            return exec_err!("`{ATTRIBUTE}` lacks a key");
        };
        let Some(Some(key)) = key.try_as_str() else { return exec_err!("`{ATTRIBUTE}` lacks a key") };
        let columns = ColumnarValue::values_to_arrays(columns)?;
        Ok(ColumnarValue::Array(values(key, &columns)?))
    }
}

/// The text of `key` in each row of `columns`, the first that has it.
fn values(key: &str, columns: &[ArrayRef]) -> Result<ArrayRef> {
    let rows = columns.first().map_or(0, |column| column.len());
    let mut sources = Vec::with_capacity(columns.len());
    for column in columns.iter().filter(|column| column.null_count() < column.len()) {
        sources.push(match column.as_map_opt() {
            Some(map) => {
                Source { map: Some((map, Strings::of(map.keys())?)), texts: Texts::of(map.values())? }
            }
            None => Source { map: None, texts: Texts::of(column)? },
        });
    }
    // Where the text of each row is: the source and the place in it; what is no text yet is put behind them all.
    let (made, none) = (sources.len(), sources.len() + 1);
    let mut others = StringViewBuilder::new();
    let mut finders: Vec<_> = sources.iter().map(|source| source.finder(key)).collect();
    let places = (0..rows).map(|row| {
        for (number, (source, finder)) in sources.iter().zip(&mut finders).enumerate() {
            if let Some(at) = finder(row).filter(|at| source.texts.is_valid(*at)) {
                if matches!(source.texts, Texts::View(_)) {
                    return (number, at);
                }
                source.texts.put(at, |text| others.append_value(text));
                return (made, others.len() - 1);
            }
        }
        (none, 0)
    });
    let places: Vec<(usize, usize)> = places.collect();
    drop(finders);
    let (others, null) = (others.finish(), StringViewArray::new_null(1));
    let empty = StringViewArray::new_null(0);
    let views = sources.iter().map(|source| match source.texts {
        Texts::View(views) => views,
        _ => &empty,
    });
    let texts: Vec<&dyn Array> = views.chain([&others, &null]).map(|views| views as &dyn Array).collect();
    Ok(interleave(&texts, &places)?)
}

/// A column that may have the value of a key: a map, or the values themselves.
struct Source<'a> {
    map: Option<(&'a MapArray, Strings<'a>)>,
    texts: Texts<'a>,
}

impl<'a> Source<'a> {
    /// Gives the place of the value of `key` in each row; rows are asked for in turn.
    fn finder(&self, key: &'a str) -> impl FnMut(usize) -> Option<usize> + use<'a> {
        let map = self.map.clone();
        // A key is in one dictionary once: what was equal is found again by its view.
        let mut last = None;
        move |row| {
            let Some((map, keys)) = &map else { return Some(row) };
            if map.is_null(row) {
                return None;
            }
            let offsets = map.value_offsets();
            let mut places = offsets[row] as usize..offsets[row + 1] as usize;
            match keys {
                Strings::Plain(keys) => places.find(|at| keys.value(*at) == key),
                Strings::View(keys) => places.find(|at| {
                    let view = keys.views()[*at];
                    if last == Some(view) {
                        return true;
                    }
                    let is_equal = view as u32 as usize == key.len() && keys.value(*at) == key;
                    if is_equal {
                        last = Some(view);
                    }
                    is_equal
                }),
            }
        }
    }
}

/// Texts in either of their types.
#[derive(Clone)]
enum Strings<'a> {
    Plain(&'a StringArray),
    View(&'a StringViewArray),
}

impl<'a> Strings<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        match column.data_type() {
            DataType::Utf8 => Ok(Self::Plain(column.as_string())),
            DataType::Utf8View => Ok(Self::View(column.as_string_view())),
            other => exec_err!("no key is of type {other}"),
        }
    }

    fn value(&self, at: usize) -> &'a str {
        match self {
            Self::Plain(texts) => texts.value(at),
            Self::View(texts) => texts.value(at),
        }
    }
}

/// One map per row: the promoted columns that have a value, then the entries of the maps.
pub(super) fn merged(maps: &[ArrayRef], keys: &[&str], promoted: &[ArrayRef]) -> Result<MapArray> {
    let rows = maps.iter().chain(promoted).map(|column| column.len()).next().unwrap_or_default();
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_values_field(Field::new("value", DataType::Utf8, true));
    let maps = maps.iter().map(|map| map.as_map());
    let maps = maps.map(|map| Ok((map, Strings::of(map.keys())?))).collect::<Result<Vec<_>>>()?;
    let values: Vec<Texts<'_>> =
        maps.iter().map(|(map, _)| Texts::of(map.values())).collect::<Result<_>>()?;
    let columns: Vec<Texts<'_>> = promoted.iter().map(Texts::of).collect::<Result<_>>()?;
    for row in 0..rows {
        for (key, column) in keys.iter().zip(&columns) {
            if column.put(row, |text| out.values().append_value(text)) {
                out.keys().append_value(key);
            }
        }
        for ((map, texts), values) in maps.iter().zip(&values).filter(|((map, _), _)| map.is_valid(row)) {
            let offsets = map.value_offsets();
            for at in offsets[row] as usize..offsets[row + 1] as usize {
                let key = texts.value(at);
                let stands = keys.iter().position(|known| *known == key);
                if stands.is_some_and(|place| promoted[place].is_valid(row)) {
                    continue;
                }
                out.keys().append_value(key);
                if !values.put(at, |text| out.values().append_value(text)) {
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
    View(&'a StringViewArray),
    Long(&'a Int64Array),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
    Any(&'a arrow::array::BinaryArray),
}

impl<'a> Texts<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Utf8 => Self::Text(column.as_string()),
            DataType::Utf8View => Self::View(column.as_string_view()),
            DataType::Int64 => Self::Long(column.as_primitive::<Int64Type>()),
            DataType::Float64 => Self::Double(column.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Bool(column.as_boolean()),
            DataType::Binary => Self::Any(column.as_binary()),
            other => return exec_err!("no attribute is of type {other}"),
        })
    }

    fn is_valid(&self, row: usize) -> bool {
        match self {
            Self::Text(column) => column.is_valid(row),
            Self::View(column) => column.is_valid(row),
            Self::Long(column) => column.is_valid(row),
            Self::Double(column) => column.is_valid(row),
            Self::Bool(column) => column.is_valid(row),
            Self::Any(column) => column.is_valid(row),
        }
    }

    /// Gives the value at `row` to `put`; whether there is one.
    fn put(&self, row: usize, mut put: impl FnMut(&str)) -> bool {
        let is_valid = self.is_valid(row);
        if is_valid {
            match self {
                Self::Text(column) => put(column.value(row)),
                Self::View(column) => put(column.value(row)),
                Self::Long(column) => put(&column.value(row).to_string()),
                Self::Double(column) => put(&double_text(column.value(row))),
                Self::Bool(column) => put(if column.value(row) { "true" } else { "false" }),
                Self::Any(column) => put(&any_value::to_text(column.value(row))),
            }
        }
        is_valid
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
            [map, DataType::Utf8 | DataType::Utf8View] if *map == schema::map_of(DataType::Utf8) => {
                Ok(self.output.clone())
            }
            _ => datafusion::common::plan_err!("`{}` takes a map of attributes and a key", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let args = ColumnarValue::values_to_arrays(&args.args)?;
        let (map, wanted) = (args[0].as_map(), Strings::of(&args[1])?);
        let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
        let found = |row: usize| {
            let range = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
            let wanted = (map.is_valid(row) && args[1].is_valid(row)).then(|| wanted.value(row))?;
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
