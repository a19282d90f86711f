//! The tables and their columns: the contract between whoever writes rows and whoever reads them.
//!
//! A moment is a microsecond `timestamp` and a `<name>_nanos` remainder (0 to 999). Durations are
//! `bigint` nanoseconds. Ids are binary. Attributes of a scope are five maps by value type; a promoted key
//! has a column of its own ([`PROMOTED`]) and is not repeated in the maps. The partition column `date` is
//! derived from the row's first time column when files are written; no batch carries it.

mod promoted;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;

pub use promoted::{PROMOTED, Promoted};

/// A kind of row, and the Delta table that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// A span.
    Spans,
    /// A log record, proxy access logs included.
    Logs,
    /// A float sample of a series.
    Samples,
    /// A native histogram sample of a series.
    Histograms,
    /// The labels of a series, written again on each day it lives.
    Series,
    /// What was added to ten seconds of one edge of the service graph; rows of one bucket add up.
    Edges,
    /// What the analysis concluded: a row when a finding opens, changes or resolves.
    Findings,
    /// What was sent to the proxies and what each answered.
    Hints,
    /// A single measurement behind a sample, with the trace it was made in.
    Exemplars,
    /// [`Table::Edges`] by the minute.
    EdgesMinute,
    /// [`Table::Edges`] by the hour.
    EdgesHour,
}

impl Table {
    /// All of them, in the order of their numbers in the write-ahead log.
    pub const ALL: [Self; 11] = [
        Self::Spans,
        Self::Logs,
        Self::Samples,
        Self::Histograms,
        Self::Series,
        Self::Edges,
        Self::Findings,
        Self::Hints,
        Self::Exemplars,
        Self::EdgesMinute,
        Self::EdgesHour,
    ];

    /// The tables of the service graph, each with the seconds of its buckets; what is added to one is added to all.
    pub const GRAPH: [(Self, u64); 3] = [(Self::Edges, 10), (Self::EdgesMinute, 60), (Self::EdgesHour, 3600)];

