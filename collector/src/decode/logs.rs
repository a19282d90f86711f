//! Log records: `ExportLogsServiceRequest` to rows of `logs`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, RecordBatch, StringBuilder};
use arrow::error::ArrowError;
use weir_model::{UnixNanos, limits};
use weir_storage::Table;

use super::attributes::{AttributeMaps, Attributes, Value, any_value, cost};
use super::columns::{Moment, push_text};
use super::origin::{self, OriginColumns, Resource, Scope};
use super::wire::{Fault, Malformed, Reader};
use super::{Budget, DecodeError, Decoded, check_not_ahead};

/// One log record, borrowed from the request.
#[derive(Debug, Default)]
struct LogRecord<'a> {
    time: u64,
    observed_time: u64,
    severity_number: i32,
    severity_text: &'a str,
    body: Option<(Option<&'a str>, &'a [u8])>,
    dropped_attributes: u32,
    flags: u32,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a str,
}

/// Decodes an `ExportLogsServiceRequest`.
pub(super) fn decode(request: &[u8], now: UnixNanos) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder {
        now,
        budget: Budget::new(),
        attributes: Attributes::default(),
        columns: LogColumns::default(),
        decoded: Decoded::default(),
    };
    let mut message = Reader::new(request);
    while let Some(field) = message.next()? {
        if field.number == 1 {
            decoder.resource_logs(field.message()?)?;
        }
    }
    decoder.finish()
}

struct Decoder<'a> {
    now: UnixNanos,
    budget: Budget,
    attributes: Attributes<'a>,
    columns: LogColumns,
    decoded: Decoded,
}

/// What a row takes beside its texts: the fixed columns and the offsets.
const ROW_BYTES: usize = 256;

impl<'a> Decoder<'a> {
    fn resource_logs(&mut self, message: Reader<'a>) -> Result<(), Malformed> {
        let resource = match Resource::read(message, &mut self.decoded.repeated_attributes)? {
            Ok(resource) => resource,
            Err(reason) => {
                self.decoded.rejected.add(reason, origin::count_nested(message)?);
                return Ok(());
            }
        };
        let mut scopes = message;
        while let Some(field) = scopes.next()? {
            if field.number == 2 {
                self.scope_logs(&resource, field.message()?)?;
            }
        }
        Ok(())
    }

    fn scope_logs(&mut self, resource: &Resource<'a>, message: Reader<'a>) -> Result<(), Malformed> {
        let scope = match Scope::read(message, &mut self.decoded.repeated_attributes)? {
            Ok(scope) => scope,
            Err(reason) => {
                self.decoded.rejected.add(reason, origin::count_records(message)?);
                return Ok(());
            }
        };
        let mut records = message;
        while let Some(field) = records.next()? {
            if field.number != 2 {
                continue;
            }
            match self.read(field.message()?, resource.cost + scope.cost) {
                Ok(record) => {
                    self.columns.row(&record, &self.attributes, resource, &scope);
                    self.decoded.accepted += 1;
                }
                Err(Fault::Record(reason)) => self.decoded.rejected.add(reason, 1),
                Err(Fault::Malformed(malformed)) => return Err(malformed),
            }
        }
        Ok(())
    }

