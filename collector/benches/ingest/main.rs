//! What a span costs on its way in, without a network, in CPU time of the whole process: decoding by prost and
//! Arrow's builders, for comparison; decoding; decoding and the write-ahead log (`stored`); the flush to Parquet; the
//! merge of the files.
//!
//! The spans are those of `weir load spans`. `cargo bench --workspace --bench ingest -- 200000 8` takes 8 rounds
//! of 200,000 spans.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark")]

#[path = "../../../src/load/batch.rs"]
#[allow(dead_code, reason = "the ledger's part of it")]
mod batch;
mod prost_arrow;
#[path = "../../../src/load/spans.rs"]
#[allow(dead_code, reason = "what other signals use")]
mod spans;
#[path = "../../../src/load/wire.rs"]
#[allow(dead_code, reason = "what other signals use")]
mod wire;
#[path = "../../../src/load/world.rs"]
#[allow(dead_code, reason = "what other signals use")]
mod world;

use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_collector::decode::{DeltaState, Series, Signal, decode};
use weir_model::prometheus::Otlp;
use weir_model::{Clock, TenantId};
use weir_storage::{Known, Options, Storage, WriteBatch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 512;

fn rng(seed: u64, worker: usize) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed.wrapping_add(worker as u64))
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

struct Stage {
    name: &'static str,
    cpu: Duration,
    wall: Duration,
}

impl Stage {
    fn new(name: &'static str) -> Self {
        Self { name, cpu: Duration::ZERO, wall: Duration::ZERO }
    }

    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (before, began) = (cpu(), Instant::now());
        let done = work();
        self.cpu += cpu() - before;
        self.wall += began.elapsed();
        done
    }

    fn print(&self, spans: usize) {
        let per_span = |time: Duration| time.as_nanos() as f64 / 1e3 / spans as f64;
        println!(
            "{:9} {:8.2} µs CPU/span {:8.2} µs wall/span {:12.0} spans per CPU second",
            self.name,
            per_span(self.cpu),
            per_span(self.wall),
            1e6 / per_span(self.cpu)
        );
    }
}

fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<usize>().ok());
    let round = numbers.next().unwrap_or(200_000);
    let rounds = numbers.next().unwrap_or(4);
    let world = world::World { services: 20, operations: 200, users: 100_000, attributes: 11 };
    let mut generator = spans::Spans::new(world, 1, 0);
    let clock = Clock::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        weir_model::UnixNanos(now.as_nanos() as u64)
    });
    let deltas = DeltaState::default();
    let known = |_, _: &_, _| Known::Stored;
    let series = Series { known: &known, deltas: &deltas, naming: &Otlp::default() };

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        flush_age: Duration::from_secs(3600),
        flush_bytes: 1 << 40,
        ..Options::new(dir.path().to_owned(), clock.clone())
    };
    let storage = runtime.block_on(Storage::open(options)).unwrap();
    let mut stages = ["prost", "decode", "stored", "flushed", "compacted"].map(Stage::new);
    let [comparing, decoding, logging, flushing, compacting] = &mut stages;
    let mut bytes = 0;
    for _ in 0..rounds {
        let batches: Vec<Bytes> =
            (0..round / BATCH).map(|_| generator.batch(BATCH, clock.now()).body).collect();
        bytes += batches.iter().map(Bytes::len).sum::<usize>();
        let now = clock.now();
        let decoded = decode(Signal::Traces, &batches[0], now, &series).unwrap();
        assert_eq!(decoded.parts[0].1, prost_arrow::decode(&batches[0]), "both make the same rows");
        comparing.measure(|| {
            for batch in &batches {
                std::hint::black_box(prost_arrow::decode(batch));
            }
        });
        decoding.measure(|| {
            for batch in &batches {
                decode(Signal::Traces, batch, now, &series).unwrap();
            }
        });
        let writer = storage.writer();
        logging.measure(|| {
            runtime.block_on(async {
                let mut writes = tokio::task::JoinSet::new();
                for batch in &batches {
                    if writes.len() == 4 {
                        writes.join_next().await;
                    }
                    let parts = decode(Signal::Traces, batch, now, &series).unwrap().parts;
                    let writer = writer.clone();
                    let write = WriteBatch { tenant: TenantId::default(), parts };
                    writes.spawn(async move { writer.write(write).await.unwrap() });
                }
                writes.join_all().await;
            });
        });
        flushing.measure(|| runtime.block_on(storage.flush()).unwrap());
    }
    let compacted = compacting.measure(|| runtime.block_on(storage.compact()).unwrap());
    let spans = round / BATCH * BATCH * rounds;
    println!("{spans} spans of {} bytes, {compacted:?}", bytes / spans);
    for stage in &stages {
        stage.print(spans);
    }
    let size: u64 = storage.files().iter().map(|(_, _, file)| file.size).sum();
    println!("{:.1} bytes per span in Parquet", size as f64 / spans as f64);
    runtime.block_on(storage.close()).unwrap();
}