    /// The folder and SQL name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Samples => "samples",
            Self::Histograms => "histograms",
            Self::Series => "series",
            Self::Edges => "edges",
            Self::Findings => "findings",
            Self::Hints => "hints",
            Self::Exemplars => "exemplars",
            Self::EdgesMinute => "edges_1m",
            Self::EdgesHour => "edges_1h",
        }
    }

    /// Its number in the write-ahead log; never reused.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The table with that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// How often columns have been added behind those that it had at first.
    pub(crate) fn revision(self) -> u8 {
        match self {
            Self::Histograms => 1,
            _ => 0,
        }
    }

    /// How many columns it had at a revision; none where there was no such revision.
    pub(crate) fn columns_at(self, revision: u8) -> Option<usize> {
        match (self, revision) {
            (Self::Histograms, 0) => Some(20),
            (_, revision) if revision == self.revision() => Some(self.schema().fields().len()),
            _ => None,
        }
    }

    /// `rows` of an earlier revision in the columns of today; `None` where they are no rows of this table.
    pub(crate) fn fitted(self, rows: RecordBatch) -> Option<RecordBatch> {
        let schema = self.schema();
        if rows.schema_ref().fields() == schema.fields() {
            return Some(rows);
        }
        let columns = rows.num_columns();
        let is_earlier = (0..self.revision()).any(|revision| self.columns_at(revision) == Some(columns));
        if !is_earlier || rows.schema_ref().fields()[..] != schema.fields()[..columns] {
            return None;
        }
        let added = schema.fields()[columns..].iter().map(|field| absent(field.data_type(), rows.num_rows()));
        RecordBatch::try_new(Arc::clone(&schema), rows.columns().iter().cloned().chain(added).collect()).ok()
    }

    /// The columns of a batch and of a file, partition column aside.
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 11]> =
            LazyLock::new(|| Table::ALL.map(|table| Arc::new(Schema::new(table.fields()))));
        Arc::clone(&SCHEMAS[usize::from(self.number())])
    }

    fn fields(self) -> Vec<Field> {
        match self {
            Self::Spans => spans(),
            Self::Logs => logs(),
            Self::Samples => samples(),
            Self::Histograms => histograms(),
            Self::Series => series(),
            Self::Edges | Self::EdgesMinute | Self::EdgesHour => edges(),
            Self::Findings => findings(),
            Self::Hints => hints(),
            Self::Exemplars => exemplars(),
        }
    }

    /// The column whose day is the partition.
    pub fn time_column(self) -> &'static str {
        match self {
            Self::Spans => "start_time",
            _ => "time",
        }
    }

    /// What files are sorted by, all ascending.
    pub fn sort_order(self) -> &'static [SortBy] {
        use SortBy::{Stretch, Value};
        match self {
            // The spans of a trace beside each other, and what was at one time not far apart.
            Self::Spans => &[Stretch("start_time"), Value("trace_id"), Value("start_time")],
            Self::Logs => &[Value("service"), Value("time")],
            Self::Samples | Self::Histograms | Self::Exemplars => {
                &[Value("metric"), Value("series_id"), Value("time")]
            }
            Self::Series => &[Value("metric"), Value("series_id")],
            Self::Edges | Self::EdgesMinute | Self::EdgesHour => {
                &[Value("time"), Value("client"), Value("server")]
            }
            Self::Findings | Self::Hints => &[Value("time")],
        }
    }

    /// The columns whose values the filters of a block hold (see [`BlockFilters`](crate::BlockFilters)): those that
    /// are searched for by one value of many.
    pub fn needle_columns(self) -> &'static [&'static str] {
        match self {
            Self::Spans => &[
                "trace_id",
                "attributes_str",
                "attributes_long",
                "attributes_double",
                "attributes_bool",
                "attributes_other",
                "url_path",
                "url_full",
                "db_query",
                "client_address",
            ],
            Self::Logs => &[
                "trace_id",
                "attributes_str",
                "attributes_long",
                "attributes_double",
                "attributes_bool",
                "attributes_other",
            ],
            _ => &[],
        }
    }

    /// Whether its rows say what was added to a bucket, so that rows of one bucket may become one.
    pub fn adds_up(self) -> bool {
        Self::GRAPH.iter().any(|(table, _)| *table == self)
    }

    /// Whether it is a summary of another table that is kept longer.
    pub fn is_rollup(self) -> bool {
        matches!(self, Self::EdgesMinute | Self::EdgesHour)
    }

    /// The columns that tell whether two rows are the same one, sent twice; none where each row counts.
    pub fn identity_columns(self) -> &'static [&'static str] {
        match self {
            Self::Spans => &["trace_id", "span_id", "start_time", "start_time_nanos"],
            Self::Samples | Self::Histograms => &["series_id", "time", "time_nanos"],
            Self::Exemplars => &["series_id", "time", "time_nanos", "value", "trace_id", "span_id"],
            Self::Logs | Self::Series | Self::Findings | Self::Hints => &[],
            Self::Edges | Self::EdgesMinute | Self::EdgesHour => &[],
        }
    }

    /// The columns whose smallest and largest value are kept for each file.
    pub fn stats_columns(self) -> &'static [&'static str] {
        match self {
            Self::Spans => &["service", "start_time", "duration_ns"],
            Self::Logs => &["service", "time"],
            Self::Samples | Self::Histograms | Self::Exemplars => &["metric", "series_id", "time"],
            Self::Series => &["metric", "series_id", "time"],
            Self::Edges | Self::EdgesMinute | Self::EdgesHour => &["time", "client", "server"],
            Self::Findings | Self::Hints => &["time"],
        }
    }
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    /// A column.
    Value(&'static str),
    /// Which stretch of [`STRETCH_MICROS`] the moment of a column is in.
    Stretch(&'static str),
}

impl SortBy {
    /// The column.
    pub fn column(self) -> &'static str {
        match self {
            Self::Value(column) | Self::Stretch(column) => column,
        }
    }
}

/// Microseconds of a stretch of time: ten seconds, within which most traces begin and end.
pub const STRETCH_MICROS: i64 = 10_000_000;

/// The microsecond UTC timestamp that every moment is held in.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A map from text, with the field names that Delta Lake and Parquet agree on.
pub fn map_of(value: DataType) -> DataType {
    let entry =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
}

/// A list, with the element name that Delta Lake and Parquet agree on.
pub fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

