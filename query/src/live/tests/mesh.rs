//! A storage, a clock that stands until it is moved, and proxies that report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use weir_model::hint::{HintSet, Mode};
use weir_model::{Clock, Sketch, TenantId, UnixNanos, semconv};
use weir_storage::{Labels, Options, Storage, Table, WriteBatch, WriteError};

use super::super::counters::Counters;
use super::super::rounds::Rounds;
use crate::analysis::{BUCKET_SECONDS, Config};
use crate::api;
use crate::engine::{Answer, Engine, EngineOptions, SqlQuery};
use crate::live::Live;
use crate::testdata::{self, T0};

/// A call as its proxy counts it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Call {
    pub(super) client: &'static str,
    pub(super) server: &'static str,
    pub(super) endpoint: &'static str,
    pub(super) class: &'static str,
    pub(super) reporter: &'static str,
    pub(super) probe: bool,
    pub(super) ms: f64,
}

impl Call {
    pub(super) fn ok(ms: f64) -> Self {
        Self {
            client: "checkout",
            server: "payments",
            endpoint: "payments-1",
            class: "ok",
            reporter: "source",
            probe: false,
            ms,
        }
    }

    pub(super) fn labels(&self) -> Labels {
        let probe = if self.probe { "true" } else { "false" };
        Labels::new([
            ("__name__", semconv::EDGE_METRIC),
            ("job", self.client),
            ("instance", "1"),
            ("client", self.client),
            ("server", self.server),
            ("endpoint", self.endpoint),
            ("protocol", "http"),
            ("class", self.class),
            ("reporter", self.reporter),
            ("probe", probe),
        ])
    }
}

/// Bucket in seconds, client, server, endpoint, reporter.
pub(super) type Key = (u64, String, String, String, String);

/// What a row of `edges` counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counted {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) client_errors: u64,
    pub(super) refused: u64,
    pub(super) probes: u64,
    pub(super) sketch: Sketch,
}

impl Counted {
    fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.client_errors += other.client_errors;
        self.refused += other.refused;
        self.probes += other.probes;
        self.sketch.merge(&other.sketch);
    }

    pub(super) fn add(&mut self, call: &Call) {
        if call.class == "refused" {
            self.refused += 1;
            return;
        }
        self.calls += 1;
        self.errors += u64::from(call.class == "error");
        self.client_errors += u64::from(call.class == "client_error");
        self.probes += u64::from(call.probe);
        self.sketch.record(call.ms / 1024.0);
    }
}

pub(super) struct Mesh {
    pub(super) dir: TempDir,
    pub(super) storage: Storage,
    pub(super) live: Live,
    pub(super) hints: watch::Receiver<HintSet>,
    /// Everything that was reported.
    pub(super) reported: BTreeMap<Key, Counted>,
    clock: Arc<AtomicU64>,
    rounds: Option<Rounds>,
    points: u64,
}

impl Mesh {
    pub(super) async fn open() -> Self {
        Self::over(tempfile::tempdir().unwrap(), T0 as u64 * 1_000_000_000).await
    }

    /// As after a restart over the rows in `dir`.
    pub(super) async fn over(dir: TempDir, now: u64) -> Self {
        let time = Arc::new(AtomicU64::new(now));
        let clock = Clock::new({
            let time = Arc::clone(&time);
            move || UnixNanos(time.load(Ordering::Relaxed))
        });
        let options = Options {
            flush_age: Duration::from_secs(3600),
            flush_bytes: usize::MAX,
            ..Options::new(dir.path().to_owned(), clock.clone())
        };
        let storage = Storage::open(options).await.unwrap();
        let (sender, hints) = watch::channel(HintSet::default());
        let config = Config { mode: Mode::Enforce, ..Config::default() };
        let live = Live::new(storage.clone(), TenantId::default(), clock, config, sender);
        Self { dir, storage, live, hints, reported: BTreeMap::new(), clock: time, rounds: None, points: 0 }
    }

    pub(super) fn now(&self) -> UnixNanos {
        UnixNanos(self.clock.load(Ordering::Relaxed))
    }

