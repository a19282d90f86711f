//! The columns of `spans`, in the order of its schema.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow::error::ArrowError;
use weir_storage::Table;
use weir_storage::schema::PROMOTED;

use super::super::attributes::{AttributeMaps, Attributes, TextMaps, Value, promoted};
use super::super::origin::{self, OriginColumns, Resource, Scope};
use super::{Event, Link, Scratch, Span};
use weir_storage::columns::{Blobs, Finished, Longs, Moment, Rows, Sparse, Texts};

/// The columns of `spans`.
#[derive(Debug)]
pub(super) struct SpanColumns {
    rows: usize,
    trace_id: Sparse<Blobs>,
    span_id: Sparse<Blobs>,
    parent_span_id: Sparse<Blobs>,
    trace_state: Sparse<Texts>,
    flags: Vec<i64>,
    service: Sparse<Texts>,
    name: Sparse<Texts>,
    kind: Vec<i32>,
    status: Vec<i32>,
    status_message: Sparse<Texts>,
    start_time: Moment,
    duration_ns: Vec<i64>,
    end_before_start: Vec<bool>,
    promoted: PromotedColumns,
    attributes: AttributeMaps,
    dropped_attributes: Vec<i64>,
    origin: OriginColumns,
    events: EventColumns,
    dropped_events: Vec<i64>,
    links: LinkColumns,
    dropped_links: Vec<i64>,
}

impl SpanColumns {
    /// Of `rows` rows, or fewer.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            rows: 0,
            trace_id: Sparse::new(rows),
            span_id: Sparse::new(rows),
            parent_span_id: Sparse::new(rows),
            trace_state: Sparse::new(rows),
            flags: Vec::with_capacity(rows),
            service: Sparse::new(rows),
            name: Sparse::new(rows),
            kind: Vec::with_capacity(rows),
            status: Vec::with_capacity(rows),
            status_message: Sparse::new(rows),
            start_time: Moment::with_capacity(rows),
            duration_ns: Vec::with_capacity(rows),
            end_before_start: Vec::with_capacity(rows),
            promoted: PromotedColumns::new(rows),
            attributes: AttributeMaps::new(rows),
            dropped_attributes: Vec::with_capacity(rows),
            origin: OriginColumns::new(rows),
            events: EventColumns::new(rows),
            dropped_events: Vec::with_capacity(rows),
            links: LinkColumns::new(rows),
            dropped_links: Vec::with_capacity(rows),
        }
    }

    /// How many there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// A row, whose origin is to follow.
    pub(super) fn row(&mut self, span: &Span<'_>, scratch: &Scratch<'_>) {
        let row = self.rows;
        self.rows += 1;
        self.trace_id.push(row, span.trace_id);
        self.span_id.push(row, span.span_id);
        if span.parent_span_id.iter().any(|byte| *byte != 0) {
            self.parent_span_id.push(row, span.parent_span_id);
        }
        self.trace_state.push_text(row, span.trace_state);
        self.flags.push(span.flags.into());
        self.name.push(row, span.name);
        self.kind.push(span.kind);
        self.status.push(span.status);
        self.status_message.push_text(row, span.status_message);
        self.start_time.push(span.start);
        self.duration_ns.push(span.end.saturating_sub(span.start) as i64);
        self.end_before_start.push(span.end < span.start);
        for attribute in scratch.attributes.all() {
            match promoted(attribute, false) {
                Some(number) => self.promoted.push(row, number, attribute.value),
                None => self.attributes.push(row, attribute),
            }
        }
        self.dropped_attributes.push(span.dropped_attributes.into());
        self.events.row(row, &scratch.events, &scratch.nested);
        self.dropped_events.push(span.dropped_events.into());
        self.links.row(row, &scratch.links, &scratch.nested);
        self.dropped_links.push(span.dropped_links.into());
    }

    /// The origin of all rows from number `first` on.
    pub(super) fn origin_from(&mut self, first: usize, resource: &Resource<'_>, scope: &Scope<'_>) {
        let Some(times) = (self.rows - first).checked_sub(1) else { return };
        self.service.push(first, resource.service);
        self.service.again(first, times);
        for (number, attribute) in origin::promoted_of(resource) {
            self.promoted.push(first, number, attribute.value);
            self.promoted.again(first, number, times);
        }
        self.origin.rows(first..self.rows, resource, scope, true);
    }

    /// The rows as a batch.
    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let schema = Table::Spans.schema();
        let mut out = Finished::new(schema.fields(), self.rows);
        out.sparse(self.trace_id)?;
        out.sparse(self.span_id)?;
        out.sparse(self.parent_span_id)?;
        out.sparse(self.trace_state)?;
        out.push(Arc::new(Int64Array::from(self.flags)));
        out.sparse(self.service)?;
        out.sparse(self.name)?;
        out.push(Arc::new(Int32Array::from(self.kind)));
        out.push(Arc::new(Int32Array::from(self.status)));
        out.sparse(self.status_message)?;
        self.start_time.columns().into_iter().for_each(|column| out.push(column));
        out.push(Arc::new(Int64Array::from(self.duration_ns)));
        out.push(Arc::new(BooleanArray::from(self.end_before_start)));
        self.promoted.finish(&mut out)?;
        self.attributes.finish(&mut out)?;
        out.push(Arc::new(Int64Array::from(self.dropped_attributes)));
        self.origin.finish(&mut out)?;
        self.events.finish(&mut out)?;
        out.push(Arc::new(Int64Array::from(self.dropped_events)));
        self.links.finish(&mut out)?;
        out.push(Arc::new(Int64Array::from(self.dropped_links)));
        out.push(Arc::new(Float64Array::from(vec![1.0; self.rows])));
        let columns = out.columns();
        RecordBatch::try_new(schema, columns)
    }
}

