//! Log records: `ExportLogsServiceRequest` to rows of `logs`.

use std::sync::Arc;

use arrow::array::{Int32Array, Int64Array, RecordBatch};
use arrow::error::ArrowError;
use weir_model::{UnixNanos, limits};
use weir_storage::Table;

use super::attributes::{AttributeMaps, Attributes, Value, any_value, cost};
use super::origin::{self, OriginColumns, Resource, Scope};
use super::wire::{Fault, Malformed, Reader};
use super::{Budget, DecodeError, Decoded, check_not_ahead};
use weir_storage::columns::{Blobs, Finished, Moment, Sparse, Texts};

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
        columns: LogColumns::new(origin::expected_rows(request)?),
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
        let first = self.columns.rows;
        let mut records = message;
        while let Some(field) = records.next()? {
            if field.number != 2 {
                continue;
            }
            match self.read(field.message()?, resource.cost + scope.cost) {
                Ok(record) => {
                    self.columns.row(&record, &self.attributes);
                    self.decoded.accepted += 1;
                }
                Err(Fault::Record(reason)) => self.decoded.rejected.add(reason, 1),
                Err(Fault::Malformed(malformed)) => return Err(malformed),
            }
        }
        self.columns.origin_from(first, resource, &scope);
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
#[derive(Debug)]
struct LogColumns {
    rows: usize,
    service: Sparse<Texts>,
    time: Moment,
    observed_time: Moment,
    severity_number: Vec<i32>,
    severity_text: Sparse<Texts>,
    body: Sparse<Texts>,
    body_other: Sparse<Blobs>,
    event_name: Sparse<Texts>,
    trace_id: Sparse<Blobs>,
    span_id: Sparse<Blobs>,
    flags: Vec<i64>,
    attributes: AttributeMaps,
    dropped_attributes: Vec<i64>,
    origin: OriginColumns,
}

impl LogColumns {
    /// Of `rows` rows, or fewer.
    fn new(rows: usize) -> Self {
        Self {
            rows: 0,
            service: Sparse::new(rows),
            time: Moment::with_capacity(rows),
            observed_time: Moment::with_capacity(rows),
            severity_number: Vec::with_capacity(rows),
            severity_text: Sparse::new(rows),
            body: Sparse::new(rows),
            body_other: Sparse::new(rows),
            event_name: Sparse::new(rows),
            trace_id: Sparse::new(rows),
            span_id: Sparse::new(rows),
            flags: Vec::with_capacity(rows),
            attributes: AttributeMaps::new(rows),
            dropped_attributes: Vec::with_capacity(rows),
            origin: OriginColumns::new(rows),
        }
    }

    /// A row, whose origin is to follow.
    fn row(&mut self, record: &LogRecord<'_>, attributes: &Attributes<'_>) {
        let row = self.rows;
        self.rows += 1;
        self.time.push(record.time);
        self.observed_time.push(record.observed_time);
        self.severity_number.push(record.severity_number);
        self.severity_text.push_text(row, record.severity_text);
        match record.body {
            Some((Some(text), _)) => self.body.push(row, text),
            Some((None, raw)) => self.body_other.push(row, raw),
            None => {}
        }
        self.event_name.push_text(row, record.event_name);
        for (column, id) in [(&mut self.trace_id, record.trace_id), (&mut self.span_id, record.span_id)] {
            // An all-zero id is none.
            if id.iter().any(|byte| *byte != 0) {
                column.push(row, id);
            }
        }
        self.flags.push(record.flags.into());
        for attribute in attributes.all() {
            self.attributes.push(row, attribute);
        }
        self.dropped_attributes.push(record.dropped_attributes.into());
    }

    /// The origin of all rows from number `first` on.
    fn origin_from(&mut self, first: usize, resource: &Resource<'_>, scope: &Scope<'_>) {
        if first < self.rows {
            self.service.push(first, resource.service);
            self.service.again(first, self.rows - first - 1);
            self.origin.rows(first..self.rows, resource, scope, false);
        }
    }

    fn finish(self) -> Result<RecordBatch, ArrowError> {
        let schema = Table::Logs.schema();
        let mut out = Finished::new(schema.fields(), self.rows);
        out.sparse(self.service)?;
        let times = self.time.columns().into_iter().chain(self.observed_time.columns());
        times.for_each(|column| out.push(column));
        out.push(Arc::new(Int32Array::from(self.severity_number)));
        out.sparse(self.severity_text)?;
        out.sparse(self.body)?;
        out.sparse(self.body_other)?;
        out.sparse(self.event_name)?;
        out.sparse(self.trace_id)?;
        out.sparse(self.span_id)?;
        out.push(Arc::new(Int64Array::from(self.flags)));
        self.attributes.finish(&mut out)?;
        out.push(Arc::new(Int64Array::from(self.dropped_attributes)));
        self.origin.finish(&mut out)?;
        let columns = out.columns();
        RecordBatch::try_new(schema, columns)
    }
}
