//! Span events and links as views show them: moments in nanoseconds, ids as hex, attributes as one map.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf};
use weir_storage::schema;

use super::{attributes, scalar};

/// The events of a span.
pub(in crate::engine) fn events(stored: Expr) -> Expr {
    let input = schema::list_of(DataType::Struct(schema::event_fields()));
    element_wise("span_events", input, event_fields(), |element| {
        Ok(vec![
            scalar::moments(column(element, "time")?, column(element, "time_nanos")?),
            Arc::clone(column(element, "name")?),
            all_attributes(element)?,
            Arc::clone(column(element, "dropped_attributes")?),
        ])
    })
    .call(vec![stored])
}

/// The links of a span.
pub(in crate::engine) fn links(stored: Expr) -> Expr {
    let input = schema::list_of(DataType::Struct(schema::link_fields()));
    element_wise("span_links", input, link_fields(), |element| {
        Ok(vec![
            scalar::hex_texts(column(element, "trace_id")?),
            scalar::hex_texts(column(element, "span_id")?),
            Arc::clone(column(element, "trace_state")?),
            Arc::clone(column(element, "flags")?),
            all_attributes(element)?,
            Arc::clone(column(element, "dropped_attributes")?),
        ])
    })
    .call(vec![stored])
}

fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time", scalar::moment_type(), true),
        Field::new("name", DataType::Utf8, true),
        Field::new("attributes", schema::map_of(DataType::Utf8), true),
        Field::new("dropped_attributes", DataType::Int64, true),
    ])
}

fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Utf8, true),
        Field::new("span_id", DataType::Utf8, true),
        Field::new("trace_state", DataType::Utf8, true),
        Field::new("flags", DataType::Int64, true),
        Field::new("attributes", schema::map_of(DataType::Utf8), true),
        Field::new("dropped_attributes", DataType::Int64, true),
    ])
}

fn column<'a>(element: &'a StructArray, name: &str) -> Result<&'a ArrayRef> {
    match element.column_by_name(name) {
        Some(column) => Ok(column),
        None => exec_err!("no field `{name}`"),
    }
}

fn all_attributes(element: &StructArray) -> Result<ArrayRef> {
    let maps = [column(element, "attributes")?, column(element, "attributes_other")?].map(Arc::clone);
    Ok(Arc::new(attributes::merged(&maps, &[], &[])?))
}

/// A function that makes other structs of the structs in a list.
fn element_wise(
    name: &str,
    input: DataType,
    fields: Fields,
    make: fn(&StructArray) -> Result<Vec<ArrayRef>>,
) -> ScalarUDF {
    let output = schema::list_of(DataType::Struct(fields.clone()));
    let run = move |args: &[ColumnarValue]| {
        let args = ColumnarValue::values_to_arrays(args)?;
        let list = args[0].as_list::<i32>();
        let elements = list.values().as_struct();
        let made = StructArray::try_new(fields.clone(), make(elements)?, elements.nulls().cloned())?;
        let element = Arc::new(Field::new("element", DataType::Struct(fields.clone()), true));
        let list =
            ListArray::try_new(element, list.offsets().clone(), Arc::new(made), list.nulls().cloned())?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    };
    create_udf(name, vec![input], output, Volatility::Immutable, Arc::new(run))
}
