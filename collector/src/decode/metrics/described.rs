//! The rows of `series`: labels, and beside them everything that OTLP says of a metric, of its origin and of
//! the attributes of its points, so that labels can stay what Prometheus makes of them.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Int32Builder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use weir_model::SeriesId;
use weir_storage::{Labels, Table};

use super::super::attributes::{Attribute, AttributeMaps, Value, cost};
use super::super::columns::{MapColumn, Moment, push_text};
use super::super::origin::{OriginColumns, Resource, Scope};
use super::Metric;

/// A row of `series`.
#[derive(Debug)]
pub(super) struct SeriesRow<'a> {
    pub(super) labels: Labels,
    pub(super) id: SeriesId,
    pub(super) time: u64,
    pub(super) metric: Rc<Metric<'a>>,
    /// Whether the first value came as a whole number, where that can be.
    pub(super) whole: Option<bool>,
    /// Of the series of one point only one says this.
    pub(super) sent: Option<Sent<'a>>,
}

/// What a sender says of a point beside its values.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    /// Those that the labels do not say as they were sent.
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) resource: Rc<Resource<'a>>,
    pub(super) scope: Rc<Scope<'a>>,
}

/// Labels that are not attributes of a point, or not only.
const NOT_ATTRIBUTES: [&str; 3] = ["__name__", "instance", "job"];

impl<'a> Sent<'a> {
    pub(super) fn new(
        attributes: &[Attribute<'a>],
        labels: &Labels,
        resource: &Rc<Resource<'a>>,
        scope: &Rc<Scope<'a>>,
    ) -> Self {
        let is_label = |attribute: &Attribute<'_>| match attribute.value {
            Value::Str(text) => {
                labels.get(attribute.key) == Some(text) && !NOT_ATTRIBUTES.contains(&attribute.key)
            }
            _ => false,
        };
        Self {
            attributes: attributes.iter().filter(|attribute| !is_label(attribute)).copied().collect(),
            resource: Rc::clone(resource),
            scope: Rc::clone(scope),
        }
    }

    /// What it takes in a row, roughly.
    pub(super) fn cost(&self) -> usize {
        let held = self.attributes.len() * size_of::<Attribute<'_>>();
        held + cost(&self.attributes) + self.resource.cost + self.scope.cost
    }
}

/// The columns of `series`, in the order of the schema.
#[derive(Debug, Default)]
pub(super) struct SeriesColumns {
    metric: StringBuilder,
    series_id: Int64Builder,
    time: Moment,
    labels: MapColumn<StringBuilder>,
    kind: StringBuilder,
    unit: StringBuilder,
    help: StringBuilder,
    sent_name: StringBuilder,
    sent_unit: StringBuilder,
    sent_kind: StringBuilder,
    temporality: Int32Builder,
    monotonic: BooleanBuilder,
    whole: BooleanBuilder,
    metadata: AttributeMaps,
    service: StringBuilder,
    attributes: AttributeMaps,
    origin: OriginColumns,
}

impl SeriesColumns {
    pub(super) fn row(&mut self, row: SeriesRow<'_>) {
        self.metric.append_value(row.labels.metric());
        self.series_id.append_value(row.id.to_column());
        self.time.push(row.time);
        for (name, value) in row.labels.iter() {
            self.labels.value(name).append_value(value);
        }
        self.labels.end_row_not_null();
        self.described(&row.metric, row.whole, row.sent.is_some());
        match &row.sent {
            Some(sent) => {
                self.service.append_value(sent.resource.service);
                self.attributes.row(&sent.attributes);
                self.origin.row(&sent.resource, &sent.scope, false);
            }
            None => {
                self.service.append_null();
                self.attributes.end_row();
                self.origin.null_row();
            }
        }
    }

    fn described(&mut self, metric: &Metric<'_>, whole: Option<bool>, in_full: bool) {
        self.kind.append_value(metric.kind.series_type());
        self.unit.append_option(metric.unit.as_deref());
        push_text(&mut self.help, metric.help);
        push_text(&mut self.sent_name, metric.sent_name);
        push_text(&mut self.sent_unit, metric.sent_unit);
        let is_sent = !metric.sent_name.is_empty();
        self.sent_kind.append_option(is_sent.then(|| metric.kind.data_name()));
        let temporality = Some(metric.temporality).filter(|_| metric.kind.has_temporality());
        self.temporality.append_option(temporality);
        self.monotonic.append_option(metric.kind.is_monotonic());
        self.whole.append_option(whole);
        if in_full {
            metric.metadata.iter().for_each(|attribute| self.metadata.push(attribute));
        }
        self.metadata.end_row();
    }

    pub(super) fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut out: Vec<ArrayRef> = vec![Arc::new(self.metric.finish()), Arc::new(self.series_id.finish())];
        self.time.finish(&mut out);
        out.push(Arc::new(self.labels.finish(DataType::Utf8)?));
        out.extend([
            Arc::new(self.kind.finish()) as ArrayRef,
            Arc::new(self.unit.finish()),
            Arc::new(self.help.finish()),
            Arc::new(self.sent_name.finish()),
            Arc::new(self.sent_unit.finish()),
            Arc::new(self.sent_kind.finish()),
            Arc::new(self.temporality.finish()),
            Arc::new(self.monotonic.finish()),
            Arc::new(self.whole.finish()),
        ]);
        self.metadata.finish(&mut out)?;
        out.push(Arc::new(self.service.finish()));
        self.attributes.finish(&mut out)?;
        self.origin.finish(&mut out)?;
        RecordBatch::try_new(Table::Series.schema(), out)
    }
}
