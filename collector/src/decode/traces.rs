//! Spans: `ExportTraceServiceRequest` to rows of `spans`.

mod columns;

use weir_model::{SpanId, TraceId, UnixNanos, limits};
use weir_storage::Table;

use super::attributes::{Attributes, cost};
use super::origin::{self, Resource, Scope};
use super::wire::{Fault, Malformed, Reader};
use super::{Budget, DecodeError, Decoded, Reason, check_not_ahead};
use columns::SpanColumns;

/// One span, borrowed from the request; its attributes, events and links are in [`Scratch`].
#[derive(Debug, Default)]
struct Span<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a str,
    flags: u32,
    name: &'a str,
    kind: i32,
    status: i32,
    status_message: &'a str,
    start: u64,
    end: u64,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
}

/// An event; its attributes are `nested[attributes.0..attributes.1]` of [`Scratch`].
#[derive(Debug, Default)]
struct Event<'a> {
    time: u64,
    name: &'a str,
    attributes: (usize, usize),
    dropped_attributes: u32,
}

/// A link; its attributes are `nested[attributes.0..attributes.1]` of [`Scratch`].
#[derive(Debug, Default)]
struct Link<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    trace_state: &'a str,
    flags: u32,
    attributes: (usize, usize),
    dropped_attributes: u32,
}

/// The repeated parts of the span in hand; the memory is used again from span to span.
#[derive(Debug, Default)]
struct Scratch<'a> {
    attributes: Attributes<'a>,
    nested: Attributes<'a>,
    events: Vec<Event<'a>>,
    links: Vec<Link<'a>>,
}

/// Decodes an `ExportTraceServiceRequest`.
pub(super) fn decode(request: &[u8], now: UnixNanos) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder {
        now,
        budget: Budget::new(),
        scratch: Scratch::default(),
        columns: SpanColumns::new(origin::expected_rows(request)?),
        decoded: Decoded::default(),
    };
    let mut message = Reader::new(request);
    while let Some(field) = message.next()? {
        if field.number == 1 {
            decoder.resource_spans(field.message()?)?;
        }
    }
    decoder.finish()
}

struct Decoder<'a> {
    now: UnixNanos,
    budget: Budget,
    scratch: Scratch<'a>,
    columns: SpanColumns,
    decoded: Decoded,
}

impl<'a> Decoder<'a> {
    fn resource_spans(&mut self, message: Reader<'a>) -> Result<(), Malformed> {
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
                self.scope_spans(&resource, field.message()?)?;
            }
        }
        Ok(())
    }

    fn scope_spans(&mut self, resource: &Resource<'a>, message: Reader<'a>) -> Result<(), Malformed> {
        let scope = match Scope::read(message, &mut self.decoded.repeated_attributes)? {
            Ok(scope) => scope,
            Err(reason) => {
                self.decoded.rejected.add(reason, origin::count_records(message)?);
                return Ok(());
            }
        };
        let first = self.columns.rows();
        let mut spans = message;
        while let Some(field) = spans.next()? {
            if field.number != 2 {
                continue;
            }
            let bytes = field.message()?;
            match self.read(bytes, resource.cost + scope.cost) {
                Ok(span) => {
                    self.columns.row(&span, &self.scratch);
                    self.decoded.accepted += 1;
                }
                Err(Fault::Record(reason)) => self.decoded.rejected.add(reason, 1),
                Err(Fault::Malformed(malformed)) => return Err(malformed),
            }
        }
        self.columns.origin_from(first, resource, &scope);
        Ok(())
    }

    /// Reads a span, checks it and pays for its row, which repeats `shared` bytes.
    fn read(&mut self, message: Reader<'a>, shared: usize) -> Result<Span<'a>, Fault> {
        let span = self.scratch.read(message)?;
        span.check(self.now)?;
        self.budget.take(self.scratch.cost() + message.bytes().len() + shared + ROW_BYTES)?;
        Ok(span)
    }

    fn finish(mut self) -> Result<Decoded, DecodeError> {
        self.decoded.repeated_attributes += self.scratch.attributes.repeated + self.scratch.nested.repeated;
        if self.decoded.accepted > 0 {
            self.decoded.parts.push((Table::Spans, self.columns.finish()?));
        }
        Ok(self.decoded)
    }
}

