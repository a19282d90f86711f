//! The columns of `spans`, in the order of its schema.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder,
    RecordBatch, StringBuilder,
};
use arrow::error::ArrowError;
use weir_storage::Table;
use weir_storage::schema::{self, PROMOTED};

use super::super::attributes::{Attribute, AttributeMaps, Attributes, TextMaps, Value, promoted};
use super::super::columns::{ListRows, Moment, push_text};
use super::super::origin::{OriginColumns, Resource, Scope};
use super::{Event, Link, Scratch, Span};

/// The columns of `spans`.
#[derive(Debug, Default)]
pub(super) struct SpanColumns {
    trace_id: BinaryBuilder,
    span_id: BinaryBuilder,
    parent_span_id: BinaryBuilder,
    trace_state: StringBuilder,
    flags: Int64Builder,
    service: StringBuilder,
    name: StringBuilder,
    kind: Int32Builder,
    status: Int32Builder,
    status_message: StringBuilder,
    start_time: Moment,
    duration_ns: Int64Builder,
    end_before_start: BooleanBuilder,
    promoted: PromotedColumns,
    attributes: AttributeMaps,
    dropped_attributes: Int64Builder,
    origin: OriginColumns,
    events: EventColumns,
    dropped_events: Int64Builder,
    links: LinkColumns,
    dropped_links: Int64Builder,
    sample_weight: Float64Builder,
}

impl SpanColumns {
    /// A row.
    pub(super) fn row<'a>(
        &mut self,
        span: &Span<'a>,
        scratch: &Scratch<'a>,
        resource: &Resource<'a>,
        of_resource: &[Option<&Attribute<'a>>],
        scope: &Scope<'a>,
    ) {
        self.trace_id.append_value(span.trace_id);
        self.span_id.append_value(span.span_id);
        let is_root = span.parent_span_id.iter().all(|byte| *byte == 0);
        self.parent_span_id.append_option((!is_root).then_some(span.parent_span_id));
        push_text(&mut self.trace_state, span.trace_state);
        self.flags.append_value(span.flags.into());
        self.service.append_value(resource.service);
        self.name.append_value(span.name);
        self.kind.append_value(span.kind);
        self.status.append_value(span.status);
        push_text(&mut self.status_message, span.status_message);
        self.start_time.push(span.start);
        self.duration_ns.append_value(span.end.saturating_sub(span.start) as i64);
        self.end_before_start.append_value(span.end < span.start);
        self.promoted.row(scratch.attributes.all(), of_resource, &mut self.attributes);
        self.dropped_attributes.append_value(span.dropped_attributes.into());
        self.origin.row(resource, scope, true);
        self.events.row(&scratch.events, &scratch.nested);
        self.dropped_events.append_value(span.dropped_events.into());
        self.links.row(&scratch.links, &scratch.nested);
        self.dropped_links.append_value(span.dropped_links.into());
        self.sample_weight.append_value(1.0);
    }

    /// The rows as a batch.
    pub(super) fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut out: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.parent_span_id.finish()),
            Arc::new(self.trace_state.finish()),
            Arc::new(self.flags.finish()),
            Arc::new(self.service.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.status_message.finish()),
        ];
        self.start_time.finish(&mut out);
        out.push(Arc::new(self.duration_ns.finish()));
        out.push(Arc::new(self.end_before_start.finish()));
        self.promoted.finish(&mut out);
        self.attributes.finish(&mut out)?;
        out.push(Arc::new(self.dropped_attributes.finish()));
        self.origin.finish(&mut out)?;
        out.push(self.events.finish()?);
        out.push(Arc::new(self.dropped_events.finish()));
        out.push(self.links.finish()?);
        out.push(Arc::new(self.dropped_links.finish()));
        out.push(Arc::new(self.sample_weight.finish()));
        RecordBatch::try_new(Table::Spans.schema(), out)
    }
}

/// A column of [`PROMOTED`].
#[derive(Debug)]
enum PromotedColumn {
    Text(StringBuilder),
    Long(Int64Builder),
}

