//! What decoding is compared with: the generated types of OTLP, filled by prost, then Arrow's builders, with a row's
//! attributes and those of its resource in maps by type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Builder, Int32Builder, Int64Builder, MapBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;

/// The rows of a request, as columns.
pub(crate) fn decode(request: &[u8]) -> Vec<ArrayRef> {
    let request = ExportTraceServiceRequest::decode(request).unwrap();
    let mut ids = [BinaryBuilder::new(), BinaryBuilder::new(), BinaryBuilder::new()];
    let mut texts = [StringBuilder::new(), StringBuilder::new(), StringBuilder::new(), StringBuilder::new()];
    let (mut kinds, mut statuses) = (Int32Builder::new(), Int32Builder::new());
    let (mut starts, mut durations) = (TimestampMicrosecondBuilder::new(), Int64Builder::new());
    let (mut of_span, mut of_resource) = (Maps::new(), Maps::new());
    for group in request.resource_spans {
        let resource = group.resource.unwrap_or_default().attributes;
        let service = resource.iter().find(|attribute| attribute.key == "service.name").and_then(text);
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            ids[0].append_value(&span.trace_id);
            ids[1].append_value(&span.span_id);
            ids[2].append_option((!span.parent_span_id.is_empty()).then_some(&span.parent_span_id));
            let status = span.status.unwrap_or_default();
            let words = [service, Some(&span.name), Some(&span.trace_state), Some(&status.message)];
            for (column, word) in texts.iter_mut().zip(words) {
                column.append_option(word.filter(|word| !word.is_empty()));
            }
            kinds.append_value(span.kind);
            statuses.append_value(status.code);
            starts.append_value((span.start_time_unix_nano / 1_000) as i64);
            durations.append_value(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) as i64);
            of_span.row(&span.attributes);
            of_resource.row(&resource);
        }
    }
    let mut columns: Vec<ArrayRef> = Vec::new();
    columns.extend(ids.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef));
    columns.extend(texts.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef));
    columns.push(Arc::new(kinds.finish()));
    columns.push(Arc::new(statuses.finish()));
    columns.push(Arc::new(starts.finish()));
    columns.push(Arc::new(durations.finish()));
    columns.extend(of_span.finish());
    columns.extend(of_resource.finish());
    columns
}

fn text(attribute: &KeyValue) -> Option<&String> {
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Attributes by the type of their values.
struct Maps {
    texts: MapBuilder<StringBuilder, StringBuilder>,
    longs: MapBuilder<StringBuilder, Int64Builder>,
    doubles: MapBuilder<StringBuilder, Float64Builder>,
}

impl Maps {
    fn new() -> Self {
        Self {
            texts: MapBuilder::new(None, StringBuilder::new(), StringBuilder::new()),
            longs: MapBuilder::new(None, StringBuilder::new(), Int64Builder::new()),
            doubles: MapBuilder::new(None, StringBuilder::new(), Float64Builder::new()),
        }
    }

    fn row(&mut self, attributes: &[KeyValue]) {
        for attribute in attributes {
            match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Value::StringValue(text)) => {
                    self.texts.keys().append_value(&attribute.key);
                    self.texts.values().append_value(text);
                }
                Some(Value::IntValue(long)) => {
                    self.longs.keys().append_value(&attribute.key);
                    self.longs.values().append_value(*long);
                }
                Some(Value::DoubleValue(double)) => {
                    self.doubles.keys().append_value(&attribute.key);
                    self.doubles.values().append_value(*double);
                }
                _ => {}
            }
        }
        self.texts.append(true).unwrap();
        self.longs.append(true).unwrap();
        self.doubles.append(true).unwrap();
    }

    fn finish(mut self) -> [ArrayRef; 3] {
        [Arc::new(self.texts.finish()), Arc::new(self.longs.finish()), Arc::new(self.doubles.finish())]
    }
}
