//! Cuts a request into requests of bounded size, whichever signal it carries: all three have records in scopes in
//! resources, under the same numbers.

use weir_model::limits;

use super::records::{count, fields};
use crate::decode::wire::Reader;
use crate::decode::{Malformed, Signal};
use crate::encode::{ENTRIES, RECORDS, SCOPES, field};

/// A request, and how much it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The protobuf bytes of an `Export…ServiceRequest`.
    pub request: Vec<u8>,
    /// Spans, data points or log records in it.
    pub records: u64,
}

/// Cuts `request` into parts of at most [`limits::IMPORT_BATCH_BYTES`] and [`limits::IMPORT_BATCH_RECORDS`]; a
/// span, metric or log record that is larger is a part of its own. What holds none is left out.
pub fn split(signal: Signal, request: &[u8]) -> Result<Vec<Part>, Malformed> {
    let mut parts = Parts::default();
    for entry in fields(Reader::new(request), ENTRIES) {
        parts.entry.begin(others(entry?, SCOPES)?);
        for scope in fields(entry?, SCOPES) {
            parts.scope.begin(others(scope?, RECORDS)?);
            for record in fields(scope?, RECORDS) {
                parts.add(count(signal, record?)?, record?.bytes());
            }
            parts.scope.end(SCOPES, &mut parts.entry);
        }
        parts.end_entry();
    }
    parts.end_part();
    Ok(parts.done)
}

#[derive(Default)]
struct Parts {
    done: Vec<Part>,
    request: Vec<u8>,
    records: u64,
    entry: Open,
    scope: Open,
}

/// A message that is being written.
#[derive(Default)]
struct Open {
    /// What each copy of it begins with.
    head: Vec<u8>,
    bytes: Vec<u8>,
}

impl Open {
    fn begin(&mut self, head: Vec<u8>) {
        self.bytes.clone_from(&head);
        self.head = head;
    }

    fn holds_more(&self) -> bool {
        self.bytes.len() > self.head.len()
    }

    fn push(&mut self, number: u32, bytes: &[u8]) {
        field(number, bytes.len(), &mut self.bytes);
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds this to the message around it, if it holds more than its head, and begins a copy.
    fn end(&mut self, number: u32, around: &mut Self) {
        if self.holds_more() {
            around.push(number, &self.bytes);
            self.bytes.truncate(self.head.len());
        }
    }
}

impl Parts {
    fn add(&mut self, count: u64, record: &[u8]) {
        if count == 0 {
            return;
        }
        let bytes = self.request.len() + self.entry.bytes.len() + self.scope.bytes.len() + record.len();
        let records = self.records + count;
        if bytes > limits::IMPORT_BATCH_BYTES || records > limits::IMPORT_BATCH_RECORDS as u64 {
            self.scope.end(SCOPES, &mut self.entry);
            self.end_entry();
            self.end_part();
        }
        self.scope.push(RECORDS, record);
        self.records += count;
    }

    fn end_entry(&mut self) {
        if self.entry.holds_more() {
            field(ENTRIES, self.entry.bytes.len(), &mut self.request);
            self.request.extend_from_slice(&self.entry.bytes);
            self.entry.bytes.truncate(self.entry.head.len());
        }
    }

    fn end_part(&mut self) {
        if self.records > 0 {
            let request = std::mem::take(&mut self.request);
            self.done.push(Part { request, records: std::mem::take(&mut self.records) });
        }
    }
}

/// The fields of a message but those of one number, as they were written.
fn others(mut message: Reader<'_>, number: u32) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    loop {
        let before = message.bytes();
        match message.next()? {
            Some(field) if field.number == number => {}
            Some(_) => out.extend_from_slice(&before[..before.len() - message.bytes().len()]),
            None => return Ok(out),
        }
    }
}
