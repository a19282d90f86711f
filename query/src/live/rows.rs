//! What came of a tick as rows of `edges`, `findings` and `hints`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int16Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::error::ArrowError;
use weir_model::UnixNanos;
use weir_storage::Table;

use crate::analysis::{EdgeIncrement, FindingEvent, HintEvent};

/// The columns of rows that are made of `items`.
struct Columns<'a, T>(&'a [T]);

impl<T> Columns<'_, T> {
    fn text<'t>(&'t self, pick: impl Fn(&'t T) -> &'t str) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(self.0.iter().map(pick)))
    }

    /// Text that is null where it is empty.
    fn known<S: AsRef<str>>(&self, pick: impl Fn(&T) -> S) -> ArrayRef {
        let texts: Vec<S> = self.0.iter().map(pick).collect();
        let known = texts.iter().map(|text| Some(text.as_ref()).filter(|text| !text.is_empty()));
        Arc::new(known.collect::<StringArray>())
    }

    fn long(&self, pick: impl Fn(&T) -> u64) -> ArrayRef {
        let clamped = |item| i64::try_from(pick(item)).unwrap_or(i64::MAX);
        Arc::new(Int64Array::from_iter_values(self.0.iter().map(clamped)))
    }

    fn double(&self, pick: impl Fn(&T) -> f64) -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(self.0.iter().map(pick)))
    }

    fn micros(&self, pick: impl Fn(&T) -> UnixNanos) -> ArrayRef {
        let micros = self.0.iter().map(|item| pick(item).to_columns().0);
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    }

    fn nanos(&self, pick: impl Fn(&T) -> UnixNanos) -> ArrayRef {
        Arc::new(Int16Array::from_iter_values(self.0.iter().map(|item| pick(item).to_columns().1)))
    }

    /// Rows of `table`; `column` makes those that are not null throughout.
    fn rows(
        &self,
        table: Table,
        column: impl Fn(&str) -> Option<ArrayRef>,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = table.schema();
        let columns = schema.fields().iter().map(|field| {
            column(field.name()).unwrap_or_else(|| new_null_array(field.data_type(), self.0.len()))
        });
        let columns = columns.collect();
        RecordBatch::try_new(schema, columns)
    }
}

/// What is added to the service graph, by buckets of `seconds` as `table` has them.
pub(super) fn edges(
    table: Table,
    seconds: u64,
    increments: &[EdgeIncrement],
) -> Result<RecordBatch, ArrowError> {
    let c = Columns(increments);
    let bucket = |e: &EdgeIncrement| UnixNanos(e.time.0 - e.time.0 % (seconds * 1_000_000_000));
    c.rows(table, |name| {
        Some(match name {
            "time" => c.micros(bucket),
            "time_nanos" => c.nanos(bucket),
            "client" => c.text(|e| &e.edge.client),
            "server" => c.text(|e| &e.edge.server),
            "endpoint" => c.text(|e| &e.edge.endpoint),
            "protocol" => c.text(|e| &e.edge.protocol),
            "reporter" => c.text(|e| e.edge.reporter.name()),
            "calls" => c.long(|e| e.add.calls),
            "errors" => c.long(|e| e.add.errors),
            "client_errors" => c.long(|e| e.add.client_errors),
            "refused" => c.long(|e| e.add.refused),
            "probes" => c.long(|e| e.add.probes),
            "duration_sum_ns" => c.long(|e| (e.add.latency.sum() * 1e9) as u64),
            "sketch" => {
                let sketches = increments.iter().map(|e| e.add.latency.to_bytes());
                Arc::new(BinaryArray::from_iter_values(sketches))
            }
            // The edge metric does not say; spans do.
            "mtls" => Arc::new(BooleanArray::from(vec![false; increments.len()])),
            _ => return None,
        })
    })
}

/// What was concluded.
pub(super) fn findings(events: &[FindingEvent]) -> Result<RecordBatch, ArrowError> {
    let c = Columns(events);
    c.rows(Table::Findings, |name| {
        Some(match name {
            "time" => c.micros(|e| e.time),
            "time_nanos" => c.nanos(|e| e.time),
            "id" => c.text(|e| &e.finding.id),
            "state" => c.text(|e| e.state.name()),
            "kind" => c.text(|e| e.finding.kind.name()),
            "level" => c.text(|e| e.finding.level),
            "severity" => c.text(|e| e.finding.severity.name()),
            "client" => c.known(|e| e.finding.client.clone().unwrap_or_default()),
            "service" => c.text(|e| &e.finding.service),
            "endpoint" => c.known(|e| e.finding.endpoint.clone().unwrap_or_default()),
            "detector" => c.text(|e| e.finding.detector),
            "metric" => c.text(|e| e.finding.metric),
            "window_ms" => c.long(|e| e.finding.window.as_millis() as u64),
            "observed" => c.double(|e| e.finding.observed),
            "baseline" => c.double(|e| e.finding.baseline),
            "score" => c.double(|e| e.finding.score),
            "samples" => c.long(|e| e.finding.samples),
            "callers_agreeing" => c.long(|e| e.finding.callers_agreeing.into()),
            "causal_path" => c.known(|e| e.finding.causal_path.join(" > ")),
            "trace_ids" => c.known(|e| e.finding.trace_ids.join(",")),
            "message" => c.text(|e| &e.finding.message),
            "query" => c.text(|e| &e.finding.query),
            _ => return None,
        })
    })
}

/// What was sent to the proxies.
pub(super) fn hints(events: &[HintEvent]) -> Result<RecordBatch, ArrowError> {
    let c = Columns(events);
    c.rows(Table::Hints, |name| {
        Some(match name {
            "time" => c.micros(|e| e.time),
            "time_nanos" => c.nanos(|e| e.time),
            "id" => c.text(|e| &e.hint.id),
            "revision" => c.long(|e| e.hint.revision),
            "epoch" => c.long(|e| e.hint.epoch),
            "event" => c.text(|e| e.change.name()),
            "action" => c.text(|e| e.hint.action.name()),
            "mode" => c.text(|e| e.hint.mode.name()),
            "callers" => c.known(|e| e.hint.scope.callers.join(",")),
            "service" => c.text(|e| &e.hint.scope.service),
            "target_kind" => c.text(|e| e.hint.scope.target.parts().0),
            "target" => c.known(|e| e.hint.scope.target.parts().1.to_owned()),
            "ttl_ms" => c.long(|e| e.hint.ttl.as_millis() as u64),
            "finding" => c.known(|e| e.hint.evidence.finding.clone()),
            "evidence" => c.known(|e| serde_json::to_string(&e.hint.evidence).unwrap_or_default()),
            "reason" => c.known(|e| e.reason.clone()),
            _ => return None,
        })
    })
}
