//! What holds for the connections to all endpoints of a service together: how they are encrypted, how many there may
//! be, how long one may take to come about, how long and for how many requests it is kept. A policy that changes
//! changes it in place.

use std::pin::pin;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use socket2::TcpKeepalive;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_model::policy::destination::Connections;

use super::Pool;
use crate::tls::{TlsError, Toward};

/// An end that is silent for so long is asked whether it is still there, where the policy does not say.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How often idle connections are looked through.
const LOOK_MOST: Duration = Duration::from_secs(5);
const LOOK_LEAST: Duration = Duration::from_millis(100);

/// The terms of one service, and its connections as far as they count.
#[derive(Debug)]
pub(crate) struct Terms {
    toward: ArcSwapOption<Toward>,
    is_mutual: AtomicBool,
    is_https: AtomicBool,
    /// Changes with the encryption: connections of before serve nobody else.
    generation: AtomicU32,
    connect_ns: AtomicU64,
    idle_ns: AtomicU64,
    keepalive_ns: AtomicU64,
    max_connections: AtomicU32,
    /// Of one connection.
    max_requests: AtomicU32,
    /// Of one HTTP/2 connection, at once.
    max_streams: AtomicU32,
    open: AtomicU32,
    /// Requests for which there was neither a connection nor room for another.
    waiting: AtomicU32,
    freed: Notify,
    /// Of those that wait, how many may still be told of what came free last: not all of them can use it.
    to_tell: AtomicU32,
    /// Where idle connections are that can make room.
    pools: Mutex<Vec<Weak<Pool>>>,
    /// When idle connections are looked through next, if they were before.
    look: Mutex<Option<Instant>>,
}

impl Default for Terms {
    fn default() -> Self {
        let number = AtomicU32::default;
        let terms = Self {
            toward: ArcSwapOption::default(),
            is_mutual: AtomicBool::default(),
            is_https: AtomicBool::default(),
            generation: number(),
            connect_ns: AtomicU64::default(),
            idle_ns: AtomicU64::default(),
            keepalive_ns: AtomicU64::default(),
            max_connections: number(),
            max_requests: number(),
            max_streams: number(),
            open: number(),
            waiting: number(),
            freed: Notify::new(),
            to_tell: number(),
            pools: Mutex::default(),
            look: Mutex::default(),
        };
        terms.set(&Connections::default());
        terms
    }
}

impl Terms {
    /// Does from now on what the policy says. Connections beyond a lower bound stay until they end.
    pub(crate) fn set(&self, told: &Connections) {
        let ns = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.connect_ns.store(ns(told.connect_timeout.0), Relaxed);
        self.idle_ns.store(ns(told.idle_timeout.0), Relaxed);
        self.keepalive_ns.store(ns(told.tcp_keepalive.map_or(KEEPALIVE, |length| length.0)), Relaxed);
        self.max_requests.store(at_most(told.max_requests_per_connection), Relaxed);
        self.max_streams.store(told.max_concurrent_streams, Relaxed);
        self.max_connections.store(told.max_connections.unwrap_or(u32::MAX), SeqCst);
        self.freed.notify_waiters();
    }

    /// Encrypts new connections like this; those that are idle close.
    pub(crate) fn encrypt(&self, toward: Option<Toward>) {
        self.is_mutual.store(toward.as_ref().is_some_and(Toward::is_mutual), Relaxed);
        self.is_https.store(toward.as_ref().is_some_and(|toward| !toward.is_mesh()), Relaxed);
        self.toward.store(toward.map(Arc::new));
        self.generation.fetch_add(1, SeqCst);
        lock(&self.pools).iter().filter_map(Weak::upgrade).for_each(|pool| while pool.close_one() {});
    }

    /// How connections are encrypted, if they are.
    pub(crate) fn toward(&self) -> Option<Arc<Toward>> {
        self.toward.load_full()
    }