/// The fields of one element of `spans.events`.
pub fn event_fields() -> Fields {
    Fields::from(vec![
        req("time", timestamp()),
        req("time_nanos", DataType::Int16),
        req("name", DataType::Utf8),
        opt("attributes", map_of(DataType::Utf8)),
        opt("attributes_other", map_of(DataType::Binary)),
        req("dropped_attributes", DataType::Int64),
    ])
}

/// The fields of one element of `spans.links`.
pub fn link_fields() -> Fields {
    Fields::from(vec![
        req("trace_id", DataType::Binary),
        req("span_id", DataType::Binary),
        opt("trace_state", DataType::Utf8),
        req("flags", DataType::Int64),
        opt("attributes", map_of(DataType::Utf8)),
        opt("attributes_other", map_of(DataType::Binary)),
        req("dropped_attributes", DataType::Int64),
    ])
}

/// The suffixes and value types of the five maps that hold the attributes of one scope. `other` holds the
/// `AnyValue` bytes of arrays, maps, byte strings and empty values.
pub fn attribute_maps() -> [(&'static str, DataType); 5] {
    [
        ("str", DataType::Utf8),
        ("long", DataType::Int64),
        ("double", DataType::Float64),
        ("bool", DataType::Boolean),
        ("other", DataType::Binary),
    ]
}

/// Rows of the columns without values that are kept at hand.
const ABSENT_ROWS: usize = 16 << 10;

/// A column of `rows` nulls, which takes no memory of its own unless it is a long one.
pub fn absent(data_type: &DataType, rows: usize) -> ArrayRef {
    static KEPT: LazyLock<Mutex<HashMap<DataType, ArrayRef>>> = LazyLock::new(Mutex::default);
    if rows > ABSENT_ROWS {
        return new_null_array(data_type, rows);
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(column) = kept.get(data_type) {
        return column.slice(0, rows);
    }
    let column = new_null_array(data_type, ABSENT_ROWS);
    kept.insert(data_type.clone(), Arc::clone(&column)); // as many as there are types of columns
    column.slice(0, rows)
}

fn req(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn opt(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn moment(fields: &mut Vec<Field>, name: &str) {
    fields.push(req(name, timestamp()));
    fields.push(req(&format!("{name}_nanos"), DataType::Int16));
}

/// `<prefix>_str`, `<prefix>_long`, … : one scope's attributes.
fn attributes(fields: &mut Vec<Field>, prefix: &str) {
    for (suffix, value) in attribute_maps() {
        fields.push(opt(&format!("{prefix}_{suffix}"), map_of(value)));
    }
}

/// Resource and instrumentation scope, as spans and logs carry them.
fn origin(fields: &mut Vec<Field>) {
    attributes(fields, "resource");
    fields.push(req("resource_dropped_attributes", DataType::Int64));
    fields.push(opt("resource_schema_url", DataType::Utf8));
    fields.push(opt("scope_name", DataType::Utf8));
    fields.push(opt("scope_version", DataType::Utf8));
    attributes(fields, "scope");
    fields.push(req("scope_dropped_attributes", DataType::Int64));
    fields.push(opt("scope_schema_url", DataType::Utf8));
}

fn spans() -> Vec<Field> {
    let mut f = vec![
        req("trace_id", DataType::Binary),
        req("span_id", DataType::Binary),
        opt("parent_span_id", DataType::Binary),
        opt("trace_state", DataType::Utf8),
        req("flags", DataType::Int64),
        req("service", DataType::Utf8),
        req("name", DataType::Utf8),
        req("kind", DataType::Int32),   // OTLP SpanKind
        req("status", DataType::Int32), // OTLP StatusCode: 0 unset, 1 ok, 2 error
        opt("status_message", DataType::Utf8),
    ];
    moment(&mut f, "start_time");
    f.push(req("duration_ns", DataType::Int64));
    f.push(req("end_before_start", DataType::Boolean));
    for promoted in PROMOTED {
        f.push(opt(promoted.column, if promoted.long { DataType::Int64 } else { DataType::Utf8 }));
    }
    attributes(&mut f, "attributes");
    f.push(req("dropped_attributes", DataType::Int64));
    origin(&mut f);
    f.push(opt("events", list_of(DataType::Struct(event_fields()))));
    f.push(req("dropped_events", DataType::Int64));
    f.push(opt("links", list_of(DataType::Struct(link_fields()))));
    f.push(req("dropped_links", DataType::Int64));
    f.push(req("sample_weight", DataType::Float64));
    f
}

fn logs() -> Vec<Field> {
    let mut f = vec![req("service", DataType::Utf8)];
    moment(&mut f, "time");
    moment(&mut f, "observed_time");
    f.extend([
        req("severity_number", DataType::Int32),
        opt("severity_text", DataType::Utf8),
        opt("body", DataType::Utf8),         // a text body …
        opt("body_other", DataType::Binary), // … or the AnyValue bytes of any other
        opt("event_name", DataType::Utf8),
        opt("trace_id", DataType::Binary),
        opt("span_id", DataType::Binary),
        req("flags", DataType::Int64),
    ]);
    attributes(&mut f, "attributes");
    f.push(req("dropped_attributes", DataType::Int64));
    origin(&mut f);
    f
}

/// What identifies a sample: `metric`, `series_id` (the bits of [`weir_model::SeriesId`]) and `time`.
fn sample_key() -> Vec<Field> {
    let mut f = vec![req("metric", DataType::Utf8), req("series_id", DataType::Int64)];
    moment(&mut f, "time");
    f.push(opt("start_time", timestamp()));
    f.push(opt("start_time_nanos", DataType::Int16));
    f
}

/// What of a point no column says, by the name of its OTLP field: see FORMAT.md.
fn point() -> Field {
    opt("point", map_of(DataType::Utf8))
}

fn samples() -> Vec<Field> {
    let mut f = sample_key();
    f.push(req("value", DataType::Float64));
    f.push(point());
    f
}

fn histograms() -> Vec<Field> {
    let mut f = sample_key();
    f.extend([
        req("temporality", DataType::Int32), // OTLP: 1 delta, 2 cumulative
        req("scale", DataType::Int32),       // bucket base is 2^(2^-scale); -53 means custom bounds
        req("count", DataType::Int64),
        opt("sum", DataType::Float64),
        opt("min", DataType::Float64),
        opt("max", DataType::Float64),
        req("zero_threshold", DataType::Float64),
        req("zero_count", DataType::Int64),
        req("positive_offset", DataType::Int32), // OTLP index of the first positive bucket
        req("positive_counts", list_of(DataType::Int64)),
        req("negative_offset", DataType::Int32),
        req("negative_counts", list_of(DataType::Int64)),
        opt("custom_bounds", list_of(DataType::Float64)),
        point(),
        // Where counts are no whole numbers they are here, and those above are 0 or empty.
        opt("count_float", DataType::Float64),
        opt("zero_count_float", DataType::Float64),
        opt("positive_counts_float", list_of(DataType::Float64)),
        opt("negative_counts_float", list_of(DataType::Float64)),
        opt("reset_hint", DataType::Int32), // Prometheus: 1 reset, 2 not reset, 3 gauge
    ]);
    f
}

fn exemplars() -> Vec<Field> {
    let mut f = vec![req("metric", DataType::Utf8), req("series_id", DataType::Int64)];
    moment(&mut f, "time");
    f.extend([
        req("value", DataType::Float64),
        opt("value_long", DataType::Int64), // the value where it was sent as a whole number
        opt("trace_id", DataType::Binary),
        opt("span_id", DataType::Binary),
    ]);
    attributes(&mut f, "attributes"); // those that the series leaves out
    f
}

fn series() -> Vec<Field> {
    let mut f = vec![req("metric", DataType::Utf8), req("series_id", DataType::Int64)];
    moment(&mut f, "time"); // first seen that day
    f.extend([
        req("labels", map_of(DataType::Utf8)), // with `__name__`
        opt("type", DataType::Utf8),           // counter, gauge, histogram, summary, unknown
        opt("unit", DataType::Utf8),
        opt("help", DataType::Utf8),
        // The metric as the sender described it.
        opt("sent_name", DataType::Utf8),
        opt("sent_unit", DataType::Utf8),
        opt("sent_kind", DataType::Utf8), // gauge, sum, histogram, exponential_histogram, summary
        opt("temporality", DataType::Int32), // OTLP: 1 delta, 2 cumulative
        opt("monotonic", DataType::Boolean),
        opt("whole", DataType::Boolean), // whether its values were sent as whole numbers
    ]);
    attributes(&mut f, "metadata");
    // Where its points came from. Attributes that are labels, name and text, are not repeated.
    f.push(opt("service", DataType::Utf8));
    attributes(&mut f, "attributes");
    let mut sent_from = vec![];
    origin(&mut sent_from);
    f.extend(sent_from.into_iter().map(|field| field.with_nullable(true)));
    f
}

fn edges() -> Vec<Field> {
    let mut f = vec![];
    moment(&mut f, "time"); // start of the bucket
    f.extend([
        req("client", DataType::Utf8),
        req("server", DataType::Utf8),
        req("endpoint", DataType::Utf8), // instance that answered; empty where unknown
        req("protocol", DataType::Utf8),
        req("reporter", DataType::Utf8), // source, destination, or span
        req("calls", DataType::Int64),   // answered calls; refused ones are apart
        req("errors", DataType::Int64),
        req("client_errors", DataType::Int64),
        req("refused", DataType::Int64),
        req("probes", DataType::Int64), // of the calls, those that tested a target
        req("duration_sum_ns", DataType::Int64),
        req("sketch", DataType::Binary), // weir_model::Sketch, seconds
        req("mtls", DataType::Boolean),
    ]);
    f
}

fn findings() -> Vec<Field> {
    let mut f = vec![];
    moment(&mut f, "time");
    f.extend([
        req("id", DataType::Utf8),
        req("state", DataType::Utf8),    // opened, updated, resolved
        req("kind", DataType::Utf8),     // errors, latency, outage
        req("level", DataType::Utf8),    // endpoint, edge, service
        req("severity", DataType::Utf8), // warning, critical
        opt("client", DataType::Utf8),   // empty or null: every caller
        req("service", DataType::Utf8),
        opt("endpoint", DataType::Utf8),
        req("detector", DataType::Utf8),
        req("metric", DataType::Utf8),
        req("window_ms", DataType::Int64),
        req("observed", DataType::Float64),
        req("baseline", DataType::Float64),
        req("score", DataType::Float64),
        req("samples", DataType::Int64),
        req("callers_agreeing", DataType::Int64),
        opt("causal_path", DataType::Utf8), // a > b > c
        opt("trace_ids", DataType::Utf8),   // hex, comma-separated
        req("message", DataType::Utf8),
        req("query", DataType::Utf8),
    ]);
    f
}

fn hints() -> Vec<Field> {
    let mut f = vec![];
    moment(&mut f, "time");
    f.extend([
        req("id", DataType::Utf8),
        req("revision", DataType::Int64),
        req("epoch", DataType::Int64),
        req("event", DataType::Utf8),  // issued, renewed, withdrawn, ack
        opt("action", DataType::Utf8), // of issued, renewed, withdrawn
        opt("mode", DataType::Utf8),
        opt("callers", DataType::Utf8), // comma-separated; empty: all
        opt("service", DataType::Utf8),
        opt("target_kind", DataType::Utf8), // service, subset, endpoint, zone
        opt("target", DataType::Utf8),
        opt("ttl_ms", DataType::Int64),
        opt("finding", DataType::Utf8),
        opt("evidence", DataType::Utf8), // JSON
        opt("proxy", DataType::Utf8),    // of an ack: who answered
        opt("proxy_service", DataType::Utf8),
        opt("verdict", DataType::Utf8),
        opt("reason", DataType::Utf8),
        opt("state", DataType::Utf8), // closed, soft, open, half-open, ramp
        opt("success_rate_before", DataType::Float64),
        opt("success_rate_after", DataType::Float64),
    ]);
    f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_columns_agree_with_the_schemas() {
        for (number, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(table.number()), number);
            assert_eq!(Table::from_number(table.number()), Some(table));
            let schema = table.schema();
            assert!(schema.column_with_name(table.time_column()).is_some(), "{table:?}");
            let sorted = table.sort_order().iter().map(|by| by.column());
            let listed = [table.stats_columns(), table.identity_columns(), table.needle_columns()].concat();
            for column in sorted.chain(listed) {
                assert!(schema.column_with_name(column).is_some(), "{table:?} has no `{column}`");
            }
            let mut names: Vec<_> = schema.fields().iter().map(|f| f.name()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), schema.fields().len(), "{table:?} repeats a column");
        }
    }
}
