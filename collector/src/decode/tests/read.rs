//! Rows read back as the OTLP types that they came from.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use weir_model::UnixNanos;
use weir_storage::schema::PROMOTED;

/// A record and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) resource: Resource,
    pub(super) resource_schema_url: String,
    pub(super) scope: InstrumentationScope,
    pub(super) scope_schema_url: String,
    pub(super) record: T,
}

impl<T: Message> Placed<T> {
    /// Everything as bytes: unlike the values, these are equal where NaNs are.
    pub(super) fn bytes(&self) -> Vec<Vec<u8>> {
        vec![
            self.resource.encode_to_vec(),
            self.resource_schema_url.as_bytes().to_vec(),
            self.scope.encode_to_vec(),
            self.scope_schema_url.as_bytes().to_vec(),
            self.record.encode_to_vec(),
        ]
    }
}

/// Sorts attributes by key and writes absent values as empty ones, which mean the same.
pub(super) fn normal(mut attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    for attribute in &mut attributes {
        attribute.value.get_or_insert_with(AnyValue::default);
    }
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    attributes
}

/// A row of a batch, or an element of a list of structs.
#[derive(Debug, Clone)]
pub(super) struct Row {
    columns: StructArray,
    at: usize,
}

pub(super) fn rows(batch: &RecordBatch) -> impl Iterator<Item = Row> + use<> {
    let columns = StructArray::from(batch.clone());
    (0..columns.len()).map(move |at| Row { columns: columns.clone(), at })
}