    /// Reads the files of the encryption again; says whether they have changed.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        self.toward().map_or(Ok(false), |toward| toward.reload())
    }

    /// Whether both sides of a connection show a certificate.
    pub(crate) fn is_mutual(&self) -> bool {
        self.is_mutual.load(Relaxed)
    }

    /// Whether requests are for `https`: there is a server with TLS, and no proxy that ends it.
    pub(super) fn is_https(&self) -> bool {
        self.is_https.load(Relaxed)
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_nanos(self.connect_ns.load(Relaxed))
    }

    /// How long an idle connection is kept.
    pub(super) fn idle(&self) -> Duration {
        Duration::from_nanos(self.idle_ns.load(Relaxed))
    }

    /// When the kernel asks a silent end, and how often until it gives up.
    pub(super) fn keepalive(&self) -> TcpKeepalive {
        keepalive(Duration::from_nanos(self.keepalive_ns.load(Relaxed)))
    }

    /// Requests that a connection may serve.
    pub(super) fn max_requests(&self) -> u32 {
        self.max_requests.load(Relaxed)
    }

    /// Streams that an HTTP/2 connection may have at once.
    pub(super) fn max_streams(&self) -> u32 {
        self.max_streams.load(Relaxed)
    }

    /// Connections that are open or coming about.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    pub(super) fn add(&self, pool: &Arc<Pool>) {
        let mut pools = lock(&self.pools);
        if pools.len() == pools.capacity() {
            pools.retain(|pool| pool.strong_count() > 0);
        }
        pools.push(Arc::downgrade(pool));
    }

    /// A place for one more connection, if need be that of one that is idle.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        self.enter().or_else(|| {
            self.make_room();
            self.enter()
        })
    }

    fn enter(self: &Arc<Self>) -> Option<Place> {
        let limit = self.max_connections.load(Relaxed);
        let enter = |open: u32| (open < limit).then(|| open + 1);
        self.open.fetch_update(SeqCst, SeqCst, enter).is_ok().then(|| Place(Arc::clone(self)))
    }

    /// Closes a connection that is idle. One of HTTP/2 takes a moment.
    fn make_room(&self) {
        let _ = lock(&self.pools).iter().filter_map(Weak::upgrade).any(|pool| pool.close_one());
    }

    /// Waits for a place, or until `find` finds a connection that came free.
    pub(super) async fn wait<T>(self: &Arc<Self>, find: impl Fn() -> Option<T>) -> Room<T> {
        if let Some(place) = self.enter() {
            return Room::Place(place);
        }
        let _queued = Queued::new(self);
        let mut was_told = false;
        loop {
            let mut freed = pin!(self.freed.notified());
            // From here on it hears of what comes free, so nothing is missed between looking and waiting.
            freed.as_mut().enable();
            if let Some(found) = find() {
                return Room::Found(found);
            }
            if let Some(place) = self.place() {
                return Room::Place(place);
            }
            if was_told {
                self.tell_another();
            }
            freed.await;
            was_told = true;
        }
    }

    /// A connection is idle, has room for another stream, or has ended.
    pub(super) fn freed(&self) {
        let waiting = self.waiting.load(SeqCst);
        if waiting > 0 {
            self.to_tell.store(waiting, Relaxed);
            self.freed.notify_one();
        }
    }

    /// Whoever was told has no use for it: a stream of a connection to another endpoint, or of another worker.
    fn tell_another(&self) {
        if self.to_tell.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            self.freed.notify_one();
        }
    }

    /// A connection is there that many can share.
    pub(super) fn shared(&self) {
        self.freed.notify_waiters();
    }

    /// Whether it is time to look for connections that were idle for too long.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let mut look = lock(&self.look);
        let is_due = look.is_none_or(|at| now >= at);
        if is_due {
            *look = Some(now + (self.idle() / 4).clamp(LOOK_LEAST, LOOK_MOST));
        }
        is_due
    }
}

/// The kernel asks an end that was silent for `time`, then four times as often, and gives up after the third time.
pub(crate) fn keepalive(time: Duration) -> TcpKeepalive {
    let interval = (time / 4).max(Duration::from_secs(1));
    TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(3)
}

/// A bound of which 0 is none.
fn at_most(told: u32) -> u32 {
    if told == 0 { u32::MAX } else { told }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a request gets that waited.
#[derive(Debug)]
pub(super) enum Room<T> {
    /// A connection that is there.
    Found(T),
    /// A place for a new one.
    Place(Place),
}

/// A connection counts while this lives.
#[derive(Debug)]
#[must_use = "a connection counts while this lives"]
pub(crate) struct Place(Arc<Terms>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
        self.0.freed();
    }
}

struct Queued<'a>(&'a Terms);

impl<'a> Queued<'a> {
    fn new(terms: &'a Terms) -> Self {
        terms.waiting.fetch_add(1, SeqCst);
        Self(terms)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}
