//! What decoding is compared with: the generated types of OTLP, filled by prost, then Arrow's builders, to the same rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int16Builder, Int32Builder,
    Int64Builder, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder, StructBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, FieldRef};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;
use weir_storage::Table;
use weir_storage::schema::{self, PROMOTED};

/// The rows of a request whose spans have neither events nor links.
pub(crate) fn decode(request: &[u8]) -> RecordBatch {
    let request = ExportTraceServiceRequest::decode(request).unwrap();
    let mut rows = Rows::new();
    for group in request.resource_spans {
        let resource = group.resource.unwrap_or_default();
        for scope in group.scope_spans {
            for span in &scope.spans {
                rows.push(span, &resource, &group.schema_url, &scope);
            }
        }
    }
    rows.finish()
}

/// Columns whose rows are all filled in one way, by what they are about.
struct Rows {
    ids: [BinaryBuilder; 3],
    trace_state: StringBuilder,
    flags: Int64Builder,
    service: StringBuilder,
    name: StringBuilder,
    kind: Int32Builder,
    status: Int32Builder,
    status_message: StringBuilder,
    start: TimestampMicrosecondBuilder,
    start_nanos: Int16Builder,
    duration: Int64Builder,
    end_before_start: BooleanBuilder,
    /// In the order of [`PROMOTED`].
    promoted: Vec<Promoted>,
    numbers: HashMap<&'static str, usize>,
    of_span: Maps,
    of_resource: Maps,
    of_scope: Maps,
    /// Of span, resource, scope, events and links.
    dropped: [Int64Builder; 5],
    /// Schema URL of the resource, name and version of the scope, and its schema URL.
    origin: [StringBuilder; 4],
    events: ListBuilder<StructBuilder>,
    links: ListBuilder<StructBuilder>,
    weight: Float64Builder,
}

enum Promoted {
    Text(StringBuilder),
    Long(Int64Builder),
}

impl Rows {
    fn new() -> Self {
        let promoted = |long| {
            if long { Promoted::Long(Int64Builder::new()) } else { Promoted::Text(StringBuilder::new()) }
        };
        let list = |column: &str| {
            let schema = Table::Spans.schema();
            let DataType::List(element) = schema.field_with_name(column).unwrap().data_type().clone() else {
                panic!("{column} is no list")
            };
            let DataType::Struct(fields) = element.data_type().clone() else { panic!("not of structs") };
            ListBuilder::new(StructBuilder::from_fields(fields, 0)).with_field(element)
        };
        Self {
            ids: Default::default(),
            trace_state: StringBuilder::new(),
            flags: Int64Builder::new(),
            service: StringBuilder::new(),
            name: StringBuilder::new(),
            kind: Int32Builder::new(),
            status: Int32Builder::new(),
            status_message: StringBuilder::new(),
            start: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            start_nanos: Int16Builder::new(),
            duration: Int64Builder::new(),
            end_before_start: BooleanBuilder::new(),
            promoted: PROMOTED.iter().map(|column| promoted(column.long)).collect(),
            numbers: PROMOTED.iter().enumerate().map(|(number, column)| (column.key, number)).collect(),
            of_span: Maps::new(),
            of_resource: Maps::new(),
            of_scope: Maps::new(),
            dropped: Default::default(),
            origin: Default::default(),
            events: list("events"),
            links: list("links"),
            weight: Float64Builder::new(),
        }
    }

