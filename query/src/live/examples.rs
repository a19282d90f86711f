//! Example traces for findings: a bounded look at the newest spans, when a finding opens or changes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arrow::array::{Array, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use weir_model::{TenantId, TraceId, UnixNanos, limits};
use weir_storage::{Cursor, Storage, Table};

use crate::analysis::{Finding, FindingEvent, FindingState, HintEvent, Kind};

/// How far back spans are looked at: storage keeps flushed rows within reach for as long.
const LATELY: Duration = limits::FLUSHED_ROWS_AGE;
/// Examples of one finding.
const EXAMPLES: usize = 5;
/// OTLP numbers of a span's kind and status.
const SERVER: i32 = 2;
const ERROR: i32 = 2;

/// The traces that were found, by finding.
#[derive(Debug, Default)]
pub(super) struct Examples {
    found: BTreeMap<String, Vec<String>>,
    /// Where storage was at past moments, oldest first; one of them is older than [`LATELY`].
    cursors: VecDeque<(UnixNanos, Cursor)>,
}

impl Examples {
    /// Takes note of where storage is.
    pub(super) fn note(&mut self, now: UnixNanos, cursor: Cursor) {
        self.cursors.push_back((now, cursor));
        while self.cursors.get(1).is_some_and(|(at, _)| now.since(*at) >= LATELY) {
            self.cursors.pop_front();
        }
    }

    /// Fills in the traces of what changed, from the spans in `storage`.
    pub(super) fn fill(
        &mut self,
        findings: &mut [FindingEvent],
        hints: &mut [HintEvent],
        storage: &Storage,
        tenant: &TenantId,
    ) {
        let mut spans = None;
        let wanted = |event: &&mut FindingEvent| event.state != FindingState::Resolved;
        for FindingEvent { finding, .. } in findings.iter_mut().filter(wanted).take(limits::EXAMPLE_FINDINGS)
        {
            if self.found.get(&finding.id).is_none_or(Vec::is_empty) {
                let since = self.cursors.front().map_or_else(|| storage.cursor(), |(_, cursor)| *cursor);
                let spans = spans.get_or_insert_with(|| storage.rows_since(tenant, Table::Spans, since).0);
                self.found.insert(finding.id.clone(), look(spans, finding));
            }
        }
        for event in findings {
            event.finding.trace_ids = self.of(&event.finding.id);
            if event.state == FindingState::Resolved {
                self.found.remove(&event.finding.id);
            }
        }
        for event in hints {
            event.hint.evidence.trace_ids = self.of(&event.hint.evidence.finding);
        }
    }

    /// The traces of a finding, as far as any were found.
    pub(super) fn of(&self, finding: &str) -> Vec<String> {
        self.found.get(finding).cloned().unwrap_or_default()
    }
}

/// The newest traces in which what `finding` says went wrong.
fn look(spans: &[RecordBatch], finding: &Finding) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    let mut looked_at = 0;
    for columns in spans.iter().rev().filter_map(Columns::of) {
        for row in (0..columns.status.len()).rev() {
            looked_at += 1;
            if found.len() == EXAMPLES || looked_at > limits::EXAMPLE_SPANS {
                return found;
            }
            if columns.is_bad(row, finding) && columns.concerns(row, finding) {
                let trace = TraceId::from_slice(columns.trace.value(row)).map(|id| id.to_string());
                found.extend(trace.filter(|trace| !found.contains(trace)));
            }
        }
    }
    found
}

/// The columns of a batch of `spans` that tell whose call it was and how it ended.
struct Columns<'a> {
    trace: &'a BinaryArray,
    kind: &'a Int32Array,
    status: &'a Int32Array,
    duration_ns: &'a Int64Array,
    http_status: &'a Int64Array,
    service: &'a StringArray,
    instance: &'a StringArray,
    client: &'a StringArray,
    server: &'a StringArray,
    endpoint: &'a StringArray,
    refused: &'a StringArray,
}

fn text(column: &StringArray, row: usize) -> &str {
    if column.is_valid(row) { column.value(row) } else { "" }
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let column = |name: &str| batch.column_by_name(name);
        let text = |name: &str| column(name)?.as_string_opt::<i32>();
        Some(Self {
            trace: column("trace_id")?.as_binary_opt()?,
            kind: column("kind")?.as_primitive_opt::<Int32Type>()?,
            status: column("status")?.as_primitive_opt::<Int32Type>()?,
            duration_ns: column("duration_ns")?.as_primitive_opt::<Int64Type>()?,
            http_status: column("http_status")?.as_primitive_opt::<Int64Type>()?,
            service: text("service")?,
            instance: text("service_instance_id")?,
            client: text("client")?,
            server: text("server")?,
            endpoint: text("endpoint")?,
            refused: text("refused")?,
        })
    }

    /// Whether the span failed or was slow, as the finding says. A refused call never reached the target.
    fn is_bad(&self, row: usize, finding: &Finding) -> bool {
        if self.refused.is_valid(row) {
            return false;
        }
        match finding.kind {
            Kind::Errors | Kind::Outage => {
                let status = self.http_status.is_valid(row).then(|| self.http_status.value(row));
                self.status.value(row) == ERROR || status.is_some_and(|status| status >= 500)
            }
            Kind::Latency => {
                // Halfway between what is usual and what was seen, as factors.
                let slow = (finding.observed * finding.baseline).max(0.0).sqrt();
                self.duration_ns.value(row) as f64 >= slow * 1e9
            }
        }
    }

    /// Whether the span is of a call to the finding's target: a proxy's, or the called service's own.
    fn concerns(&self, row: usize, finding: &Finding) -> bool {
        let is_any = |wanted: &Option<String>, got: &str| wanted.as_deref().is_none_or(|name| name == got);
        if self.server.is_valid(row) {
            return self.server.value(row) == finding.service
                && is_any(&finding.endpoint, text(self.endpoint, row))
                && is_any(&finding.client, text(self.client, row));
        }
        self.kind.value(row) == SERVER
            && finding.client.is_none()
            && text(self.service, row) == finding.service
            && is_any(&finding.endpoint, text(self.instance, row))
    }
}
