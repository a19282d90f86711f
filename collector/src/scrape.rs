//! Prometheus' way in: targets are found, asked for their metrics, and what they say is stored.
//!
//! In: a configuration file of Prometheus as it is. Out: samples, through [`weir_storage::Writer`], each scrape
//! one write, with `up` and its like. A [`Scraper`] follows its configuration: [`Scraper::reload`] reads the file
//! again, and jobs that did not change go on undisturbed.

mod alertmanagers;
mod api;
mod append;
mod client;
mod counters;
mod discovery;
mod fetch;
mod files;
mod load;
mod pool;
mod selector;
mod target;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch as channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_model::prometheus::{Config, ScrapeConfig};
use weir_model::{Clock, TenantId, limits};
use weir_storage::Storage;

use pool::Pool;
use watch::Ground;

pub use alertmanagers::Alertmanagers;
pub use client::{Hosts, Http, HttpError};
pub use discovery::Names;
pub use files::FileError;
pub use load::{Accept, LoadError, Variable, load};

/// Scrapes what a configuration says.
#[derive(Clone)]
pub struct Scraper(Arc<Inner>);

struct Inner {
    ground: Arc<Ground>,
    names: Names,
    file: Option<PathBuf>,
    variable: Box<Variable>,
    accept: Box<Accept>,
    config: channel::Sender<Arc<Config>>,
    pools: Mutex<Vec<Arc<Pool>>>,
    alertmanagers: channel::Sender<Alertmanagers>,
}

impl std::fmt::Debug for Scraper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scraper").field("file", &self.0.file).finish_non_exhaustive()
    }
}

/// What a [`Scraper`] is told.
#[derive(Default)]
pub struct Options {
    /// Prometheus' configuration file; without one nothing is scraped.
    pub file: Option<PathBuf>,
    /// How names are found.
    pub names: Names,
    /// Gives the values of environment variables in external labels.
    pub variable: Option<Box<Variable>>,
    /// Looks at a configuration before it is taken on.
    pub accept: Option<Box<Accept>>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("file", &self.file)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Scraper {
    /// Reads the configuration; nothing is scraped before [`Scraper::run`].
    pub fn new(
        storage: &Storage,
        clock: Clock,
        tenant: TenantId,
        options: Options,
    ) -> Result<Self, LoadError> {
        let ground = Ground {
            writer: storage.writer(),
            index: storage.series(&tenant),
            tenant,
            clock,
            hosts: options.names.hosts.clone(),
            permits: Semaphore::new(limits::SCRAPES),
        };
        let scraper = Self(Arc::new(Inner {
            ground: Arc::new(ground),
            names: options.names,
            file: options.file,
            variable: options.variable.unwrap_or_else(|| Box::new(|_| None)),
            accept: options.accept.unwrap_or_else(|| Box::new(|_| Ok(()))),
            config: channel::Sender::new(Arc::default()),
            pools: Mutex::default(),
            alertmanagers: channel::Sender::new(Alertmanagers::default()),
        }));
        scraper.reload()?;
        Ok(scraper)
    }

    /// Reads the file again, and has whoever follows the configuration read anew what it names. Jobs that are as they were
    /// go on; a file with mistakes changes nothing.
    pub fn reload(&self) -> Result<(), LoadError> {
        let (config, warnings) = match &self.0.file {
            Some(file) => load(file, &self.0.variable)?,
            None => (Config::default(), Vec::new()),
        };
        (self.0.accept)(&config).map_err(LoadError::Refused)?;
        for (file, notice) in warnings {
            tracing::warn!("{}: {notice}", file.display());
        }
        self.0.config.send_replace(Arc::new(config));
        Ok(())
    }

    /// The configuration as it is now, and whenever it is loaded again.
    pub fn config(&self) -> channel::Receiver<Arc<Config>> {
        self.0.config.subscribe()
    }

    /// The Alertmanagers of the configuration, as discovery finds them while [`Scraper::run`] does.
    pub fn alertmanagers(&self) -> channel::Receiver<Alertmanagers> {
        self.0.alertmanagers.subscribe()
    }

    /// Scrapes until `stop`. What is stored then is not ended: the targets are there when this program is not.
    pub async fn run(&self, stop: CancellationToken) {
        let mut config = self.config();
        let mut running = JoinSet::new();
        let finding = alertmanagers::run(
            self.config(),
            self.0.names.clone(),
            self.0.alertmanagers.clone(),
            stop.clone(),
        );
        running.spawn(finding);
        loop {
            let wanted = config.borrow_and_update().scrape_configs.clone();
            self.follow(wanted, &mut running);
            tokio::select! {
                changed = config.changed() => if changed.is_err() { break },
                () = stop.cancelled() => break,
            }
        }
        self.pools().iter().for_each(|pool| pool.stop(false));
        while running.join_next().await.is_some() {}
    }

    /// Starts and ends jobs so that those are left that are `wanted`.
    fn follow(&self, wanted: Vec<ScrapeConfig>, running: &mut JoinSet<()>) {
        while running.try_join_next().is_some() {}
        let mut pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before: Vec<Arc<Pool>> = std::mem::take(&mut *pools);
        for job in wanted {
            if let Some(index) = before.iter().position(|pool| *pool.job == job) {
                pools.push(before.swap_remove(index));
                continue;
            }
            let replaced = before.iter().position(|pool| pool.job.job_name == job.job_name);
            if let Some(index) = replaced {
                // Its series go on under the new rules.
                before.swap_remove(index).stop(false);
            }
            let pool = Arc::new(Pool::new(job));
            running.spawn(Arc::clone(&pool).run(Arc::clone(&self.0.ground), self.0.names.clone()));
            pools.push(pool);
        }
        before.iter().for_each(|pool| pool.stop(true));
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Prometheus' API about targets and configuration.
    pub fn routes(&self) -> axum::Router {
        api::routes(self.clone())
    }

    /// Appends what scraping counts of itself in the Prometheus text format.
    pub fn write_prometheus(&self, out: &mut String) {
        counters::write_prometheus(&self.pools(), out);
    }
}
