//! Texts as views: what a file has once in a dictionary is pointed at from each row, not copied into it.
//!
//! What is stored is plain text. Scans that a query runs over read the columns of texts and the maps of attributes as
//! Arrow's view types, and what is answered is plain again.

use std::sync::{Arc, LazyLock};

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use weir_storage::Table;
use weir_storage::schema::attribute_maps;

/// The schema of `table` with views for texts.
pub(super) fn viewed(table: Table) -> SchemaRef {
    static SCHEMAS: LazyLock<[SchemaRef; Table::ALL.len()]> = LazyLock::new(|| {
        Table::ALL.map(|table| {
            with_types(&table.schema(), |field| match field.data_type() {
                DataType::Utf8 => DataType::Utf8View,
                _ => viewed_map(field),
            })
        })
    });
    Arc::clone(&SCHEMAS[usize::from(table.number())])
}

/// The schema of `table` with views in maps of attributes only: what Arrow is told of files, whose other
/// texts DataFusion reads as whoever scans them wants.
pub(super) fn with_viewed_maps(table: Table) -> SchemaRef {
    with_types(&table.schema(), viewed_map)
}

/// `schema` without views, at any depth.
pub(super) fn plain(schema: &Schema) -> SchemaRef {
    with_types(schema, |field| plain_type(field.data_type()))
}

/// The columns of `rows` in the types of `schema`.
pub(super) fn as_typed(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |(column, field): (&ArrayRef, &FieldRef)| {
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        cast(column, field.data_type())
    };
    let columns = rows.columns().iter().zip(schema.fields()).map(column).collect::<Result<_, _>>()?;
    RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows())),
    )
}

fn with_types(schema: &Schema, data_type: impl Fn(&Field) -> DataType) -> SchemaRef {
    let field = |field: &FieldRef| field.as_ref().clone().with_data_type(data_type(field));
    Arc::new(Schema::new_with_metadata(
        schema.fields().iter().map(field).collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}

/// The type of a map of attributes with views for texts; that of any other column as it is.
fn viewed_map(field: &Field) -> DataType {
    let is_of_attributes = attribute_maps()
        .iter()
        .any(|(suffix, _)| field.name().strip_suffix(suffix).is_some_and(|scope| scope.ends_with('_')));
    match field.data_type() {
        DataType::Map(..) if is_of_attributes => nested(field.data_type(), &|data_type| match data_type {
            DataType::Utf8 => DataType::Utf8View,
            other => other.clone(),
        }),
        other => other.clone(),
    }
}

fn plain_type(data_type: &DataType) -> DataType {
    nested(data_type, &|data_type| match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    })
}

/// `data_type` with `leaf` of each type in it that has no others in it.
fn nested(data_type: &DataType, leaf: &impl Fn(&DataType) -> DataType) -> DataType {
    let field = |field: &FieldRef| {
        let inner = nested(field.data_type(), leaf);
        Arc::new(field.as_ref().clone().with_data_type(inner))
    };
    match data_type {
        DataType::List(element) => DataType::List(field(element)),
        DataType::Map(entry, sorted) => DataType::Map(field(entry), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        other => leaf(other),
    }
}
