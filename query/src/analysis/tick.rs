//! From stored histogram points to closed seconds: who called whom, how often, how it ended, how long it took.
//!
//! A [`TickBuilder`] takes each point once. What it covers goes to the second it ended in, as long as that
//! second is open, and in any case to the ten-second [`EdgeIncrement`]s that the service graph is made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{Sketch, UnixNanos, limits, semconv, sketch};

const SECOND: u64 = 1_000_000_000;
/// Seconds that the service graph's rows cover.
pub const BUCKET_SECONDS: u64 = 10;
/// Buckets that one point may have; OpenTelemetry's default limit is 160.
const POINT_BUCKETS: usize = 2_048;
/// Calls that one point may count.
const POINT_CALLS: u64 = 1 << 32;
/// How far ahead of the clock a point may end and still count in a second.
const AHEAD: Duration = Duration::from_secs(5);
/// Quiet seconds that are handed out one by one; a longer gap is jumped over.
const QUIET_SECONDS: u64 = 120;

/// Which side measured a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// The caller's proxy: sees refused connections and the network too.
    Source,
    /// The called side's proxy.
    Destination,
    /// A pair of spans, where no proxy is.
    Span,
}

impl Reporter {
    /// Its name, as tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Span => "span",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Source, Self::Destination, Self::Span].into_iter().find(|r| r.name() == name)
    }
}

/// One edge of the service graph, as one side sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeKey {
    /// The calling service.
    pub client: Arc<str>,
    /// The called service.
    pub server: Arc<str>,
    /// The instance that answered; empty where none was chosen.
    pub endpoint: Arc<str>,
    /// `http`, `grpc` or `tcp`.
    pub protocol: Arc<str>,
    /// Who says so.
    pub reporter: Reporter,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Well.
    Ok,
    /// The caller's fault.
    ClientError,
    /// The server's fault.
    Error,
    /// It never left.
    Refused,
}

/// What the labels of a series of [`semconv::EDGE_METRIC`] say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesKey {
    /// The edge.
    pub edge: EdgeKey,
    /// How the calls ended.
    pub class: Class,
    /// Whether they were let through to test the target.
    pub probe: bool,
}

impl SeriesKey {
    /// The key in labels that `get` looks up, or `None` where a name is missing or a word unknown.
    pub fn from_labels<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        use semconv::edge;
        let class = match get(edge::CLASS)? {
            edge::OK => Class::Ok,
            edge::CLIENT_ERROR => Class::ClientError,
            edge::ERROR => Class::Error,
            edge::REFUSED => Class::Refused,
            _ => return None,
        };
        let text = |name| Arc::<str>::from(get(name).unwrap_or_default());
        Some(Self {
            edge: EdgeKey {
                client: get(edge::CLIENT)?.into(),
                server: get(edge::SERVER)?.into(),
                endpoint: text(edge::ENDPOINT),
                protocol: text(edge::PROTOCOL),
                reporter: Reporter::from_name(get(edge::REPORTER)?)?,
            },
            class,
            probe: get(edge::PROBE) == Some("true"),
        })
    }
}

/// One point of an exponential histogram with delta temporality.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point<'a> {
    /// End of what it covers.
    pub time: UnixNanos,
    /// Calls.
    pub count: i64,
    /// Sum of their durations in seconds.
    pub sum: f64,
    /// Calls that took no time.
    pub zero: i64,
    /// OpenTelemetry scale of the buckets.
    pub scale: i32,
    /// Index of the first bucket.
    pub offset: i32,
    /// Calls per bucket.
    pub counts: &'a [i64],
}

impl Point<'_> {
    fn calls(&self) -> u64 {
        (self.count.max(0) as u64).min(POINT_CALLS)
    }

    /// The point as a sketch. Finer buckets are folded into ours, coarser ones go to their middle.
    fn sketch(&self) -> Sketch {
        let mut out = Sketch::default();
        let clean = |n: i64| (n.max(0) as u64).min(POINT_CALLS);
        out.add_zero(clean(self.zero));
        out.add_sum(if self.sum.is_finite() { self.sum.max(0.0) } else { 0.0 });
        for (position, &count) in self.counts.iter().take(POINT_BUCKETS).enumerate() {
            if count > 0 {
                let index = i64::from(self.offset).saturating_add(position as i64);
                out.add_bucket(rescale(index, self.scale), clean(count));
            }
        }
        out
    }
}

