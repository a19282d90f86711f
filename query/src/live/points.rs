//! Stored histogram points as the analysis takes them: straight from the Arrow arrays, labels looked up once
//! per series.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use weir_model::{SeriesId, UnixNanos, limits, semconv};
use weir_storage::SeriesIndex;

use super::counters::Unused;
use crate::analysis::{Point, SeriesKey, TickBuilder};

/// OTLP's delta temporality.
const DELTA: i32 = 1;
/// The scale that stands for bounds of a sender's own choice.
const CUSTOM_BOUNDS: i32 = -53;
/// Points of a series that are remembered, so that one that was sent again is not counted again. A proxy
/// sends one a second and holds 32 requests.
const REMEMBERED: usize = limits::PROXY_OUTBOX;

/// A series of the edge metric.
#[derive(Debug)]
struct Series {
    /// What its labels say; nothing where they do not name an edge.
    key: Option<SeriesKey>,
    times: Times,
}

/// Times of the last points of a series.
#[derive(Debug, Default)]
struct Times {
    last: [UnixNanos; REMEMBERED],
    next: usize,
}

impl Times {
    /// Whether a point at `time` is new; it is remembered from now on.
    fn note(&mut self, time: UnixNanos) -> bool {
        let new = !self.last.contains(&time);
        if new {
            self.last[self.next] = time;
            self.next = (self.next + 1) % REMEMBERED;
        }
        new
    }
}

/// What is known of the series that have been met, at most [`limits::LIVE_SERIES`].
#[derive(Debug, Default)]
pub(super) struct Points {
    series: HashMap<SeriesId, Series>,
    /// Services whose calls proxies count, at most [`limits::ANALYSIS_EDGES`].
    servers: HashSet<Arc<str>>,
}

impl Points {
    /// Gives the points of the edge metric in `rows`, which are rows of `histograms`, to `builder`.
    /// Returns how many there were.
    pub(super) fn observe(
        &mut self,
        rows: &[RecordBatch],
        index: &SeriesIndex,
        builder: &mut TickBuilder,
        now: UnixNanos,
        unused: &mut Unused,
    ) -> u64 {
        let mut taken = 0;
        for columns in rows.iter().filter_map(Columns::of) {
            for row in (0..columns.metric.len()).filter(|row| columns.is_edge(*row)) {
                let point = match columns.point(row) {
                    Ok(point) => point,
                    Err(reason) => {
                        unused.add(reason, 1);
                        continue;
                    }
                };
                let id = SeriesId::from_column(columns.series.value(row));
                let Some(Series { key: Some(key), times }) = self.series(id, index) else {
                    unused.add("labels", 1);
                    continue;
                };
                if times.note(point.time) {
                    builder.observe(key, &point, now);
                    taken += 1;
                } else {
                    unused.add("repeated", 1);
                }
            }
        }
        taken
    }

    /// Whether proxies count the calls of the service `name`.
    pub(super) fn know_server(&self, name: &str) -> bool {
        self.servers.contains(name)
    }

    fn series(&mut self, id: SeriesId, index: &SeriesIndex) -> Option<&mut Series> {
        if !self.series.contains_key(&id) {
            let labels = index.labels(id)?;
            if self.series.len() >= limits::LIVE_SERIES {
                self.series.clear(); // costs a look-up per series that is still alive
            }
            let key = SeriesKey::from_labels(|name| labels.get(name));
            if let Some(key) = key.as_ref().filter(|_| self.servers.len() < limits::ANALYSIS_EDGES) {
                self.servers.insert(Arc::clone(&key.edge.server));
            }
            self.series.insert(id, Series { key, times: Times::default() });
        }
        self.series.get_mut(&id)
    }
}

/// The columns of a batch of `histograms` that count.
struct Columns<'a> {
    metric: &'a StringArray,
    series: &'a Int64Array,
    micros: &'a [i64],
    nanos: &'a [i16],
    temporality: &'a Int32Array,
    scale: &'a Int32Array,
    count: &'a Int64Array,
    sum: &'a arrow::array::Float64Array,
    zero: &'a Int64Array,
    offset: &'a Int32Array,
    counts: &'a ListArray,
    /// The elements of `counts`.
    elements: &'a [i64],
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let column = |name: &str| batch.column_by_name(name);
        let counts = column("positive_counts")?.as_list_opt::<i32>()?;
        Some(Self {
            metric: column("metric")?.as_string_opt()?,
            series: column("series_id")?.as_primitive_opt::<Int64Type>()?,
            micros: column("time")?.as_primitive_opt::<TimestampMicrosecondType>()?.values(),
            nanos: column("time_nanos")?.as_primitive_opt::<Int16Type>()?.values(),
            temporality: column("temporality")?.as_primitive_opt::<Int32Type>()?,
            scale: column("scale")?.as_primitive_opt::<Int32Type>()?,
            count: column("count")?.as_primitive_opt::<Int64Type>()?,
            sum: column("sum")?.as_primitive_opt::<Float64Type>()?,
            zero: column("zero_count")?.as_primitive_opt::<Int64Type>()?,
            offset: column("positive_offset")?.as_primitive_opt::<Int32Type>()?,
            counts,
            elements: counts.values().as_primitive_opt::<Int64Type>()?.values(),
        })
    }

    fn is_edge(&self, row: usize) -> bool {
        self.metric.value(row) == semconv::EDGE_METRIC
    }

    /// The point, or why it is of no use.
    fn point(&self, row: usize) -> Result<Point<'a>, &'static str> {
        if self.temporality.value(row) != DELTA {
            return Err("temporality");
        }
        if self.scale.value(row) == CUSTOM_BOUNDS {
            return Err("custom_bounds");
        }
        let offsets = self.counts.value_offsets();
        Ok(Point {
            time: UnixNanos::from_columns(self.micros[row], self.nanos[row]),
            count: self.count.value(row),
            sum: if self.sum.is_valid(row) { self.sum.value(row) } else { 0.0 },
            zero: self.zero.value(row),
            scale: self.scale.value(row),
            offset: self.offset.value(row),
            counts: &self.elements[offsets[row] as usize..offsets[row + 1] as usize],
        })
    }
}