    pub(super) fn pass(&self, time: Duration) {
        self.clock.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The first steps of [`Live::run`].
    pub(super) async fn begin(&mut self) {
        let mut rounds = self.live.rounds.lock().unwrap().take().unwrap();
        rounds.begin().await;
        self.rounds = Some(rounds);
    }

    pub(super) async fn round(&mut self) {
        if self.rounds.is_none() {
            self.begin().await;
        }
        let rounds = self.rounds.take().unwrap();
        self.rounds = Some(rounds.round(self.now()).await);
    }

    /// The last steps of [`Live::run`].
    pub(super) async fn finish(&mut self) {
        if self.rounds.is_none() {
            self.begin().await;
        }
        self.rounds.take().unwrap().finish(self.now()).await;
    }

    /// Ends as a process does that is stopped; gives the data directory.
    pub(super) async fn close(self) -> TempDir {
        self.storage.close().await.unwrap();
        self.dir
    }

    pub(super) fn shown(&self) -> Counters {
        self.live.shared.shown.lock().unwrap().clone()
    }

    /// Stores a second's calls that end now.
    pub(super) async fn report(&mut self, calls: &[Call]) {
        self.report_at(self.now(), calls).await;
    }

    /// Stores a second's calls that ended at `end` and some nanoseconds, so that no two points are the same.
    pub(super) async fn report_at(&mut self, end: UnixNanos, calls: &[Call]) {
        self.points += 1;
        let end = end + Duration::from_nanos(self.points);
        let mut sketches: BTreeMap<Labels, Sketch> = BTreeMap::new();
        for call in calls {
            sketches.entry(call.labels()).or_default().record(call.ms / 1024.0);
            let second = (end.0 - 1) / 1_000_000_000;
            let [client, server, endpoint, reporter] =
                [call.client, call.server, call.endpoint, call.reporter].map(str::to_owned);
            let key = (second - second % BUCKET_SECONDS, client, server, endpoint, reporter);
            self.reported.entry(key).or_default().add(call);
        }
        let rows = sketches.iter().flat_map(|(labels, sketch)| testdata::edge_point(labels, end, sketch));
        self.store(rows).await;
    }

    /// Stores rows in one write.
    pub(super) async fn store(&self, rows: impl IntoIterator<Item = (Table, Value)>) {
        let mut tables: BTreeMap<Table, Vec<Value>> = BTreeMap::new();
        rows.into_iter().for_each(|(table, row)| tables.entry(table).or_default().push(row));
        let parts = tables.into_iter().map(|(table, rows)| (table, testdata::batch(table, rows))).collect();
        let batch = WriteBatch { tenant: TenantId::default(), parts };
        self.storage.writer().write(batch).await.unwrap();
    }

    /// Fills storage's memory to the brim: not even a row of `samples` fits any more. Nobody flushes.
    pub(super) async fn fill(&self) {
        let mut bytes = 200 << 20;
        while bytes > 1 << 10 {
            let row = json!({"service": "noise", "body": "x".repeat(bytes)});
            if !self.fits(testdata::batch(Table::Logs, [row]), Table::Logs).await {
                bytes /= 2;
            }
        }
        let row = testdata::batch(Table::Samples, [json!({"metric": "noise"})]);
        while self.fits(row.clone(), Table::Samples).await {}
    }

    async fn fits(&self, rows: RecordBatch, table: Table) -> bool {
        let batch = WriteBatch { tenant: TenantId::default(), parts: vec![(table, rows)] };
        match self.storage.writer().write(batch).await {
            Ok(_) => true,
            Err(WriteError::Overloaded { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// What the hot rows of `edges` add up to.
    pub(super) fn edges(&self) -> BTreeMap<Key, Counted> {
        self.buckets(Table::Edges)
    }

    /// What the hot rows of a table of the service graph add up to.
    fn buckets(&self, table: Table) -> BTreeMap<Key, Counted> {
        let mut all: BTreeMap<Key, Counted> = BTreeMap::new();
        let view = self.storage.snapshot(&TenantId::default()).table(table);
        for (_, batch) in view.hot.iter() {
            let text = |name: &str, row| {
                batch.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned()
            };
            let long = |name: &str, row| {
                batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row) as u64
            };
            let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
            let sketches = batch.column_by_name("sketch").unwrap().as_binary::<i32>();
            for row in 0..batch.num_rows() {
                let sketch = Sketch::from_bytes(sketches.value(row)).unwrap();
                assert_eq!(long("duration_sum_ns", row), (sketch.sum() * 1e9) as u64);
                let [client, server, endpoint, reporter] =
                    ["client", "server", "endpoint", "reporter"].map(|name| text(name, row));
                let key = (times.value(row) as u64 / 1_000_000, client, server, endpoint, reporter);
                let counted = all.entry(key).or_default();
                counted.calls += long("calls", row);
                counted.errors += long("errors", row);
                counted.client_errors += long("client_errors", row);
                counted.refused += long("refused", row);
                counted.probes += long("probes", row);
                counted.sketch.merge(&sketch);
            }
        }
        all
    }

    /// The rows of `edges` are what was reported, no more and no less, and those of longer buckets are the same.
    pub(super) fn assert_edges(&self) {
        for (table, seconds) in Table::GRAPH {
            let mut reported: BTreeMap<Key, Counted> = BTreeMap::new();
            for ((time, client, server, endpoint, reporter), of_bucket) in self.reported.clone() {
                let bucket = (time - time % seconds, client, server, endpoint, reporter);
                reported.entry(bucket).or_default().merge(&of_bucket);
            }
            assert_eq!(self.buckets(table), reported, "{}", table.name());
        }
    }

    /// The routes of the HTTP API over what is stored.
    pub(super) fn api(&self) -> api::State {
        let clock = self.live.shared.clock.clone();
        let options = EngineOptions { threads: 1, ..EngineOptions::new(clock.clone()) };
        let engine = Arc::new(Engine::new(self.storage.clone(), options).unwrap());
        api::State::new(engine, TenantId::default(), clock)
    }

    pub(super) async fn sql(&self, text: &str) -> Answer {
        self.api().engine.sql(&TenantId::default(), &SqlQuery::new(text)).await.unwrap()
    }

    /// Rows of text columns.
    pub(super) async fn texts(&self, text: &str) -> Vec<Vec<String>> {
        let answer = self.sql(text).await;
        let row = |batch: &RecordBatch, row: usize| {
            let shown =
                |column: &Arc<dyn Array>| arrow::util::display::array_value_to_string(column, row).unwrap();
            batch.columns().iter().map(shown).collect()
        };
        answer.batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
    }
}