    /// Reads a record, checks it and pays for its row, which repeats `shared` bytes. A record without a
    /// time has that of its observation, or else of its arrival.
    fn read(&mut self, message: Reader<'a>, shared: usize) -> Result<LogRecord<'a>, Fault> {
        self.attributes.clear();
        let mut record = read_record(message, &mut self.attributes)?;
        check_not_ahead(record.time, self.now)?;
        check_not_ahead(record.observed_time, self.now)?;
        if record.time == 0 {
            record.time = if record.observed_time > 0 { record.observed_time } else { self.now.0 };
        }
        self.budget.take(cost(self.attributes.all()) + message.bytes().len() + shared + ROW_BYTES)?;
        Ok(record)
    }

    fn finish(mut self) -> Result<Decoded, DecodeError> {
        self.decoded.repeated_attributes += self.attributes.repeated;
        if self.decoded.accepted > 0 {
            self.decoded.parts.push((Table::Logs, self.columns.finish()?));
        }
        Ok(self.decoded)
    }
}

fn read_record<'a>(mut message: Reader<'a>, attributes: &mut Attributes<'a>) -> Result<LogRecord<'a>, Fault> {
    let mut record = LogRecord::default();
    while let Some(field) = message.next()? {
        match field.number {
            1 => record.time = field.fixed64()?,
            2 => record.severity_number = field.int32()?,
            3 => record.severity_text = field.text()?,
            5 => {
                let body = field.message()?;
                let text = match any_value(body, limits::ANY_VALUE_DEPTH)? {
                    Value::Str(text) => Some(text),
                    _ => None,
                };
                record.body = Some((text, body.bytes()));
            }
            6 => attributes.read(field.message()?)?,
            7 => record.dropped_attributes = field.uint32()?,
            8 => record.flags = field.fixed32()?,
            9 => record.trace_id = field.bytes()?,
            10 => record.span_id = field.bytes()?,
            11 => record.observed_time = field.fixed64()?,
            12 => record.event_name = field.text()?,
            _ => {}
        }
    }
    Ok(record)
}

/// The columns of `logs`, in the order of its schema.
#[derive(Debug, Default)]
struct LogColumns {
    service: StringBuilder,
    time: Moment,
    observed_time: Moment,
    severity_number: Int32Builder,
    severity_text: StringBuilder,
    body: StringBuilder,
    body_other: BinaryBuilder,
    event_name: StringBuilder,
    trace_id: BinaryBuilder,
    span_id: BinaryBuilder,
    flags: Int64Builder,
    attributes: AttributeMaps,
    dropped_attributes: Int64Builder,
    origin: OriginColumns,
}

impl LogColumns {
    fn row(
        &mut self,
        record: &LogRecord<'_>,
        attributes: &Attributes<'_>,
        resource: &Resource<'_>,
        scope: &Scope<'_>,
    ) {
        self.service.append_value(resource.service);
        self.time.push(record.time);
        self.observed_time.push(record.observed_time);
        self.severity_number.append_value(record.severity_number);
        push_text(&mut self.severity_text, record.severity_text);
        let (text, other) = match record.body {
            Some((Some(text), _)) => (Some(text), None),
            Some((None, raw)) => (None, Some(raw)),
            None => (None, None),
        };
        self.body.append_option(text);
        self.body_other.append_option(other);
        push_text(&mut self.event_name, record.event_name);
        push_id(&mut self.trace_id, record.trace_id);
        push_id(&mut self.span_id, record.span_id);
        self.flags.append_value(record.flags.into());
        self.attributes.row(attributes.all());
        self.dropped_attributes.append_value(record.dropped_attributes.into());
        self.origin.row(resource, scope, false);
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut out: Vec<ArrayRef> = vec![Arc::new(self.service.finish())];
        self.time.finish(&mut out);
        self.observed_time.finish(&mut out);
        out.extend([
            Arc::new(self.severity_number.finish()) as ArrayRef,
            Arc::new(self.severity_text.finish()),
            Arc::new(self.body.finish()),
            Arc::new(self.body_other.finish()),
            Arc::new(self.event_name.finish()),
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.flags.finish()),
        ]);
        self.attributes.finish(&mut out)?;
        out.push(Arc::new(self.dropped_attributes.finish()));
        self.origin.finish(&mut out)?;
        RecordBatch::try_new(Table::Logs.schema(), out)
    }
}

/// Appends the id, or null where there is none; an all-zero id is none.
fn push_id(column: &mut BinaryBuilder, id: &[u8]) {
    column.append_option(id.iter().any(|byte| *byte != 0).then_some(id));
}