impl Row {
    fn column(&self, name: &str) -> Option<&ArrayRef> {
        let column = self.columns.column_by_name(name).unwrap_or_else(|| panic!("there is no `{name}`"));
        (!column.is_null(self.at)).then_some(column)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.column(name).map(|column| column.as_string::<i32>().value(self.at).to_owned())
    }

    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.column(name).map(|column| column.as_binary::<i32>().value(self.at).to_vec())
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        self.column(name).expect("the column is not null").as_boolean().value(self.at)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.column(name).map(|column| column.as_boolean().value(self.at))
    }

    pub(super) fn int(&self, name: &str) -> i32 {
        self.column(name).expect("the column is not null").as_primitive::<Int32Type>().value(self.at)
    }

    pub(super) fn long(&self, name: &str) -> Option<i64> {
        self.column(name).map(|column| column.as_primitive::<Int64Type>().value(self.at))
    }

    /// A `uint32` in its `bigint`.
    pub(super) fn count(&self, name: &str) -> u32 {
        self.long(name).and_then(|long| u32::try_from(long).ok()).expect("the column holds a count")
    }

    pub(super) fn double(&self, name: &str) -> Option<f64> {
        self.column(name).map(|column| column.as_primitive::<Float64Type>().value(self.at))
    }

    pub(super) fn longs(&self, name: &str) -> Vec<i64> {
        let list = self.column(name).expect("the column is not null").as_list::<i32>().value(self.at);
        list.as_primitive::<Int64Type>().values().to_vec()
    }

    pub(super) fn doubles(&self, name: &str) -> Vec<f64> {
        let list = self.column(name).map(|column| column.as_list::<i32>().value(self.at));
        list.map(|list| list.as_primitive::<Float64Type>().values().to_vec()).unwrap_or_default()
    }

    pub(super) fn micros(&self, name: &str) -> Option<i64> {
        self.column(name).map(|column| column.as_primitive::<TimestampMicrosecondType>().value(self.at))
    }

    pub(super) fn moment(&self, name: &str) -> u64 {
        self.optional_moment(name).expect("the column is not null")
    }

    pub(super) fn optional_moment(&self, name: &str) -> Option<u64> {
        let nanos = self.column(&format!("{name}_nanos"))?.as_primitive::<Int16Type>().value(self.at);
        Some(UnixNanos::from_columns(self.micros(name).expect("both or none"), nanos).0)
    }

    /// The elements of a list of structs.
    pub(super) fn structs(&self, name: &str) -> Vec<Row> {
        let Some(list) = self.column(name) else { return vec![] };
        let columns = list.as_list::<i32>().value(self.at).as_struct().clone();
        (0..columns.len()).map(|at| Row { columns: columns.clone(), at }).collect()
    }

    /// The entries of a map: keys, and the array of the values.
    fn entries(&self, name: &str) -> Vec<(String, ArrayRef)> {
        let Some(map) = self.column(name) else { return vec![] };
        let entries = map.as_map().value(self.at);
        let keys: &StringArray = entries.column(0).as_string();
        (0..entries.len()).map(|at| (keys.value(at).to_owned(), entries.column(1).slice(at, 1))).collect()
    }

    /// The pairs of a map of texts.
    pub(super) fn texts(&self, name: &str) -> Vec<(String, String)> {
        let entries = self.entries(name).into_iter();
        entries.map(|(key, value)| (key, value.as_string::<i32>().value(0).to_owned())).collect()
    }

    fn raw(&self, name: &str) -> impl Iterator<Item = KeyValue> + use<> {
        self.entries(name).into_iter().map(|(key, value)| {
            let value: &BinaryArray = value.as_binary();
            let value = AnyValue::decode(value.value(0)).expect("an AnyValue");
            KeyValue { key, value: Some(value), ..KeyValue::default() }
        })
    }

    /// The attributes of a scope with five maps.
    pub(super) fn attributes(&self, prefix: &str) -> Vec<KeyValue> {
        let mut out: Vec<KeyValue> = self.raw(&format!("{prefix}_other")).collect();
        for (key, text) in self.texts(&format!("{prefix}_str")) {
            out.push(key_value(key, Value::StringValue(text)));
        }
        for (key, value) in self.entries(&format!("{prefix}_long")) {
            out.push(key_value(key, Value::IntValue(value.as_primitive::<Int64Type>().value(0))));
        }
        for (key, value) in self.entries(&format!("{prefix}_double")) {
            out.push(key_value(key, Value::DoubleValue(value.as_primitive::<Float64Type>().value(0))));
        }
        for (key, value) in self.entries(&format!("{prefix}_bool")) {
            out.push(key_value(key, Value::BoolValue(value.as_boolean().value(0))));
        }
        out
    }

    /// The attributes of an event or link, which has two maps.
    pub(super) fn nested_attributes(&self) -> Vec<KeyValue> {
        let mut out: Vec<KeyValue> = self.raw("attributes_other").collect();
        for (key, text) in self.texts("attributes") {
            out.push(key_value(key, Value::StringValue(text)));
        }
        normal(out)
    }

    /// The promoted attributes of the span or of its resource.
    pub(super) fn promoted(&self, of_resource: bool) -> Vec<KeyValue> {
        let columns = PROMOTED.iter().filter(|promoted| promoted.resource == of_resource);
        let values = columns.filter_map(|promoted| {
            let value = if promoted.long {
                Value::IntValue(self.long(promoted.column)?)
            } else {
                Value::StringValue(self.text(promoted.column)?)
            };
            Some(key_value(promoted.key.to_owned(), value))
        });
        values.collect()
    }

    /// The record with its resource and scope; `promotes` says whether resource attributes have columns.
    pub(super) fn placed<T>(&self, promotes: bool, record: T) -> Placed<T> {
        let mut of_resource = self.attributes("resource");
        if promotes {
            of_resource.extend(self.promoted(true));
        }
        let service = self.text("service").expect("the column is not null");
        if service != "unknown_service" {
            of_resource.push(key_value("service.name".to_owned(), Value::StringValue(service)));
        }
        Placed {
            resource: Resource {
                attributes: normal(of_resource),
                dropped_attributes_count: self.count("resource_dropped_attributes"),
                ..Resource::default()
            },
            resource_schema_url: self.text("resource_schema_url").unwrap_or_default(),
            scope: InstrumentationScope {
                name: self.text("scope_name").unwrap_or_default(),
                version: self.text("scope_version").unwrap_or_default(),
                attributes: normal(self.attributes("scope")),
                dropped_attributes_count: self.count("scope_dropped_attributes"),
            },
            scope_schema_url: self.text("scope_schema_url").unwrap_or_default(),
            record,
        }
    }
}

pub(super) fn key_value(key: String, value: Value) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
