//! One target, scraped again and again: at its place in each interval, within its timeout, whatever came of the
//! time before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_model::prometheus::ScrapeConfig;
use weir_model::{Clock, TenantId, UnixNanos};
use weir_storage::{SeriesIndex, Table, WriteBatch, WriteError, Writer};

use super::append::{Counted, Family, Memory};
use super::client::{Hosts, Http, HttpError};
use super::counters::JobCounters;
use super::fetch::{Exposition, accept, fetch};
use super::target::Target;

/// What scraping needs on its way.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) writer: Writer,
    pub(super) index: Arc<SeriesIndex>,
    pub(super) tenant: TenantId,
    pub(super) clock: Clock,
    pub(super) hosts: Hosts,
    /// One for each scrape under way.
    pub(super) permits: Semaphore,
}

/// What the targets of a job share.
#[derive(Debug, Clone)]
pub(super) struct OfJob {
    pub(super) job: Arc<ScrapeConfig>,
    /// One client for all of them, made when it is needed.
    pub(super) http: Arc<OnceCell<Http>>,
    pub(super) counters: Arc<JobCounters>,
}

/// A target and what is known of it.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) target: Target,
    health: Mutex<Health>,
    families: Mutex<Vec<(String, Family)>>,
    /// Set while its job has more targets than it may.
    pub(super) over_limit: AtomicBool,
    stop: CancellationToken,
    /// Whether its series end with it.
    gone: AtomicBool,
}

/// How the last scrape went.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    pub(super) up: Option<bool>,
    pub(super) error: String,
    /// When it began.
    pub(super) last: Option<UnixNanos>,
    pub(super) took: Duration,
}

impl Watched {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            health: Mutex::default(),
            families: Mutex::default(),
            over_limit: AtomicBool::new(false),
            stop: CancellationToken::new(),
            gone: AtomicBool::new(false),
        }
    }

    pub(super) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn families(&self) -> Vec<(String, Family)> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Scrapes no more. Where the target is `gone`, its series get stale markers.
    pub(super) fn stop(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
        self.stop.cancel();
    }

    /// Scrapes until stopped.
    pub(super) async fn run(self: Arc<Self>, of_job: OfJob, ground: Arc<Ground>) {
        let OfJob { job, http, counters } = of_job;
        let mut watch = Watch {
            accept: accept(&job),
            http,
            memory: Memory::default(),
            watched: Arc::clone(&self),
            job,
            ground,
            counters,
        };
        let mut due = watch.first_due();
        loop {
            let wait = due.since(watch.ground.clock.now());
            if self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
            let begun = watch.ground.clock.now();
            // A few milliseconds more or less are no difference in time, and equal steps are stored in less space.
            let time = if begun.since(due) <= TOLERANCE { due } else { begun };
            watch.scrape(time).await;
            due = due + self.target.interval;
            let now = watch.ground.clock.now();
            if due < now {
                let missed = now.since(due).as_nanos() / self.target.interval.as_nanos().max(1) + 1;
                due = due + self.target.interval * u32::try_from(missed).unwrap_or(u32::MAX);
            }
        }
        if self.gone.load(Ordering::Relaxed) {
            watch.end().await;
        }
    }
}

/// How far from its due time a scrape may begin and still count as being then.
const TOLERANCE: Duration = Duration::from_millis(2);

struct Watch {
    watched: Arc<Watched>,
    job: Arc<ScrapeConfig>,
    ground: Arc<Ground>,
    counters: Arc<JobCounters>,
    accept: String,
    http: Arc<OnceCell<Http>>,
    memory: Memory,
}

/// What a scrape gave.
struct Outcome {
    counted: Counted,
    bytes: usize,
    error: Option<String>,
}

/// Expositions up to this size are read where they are; larger ones on a thread that may block.
const READ_IN_PLACE_BYTES: usize = 32 << 10;

impl Watch {
    /// The next moment of the target's own.
    fn first_due(&self) -> UnixNanos {
        let target = &self.watched.target;
        let (interval, offset) =
            (target.interval.as_nanos().max(1) as u64, target.offset().as_nanos() as u64);
        let now = self.ground.clock.now().0;
        let begun = now - now % interval + offset;
        UnixNanos(if begun < now { begun + interval } else { begun })
    }

