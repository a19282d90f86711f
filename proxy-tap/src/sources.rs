//! What the proxy watches beside the collector: names of the DNS, the file of endpoints, the files of its identity.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use weir_model::policy::Policy;
use weir_model::policy::destination::HealthCheck;

use crate::config::{self, ConfigMistake, Target};
use crate::discovery::{dns, file};
use crate::health;
use crate::run::Proxy;
use crate::services;
use crate::times::Times;
use crate::tls::TlsError;
use crate::upstream::{Origin, Upstream};

/// How often the policy file is looked at.
const POLICY: Duration = Duration::from_secs(1);
/// How often it is read although it looks as before, because a clock may be too coarse for two changes in a row.
const POLICY_READ: Duration = Duration::from_secs(30);
/// How often it is looked for services of which names are resolved or endpoints checked, or no longer.
const LOOK: Duration = Duration::from_millis(200);
/// How often files of certificates and keys are looked at.
const CERTIFICATES: Duration = Duration::from_secs(2);

/// How the sources fare, for the admin page.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    dns: Mutex<Vec<(Arc<str>, Arc<dns::Status>)>>,
    pub(crate) file: Arc<file::Status>,
    /// What the file of endpoints said at the start.
    listed: file::Known,
    policy_mistakes: AtomicUsize,
    /// Changes of the file of endpoints, by which services may have come to another source.
    moved: AtomicUsize,
    policy_took: Times,
    dns_took: Times,
}

impl Sources {
    /// Sources of which the file said this when it was read first.
    pub(crate) fn new(endpoints: &config::Services) -> Self {
        Self { listed: file::known(endpoints), ..Self::default() }
    }

    /// The services that are found by the DNS.
    pub(crate) fn names(&self) -> Vec<(Arc<str>, Arc<dns::Status>)> {
        self.dns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Mistakes in the policy file as it is; while there are any, the policy of before is in force.
    pub(crate) fn policy_mistakes(&self) -> usize {
        self.policy_mistakes.load(Ordering::Relaxed)
    }

    /// From when a change was heard of until it was in force, by source.
    pub(crate) fn took(&self) -> [(&'static str, &Times); 3] {
        [("file", &self.file.took), ("policy", &self.policy_took), ("dns", &self.dns_took)]
    }

    fn add(&self, service: &Arc<str>, status: &Arc<dns::Status>) {
        let mut all = self.dns.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((Arc::clone(service), Arc::clone(status)));
    }

    fn remove(&self, service: &str) {
        self.dns.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| **name != *service);
    }
}

/// Starts a task for each source, until `stop`.
pub(crate) fn run(proxy: &Arc<Proxy>, tasks: &TaskTracker, stop: &CancellationToken) {
    tasks.spawn(resolve(Arc::clone(proxy), tasks.clone(), stop.clone()));
    if let Some(path) = proxy.config.endpoints_file.clone() {
        let known = proxy.sources.listed.clone();
        let owner = Arc::clone(proxy);
        let apply = move |name: &str, endpoints: Option<Vec<_>>| {
            services::listed(name, endpoints, &owner);
            owner.sources.moved.fetch_add(1, Ordering::Relaxed);
        };
        tasks.spawn(file::run(path, known, apply, Arc::clone(&proxy.sources.file), stop.clone()));
    }
    if let Some(path) = proxy.config.policy_file.clone() {
        tasks.spawn(watch_policy(Arc::clone(proxy), path, stop.clone()));
    }
    tasks.spawn(check_health(Arc::clone(proxy), stop.clone()));
    tasks.spawn(watch_certificates(Arc::clone(proxy), stop.clone()));
}

/// Reads the files of the identity and those that the policy names again; broken ones change nothing.
async fn watch_certificates(proxy: Arc<Proxy>, stop: CancellationToken) {
    let mut told = Vec::new();
    while stop.run_until_cancelled(sleep(CERTIFICATES)).await.is_some() {
        let owner = Arc::clone(&proxy);
        let read = move || {
            let identity = owner.own_identity.iter().map(|identity| ("the proxy".into(), identity.reload()));
            let services = owner.services.all();
            let services = services.iter().map(|one| (Arc::clone(&one.name), one.terms().reload()));
            let looked: Vec<(Arc<str>, Result<bool, TlsError>)> = identity.chain(services).collect();
            looked
        };
        let mut problems = Vec::new();
        for (of, looked) in tokio::task::spawn_blocking(read).await.unwrap_or_default() {
            match looked {
                Ok(true) => tracing::info!(%of, "certificates or keys have changed and are used"),
                Ok(false) => {}
                Err(error) => problems.push((of, error.to_string())),
            }
        }
        if problems != told {
            for (of, problem) in &problems {
                tracing::warn!(%of, problem, "keeping certificates and keys of before");
            }
            told = problems;
        }
    }
}

/// Keeps a task for each service that is found by the DNS.
async fn resolve(proxy: Arc<Proxy>, tasks: TaskTracker, stop: CancellationToken) {
    let mut running: HashMap<String, (Target, CancellationToken)> = HashMap::new();
    let mut seen = None;
    loop {
        let (policy, moved) = (proxy.policy(), proxy.sources.moved.load(Ordering::Relaxed));
        if !seen.as_ref().is_some_and(|(seen, at)| Arc::ptr_eq(seen, &policy) && *at == moved) {
            let targets = targets(&proxy, &policy);
            running.retain(|name, (target, token)| {
                let stays = targets.get(name) == Some(target);
                if !stays {
                    token.cancel();
                    proxy.sources.remove(name);
                }
                stays
            });
            for (name, target) in targets {
                let Some(upstream) = proxy.services.get(&name) else { continue };
                running.entry(name).or_insert_with(|| {
                    let token = stop.child_token();
                    tasks.spawn(follow(&proxy, upstream, target.clone(), token.clone()));
                    (target, token)
                });
            }
            seen = Some((policy, moved));
        }
        if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
            return;
        }
    }
}

