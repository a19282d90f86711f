//! One job: what discovery finds for it becomes targets, each with a loop of its own; what it finds no more ends.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_model::limits;
use weir_model::prometheus::{Group, Labels, ScrapeConfig};

use super::client::Http;
use super::counters::JobCounters;
use super::discovery::{self, Names, Publish, Update};
use super::target::{Found, target};
use super::watch::{Ground, OfJob, Watched};

/// A job and its targets.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) job: Arc<ScrapeConfig>,
    pub(super) counters: Arc<JobCounters>,
    http: Arc<OnceCell<Http>>,
    state: Mutex<State>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    active: BTreeMap<u64, Arc<Watched>>,
    dropped: Vec<Labels>,
    dropped_count: usize,
    /// Whether what is found no more has ended in tables too.
    gone: bool,
}

impl Pool {
    pub(super) fn new(job: ScrapeConfig) -> Self {
        Self {
            job: Arc::new(job),
            counters: Arc::default(),
            http: Arc::default(),
            state: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The targets that are scraped.
    pub(super) fn active(&self) -> Vec<Arc<Watched>> {
        self.state().active.values().cloned().collect()
    }

    /// Those that relabelling dropped, and how many there are: not all may be listed.
    pub(super) fn dropped(&self) -> (Vec<Labels>, usize) {
        let state = self.state();
        (state.dropped.clone(), state.dropped_count)
    }

    /// Ends the job; where it is `gone` for good, its series get stale markers.
    pub(super) fn stop(&self, gone: bool) {
        self.state().gone = gone;
        self.stop.cancel();
    }

    fn of_job(&self) -> OfJob {
        OfJob {
            job: Arc::clone(&self.job),
            http: Arc::clone(&self.http),
            counters: Arc::clone(&self.counters),
        }
    }

    /// Finds targets and scrapes them until stopped.
    pub(super) async fn run(self: Arc<Self>, ground: Arc<Ground>, names: Names) {
        let (updates_in, mut updates) = mpsc::channel(limits::DISCOVERY_QUEUE);
        let mut finding = JoinSet::new();
        for (entry, discovery) in self.job.discoveries.iter().enumerate() {
            let publish = Publish::new(entry, updates_in.clone());
            finding.spawn(discovery::run(discovery.clone(), names.clone(), publish));
        }
        let mut found: BTreeMap<usize, Vec<Group>> = BTreeMap::new();
        let mut scraping = JoinSet::new();
        loop {
            let update: Option<Update> = tokio::select! {
                update = updates.recv() => update,
                () = self.stop.cancelled() => break,
                // Loops that have ended are let go of.
                Some(_) = scraping.join_next(), if !scraping.is_empty() => continue,
            };
            let Some(update) = update else { break };
            found.insert(update.entry, update.groups);
            while let Ok(update) = updates.try_recv() {
                found.insert(update.entry, update.groups);
            }
            self.sync(found.values().flatten(), &ground, &mut scraping);
        }
        drop(updates);
        finding.shutdown().await;
        let gone = self.state().gone;
        self.active().iter().for_each(|watched| watched.stop(gone));
        while scraping.join_next().await.is_some() {}
        self.state().active.clear();
    }

    /// Makes the targets that are scraped those that `groups` have.
    fn sync<'g>(
        &self,
        groups: impl Iterator<Item = &'g Group>,
        ground: &Arc<Ground>,
        scraping: &mut JoinSet<()>,
    ) {
        let mut wanted = BTreeMap::new();
        let (mut dropped, mut dropped_count) = (Vec::new(), 0);
        let most = match self.job.keep_dropped_targets {
            0 => limits::SCRAPE_DROPPED,
            most => usize::try_from(most).unwrap_or(usize::MAX).min(limits::SCRAPE_DROPPED),
        };
        for (own, group) in groups.flat_map(|group| group.targets.iter().map(move |own| (own, &group.labels)))
        {
            match target(&self.job, own, group) {
                Ok(Found::Target(_)) if wanted.len() >= limits::SCRAPE_TARGETS => {
                    tracing::error!(job = self.job.job_name, "too many targets; further ones are left out");
                    break;
                }
                Ok(Found::Target(target)) => {
                    wanted.insert(target.hash(), *target);
                }
                Ok(Found::Dropped(labels)) => {
                    dropped_count += 1;
                    if dropped.len() < most {
                        dropped.push(labels);
                    }
                }
                Err(error) => tracing::error!(job = self.job.job_name, error, "no target"),
            }
        }
        let over_limit = self.job.limits.targets > 0 && wanted.len() as u64 > self.job.limits.targets;
        let mut state = self.state();
        (state.dropped, state.dropped_count) = (dropped, dropped_count);
        state.active.retain(|hash, watched| {
            let stays = wanted.contains_key(hash);
            if !stays {
                watched.stop(true);
            }
            stays
        });
        for (hash, target) in wanted {
            let watched = state.active.entry(hash).or_insert_with(|| {
                let watched = Arc::new(Watched::new(target));
                scraping.spawn(Arc::clone(&watched).run(self.of_job(), Arc::clone(ground)));
                watched
            });
            watched.over_limit.store(over_limit, Ordering::Relaxed);
        }
    }
}
