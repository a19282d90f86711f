//! A subset of Consul's HTTP API, so that clients of Consul register and find services of the mesh.
//!
//! In: registrations of services and checks, reports of TTL checks. Out: health, catalog and blocking queries over
//! everything that is in the registry. An instance that was registered so is an endpoint of the mesh while none of
//! its checks is critical: proxies balance over it like over instances with a proxy of their own.
//!
//! What an agent of Consul does on each machine is done here for all of them ([`agent`]): there is one node, one data
//! centre, and an instance that does not say where it is, is where its registration came from. HTTP and TCP checks
//! are run from here ([`probe`]). Registrations are kept in a file ([`file`]).
//!
//! Not here: key-value store, sessions, ACLs, Consul's own mesh, DNS, maintenance mode, `?filter`, and checks by
//! gRPC, UDP, HTTP/2 ping, script, Docker and alias. A request for one of them is refused, never passed over.

mod agent;
mod definition;
mod duration;
mod file;
mod probe;
mod question;
mod refused;
mod routes;
mod view;
mod written;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_model::limits;

use crate::mesh::{MeshService, Registry};
use agent::{Agent, Due};
use definition::Status;
pub use file::RestoreError;
use probe::Prober;
use question::Question;
use refused::Refused;
use view::View;

/// How often it is looked which checks are due and which have lapsed.
const TICK: Duration = Duration::from_millis(100);

/// Consul's API over one registry.
#[derive(Debug)]
pub struct Consul {
    mesh: MeshService,
    http: SocketAddr,
    state: Mutex<State>,
    file: Option<PathBuf>,
    /// The number of the last change that is to be kept.
    changed: watch::Sender<u64>,
    /// The last change that was written, and why it was not.
    written: watch::Sender<(u64, Option<String>)>,
    prober: Prober,
    watches: Semaphore,
    counters: Counters,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    agent: Agent,
    /// How many changes there have been.
    changes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    probes: AtomicU64,
    watches_refused: AtomicU64,
    writes_failed: AtomicU64,
}

/// What a blocking query waits for a change of.
#[derive(Debug, Clone, Copy)]
enum Scope<'a> {
    /// A service.
    Service(&'a str),
    /// Which services and instances there are.
    List,
    /// Anything.
    Everything,
    /// The node, which never changes.
    Node,
}

impl Scope<'_> {
    fn index(self, registry: &Registry) -> u64 {
        match self {
            Self::Service(name) => registry.index(name),
            Self::List => registry.list_index(),
            Self::Everything => registry.last_index(),
            Self::Node => 1,
        }
        // 0 would mean that no index is known.
        .max(1)
    }
}

impl Consul {
    /// The API over `mesh`, reached at `http`, until `stop`. Registrations are kept in `file`; those that are there are
    /// taken over.
    pub(crate) fn open(
        mesh: MeshService,
        http: SocketAddr,
        file: Option<PathBuf>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, RestoreError> {
        let saved = file.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let now = Instant::now();
        let mut agent = Agent::restored(saved, now, fastrand::f64);
        // By then every proxy has had time to come back to a restarted collector: see `REGISTRATION_SETTLE`.
        mesh.hear(agent.news(), now + limits::REGISTRATION_RENEW);
        Ok(Arc::new(Self {
            mesh,
            http,
            state: Mutex::new(State { agent, changes: 0 }),
            file,
            changed: watch::Sender::new(0),
            written: watch::Sender::new((0, None)),
            prober: Prober::default(),
            watches: Semaphore::new(limits::AGENT_WATCHES),
            counters: Counters::default(),
            stop,
        }))
    }

    /// The routes, all below `/v1/`. They want to know who asks: serve them with `ConnectInfo`.
    pub fn router(self: &Arc<Self>) -> axum::Router {
        routes::router(Arc::clone(self))
    }

    /// Runs checks, lets them lapse and keeps registrations, until the server stops.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.clone().run_checks(), self.keep());
    }

