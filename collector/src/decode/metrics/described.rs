//! The rows of `series`: labels, and beside them everything that OTLP says of a metric, of its origin and of
//! the attributes of its points, so that labels can stay what Prometheus makes of them.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch};
use arrow::error::ArrowError;
use weir_model::SeriesId;
use weir_storage::Labels;

use super::super::attributes::{Attribute, AttributeMaps, Value, cost};
use super::super::origin::{OriginColumns, Resource, Scope};
use super::Metric;
use weir_storage::columns::{At, Bools, Sparse, Texts};
use weir_storage::rows::SeriesRows;

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

/// Rows of `series` with all that OTLP says.
#[derive(Debug, Default)]
pub(super) struct SeriesColumns {
    rows: SeriesRows,
    sent_name: Sparse<Texts>,
    sent_unit: Sparse<Texts>,
    sent_kind: Sparse<Texts>,
    temporality: Vec<Option<i32>>,
    monotonic: Sparse<Bools>,
    whole: Sparse<Bools>,
    metadata: AttributeMaps,
    service: Sparse<Texts>,
    attributes: AttributeMaps,
    origin: OriginColumns,
}

impl SeriesColumns {
    pub(super) fn row(&mut self, series: SeriesRow<'_>) {
        let SeriesRow { labels, id, time, metric, .. } = &series;
        let row = self.rows.push(labels, *id, At::from_nanos(*time), &metric.described);
        self.described(row, metric, series.sent.is_some());
        if let Some(whole) = series.whole {
            self.whole.push(row, whole);
        }
        if let Some(sent) = &series.sent {
            self.service.push(row, sent.resource.service);
            for attribute in &sent.attributes {
                self.attributes.push(row, attribute);
            }
            self.origin.row(row, &sent.resource, &sent.scope, false);
        }
    }

    fn described(&mut self, row: usize, metric: &Metric<'_>, in_full: bool) {
        self.sent_name.push_text(row, metric.sent_name);
        self.sent_unit.push_text(row, metric.sent_unit);
        if !metric.sent_name.is_empty() {
            self.sent_kind.push(row, metric.kind.data_name());
        }
        self.temporality.push(Some(metric.temporality).filter(|_| metric.kind.has_temporality()));
        if let Some(monotonic) = metric.kind.is_monotonic() {
            self.monotonic.push(row, monotonic);
        }
        if in_full {
            metric.metadata.iter().for_each(|attribute| self.metadata.push(row, attribute));
        }
    }

    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        self.rows.finish_with(|out| {
            out.sparse(self.sent_name)?;
            out.sparse(self.sent_unit)?;
            out.sparse(self.sent_kind)?;
            out.push(Arc::new(Int32Array::from(self.temporality)));
            out.sparse(self.monotonic)?;
            out.sparse(self.whole)?;
            self.metadata.finish(out)?;
            out.sparse(self.service)?;
            self.attributes.finish(out)?;
            self.origin.finish(out)
        })
    }
}
