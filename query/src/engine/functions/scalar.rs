//! The row functions that views are made of: moments, hex ids, names of codes, values of any type as text.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, StringArray, StringViewArray, TimestampNanosecondArray, UInt32Array,
    new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
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
    let moments = match nanos.null_count() {
        0 => {
            let both = micros.values().iter().zip(nanos.values());
            let values = both.map(|(m, n)| m.saturating_mul(1_000).saturating_add((*n).into()));
            TimestampNanosecondArray::new(values.collect(), micros.nulls().cloned())
        }
        _ => micros.iter().zip(nanos.iter()).map(|(m, n)| nanoseconds(m, n)).collect(),
    };
    Arc::new(moments.with_timezone("UTC"))
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

/// What the function is called that makes hex of an id.
pub(in crate::engine) const HEX: &str = "hex_id";

/// Ids as lowercase hex.
pub(super) fn hex_texts(ids: &ArrayRef) -> ArrayRef {
    let ids = ids.as_binary::<i32>();
    let (first, last) = (ids.value_offsets()[0], ids.value_offsets()[ids.len()]);
    let text = any_value::hex(&ids.value_data()[first as usize..last as usize]);
    let ends = ids.value_offsets().iter().map(|end| (end - first) * 2); // a batch is far from 2^31 bytes of ids
    let ends = OffsetBuffer::new(ends.collect());
    Arc::new(StringArray::new(ends, text.into(), ids.nulls().cloned()))
}

/// An id as lowercase hex.
pub(in crate::engine) fn hex(id: Expr) -> Expr {
    function(HEX, vec![DataType::Binary], DataType::Utf8, |args| hex_texts(&args[0])).call(vec![id])
}

/// The name at the place of a code; `unspecified` codes have the first.
pub(in crate::engine) fn code_name(function_name: &str, code: Expr, names: &'static [&'static str]) -> Expr {
    let run = move |args: &[ArrayRef]| {
        let codes = args[0].as_primitive::<Int32Type>();
        let known = |code: i32| u32::try_from(code).ok().filter(|code| (*code as usize) < names.len());
        let places: UInt32Array = codes.unary(|code| known(code).unwrap_or_default());
        let names = StringViewArray::from_iter_values(names);
        take(&names, &places, None).unwrap_or_else(|_| new_null_array(&DataType::Utf8View, codes.len()))
    };
    function(function_name, vec![DataType::Int32], DataType::Utf8View, run).call(vec![code])
}

/// A text, or else the JSON of a value of any type.
pub(in crate::engine) fn any_text(text: Expr, other: Expr) -> Expr {
    let run = |args: &[ArrayRef]| {
        let (texts, others) = (args[0].as_string_view(), args[1].as_binary::<i32>());
        if others.null_count() == others.len() {
            return Arc::clone(&args[0]);
        }
        let chosen = texts.iter().zip(others.iter());
        let chosen =
            chosen.map(|(text, other)| text.map(str::to_owned).or_else(|| other.map(any_value::to_text)));
        Arc::new(chosen.collect::<StringViewArray>()) as _
    };
    function("any_text", vec![DataType::Utf8View, DataType::Binary], DataType::Utf8View, run)
        .call(vec![text, other])
}
