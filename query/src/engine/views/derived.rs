//! The views that are defined by SQL over other views. Time filters reach the stored rows wherever time is
//! one of the columns that a view groups by.

use weir_storage::Table;

use super::super::catalog::{Column, View};
use super::comments;

/// The rows of the stored tables of the service graph: increments, several to a bucket.
pub(super) const EDGE_ROWS: [(Table, &str); 3] = [
    (Table::Edges, "edge_increments"),
    (Table::EdgesMinute, "edge_increments_1m"),
    (Table::EdgesHour, "edge_increments_1h"),
];

/// The rows of the stored table `exemplars`, without labels.
pub(super) const EXEMPLAR_ROWS: &str = "exemplar_rows";

/// What only these views are made from, and nobody else sees.
pub(super) const MADE_FROM: [&str; 4] = [EDGE_ROWS[0].1, EDGE_ROWS[1].1, EDGE_ROWS[2].1, EXEMPLAR_ROWS];

/// A view with its definition.
pub(super) struct Derived {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// Columns and their types, as planning `text` gives them.
    pub(super) columns: &'static [(&'static str, &'static str)],
}

impl Derived {
    pub(super) fn describe(&self) -> View {
        let column = |(name, sql_type): &(&str, &str)| Column {
            name: (*name).to_owned(),
            sql_type: (*sql_type).to_owned(),
            comment: comments::of(self.name, name),
        };
        let columns = self.columns.iter().map(column).collect();
        View { name: self.name, comment: comments::of_view(self.name), columns }
    }
}

/// All of them.
pub(super) const ALL: &[Derived] =
    &[EDGES, EDGES_MINUTE, EDGES_HOUR, SERVICE_GRAPH, TRACES, METRICS, EXEMPLARS];

/// The view `$name`, which adds up the rows of `$rows`.
macro_rules! buckets {
    ($name:literal, $rows:literal) => {
        Derived {
            name: $name,
            text: concat!(
                "\
SELECT time, client, server, endpoint, protocol, reporter,
       sum(calls) AS calls, sum(errors) AS errors, sum(client_errors) AS client_errors,
       sum(refused) AS refused, sum(probes) AS probes, sum(duration_sum_ns) AS duration_sum_ns,
       sketch_merge(sketch) AS sketch, bool_and(mtls) AS mtls,
       1000 * sketch_quantile(sketch_merge(sketch), 0.5) AS p50_ms,
       1000 * sketch_quantile(sketch_merge(sketch), 0.9) AS p90_ms,
       1000 * sketch_quantile(sketch_merge(sketch), 0.99) AS p99_ms
FROM ",
                $rows,
                "
GROUP BY time, client, server, endpoint, protocol, reporter"
            ),
            columns: BUCKETS,
        }
    };
}

const EDGES: Derived = buckets!("edges", "edge_increments");
const EDGES_MINUTE: Derived = buckets!("edges_1m", "edge_increments_1m");
const EDGES_HOUR: Derived = buckets!("edges_1h", "edge_increments_1h");

const BUCKETS: &[(&str, &str)] = &[
    ("time", "timestamp(ns)"),
    ("client", "text"),
    ("server", "text"),
    ("endpoint", "text"),
    ("protocol", "text"),
    ("reporter", "text"),
    ("calls", "bigint"),
    ("errors", "bigint"),
    ("client_errors", "bigint"),
    ("refused", "bigint"),
    ("probes", "bigint"),
    ("duration_sum_ns", "bigint"),
    ("sketch", "binary"),
    ("mtls", "boolean"),
    ("p50_ms", "double"),
    ("p90_ms", "double"),
    ("p99_ms", "double"),
];