/// The bucket of [`sketch::SCALE`] for bucket `index` of another scale.
fn rescale(index: i64, scale: i32) -> i32 {
    let finer = i64::from(scale) - i64::from(sketch::SCALE);
    let index = match finer {
        0 => index,
        1.. => index >> finer.min(62),
        _ => {
            let width = 1_i64 << (-finer).min(30);
            index.saturating_mul(width).saturating_add(width / 2)
        }
    };
    index.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// Calls by how they ended, and how long they took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    /// Ended well.
    pub ok: u64,
    /// Blamed on the caller.
    pub client_errors: u64,
    /// Blamed on the server.
    pub errors: u64,
    /// Latency of the first two.
    pub latency: Sketch,
    /// Latency of the errors.
    pub failed: Sketch,
}

impl Counts {
    /// Calls that were answered or failed.
    pub fn calls(&self) -> u64 {
        self.ok.saturating_add(self.client_errors).saturating_add(self.errors)
    }
}

/// One second of one edge.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    /// Ordinary calls.
    pub traffic: Counts,
    /// Calls that tested the target.
    pub probes: Counts,
    /// Calls refused by a breaker or a hint.
    pub refused: u64,
}

impl Cell {
    /// Calls that were answered or failed, probes included.
    pub fn calls(&self) -> u64 {
        self.traffic.calls().saturating_add(self.probes.calls())
    }

    /// Adds everything `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.traffic.merge(&other.traffic);
        self.probes.merge(&other.probes);
        self.refused = self.refused.saturating_add(other.refused);
    }

    /// Counts `calls` that ended as `series` says and took what `latency` holds.
    pub fn add(&mut self, series: &SeriesKey, calls: u64, latency: &Sketch) {
        let counts = if series.probe { &mut self.probes } else { &mut self.traffic };
        let (number, sketch) = match series.class {
            Class::Ok => (&mut counts.ok, Some(&mut counts.latency)),
            Class::ClientError => (&mut counts.client_errors, Some(&mut counts.latency)),
            Class::Error => (&mut counts.errors, Some(&mut counts.failed)),
            Class::Refused => (&mut self.refused, None),
        };
        *number = number.saturating_add(calls);
        if let Some(sketch) = sketch {
            sketch.merge(latency);
        }
    }
}

impl Counts {
    fn merge(&mut self, other: &Self) {
        self.ok = self.ok.saturating_add(other.ok);
        self.client_errors = self.client_errors.saturating_add(other.client_errors);
        self.errors = self.errors.saturating_add(other.errors);
        self.latency.merge(&other.latency);
        self.failed.merge(&other.failed);
    }
}

/// A closed second.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tick {
    /// Which: seconds since 1970 of its start.
    pub second: u64,
    /// When it was closed; the time of whatever is concluded from it.
    pub now: UnixNanos,
    /// What was measured.
    pub cells: BTreeMap<EdgeKey, Cell>,
}

/// What is to be added to ten seconds of one edge of the service graph.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Increment {
    /// Calls that were answered or failed.
    pub calls: u64,
    /// Of these, failed ones.
    pub errors: u64,
    /// Of these, blamed on the caller.
    pub client_errors: u64,
    /// Calls refused by a breaker or a hint.
    pub refused: u64,
    /// Of the calls, those that tested the target.
    pub probes: u64,
    /// Latency of the calls.
    pub latency: Sketch,
}

impl Increment {
    /// Adds everything `other` counted.
    pub fn merge(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.errors = self.errors.saturating_add(other.errors);
        self.client_errors = self.client_errors.saturating_add(other.client_errors);
        self.refused = self.refused.saturating_add(other.refused);
        self.probes = self.probes.saturating_add(other.probes);
        self.latency.merge(&other.latency);
    }
}

/// An [`Increment`] with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeIncrement {
    /// Start of the ten seconds.
    pub time: UnixNanos,
    /// The edge.
    pub edge: EdgeKey,
    /// What to add.
    pub add: Increment,
}