    /// Appends its own metrics in the Prometheus text format.
    pub fn write_prometheus(&self, out: &mut String) {
        let (services, checks) = {
            let state = self.state();
            (state.agent.services().count() as u64, state.agent.checks().count() as u64)
        };
        let waiting = limits::AGENT_WATCHES.saturating_sub(self.watches.available_permits()) as u64;
        let counter = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, kind, help, value) in [
            ("services", "gauge", "Instances registered through Consul's API.", services),
            ("checks", "gauge", "Checks registered through Consul's API.", checks),
            ("watches", "gauge", "Requests of Consul's API that wait for a change.", waiting),
            (
                "watches_refused_total",
                "counter",
                "Requests refused because too many waited.",
                counter(&self.counters.watches_refused),
            ),
            ("probes_total", "counter", "HTTP and TCP checks that were run.", counter(&self.counters.probes)),
            (
                "writes_failed_total",
                "counter",
                "Times that registrations could not be written down.",
                counter(&self.counters.writes_failed),
            ),
        ] {
            let _ = writeln!(out, "# HELP weir_consul_{name} {help}");
            let _ = writeln!(out, "# TYPE weir_consul_{name} {kind}");
            let _ = writeln!(out, "weir_consul_{name} {value}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the agent and tells the mesh; the number of the change. The agent is locked before the registry, always.
    fn change<T>(&self, change: impl FnOnce(&mut Agent) -> Result<T, Refused>) -> Result<u64, Refused> {
        let mut state = self.state();
        change(&mut state.agent)?;
        let news = state.agent.news();
        if !news.is_empty() {
            state.changes += 1;
            self.mesh.hear(news, Instant::now());
            self.changed.send_replace(state.changes);
        }
        Ok(state.changes)
    }

    /// Agent and mesh at one moment.
    fn view<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        let state = self.state();
        self.mesh.look(|registry| look(&View { agent: &state.agent, registry, http: self.http }))
    }

    /// Waits until `scope` has another index than the one that is known, or for as long as that shall take.
    async fn wait(&self, question: &Question, scope: Scope<'_>) -> Result<(), Refused> {
        let mut changes = self.mesh.changes();
        let index = || self.mesh.look(|registry| scope.index(registry));
        // A higher index than there is, is of no use to wait for.
        if question.index == 0 || index() != question.index {
            return Ok(());
        }
        let Ok(_waiting) = self.watches.try_acquire() else {
            self.counters.watches_refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::TooManyWatches);
        };
        // Consul: up to a sixteenth more, so that clients that began together do not end together.
        let deadline = Instant::now() + question.wait + question.wait.mul_f64(fastrand::f64() / 16.0);
        while index() == question.index {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                () = tokio::time::sleep_until(deadline) => break,
                () = self.stop.cancelled() => break,
            }
        }
        Ok(())
    }

    /// Waits until the change of that number is on disk.
    async fn kept(&self, change: u64) -> Result<(), Refused> {
        if self.file.is_none() {
            return Ok(());
        }
        let mut written = self.written.subscribe();
        match written.wait_for(|(through, _)| *through >= change).await.as_deref() {
            Ok((_, None)) => Ok(()),
            Ok((_, Some(why))) => Err(Refused::NotKept(why.clone())),
            Err(_) => Err(Refused::NotKept("the server is stopping".to_owned())),
        }
    }

    async fn run_checks(self: Arc<Self>) {
        let mut running: JoinSet<(Due, Status, String)> = JoinSet::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = Instant::now();
                    let room = limits::AGENT_PROBES.saturating_sub(running.len());
                    let mut due = Vec::new();
                    let _ = self.change(|agent| {
                        agent.expire(now);
                        due = agent.due(now, room);
                        Ok(())
                    });
                    for due in due {
                        let consul = Arc::clone(&self);
                        running.spawn(async move {
                            let (status, output) = consul.prober.run(&due.kind).await;
                            (due, status, output)
                        });
                    }
                }
                Some(ran) = running.join_next() => {
                    self.counters.probes.fetch_add(1, Ordering::Relaxed);
                    let Ok((due, status, output)) = ran else { continue };
                    let _ = self.change(|agent| {
                        agent.found(&due, status, output, Instant::now());
                        Ok(())
                    });
                }
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Writes the registrations down after each change, and a last time at the end.
    async fn keep(&self) {
        let Some(path) = &self.file else { return };
        let mut changed = self.changed.subscribe();
        // What was registered before this ran is waited for, too.
        changed.mark_changed();
        loop {
            let stopping = tokio::select! {
                changed = changed.changed() => changed.is_err(),
                () = self.stop.cancelled() => true,
            };
            let (change, saved) = {
                let state = self.state();
                (state.changes, state.agent.saved())
            };
            if self.written.borrow().0 < change {
                let to = path.clone();
                let written = tokio::task::spawn_blocking(move || file::write(&to, saved)).await;
                let failure = match written {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(error) = &failure {
                    tracing::error!(path = %path.display(), error, "registrations were not written down");
                    self.counters.writes_failed.fetch_add(1, Ordering::Relaxed);
                }
                self.written.send_replace((change, failure));
            }
            if stopping {
                // Whoever registers from now on is not left waiting.
                self.written.send_replace((u64::MAX, Some("the server is stopping".to_owned())));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