    fn push(&mut self, span: &Span, resource: &Resource, schema_url: &str, scope: &ScopeSpans) {
        assert!(span.events.is_empty() && span.links.is_empty(), "a row of these is not made here");
        self.ids[0].append_value(&span.trace_id);
        self.ids[1].append_value(&span.span_id);
        self.ids[2].append_option((!span.parent_span_id.is_empty()).then_some(&span.parent_span_id));
        append(&mut self.trace_state, &span.trace_state);
        self.flags.append_value(span.flags.into());
        let is_service = |attribute: &&KeyValue| attribute.key == "service.name";
        let service = resource.attributes.iter().find(is_service).and_then(text);
        self.service.append_value(service.map_or("unknown_service", String::as_str));
        self.name.append_value(&span.name);
        self.kind.append_value(span.kind);
        self.status.append_value(span.status.as_ref().map_or(0, |status| status.code));
        append(&mut self.status_message, span.status.as_ref().map_or("", |status| &status.message));
        self.start.append_value((span.start_time_unix_nano / 1_000) as i64);
        self.start_nanos.append_value((span.start_time_unix_nano % 1_000) as i16);
        self.duration.append_value(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) as i64);
        self.end_before_start.append_value(span.end_time_unix_nano < span.start_time_unix_nano);
        for (attributes, of_resource) in [(&span.attributes, false), (&resource.attributes, true)] {
            for attribute in attributes {
                if let Some(number) = self.promoted(attribute, of_resource) {
                    match (&mut self.promoted[number], value(attribute)) {
                        (Promoted::Text(column), Some(Value::StringValue(text))) => column.append_value(text),
                        (Promoted::Long(column), Some(Value::IntValue(long))) => column.append_value(*long),
                        _ => {}
                    }
                } else if of_resource && !is_service(&attribute) {
                    self.of_resource.push(attribute);
                } else if !of_resource {
                    self.of_span.push(attribute);
                }
            }
        }
        for column in &mut self.promoted {
            match column {
                Promoted::Text(column) if column.len() < self.name.len() => column.append_null(),
                Promoted::Long(column) if column.len() < self.name.len() => column.append_null(),
                _ => {}
            }
        }
        let empty = Default::default();
        let library = scope.scope.as_ref().unwrap_or(&empty);
        library.attributes.iter().for_each(|attribute| self.of_scope.push(attribute));
        for maps in [&mut self.of_span, &mut self.of_resource, &mut self.of_scope] {
            maps.end_row();
        }
        let dropped = [
            span.dropped_attributes_count,
            resource.dropped_attributes_count,
            library.dropped_attributes_count,
            span.dropped_events_count,
            span.dropped_links_count,
        ];
        self.dropped.iter_mut().zip(dropped).for_each(|(column, count)| column.append_value(count.into()));
        let origin = [schema_url, &library.name, &library.version, &scope.schema_url];
        self.origin.iter_mut().zip(origin).for_each(|(column, text)| append(column, text));
        self.events.append_null();
        self.links.append_null();
        self.weight.append_value(1.0);
    }

    /// The number of the column that an attribute belongs in.
    fn promoted(&self, attribute: &KeyValue, of_resource: bool) -> Option<usize> {
        let number = *self.numbers.get(attribute.key.as_str())?;
        let fits = match value(attribute)? {
            Value::StringValue(_) => !PROMOTED[number].long,
            Value::IntValue(_) => PROMOTED[number].long,
            _ => false,
        };
        (fits && PROMOTED[number].resource == of_resource).then_some(number)
    }

    fn finish(mut self) -> RecordBatch {
        let [trace_id, span_id, parent_span_id] = &mut self.ids;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(trace_id.finish()),
            Arc::new(span_id.finish()),
            Arc::new(parent_span_id.finish()),
            Arc::new(self.trace_state.finish()),
            Arc::new(self.flags.finish()),
            Arc::new(self.service.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.status_message.finish()),
            Arc::new(self.start.finish()),
            Arc::new(self.start_nanos.finish()),
            Arc::new(self.duration.finish()),
            Arc::new(self.end_before_start.finish()),
        ];
        for column in &mut self.promoted {
            columns.push(match column {
                Promoted::Text(column) => Arc::new(column.finish()),
                Promoted::Long(column) => Arc::new(column.finish()),
            });
        }
        let [of_span, of_resource, of_scope, of_events, of_links] = &mut self.dropped;
        let [resource_schema_url, scope_name, scope_version, scope_schema_url] = &mut self.origin;
        columns.extend(self.of_span.finish());
        columns.push(Arc::new(of_span.finish()));
        columns.extend(self.of_resource.finish());
        columns.push(Arc::new(of_resource.finish()));
        columns.push(Arc::new(resource_schema_url.finish()));
        columns.push(Arc::new(scope_name.finish()));
        columns.push(Arc::new(scope_version.finish()));
        columns.extend(self.of_scope.finish());
        columns.push(Arc::new(of_scope.finish()));
        columns.push(Arc::new(scope_schema_url.finish()));
        columns.push(Arc::new(self.events.finish()));
        columns.push(Arc::new(of_events.finish()));
        columns.push(Arc::new(self.links.finish()));
        columns.push(Arc::new(of_links.finish()));
        columns.push(Arc::new(self.weight.finish()));
        RecordBatch::try_new(Table::Spans.schema(), columns).unwrap()
    }
}