// Of the sides that reported an edge, the caller's numbers count, then the callee's, then those from spans.
const SERVICE_GRAPH: Derived = Derived {
    name: "service_graph",
    text: "\
SELECT client, server, protocol, reporter, calls, errors, client_errors, refused,
       CASE WHEN calls > 0 THEN CAST(errors AS DOUBLE) / calls END AS error_rate,
       1000 * sketch_quantile(sketch, 0.5) AS p50_ms,
       1000 * sketch_quantile(sketch, 0.9) AS p90_ms,
       1000 * sketch_quantile(sketch, 0.99) AS p99_ms,
       mtls, first_seen, last_seen
FROM (SELECT *, row_number() OVER (
             PARTITION BY client, server, protocol
             ORDER BY CASE reporter WHEN 'source' THEN 0 WHEN 'destination' THEN 1 ELSE 2 END) AS choice
      FROM (SELECT client, server, protocol, reporter,
                   sum(calls) AS calls, sum(errors) AS errors, sum(client_errors) AS client_errors,
                   sum(refused) AS refused, sketch_merge(sketch) AS sketch, bool_and(mtls) AS mtls,
                   min(time) AS first_seen, max(time) AS last_seen
            FROM edge_increments GROUP BY client, server, protocol, reporter))
WHERE choice = 1",
    columns: &[
        ("client", "text"),
        ("server", "text"),
        ("protocol", "text"),
        ("reporter", "text"),
        ("calls", "bigint"),
        ("errors", "bigint"),
        ("client_errors", "bigint"),
        ("refused", "bigint"),
        ("error_rate", "double"),
        ("p50_ms", "double"),
        ("p90_ms", "double"),
        ("p99_ms", "double"),
        ("mtls", "boolean"),
        ("first_seen", "timestamp(ns)"),
        ("last_seen", "timestamp(ns)"),
    ],
};

const TRACES: Derived = Derived {
    name: "traces",
    text: "\
SELECT trace_id, min(start_time) AS start_time,
       CAST(max(end_time) AS BIGINT) - CAST(min(start_time) AS BIGINT) AS duration_ns,
       first_value(service ORDER BY parent_span_id IS NOT NULL, start_time) AS root_service,
       first_value(name ORDER BY parent_span_id IS NOT NULL, start_time) AS root_name,
       count(DISTINCT span_id) AS spans,
       count(DISTINCT CASE WHEN status = 'error' THEN span_id END) AS errors,
       array_agg(DISTINCT service ORDER BY service) AS services
FROM spans
GROUP BY trace_id",
    columns: &[
        ("trace_id", "text"),
        ("start_time", "timestamp(ns)"),
        ("duration_ns", "bigint"),
        ("root_service", "text"),
        ("root_name", "text"),
        ("spans", "bigint"),
        ("errors", "bigint"),
        ("services", "list<text>"),
    ],
};

// A series' labels are stored again each day: one set is taken, or samples would multiply.
const METRICS: Derived = Derived {
    name: "metrics",
    text: "\
SELECT samples.metric AS name, known.labels AS labels, samples.time AS time, samples.value AS value,
       samples.series_id AS series_id, samples.start_time AS start_time
FROM samples JOIN (SELECT metric, series_id, first_value(labels) AS labels
                   FROM series GROUP BY metric, series_id) AS known
  ON samples.metric = known.metric AND samples.series_id = known.series_id",
    columns: &[
        ("name", "text"),
        ("labels", "map<text,text>"),
        ("time", "timestamp(ns)"),
        ("value", "double"),
        ("series_id", "bigint"),
        ("start_time", "timestamp(ns)"),
    ],
};

const EXEMPLARS: Derived = Derived {
    name: "exemplars",
    text: "\
SELECT rows.metric AS name, known.labels AS labels, rows.time AS time, rows.value AS value,
       rows.trace_id AS trace_id, rows.span_id AS span_id, rows.attributes AS attributes,
       rows.value_long AS value_long, rows.series_id AS series_id
FROM exemplar_rows AS rows JOIN (SELECT metric, series_id, first_value(labels) AS labels
                                 FROM series GROUP BY metric, series_id) AS known
  ON rows.metric = known.metric AND rows.series_id = known.series_id",
    columns: &[
        ("name", "text"),
        ("labels", "map<text,text>"),
        ("time", "timestamp(ns)"),
        ("value", "double"),
        ("trace_id", "text"),
        ("span_id", "text"),
        ("attributes", "map<text,text>"),
        ("value_long", "bigint"),
        ("series_id", "bigint"),
    ],
};