    async fn scrape(&mut self, time: UnixNanos) {
        let begun = Instant::now();
        // What is on its way when the target is to stop is not waited for.
        let Some(fetched) = self.watched.stop.run_until_cancelled(self.fetched()).await else { return };
        let took = begun.elapsed();
        let (outcome, parts) = match self.take(fetched, time, took).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(job = self.job.job_name, error, "a scrape is lost");
                return;
            }
        };
        self.counters.scraped(&outcome.counted, outcome.bytes, outcome.error.is_some(), took);
        if let Some(error) = &outcome.error {
            let (job, url) = (&self.job.job_name, &self.watched.target.url);
            tracing::debug!(job, url, error, "scrape failed");
        }
        let health = Health {
            up: Some(outcome.error.is_none()),
            error: outcome.error.unwrap_or_default(),
            last: Some(time),
            took,
        };
        *self.watched.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
        self.write(parts, begun + self.watched.target.interval).await;
    }

    async fn fetched(&self) -> Result<Exposition, String> {
        if self.watched.over_limit.load(Ordering::Relaxed) {
            return Err(format!(
                "target limit exceeded: the job may have {} targets",
                self.job.limits.targets
            ));
        }
        let target = &self.watched.target;
        let permit = self.ground.permits.acquire().await.map_err(|error| error.to_string())?;
        let fetching = async {
            let told = |error: HttpError| error.to_string();
            let (client, hosts) = (&self.job.client, &self.ground.hosts);
            if client.tls.server_name.is_none() {
                let made = self.http.get_or_try_init(|| Http::new(client, hosts, None)).await;
                return fetch(made.map_err(told)?, &self.job, &self.accept, target).await;
            }
            // A name of its own for TLS leads to another address in each target's client.
            let place = target.host_and_port();
            let place = place.as_ref().map(|(host, port)| (host.as_str(), *port));
            let http = Http::new(client, hosts, place).await.map_err(told)?;
            fetch(&http, &self.job, &self.accept, target).await
        };
        let fetched = tokio::time::timeout(target.timeout, fetching).await;
        drop(permit);
        fetched.unwrap_or_else(|_| Err("context deadline exceeded: no answer within the timeout".to_owned()))
    }

    /// Makes rows of what was fetched, and of the scrape itself.
    async fn take(
        &mut self,
        fetched: Result<Exposition, String>,
        time: UnixNanos,
        took: Duration,
    ) -> Result<(Outcome, Vec<(Table, arrow::record_batch::RecordBatch)>), String> {
        let mut memory = std::mem::take(&mut self.memory);
        let (job, watched) = (Arc::clone(&self.job), Arc::clone(&self.watched));
        let index = Arc::clone(&self.ground.index);
        let large = fetched.as_ref().is_ok_and(|exposition| exposition.body.len() > READ_IN_PLACE_BYTES);
        let work = move || {
            let taken = taken(&mut memory, &job, &watched.target, &index, (fetched, time.as_millis(), took));
            (memory, taken)
        };
        let (mut memory, taken) = if large {
            tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
        } else {
            work()
        };
        if let Some(families) = memory.families.if_changed() {
            *self.watched.families.lock().unwrap_or_else(PoisonError::into_inner) = families;
        }
        self.memory = memory;
        taken
    }

    /// Ends all series of a target that is gone.
    async fn end(&mut self) {
        let now = self.ground.clock.now().as_millis();
        let index = Arc::clone(&self.ground.index);
        let mut rows = super::append::rows(&index);
        self.memory.end_all(now, &mut rows);
        for name in reports(&self.job) {
            self.memory.report(&self.watched.target.labels, name, now, stale(), &mut rows);
        }
        if let Ok(parts) = rows.finish() {
            self.write(parts, Instant::now() + self.watched.target.interval).await;
        }
    }

    /// Stores rows; where storage is overloaded, tries again until `until`.
    async fn write(&self, parts: Vec<(Table, arrow::record_batch::RecordBatch)>, until: Instant) {
        if parts.is_empty() {
            return;
        }
        loop {
            let batch = WriteBatch { tenant: self.ground.tenant.clone(), parts: parts.clone() };
            let error = match self.ground.writer.write(batch).await {
                Ok(_) => return,
                Err(error) => error,
            };
            if let WriteError::Overloaded { retry_after } | WriteError::DiskFull { retry_after } = &error
                && Instant::now() + *retry_after < until
                && self.stop_in(*retry_after).await
            {
                continue;
            }
            self.counters.lost();
            tracing::error!(job = self.job.job_name, %error, "the samples of a scrape are lost");
            return;
        }
    }

    /// Waits; false where the target is to stop.
    async fn stop_in(&self, pause: Duration) -> bool {
        self.watched.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }
}

/// Makes rows of what was fetched at `time`, in Unix milliseconds.
fn taken(
    memory: &mut Memory,
    job: &ScrapeConfig,
    target: &Target,
    index: &Arc<SeriesIndex>,
    (fetched, time, took): (Result<Exposition, String>, i64, Duration),
) -> Result<(Outcome, Vec<(Table, arrow::record_batch::RecordBatch)>), String> {
    let mut rows = super::append::rows(index);
    let mut outcome = Outcome { counted: Counted::default(), bytes: 0, error: None };
    match fetched {
        Ok(exposition) => {
            outcome.bytes = exposition.body.len();
            let from = (exposition.protocol, exposition.body.as_ref());
            let (counted, result) = memory.append(job, &target.labels, from, time, &mut rows);
            outcome.counted = counted;
            outcome.error = result.err();
        }
        Err(error) => outcome.error = Some(error),
    }
    if outcome.error.is_some() {
        // All or nothing: what was read before the fault is not kept.
        rows = super::append::rows(index);
        memory.end_all(time, &mut rows);
    } else {
        memory.end_vanished(time, &mut rows);
    }
    for name in reports(job) {
        let value = match name {
            "up" => f64::from(u8::from(outcome.error.is_none())),
            "scrape_duration_seconds" => took.as_secs_f64(),
            "scrape_samples_scraped" => outcome.counted.scraped as f64,
            "scrape_samples_post_metric_relabeling" => outcome.counted.kept as f64,
            "scrape_series_added" => outcome.counted.added as f64,
            "scrape_timeout_seconds" => target.timeout.as_secs_f64(),
            "scrape_sample_limit" => job.limits.samples as f64,
            _ => outcome.bytes as f64,
        };
        memory.report(&target.labels, name, time, value, &mut rows);
    }
    rows.finish().map(|parts| (outcome, parts)).map_err(|error| error.to_string())
}

/// The series about scrapes.
fn reports(job: &ScrapeConfig) -> impl Iterator<Item = &'static str> {
    const ALWAYS: [&str; 5] = [
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    ];
    const EXTRA: [&str; 3] = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];
    ALWAYS.into_iter().chain(EXTRA.into_iter().filter(|_| job.extra_scrape_metrics))
}

fn stale() -> f64 {
    f64::from_bits(weir_storage::rows::STALE_BITS)
}
