//! The file of endpoints, read again when it changes; a broken one changes nothing.
//!
//! It is looked at every second, as the collector looks at files of targets: a look is one system call, works on
//! every file system, and sees a file that is replaced, or reached through a link that now leads elsewhere, as well
//! as one that is written to. Every half minute it is read whatever the look says, because a clock too coarse
//! for two changes in a row hides the second. What it says counts, not that it was touched.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use weir_model::limits;

use crate::config::{self, ConfigMistake, Endpoint, Services};
use crate::times::Times;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is read although it looks as before.
const READ: Duration = Duration::from_secs(30);

/// How the file fares, for the admin page.
#[derive(Debug, Default)]
pub(crate) struct Status {
    loads: AtomicU64,
    failures: AtomicU64,
    mistakes: Mutex<Vec<ConfigMistake>>,
    /// From the first look at a change until it is in force.
    pub(crate) took: Times,
}

impl Status {
    /// Times that the file said something new, and times that it was broken.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("loads", get(&self.loads)), ("failures", get(&self.failures))]
    }

    /// What is wrong with the file as it is; while anything is, the endpoints are those of before.
    pub(crate) fn mistakes(&self) -> Vec<ConfigMistake> {
        self.mistakes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self, mistakes: Vec<ConfigMistake>) {
        let counter = if mistakes.is_empty() { &self.loads } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
        *self.mistakes.lock().unwrap_or_else(PoisonError::into_inner) = mistakes;
    }
}

/// What is known of the file: a hash of each service's endpoints.
pub(crate) type Known = BTreeMap<String, u64>;

/// What is to be known of `services`.
pub(crate) fn known(services: &Services) -> Known {
    services.iter().map(|(service, endpoints)| (service.clone(), hash(endpoints))).collect()
}

/// Watches `file` until `stop`. `apply` is told of each service whose endpoints differ from `known`, and later from
/// what it was told last: its endpoints, or `None` where the file does not name it any more, which is not the same
/// as an empty list: then others may say where it is.
pub(crate) async fn run(
    file: PathBuf,
    mut known: Known,
    apply: impl Fn(&str, Option<Vec<Endpoint>>),
    status: Arc<Status>,
    stop: CancellationToken,
) {
    let mut last = Last::default();
    let mut read_at: Option<Instant> = None;
    loop {
        let whatever = read_at.is_none_or(|at| at.elapsed() >= READ);
        if whatever {
            read_at = Some(Instant::now());
        }
        let (path, begun) = (file.clone(), Instant::now());
        let looking = tokio::task::spawn_blocking(move || {
            let news = last.look(&path, whatever);
            (last, news)
        });
        // The task ends early only with the runtime.
        let Some(Ok((looked, news))) = stop.run_until_cancelled(looking).await else { return };
        last = looked;
        match news {
            None => {}
            Some(Ok(services)) => {
                status.read(Vec::new());
                known = tell(&known, services, &apply);
                status.took.record(begun.elapsed());
            }
            Some(Err(mut mistakes)) => {
                let (told, more) = (limits::ENDPOINT_MISTAKES, mistakes.len());
                for mistake in mistakes.iter().take(told) {
                    tracing::error!(%mistake, "the file of endpoints is left as it was before");
                }
                if more > told {
                    tracing::error!(more = more - told, "the file of endpoints has more mistakes");
                }
                mistakes.truncate(told);
                status.read(mistakes);
            }
        }
        if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
            return;
        }
    }
}

/// Tells the difference; what is known then.
fn tell(before: &Known, services: Services, apply: &impl Fn(&str, Option<Vec<Endpoint>>)) -> Known {
    let now = known(&services);
    for (service, endpoints) in
        services.into_iter().filter(|(service, _)| before.get(service) != now.get(service))
    {
        tracing::info!(service, endpoints = endpoints.len(), "the file of endpoints changed");
        apply(&service, Some(endpoints));
    }
    for service in before.keys().filter(|service| !now.contains_key(*service)) {
        tracing::info!(service, "the file of endpoints does not name it any more");
        apply(service, None);
    }
    now
}

/// By which a changed file is known.
#[derive(Debug, Default)]
struct Last {
    seen: Option<(Option<SystemTime>, u64)>,
    /// Hash of the content, or the reason why there is none.
    content: Option<Result<u64, Vec<ConfigMistake>>>,
}

impl Last {
    /// What the file says, if that is news; of a file that cannot be read the reason is the news.
    fn look(
        &mut self,
        path: &std::path::Path,
        whatever: bool,
    ) -> Option<Result<Services, Vec<ConfigMistake>>> {
        // Of a file that is not there this is nothing, and it is read to learn why.
        let seen = std::fs::metadata(path).ok().map(|data| (data.modified().ok(), data.len()));
        if !whatever && seen.is_some() && seen == self.seen {
            return None;
        }
        self.seen = seen;
        let (content, bytes) = match config::read(path) {
            Ok(bytes) => (Ok(hash(&bytes[..])), bytes),
            Err(mistakes) => (Err(mistakes), Vec::new()),
        };
        if self.content.as_ref() == Some(&content) {
            return None;
        }
        let news = match &content {
            Ok(_) => config::services(path, &bytes),
            Err(mistakes) => Err(mistakes.clone()),
        };
        self.content = Some(content);
        Some(news)
    }
}

fn hash(of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