fn append(column: &mut StringBuilder, text: &str) {
    column.append_option((!text.is_empty()).then_some(text));
}

fn value(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

fn text(attribute: &KeyValue) -> Option<&String> {
    match value(attribute)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Attributes by the type of their values.
struct Maps {
    texts: MapBuilder<StringBuilder, StringBuilder>,
    longs: MapBuilder<StringBuilder, Int64Builder>,
    doubles: MapBuilder<StringBuilder, Float64Builder>,
    bools: MapBuilder<StringBuilder, BooleanBuilder>,
    others: MapBuilder<StringBuilder, BinaryBuilder>,
    /// Entries before this row.
    entries: [usize; 5],
}

fn map<B: ArrayBuilder>(values: B) -> MapBuilder<StringBuilder, B> {
    let DataType::Map(entry, _) = schema::map_of(DataType::Utf8) else { panic!("not a map") };
    let DataType::Struct(fields) = entry.data_type() else { panic!("not of pairs") };
    let name = |field: &FieldRef| field.name().clone();
    let names = MapFieldNames { entry: name(&entry), key: name(&fields[0]), value: name(&fields[1]) };
    MapBuilder::new(Some(names), StringBuilder::new(), values)
}

impl Maps {
    fn new() -> Self {
        Self {
            texts: map(StringBuilder::new()),
            longs: map(Int64Builder::new()),
            doubles: map(Float64Builder::new()),
            bools: map(BooleanBuilder::new()),
            others: map(BinaryBuilder::new()),
            entries: [0; 5],
        }
    }

    fn push(&mut self, attribute: &KeyValue) {
        let key = &attribute.key;
        match value(attribute) {
            Some(Value::StringValue(text)) => {
                self.texts.keys().append_value(key);
                self.texts.values().append_value(text);
            }
            Some(Value::IntValue(long)) => {
                self.longs.keys().append_value(key);
                self.longs.values().append_value(*long);
            }
            Some(Value::DoubleValue(double)) => {
                self.doubles.keys().append_value(key);
                self.doubles.values().append_value(*double);
            }
            Some(Value::BoolValue(bool)) => {
                self.bools.keys().append_value(key);
                self.bools.values().append_value(*bool);
            }
            _ => {
                let bytes = attribute.value.as_ref().map(Message::encode_to_vec).unwrap_or_default();
                self.others.keys().append_value(key);
                self.others.values().append_value(bytes);
            }
        }
    }

    fn end_row(&mut self) {
        let counts = [
            self.texts.keys().len(),
            self.longs.keys().len(),
            self.doubles.keys().len(),
            self.bools.keys().len(),
            self.others.keys().len(),
        ];
        let has = |map: usize| counts[map] > self.entries[map];
        self.texts.append(has(0)).unwrap();
        self.longs.append(has(1)).unwrap();
        self.doubles.append(has(2)).unwrap();
        self.bools.append(has(3)).unwrap();
        self.others.append(has(4)).unwrap();
        self.entries = counts;
    }

    fn finish(&mut self) -> [ArrayRef; 5] {
        [
            Arc::new(self.texts.finish()),
            Arc::new(self.longs.finish()),
            Arc::new(self.doubles.finish()),
            Arc::new(self.bools.finish()),
            Arc::new(self.others.finish()),
        ]
    }
}