#[derive(Debug)]
struct PromotedColumns {
    columns: Vec<PromotedColumn>,
    /// Which attribute of the row in hand goes where.
    slots: Vec<Option<usize>>,
}

impl Default for PromotedColumns {
    fn default() -> Self {
        let column = |long| {
            if long {
                PromotedColumn::Long(Int64Builder::new())
            } else {
                PromotedColumn::Text(StringBuilder::new())
            }
        };
        let columns: Vec<_> = PROMOTED.iter().map(|promoted| column(promoted.long)).collect();
        Self { slots: vec![None; columns.len()], columns }
    }
}

impl PromotedColumns {
    /// A row of the promoted attributes; the others go to `maps`, whose row is ended too.
    fn row(
        &mut self,
        attributes: &[Attribute<'_>],
        of_resource: &[Option<&Attribute<'_>>],
        maps: &mut AttributeMaps,
    ) {
        self.slots.fill(None);
        for (number, attribute) in attributes.iter().enumerate() {
            match promoted(attribute, false) {
                Some(column) => self.slots[column] = Some(number),
                None => maps.push(attribute),
            }
        }
        maps.end_row();
        for ((column, slot), shared) in self.columns.iter_mut().zip(&self.slots).zip(of_resource) {
            let value = slot.map(|number| attributes[number].value).or(shared.map(|shared| shared.value));
            match (column, value) {
                (PromotedColumn::Text(column), Some(Value::Str(text))) => column.append_value(text),
                (PromotedColumn::Long(column), Some(Value::Long(long))) => column.append_value(long),
                (PromotedColumn::Text(column), _) => column.append_null(),
                (PromotedColumn::Long(column), _) => column.append_null(),
            }
        }
    }

    fn finish(self, out: &mut Vec<ArrayRef>) {
        out.extend(self.columns.into_iter().map(|column| match column {
            PromotedColumn::Text(mut column) => Arc::new(column.finish()) as ArrayRef,
            PromotedColumn::Long(mut column) => Arc::new(column.finish()) as ArrayRef,
        }));
    }
}

#[derive(Debug, Default)]
struct EventColumns {
    time: Moment,
    name: StringBuilder,
    attributes: TextMaps,
    dropped_attributes: Int64Builder,
    events: usize,
    rows: ListRows,
}

impl EventColumns {
    fn row(&mut self, events: &[Event<'_>], nested: &Attributes<'_>) {
        for event in events {
            self.time.push(event.time);
            self.name.append_value(event.name);
            self.attributes.row(&nested.all()[event.attributes.0..event.attributes.1]);
            self.dropped_attributes.append_value(event.dropped_attributes.into());
        }
        self.events += events.len();
        self.rows.end_row(self.events);
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let mut out = vec![];
        self.time.finish(&mut out);
        out.push(Arc::new(self.name.finish()));
        self.attributes.finish(&mut out)?;
        out.push(Arc::new(self.dropped_attributes.finish()));
        self.rows.finish_structs(schema::event_fields(), out)
    }
}

#[derive(Debug, Default)]
struct LinkColumns {
    trace_id: BinaryBuilder,
    span_id: BinaryBuilder,
    trace_state: StringBuilder,
    flags: Int64Builder,
    attributes: TextMaps,
    dropped_attributes: Int64Builder,
    rows: ListRows,
}

impl LinkColumns {
    fn row(&mut self, links: &[Link<'_>], nested: &Attributes<'_>) {
        for link in links {
            self.trace_id.append_value(link.trace_id);
            self.span_id.append_value(link.span_id);
            push_text(&mut self.trace_state, link.trace_state);
            self.flags.append_value(link.flags.into());
            self.attributes.row(&nested.all()[link.attributes.0..link.attributes.1]);
            self.dropped_attributes.append_value(link.dropped_attributes.into());
        }
        self.rows.end_row(self.trace_id.len());
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let mut out: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.trace_state.finish()),
            Arc::new(self.flags.finish()),
        ];
        self.attributes.finish(&mut out)?;
        out.push(Arc::new(self.dropped_attributes.finish()));
        self.rows.finish_structs(schema::link_fields(), out)
    }
}