/// What a row takes beside its texts: the fixed columns and the offsets.
const ROW_BYTES: usize = 512;

impl Span<'_> {
    fn check(&self, now: UnixNanos) -> Result<(), Reason> {
        TraceId::from_slice(self.trace_id).ok_or(Reason::TraceId)?;
        SpanId::from_slice(self.span_id).ok_or(Reason::SpanId)?;
        check_not_ahead(self.start, now)?;
        check_not_ahead(self.end, now)
    }
}

impl<'a> Scratch<'a> {
    fn read(&mut self, mut message: Reader<'a>) -> Result<Span<'a>, Fault> {
        self.attributes.clear();
        self.nested.clear();
        self.events.clear();
        self.links.clear();
        let mut span = Span::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => span.trace_id = field.bytes()?,
                2 => span.span_id = field.bytes()?,
                3 => span.trace_state = field.text()?,
                4 => span.parent_span_id = field.bytes()?,
                5 => span.name = field.text()?,
                6 => span.kind = field.int32()?,
                7 => span.start = field.fixed64()?,
                8 => span.end = field.fixed64()?,
                9 => self.attributes.read(field.message()?)?,
                10 => span.dropped_attributes = field.uint32()?,
                11 => self.read_event(field.message()?)?,
                12 => span.dropped_events = field.uint32()?,
                13 => self.read_link(field.message()?)?,
                14 => span.dropped_links = field.uint32()?,
                15 => read_status(field.message()?, &mut span)?,
                16 => span.flags = field.fixed32()?,
                _ => {}
            }
            self.check_parts()?;
        }
        Ok(span)
    }

    /// Bounds what is held of a span before its row is paid for.
    fn check_parts(&self) -> Result<(), Reason> {
        let parts = self.attributes.len() + self.nested.len() + self.events.len() + self.links.len();
        if parts > limits::RECORD_PARTS { Err(Reason::ManyParts) } else { Ok(()) }
    }

    fn read_event(&mut self, mut message: Reader<'a>) -> Result<(), Fault> {
        let mut event = Event::default();
        event.attributes.0 = self.nested.begin();
        while let Some(field) = message.next()? {
            match field.number {
                1 => event.time = field.fixed64()?,
                2 => event.name = field.text()?,
                3 => self.nested.read(field.message()?)?,
                4 => event.dropped_attributes = field.uint32()?,
                _ => {}
            }
        }
        event.attributes.1 = self.nested.len();
        self.events.push(event);
        Ok(())
    }

    fn read_link(&mut self, mut message: Reader<'a>) -> Result<(), Fault> {
        let mut link = Link::default();
        link.attributes.0 = self.nested.begin();
        while let Some(field) = message.next()? {
            match field.number {
                1 => link.trace_id = field.bytes()?,
                2 => link.span_id = field.bytes()?,
                3 => link.trace_state = field.text()?,
                4 => self.nested.read(field.message()?)?,
                5 => link.dropped_attributes = field.uint32()?,
                6 => link.flags = field.fixed32()?,
                _ => {}
            }
        }
        link.attributes.1 = self.nested.len();
        self.links.push(link);
        Ok(())
    }

    /// What the attributes, events and links take beside their bytes on the wire.
    fn cost(&self) -> usize {
        cost(self.attributes.all()) + cost(self.nested.all()) + 64 * (self.events.len() + self.links.len())
    }
}

fn read_status<'a>(mut message: Reader<'a>, span: &mut Span<'a>) -> Result<(), Fault> {
    while let Some(field) = message.next()? {
        match field.number {
            2 => span.status_message = field.text()?,
            3 => span.status = field.int32()?,
            _ => {}
        }
    }
    Ok(())
}
