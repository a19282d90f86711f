//! The row functions that views are made of: moments, hex ids, names of codes, values of any type as text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf};
use weir_storage::schema;

use super::any_value;

/// The type of a moment in a view.
pub(crate) fn moment_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

fn function(
    name: &str,
    input: Vec<DataType>,
    output: DataType,
    run: impl Fn(&[ArrayRef]) -> ArrayRef + Send + Sync + 'static,
) -> ScalarUDF {
    let run =
        move |args: &[ColumnarValue]| Ok(ColumnarValue::Array(run(&ColumnarValue::values_to_arrays(args)?)));
    create_udf(name, input, output, Volatility::Immutable, Arc::new(run))
}

fn nanoseconds(micros: Option<i64>, nanos: Option<i16>) -> Option<i64> {
    Some(micros?.saturating_mul(1_000).saturating_add(nanos.unwrap_or_default().into()))
}

/// Microseconds and their remainders as nanoseconds.
pub(super) fn moments(micros: &ArrayRef, nanos: &ArrayRef) -> ArrayRef {
    let (micros, nanos) =
        (micros.as_primitive::<TimestampMicrosecondType>(), nanos.as_primitive::<Int16Type>());
    let moments = micros.iter().zip(nanos.iter()).map(|(m, n)| nanoseconds(m, n));
    Arc::new(moments.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
}

/// Microseconds and their remainder as nanoseconds.
pub(in crate::engine) fn moment(micros: Expr, nanos: Expr) -> Expr {
    let input = vec![schema::timestamp(), DataType::Int16];
    function("moment", input, moment_type(), |args| moments(&args[0], &args[1])).call(vec![micros, nanos])
}

/// The moment `after` nanoseconds later.
pub(in crate::engine) fn moment_after(micros: Expr, nanos: Expr, after: Expr) -> Expr {
    let input = vec![schema::timestamp(), DataType::Int16, DataType::Int64];
    let run = |args: &[ArrayRef]| {
        let micros = args[0].as_primitive::<TimestampMicrosecondType>();
        let nanos = args[1].as_primitive::<Int16Type>();
        let after = args[2].as_primitive::<Int64Type>();
        let moments = micros.iter().zip(nanos.iter()).zip(after.iter());
        let moments = moments.map(|((m, n), after)| Some(nanoseconds(m, n)?.saturating_add(after?)));
        Arc::new(moments.collect::<TimestampNanosecondArray>().with_timezone("UTC")) as _
    };
    function("moment_after", input, moment_type(), run).call(vec![micros, nanos, after])
}

/// Ids as lowercase hex.
pub(super) fn hex_texts(ids: &ArrayRef) -> ArrayRef {
    let ids = ids.as_binary::<i32>();
    let mut out = StringBuilder::with_capacity(ids.len(), ids.values().len() * 2);
    let mut text = String::new();
    for id in ids {
        text.clear();
        any_value::put_hex(&mut text, id.unwrap_or_default());
        out.append_option(id.map(|_| text.as_str()));
    }
    Arc::new(out.finish())
}

/// An id as lowercase hex.
pub(in crate::engine) fn hex(id: Expr) -> Expr {
    function("hex_id", vec![DataType::Binary], DataType::Utf8, |args| hex_texts(&args[0])).call(vec![id])
}

/// The name at the place of a code; `unspecified` codes have the first.
pub(in crate::engine) fn code_name(function_name: &str, code: Expr, names: &'static [&'static str]) -> Expr {
    let run = move |args: &[ArrayRef]| {
        let codes = args[0].as_primitive::<Int32Type>();
        let name =
            |code: i32| usize::try_from(code).ok().and_then(|code| names.get(code)).unwrap_or(&names[0]);
        Arc::new(codes.iter().map(|code| code.map(|code| *name(code))).collect::<StringArray>()) as _
    };
    function(function_name, vec![DataType::Int32], DataType::Utf8, run).call(vec![code])
}

/// A text, or else the JSON of a value of any type.
pub(in crate::engine) fn any_text(text: Expr, other: Expr) -> Expr {
    let run = |args: &[ArrayRef]| {
        let (texts, others) = (args[0].as_string::<i32>(), args[1].as_binary::<i32>());
        let chosen = texts.iter().zip(others.iter());
        let chosen =
            chosen.map(|(text, other)| text.map(str::to_owned).or_else(|| other.map(any_value::to_text)));
        Arc::new(chosen.collect::<StringArray>()) as _
    };
    function("any_text", vec![DataType::Utf8, DataType::Binary], DataType::Utf8, run).call(vec![text, other])
}