/// The names that the flags and the policy give; a flag outweighs the policy.
fn targets(proxy: &Proxy, policy: &Policy) -> BTreeMap<String, Target> {
    let is_found = |name: &String| services::source(name, proxy).0 == Origin::Dns;
    let of_policy =
        policy.services.iter().filter_map(|one| Some((one.host.clone(), Target::of(&one.resolve)?)));
    let mut all: BTreeMap<_, _> = of_policy.collect();
    all.extend(proxy.config.resolve.clone());
    all.retain(|name, _| is_found(name));
    all
}

/// Asks for one name until `stop`.
fn follow(
    proxy: &Arc<Proxy>,
    upstream: Arc<Upstream>,
    target: Target,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (server, mark) = (proxy.config.dns_server, proxy.config.mark);
    let resolver = dns::Resolver { server, mark, ..dns::Resolver::default() };
    let status = Arc::new(dns::Status::new(Instant::now()));
    proxy.sources.add(&upstream.name, &status);
    let owner = Arc::clone(proxy);
    let apply = move |endpoints| {
        let begun = Instant::now();
        // A policy that comes at this moment may have it elsewhere.
        if upstream.origin() == Origin::Dns {
            upstream.set(endpoints);
            owner.sources.dns_took.record(begun.elapsed());
        }
    };
    dns::run(target, resolver, apply, Arc::clone(&proxy.chance), status, stop)
}

/// Reads the policy again when its file has changed; a broken one changes nothing.
async fn watch_policy(proxy: Arc<Proxy>, path: PathBuf, stop: CancellationToken) {
    let mut told = Vec::new();
    let mut seen: Option<(_, Instant)> = None;
    while stop.run_until_cancelled(sleep(POLICY)).await.is_some() {
        let (path, owner) = (path.clone(), Arc::clone(&proxy));
        // Of a file that is not there this is nothing, and it is read to learn why.
        let looks = std::fs::metadata(&path).ok().map(|data| (data.modified().ok(), data.len()));
        let as_before = |(looked, at): &(_, Instant)| *looked == looks && at.elapsed() < POLICY_READ;
        if looks.is_some() && seen.as_ref().is_some_and(as_before) {
            continue;
        }
        seen = Some((looks, Instant::now()));
        // Reading and compiling take milliseconds for a thousand routes: not on a thread that serves.
        let read = move || {
            let begun = Instant::now();
            let policy = config::policy::read(&path, owner.config.tls.as_ref().map(|tls| &tls.files))?;
            let is_new = policy != *owner.policy();
            if is_new {
                owner.apply(policy);
                owner.sources.policy_took.record(begun.elapsed());
            }
            Ok::<bool, Vec<ConfigMistake>>(is_new)
        };
        let looked = tokio::task::spawn_blocking(read).await;
        if let Ok(looked) = &looked {
            let mistakes = looked.as_ref().err().map_or(0, Vec::len);
            proxy.sources.policy_mistakes.store(mistakes, Ordering::Relaxed);
        }
        match looked {
            Ok(Ok(true)) => {
                told.clear();
                tracing::info!("the policy has changed and is in force");
            }
            Ok(Ok(false)) => told.clear(),
            Ok(Err(mistakes)) if mistakes != told => {
                for mistake in &mistakes {
                    tracing::warn!(%mistake, "keeping the policy of before");
                }
                told = mistakes;
            }
            _ => {}
        }
    }
}

/// Keeps a task of checks for each service whose policy has any.
async fn check_health(proxy: Arc<Proxy>, stop: CancellationToken) {
    let mut running: HashMap<Arc<str>, (HealthCheck, CancellationToken)> = HashMap::new();
    loop {
        let services = proxy.services.all();
        running.retain(|name, (check, token)| {
            let wanted = services.iter().find(|one| one.name == *name);
            let wanted = wanted.and_then(|one| one.applied().service.destination.health_check.clone());
            let stays = wanted.as_ref() == Some(check);
            if !stays {
                token.cancel();
            }
            stays
        });
        for upstream in services {
            let Some(check) = upstream.applied().service.destination.health_check.clone() else { continue };
            running.entry(Arc::clone(&upstream.name)).or_insert_with(|| {
                let token = stop.child_token();
                let (checks, chance) = (Arc::clone(&upstream.checks), Arc::clone(&proxy.chance));
                tokio::spawn(health::run(upstream, check.clone(), checks, chance, token.clone()));
                (check, token)
            });
        }
        if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
            return;
        }
    }
}