/// A column of [`PROMOTED`].
#[derive(Debug)]
enum PromotedColumn {
    Text(Sparse<Texts>),
    Long(Sparse<Longs>),
}

#[derive(Debug)]
struct PromotedColumns(Vec<PromotedColumn>);

impl PromotedColumns {
    fn new(rows: usize) -> Self {
        let column = |long| {
            if long {
                PromotedColumn::Long(Sparse::new(rows))
            } else {
                PromotedColumn::Text(Sparse::new(rows))
            }
        };
        Self(PROMOTED.iter().map(|promoted| column(promoted.long)).collect())
    }

    /// Gives row number `row` a value of the type that the column has.
    #[inline]
    fn push(&mut self, row: usize, number: usize, value: Value<'_>) {
        match (&mut self.0[number], value) {
            (PromotedColumn::Text(column), Value::Str(text)) => column.push(row, text),
            (PromotedColumn::Long(column), Value::Long(long)) => column.push(row, long),
            _ => {}
        }
    }

    /// Gives the value of row number `row`, the last one so far, to `times` rows more.
    fn again(&mut self, row: usize, number: usize, times: usize) {
        match &mut self.0[number] {
            PromotedColumn::Text(column) => column.again(row, times),
            PromotedColumn::Long(column) => column.again(row, times),
        }
    }

    fn finish(self, out: &mut Finished<'_>) -> Result<(), ArrowError> {
        self.0.into_iter().try_for_each(|column| match column {
            PromotedColumn::Text(column) => out.sparse(column),
            PromotedColumn::Long(column) => out.sparse(column),
        })
    }
}

#[derive(Debug)]
struct EventColumns {
    time: Moment,
    name: Sparse<Texts>,
    attributes: TextMaps,
    dropped_attributes: Vec<i64>,
    rows: Rows,
}

impl EventColumns {
    fn new(rows: usize) -> Self {
        Self {
            time: Moment::default(),
            name: Sparse::new(rows),
            attributes: TextMaps::new(rows),
            dropped_attributes: Vec::new(),
            rows: Rows::new(rows),
        }
    }

    fn row(&mut self, row: usize, events: &[Event<'_>], nested: &Attributes<'_>) {
        for event in events {
            let number = self.dropped_attributes.len();
            self.rows.enter(row, number);
            self.time.push(event.time);
            self.name.push(number, event.name);
            self.attributes.row(number, &nested.all()[event.attributes.0..event.attributes.1]);
            self.dropped_attributes.push(event.dropped_attributes.into());
        }
    }

    fn finish(self, out: &mut Finished<'_>) -> Result<(), ArrowError> {
        let count = self.dropped_attributes.len();
        out.list(self.rows, count, |out| {
            self.time.columns().into_iter().for_each(|column| out.push(column));
            out.sparse(self.name)?;
            self.attributes.finish(out)?;
            out.push(Arc::new(Int64Array::from(self.dropped_attributes)));
            Ok(())
        })
    }
}

#[derive(Debug)]
struct LinkColumns {
    trace_id: Sparse<Blobs>,
    span_id: Sparse<Blobs>,
    trace_state: Sparse<Texts>,
    flags: Vec<i64>,
    attributes: TextMaps,
    dropped_attributes: Vec<i64>,
    rows: Rows,
}

impl LinkColumns {
    fn new(rows: usize) -> Self {
        Self {
            trace_id: Sparse::new(rows),
            span_id: Sparse::new(rows),
            trace_state: Sparse::new(rows),
            flags: Vec::new(),
            attributes: TextMaps::new(rows),
            dropped_attributes: Vec::new(),
            rows: Rows::new(rows),
        }
    }

    fn row(&mut self, row: usize, links: &[Link<'_>], nested: &Attributes<'_>) {
        for link in links {
            let number = self.flags.len();
            self.rows.enter(row, number);
            self.trace_id.push(number, link.trace_id);
            self.span_id.push(number, link.span_id);
            self.trace_state.push_text(number, link.trace_state);
            self.flags.push(link.flags.into());
            self.attributes.row(number, &nested.all()[link.attributes.0..link.attributes.1]);
            self.dropped_attributes.push(link.dropped_attributes.into());
        }
    }

    fn finish(self, out: &mut Finished<'_>) -> Result<(), ArrowError> {
        let count = self.flags.len();
        out.list(self.rows, count, |out| {
            out.sparse(self.trace_id)?;
            out.sparse(self.span_id)?;
            out.sparse(self.trace_state)?;
            out.push(Arc::new(Int64Array::from(self.flags)));
            self.attributes.finish(out)?;
            out.push(Arc::new(Int64Array::from(self.dropped_attributes)));
            Ok(())
        })
    }
}
