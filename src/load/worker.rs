//! One connection: makes a batch, sends it, waits for the answer, and so on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weir_model::{Clock, UnixNanos};

use super::batch::Batch;
use super::ledger::Ledger;
use super::logs::Logs;
use super::metrics::Metrics;
use super::report::{Second, Summary, Tally};
use super::scrapes::Scrapes;
use super::spans::Spans;
use super::world::World;
use super::{LoadArgs, LoadError, Signal};
use crate::export::{Outcome, export};

/// First pause after a failure; each further one doubles it.
const BACK_OFF: Duration = Duration::from_millis(50);
/// Longest pause after a failure, and the longest that a collector may ask for.
const BACK_OFF_MOST: Duration = Duration::from_secs(5);
/// Where a rate is set, a batch holds what is due in this time.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Makes batches of the signal that was asked for.
#[derive(Debug)]
pub(super) enum Generator {
    Spans(Spans),
    Metrics(Metrics),
    Scrapes(Scrapes),
    Logs(Logs),
}

impl Generator {
    pub(super) fn new(args: &LoadArgs, worker: usize) -> Self {
        let world = World {
            services: args.services.min(args.operations),
            operations: args.operations,
            users: args.users,
            attributes: args.attributes,
        };
        match args.signal {
            Signal::Spans => Self::Spans(Spans::new(world, args.seed, worker)),
            Signal::Metrics => Self::Metrics(Metrics::new(world, args.seed, worker)),
            Signal::Scrapes => Self::Scrapes(Scrapes::new(world, args.seed, worker, args.history)),
            Signal::Logs => Self::Logs(Logs::new(world, args.seed, worker)),
        }
    }

    /// About `count` records; none where there are no more.
    pub(super) fn batch(&mut self, count: usize, now: UnixNanos) -> Batch {
        match self {
            Self::Spans(spans) => spans.batch(count, now),
            Self::Metrics(metrics) => metrics.batch(count, now),
            Self::Scrapes(scrapes) => scrapes.batch(now),
            Self::Logs(logs) => logs.batch(count, now),
        }
    }

    /// The export method.
    fn path(&self) -> &'static str {
        match self {
            Self::Spans(_) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics(_) | Self::Scrapes(_) => {
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
            }
            Self::Logs(_) => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}

/// What all workers of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    clock: Clock,
    pub(super) stop: CancellationToken,
    /// Records that may still be sent, where a count was asked for.
    budget: Option<AtomicI64>,
    batch: usize,
    /// Time between two batches of one worker, where a rate was asked for.
    every: Option<Duration>,
    give_up: Duration,
    books: Mutex<Books>,
    ledger_path: PathBuf,
}

/// Counts and ledger, under one lock so that an id is noted before it is counted.
#[derive(Debug)]
struct Books {
    tally: Tally,
    ledger: Option<Ledger>,
}

impl Shared {
    pub(super) fn new(args: &LoadArgs, clock: Clock, stop: CancellationToken) -> Result<Self, LoadError> {
        let ledger_path = args.ledger.clone().unwrap_or_default();
        let ledger = args.ledger.as_deref().map(Ledger::open).transpose();
        let ledger = ledger.map_err(|source| LoadError::Ledger { path: ledger_path.clone(), source })?;
        let (batch, every) = pace(args.rate, args.connections, args.batch);
        Ok(Self {
            clock,
            stop,
            budget: args.count.map(|count| AtomicI64::new(i64::try_from(count).unwrap_or(i64::MAX))),
            batch,
            every,
            give_up: args.give_up,
            books: Mutex::new(Books { tally: Tally::new(Instant::now(), args), ledger }),
            ledger_path,
        })
    }

    /// Ends the running second.
    pub(super) fn close_second(&self) -> Second {
        self.books().tally.close_second()
    }

