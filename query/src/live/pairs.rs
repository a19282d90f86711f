//! Calls where no proxy is: a client span and the server span below it make one call of the service graph.
//!
//! A proxy between two services puts its own spans between theirs, so that spans of a call which a proxy
//! counts never meet here. Halves wait for each other for some seconds; a server span without a parent is a
//! call from nobody known, unless the service has a proxy. Only the graph takes these calls: the detectors hear proxies alone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, AsArray, BinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use weir_model::{Sketch, SpanId, TraceId, UnixNanos, limits};

use super::counters::Unused;
use super::points::Points;
use crate::analysis::{Class, EdgeKey, Reporter, SeriesKey, TickBuilder};

/// How long one half of a call waits for the other: exporters send every five seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// OTLP numbers of a span's kind and status.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;
/// The caller where there is none, as proxies write it.
const UNKNOWN: &str = "unknown";
const SECOND: u64 = 1_000_000_000;

/// The client span of a call.
type Key = (TraceId, SpanId);

/// One half of a call.
#[derive(Debug, Clone)]
struct Half {
    service: Arc<str>,
    /// The instance, of a server.
    endpoint: Arc<str>,
    is_grpc: bool,
    class: Class,
    /// Whole seconds since 1970 at its end.
    second: u64,
    duration_ns: i64,
    /// How many calls it stands for.
    weight: f64,
}

/// Halves that wait for the other one, at most [`limits::SPAN_HALVES`].
#[derive(Debug, Default)]
pub(super) struct Pairs {
    clients: HashMap<Key, Half>,
    servers: HashMap<Key, Half>,
    /// What came when, oldest first; what has met its other half is still here.
    waiting: VecDeque<(UnixNanos, Key)>,
    names: HashSet<Arc<str>>,
}

impl Pairs {
    /// Adds the calls that `rows`, which are rows of `spans`, complete to the service graph.
    pub(super) fn observe(
        &mut self,
        rows: &[RecordBatch],
        points: &Points,
        builder: &mut TickBuilder,
        now: UnixNanos,
        unused: &mut Unused,
    ) {
        self.forget(now);
        for columns in rows.iter().filter_map(Columns::of) {
            for row in (0..columns.kind.len()).filter(|row| columns.is_apps(*row)) {
                let call = match columns.kind.value(row) {
                    CLIENT => self.client(&columns, row, now, unused),
                    SERVER => self.server(&columns, row, points, now, unused),
                    _ => None,
                };
                if let Some((client, server)) = call {
                    add(builder, &client, &server);
                }
            }
        }
    }

    /// The call that a client span completes; it waits where there is none.
    fn client(
        &mut self,
        columns: &Columns<'_>,
        row: usize,
        now: UnixNanos,
        unused: &mut Unused,
    ) -> Option<(Half, Half)> {
        let key = columns.key(row, columns.span)?;
        let half = self.half(columns, row);
        if let Some(server) = self.servers.remove(&key) {
            return Some((half, server));
        }
        if self.may_wait(key, now, unused) {
            self.clients.insert(key, half);
        }
        None
    }

    /// The call that a server span completes; it waits where there is none.
    fn server(
        &mut self,
        columns: &Columns<'_>,
        row: usize,
        points: &Points,
        now: UnixNanos,
        unused: &mut Unused,
    ) -> Option<(Half, Half)> {
        let half = self.half(columns, row);
        if columns.parent.is_null(row) || columns.parent.value(row).is_empty() {
            let nobody = Half { service: self.name(UNKNOWN), ..half.clone() };
            return (!points.know_server(&half.service)).then_some((nobody, half));
        }
        let key = columns.key(row, columns.parent)?;
        if let Some(client) = self.clients.remove(&key) {
            return Some((client, half));
        }
        if self.may_wait(key, now, unused) {
            self.servers.insert(key, half);
        }
        None
    }

    /// Whether there is room for a half to wait under `key`; its place is taken if so.
    fn may_wait(&mut self, key: Key, now: UnixNanos, unused: &mut Unused) -> bool {
        let room = self.waiting.len() < limits::SPAN_HALVES;
        if room {
            self.waiting.push_back((now, key));
        } else {
            unused.add("span_halves", 1);
        }
        room
    }

    fn forget(&mut self, now: UnixNanos) {
        while let Some((_, key)) = self.waiting.pop_front_if(|(since, _)| now.since(*since) >= PATIENCE) {
            self.clients.remove(&key);
            self.servers.remove(&key);
        }
    }