/// What the builder could not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Points whose second was closed, or that lie ahead of the clock: in the graph, in no tick.
    pub late: u64,
    /// Points and increments of further edges than [`limits::ANALYSIS_EDGES`] and [`limits::EDGE_INCREMENTS`].
    pub edges: u64,
}

/// Collects points into seconds and into increments of the service graph.
#[derive(Debug, Default)]
pub struct TickBuilder {
    open: BTreeMap<u64, BTreeMap<EdgeKey, Cell>>,
    next: Option<u64>,
    increments: BTreeMap<(u64, EdgeKey), Increment>,
    dropped: Dropped,
}

impl TickBuilder {
    /// Takes a point; `now` is the clock's time.
    pub fn observe(&mut self, series: &SeriesKey, point: &Point<'_>, now: UnixNanos) {
        let latency = point.sketch();
        let calls = point.calls();
        let second = point.time.0.saturating_sub(1) / SECOND;
        self.add_increment(second, series, calls, &latency);
        let late = self.next.is_some_and(|next| second < next);
        if late || point.time > now + AHEAD {
            self.dropped.late += 1;
            return;
        }
        let cells = self.open.entry(second).or_default();
        if cells.len() >= limits::ANALYSIS_EDGES && !cells.contains_key(&series.edge) {
            self.dropped.edges += 1;
            return;
        }
        cells.entry(series.edge.clone()).or_default().add(series, calls, &latency);
    }

    /// Adds to the service graph alone.
    pub fn add_increment(&mut self, second: u64, series: &SeriesKey, calls: u64, latency: &Sketch) {
        let bucket = second - second % BUCKET_SECONDS;
        let key = (bucket, series.edge.clone());
        if !self.has_room_for(&key) {
            self.dropped.edges += 1;
            return;
        }
        let add = self.increments.entry(key).or_default();
        let number = |n: &mut u64| *n = n.saturating_add(calls);
        if series.class == Class::Refused {
            number(&mut add.refused);
            return;
        }
        number(&mut add.calls);
        match series.class {
            Class::Error => number(&mut add.errors),
            Class::ClientError => number(&mut add.client_errors),
            Class::Ok | Class::Refused => {}
        }
        if series.probe {
            number(&mut add.probes);
        }
        add.latency.merge(latency);
    }

    /// The seconds that ended at least `after` before `now`, oldest first, quiet ones included.
    pub fn close(&mut self, now: UnixNanos, after: Duration) -> Vec<Tick> {
        let closed = (now - after).0 / SECOND; // seconds before this one have ended long enough ago
        let Some(mut next) = self.next.or_else(|| self.open.keys().next().copied()) else { return vec![] };
        if closed <= next {
            return vec![];
        }
        if closed - next > QUIET_SECONDS {
            next = closed - QUIET_SECONDS;
            self.open = self.open.split_off(&next);
        }
        self.next = Some(closed);
        (next..closed)
            .map(|second| Tick { second, now, cells: self.open.remove(&second).unwrap_or_default() })
            .collect()
    }

    /// The increments since the last call.
    pub fn take_increments(&mut self) -> Vec<EdgeIncrement> {
        std::mem::take(&mut self.increments)
            .into_iter()
            .map(|((bucket, edge), add)| EdgeIncrement { time: UnixNanos(bucket * SECOND), edge, add })
            .collect()
    }

    /// Gives back increments that could not be stored; the next call of [`Self::take_increments`] has them
    /// again, added to what has come since.
    pub fn put_back(&mut self, increments: Vec<EdgeIncrement>) {
        for EdgeIncrement { time, edge, add } in increments {
            let key = (time.0 / SECOND, edge);
            if self.has_room_for(&key) {
                self.increments.entry(key).or_default().merge(&add);
            } else {
                self.dropped.edges += 1;
            }
        }
    }

    fn has_room_for(&self, key: &(u64, EdgeKey)) -> bool {
        self.increments.len() < limits::EDGE_INCREMENTS || self.increments.contains_key(key)
    }

    /// What could not be used so far.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }
}

#[cfg(test)]
mod tests;