    pub(super) fn summary(&self) -> Summary {
        self.books().tally.summary(Instant::now())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many records the next batch may hold; 0 ends the worker.
    fn take(&self) -> usize {
        let Some(budget) = &self.budget else { return self.batch };
        let want = self.batch as i64;
        let before = budget.fetch_sub(want, Ordering::AcqRel);
        let granted = before.clamp(0, want);
        budget.fetch_add(want - granted, Ordering::AcqRel);
        granted as usize
    }

    /// Records that were not acknowledged after all may be tried anew, with new ids.
    fn give_back(&self, records: i64) {
        if let Some(budget) = &self.budget {
            budget.fetch_add(records, Ordering::AcqRel);
        }
    }

    fn acknowledged(
        &self,
        worker: usize,
        batch: &Batch,
        rejected: u64,
        took: Duration,
    ) -> Result<(), LoadError> {
        let mut books = self.books();
        // Which records of a partial success were rejected is not said: none of them is noted.
        if let (Some(ledger), 0) = (&mut books.ledger, rejected) {
            let noted = ledger.append(worker, &batch.ids);
            noted.map_err(|source| LoadError::Ledger { path: self.ledger_path.clone(), source })?;
        }
        books.tally.acknowledged(batch.records, rejected, batch.body.len() as u64, took);
        Ok(())
    }
}

/// Records per batch, and the time between two batches of one worker.
pub(super) fn pace(rate: u64, connections: usize, most: usize) -> (usize, Option<Duration>) {
    if rate == 0 {
        return (most, None);
    }
    let per_second = rate as f64 / connections as f64;
    let batch = ((per_second * BATCH_INTERVAL.as_secs_f64()).ceil() as usize).clamp(1, most);
    (batch, Some(Duration::from_secs_f64(batch as f64 / per_second)))
}

/// One connection and the generator that feeds it.
#[derive(Debug)]
pub(super) struct Worker {
    index: usize,
    channel: Channel,
    generator: Generator,
    shared: Arc<Shared>,
    back_off: Duration,
    /// When something was last acknowledged, or the worker began.
    alive: Instant,
}

impl Worker {
    pub(super) fn new(index: usize, channel: Channel, generator: Generator, shared: Arc<Shared>) -> Self {
        Self { index, channel, generator, shared, back_off: BACK_OFF, alive: Instant::now() }
    }

    /// Sends until told to stop, the count is reached, or nothing was acknowledged for too long.
    pub(super) async fn run(mut self) -> Result<(), LoadError> {
        let mut pace = self.shared.every.map(tokio::time::interval);
        if let Some(pace) = &mut pace {
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        }
        let stop = self.shared.stop.clone();
        while !stop.is_cancelled() {
            if let Some(pace) = &mut pace {
                tokio::select! {
                    _ = pace.tick() => (),
                    () = stop.cancelled() => break,
                }
            }
            let count = self.shared.take();
            if count == 0 {
                break;
            }
            let batch = self.generator.batch(count, self.shared.clock.now());
            self.shared.give_back(count as i64 - batch.records as i64);
            if batch.records == 0 || !self.deliver(batch).await? {
                break;
            }
        }
        Ok(())
    }

    /// Sends `batch`, again where it was refused with a delay. `false` where the worker should end.
    async fn deliver(&mut self, batch: Batch) -> Result<bool, LoadError> {
        loop {
            let sent = Instant::now();
            let pause = match export(&self.channel, self.generator.path(), batch.body.clone()).await {
                Outcome::Acknowledged { rejected, .. } => {
                    self.shared.acknowledged(self.index, &batch, rejected, sent.elapsed())?;
                    (self.back_off, self.alive) = (BACK_OFF, Instant::now());
                    return Ok(true);
                }
                Outcome::Overloaded { retry_after } => {
                    self.shared.books().tally.overloaded();
                    retry_after.min(BACK_OFF_MOST)
                }
                Outcome::Failed { code, why } => {
                    self.shared.books().tally.failed(batch.records, format!("{code:?}: {why}"));
                    self.shared.give_back(batch.records as i64);
                    let pause = self.back_off;
                    self.back_off = (pause * 2).min(BACK_OFF_MOST);
                    return Ok(self.pause(pause).await);
                }
            };
            if !self.pause(pause).await {
                self.shared.give_back(batch.records as i64);
                return Ok(false);
            }
        }
    }

    /// Waits; `false` where the run has ended meanwhile or there is no hope left.
    async fn pause(&self, pause: Duration) -> bool {
        if self.alive.elapsed() > self.shared.give_up {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.shared.stop.cancelled() => false,
        }
    }
}