    fn half(&mut self, columns: &Columns<'_>, row: usize) -> Half {
        let duration_ns = columns.duration_ns.value(row).max(0);
        let start = UnixNanos::from_columns(columns.micros[row], columns.nanos[row]);
        let end = start + Duration::from_nanos(duration_ns as u64);
        Half {
            service: self.name(columns.service.value(row)),
            endpoint: self.name(text(columns.instance, row)),
            is_grpc: text(columns.rpc_system, row) == "grpc",
            class: columns.class(row),
            second: end.0.saturating_sub(1) / SECOND,
            duration_ns,
            weight: columns.weight.value(row),
        }
    }

    /// One copy of each name.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        if self.names.len() >= limits::ANALYSIS_EDGES {
            self.names.clear();
        }
        let new: Arc<str> = name.into();
        self.names.insert(Arc::clone(&new));
        new
    }
}

/// Adds a call as its client saw it.
fn add(builder: &mut TickBuilder, client: &Half, server: &Half) {
    if client.service == server.service {
        return;
    }
    // What the called service calls an error is one, whether its caller minds or not.
    let class = if server.class == Class::Ok { client.class } else { server.class };
    let series = SeriesKey {
        edge: EdgeKey {
            client: Arc::clone(&client.service),
            server: Arc::clone(&server.service),
            endpoint: Arc::clone(&server.endpoint),
            protocol: if client.is_grpc || server.is_grpc { "grpc" } else { "http" }.into(),
            reporter: Reporter::Span,
        },
        class,
        probe: false,
    };
    // A span that was kept for ten stands for ten calls.
    let calls = client.weight.max(server.weight).round().clamp(1.0, 1e6) as u64;
    let mut latency = Sketch::default();
    latency.record_many(client.duration_ns as f64 / 1e9, calls);
    builder.add_increment(client.second, &series, calls, &latency);
}

/// The columns of a batch of `spans` that make a call.
struct Columns<'a> {
    trace: &'a BinaryArray,
    span: &'a BinaryArray,
    parent: &'a BinaryArray,
    kind: &'a Int32Array,
    status: &'a Int32Array,
    micros: &'a [i64],
    nanos: &'a [i16],
    duration_ns: &'a Int64Array,
    http_status: &'a Int64Array,
    weight: &'a Float64Array,
    service: &'a StringArray,
    instance: &'a StringArray,
    rpc_system: &'a StringArray,
    db_system: &'a StringArray,
    direction: &'a StringArray,
}

fn text(column: &StringArray, row: usize) -> &str {
    if column.is_valid(row) { column.value(row) } else { "" }
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let column = |name: &str| batch.column_by_name(name);
        let text = |name: &str| column(name)?.as_string_opt::<i32>();
        let id = |name: &str| column(name)?.as_binary_opt::<i32>();
        Some(Self {
            trace: id("trace_id")?,
            span: id("span_id")?,
            parent: id("parent_span_id")?,
            kind: column("kind")?.as_primitive_opt::<Int32Type>()?,
            status: column("status")?.as_primitive_opt::<Int32Type>()?,
            micros: column("start_time")?.as_primitive_opt::<TimestampMicrosecondType>()?.values(),
            nanos: column("start_time_nanos")?.as_primitive_opt::<Int16Type>()?.values(),
            duration_ns: column("duration_ns")?.as_primitive_opt::<Int64Type>()?,
            http_status: column("http_status")?.as_primitive_opt::<Int64Type>()?,
            weight: column("sample_weight")?.as_primitive_opt::<Float64Type>()?,
            service: text("service")?,
            instance: text("service_instance_id")?,
            rpc_system: text("rpc_system")?,
            db_system: text("db_system")?,
            direction: text("direction")?,
        })
    }

    /// Whether it is an application's span, and no call of a database, whose other half nobody writes.
    fn is_apps(&self, row: usize) -> bool {
        self.direction.is_null(row) && self.db_system.is_null(row)
    }

    fn key(&self, row: usize, span: &BinaryArray) -> Option<Key> {
        Some((TraceId::from_slice(self.trace.value(row))?, SpanId::from_slice(span.value(row))?))
    }

    fn class(&self, row: usize) -> Class {
        let http = if self.http_status.is_valid(row) { self.http_status.value(row) } else { 0 };
        match http {
            500.. => Class::Error,
            400.. => Class::ClientError,
            _ if self.status.value(row) == ERROR => Class::Error,
            _ => Class::Ok,
        }
    }
}
