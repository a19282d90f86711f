//! The proxy's side of the mesh protocol: registers, learns endpoints and hints, answers.
//!
//! In: endpoints, which replace those of an [`Upstream`](crate::upstream::Upstream), and hints, which go to its
//! breakers. Out: a registration first, renewals, which services are called now, answers to hints, and a withdrawal
//! before the proxy drains. Both ways: what came for limits that proxies share, and the proxy's part of them.
//! While the collector is away everything stays as it was last told; leases of hints run out by themselves.
//! Nothing of this is ever waited for by a request.

mod rates;
mod receive;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weir_model::limits;
use weir_model::mesh::mesh_client::MeshClient;
use weir_model::mesh::{FromProxy, HintAck, Registration, Renewal, Watch, Withdrawal, from_proxy};

use crate::breaker::Answer;
use crate::run::Proxy;
use crate::times::Times;
use crate::upstream::{Origin, Upstream};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the collector may take to end the stream after a withdrawal.
const FAREWELL: Duration = Duration::from_millis(500);
/// Renewals are at most and at least so frequent, whatever the collector asks for.
const FASTEST_RENEWAL: Duration = Duration::from_millis(50);
const SLOWEST_RENEWAL: Duration = Duration::from_secs(60);

/// How the connection to the collector fares, for the admin page.
#[derive(Debug, Default)]
pub(crate) struct Status {
    joined: AtomicBool,
    epoch: AtomicU64,
    joins: AtomicU64,
    failures: AtomicU64,
    /// Endpoints, hints and messages that made no sense.
    bad: AtomicU64,
    /// From when endpoints were received until they were in force.
    pub(crate) took: Times,
}

impl Status {
    /// Whether the collector has welcomed the proxy and the stream is up.
    pub(crate) fn is_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// The run of the collector that was joined last; 0 is none.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Times the proxy joined, times it failed to or was cut off, and what was received and unusable.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 3] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("joins", get(&self.joins)), ("failures", get(&self.failures)), ("bad_messages", get(&self.bad))]
    }

    fn welcomed(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
        self.joins.fetch_add(1, Ordering::Relaxed);
        self.joined.store(true, Ordering::Relaxed);
    }

    fn is_bad(&self) {
        self.bad.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stays joined until `leave`, at an address that other proxies are told (`advertised`).
pub(crate) async fn run(
    proxy: Arc<Proxy>,
    channel: Channel,
    advertised: Option<String>,
    leave: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let ended = join(&proxy, channel.clone(), advertised.clone(), &leave).await;
        let was_joined = proxy.mesh.joined.swap(false, Ordering::Relaxed);
        let Err(status) = ended else { return };
        proxy.mesh.failures.fetch_add(1, Ordering::Relaxed);
        if was_joined {
            pause = FIRST_PAUSE;
        }
        if pause == FIRST_PAUSE {
            tracing::warn!(%status, "not in the mesh; keeping what is known and trying again");
        }
        tokio::select! {
            () = leave.cancelled() => return,
            () = sleep(pause.mul_f64(0.5 + proxy.chance.f64() / 2.0)) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One stream: `Ok` when the proxy has left, an error when the stream broke off.
async fn join(
    proxy: &Arc<Proxy>,
    channel: Channel,
    advertised: Option<String>,
    leave: &CancellationToken,
) -> Result<(), tonic::Status> {
    let (out, outgoing) = mpsc::channel(limits::MESH_STREAM_QUEUE);
    // What was added until now is asked for with all else.
    let _ = proxy.services.wanted.notified().now_or_never();
    let first = from_proxy::Message::Register(registration(proxy, advertised));
    // The queue is new and empty, so there is room.
    let _ = out.try_send(message(first));
    let mut client = MeshClient::new(channel);
    let joining = timeout(limits::MESH_PATIENCE, client.join(ReceiverStream::new(outgoing)));
    let joined = tokio::select! {
        () = leave.cancelled() => return Ok(()),
        joined = joining => joined,
    };
    let late = |_| tonic::Status::deadline_exceeded("the collector did not answer within 5 s");
    let mut incoming = joined.map_err(late)??.into_inner();
    let mut renewals: Option<Interval> = None;
    let mut reports = rates::Reports::new(proxy);
    loop {
        tokio::select! {
            received = incoming.message() => match received? {
                Some(received) => {
                    if let Some(every) = receive::message(proxy, received) {
                        renewals = Some(renewing(every));
                    }
                }
                None => return Err(tonic::Status::unavailable("the collector ended the stream")),
            },
            () = due(&mut renewals) => {
                // A queue that is full carries signs of life enough.
                let _ = out.try_send(message(from_proxy::Message::Renew(Renewal {})));
            }
            room = next_want(proxy, &out), if renewals.is_some() => {
                let watch = Watch { services: wanted(proxy) };
                room?.send(message(from_proxy::Message::Watch(watch)));
            }
            room = reports.next(proxy, &out), if renewals.is_some() => reports.send(proxy, room?, &out),
            answer = next_answer(proxy, &out), if renewals.is_some() => {
                let (room, answer) = answer?;
                room.send(message(from_proxy::Message::Ack(wire(proxy, &answer))));
            }
            () = leave.cancelled() => break,
        }
    }
    let withdrawal = message(from_proxy::Message::Withdraw(Withdrawal {}));
    let said = timeout(FAREWELL, out.send(withdrawal)).await;
    drop(out);
    // The end of the stream says that the withdrawal arrived.
    let ended = async { while let Ok(Some(_)) = incoming.message().await {} };
    if timeout(FAREWELL, ended).await.is_err() || said.is_err() {
        tracing::warn!("the collector did not confirm the withdrawal");
    }
    Ok(())
}

/// The services that the collector is asked for.
fn wanted(proxy: &Proxy) -> Vec<String> {
    let fits = |upstream: &Arc<Upstream>| {
        upstream.origin() == Origin::Registry && upstream.name.len() <= limits::REGISTRATION_TEXT_BYTES
    };
    let mut asked: Vec<_> = proxy.services.all().into_iter().filter(fits).collect();
    // Of more than the collector takes, those that it turned out not to know are left out.
    asked.sort_by_key(|upstream| !upstream.ever_had_one());
    asked.truncate(limits::REGISTRATION_UPSTREAMS);
    asked.iter().map(|upstream| upstream.name.to_string()).collect()
}

fn registration(proxy: &Proxy, advertised: Option<String>) -> Registration {
    Registration {
        instance: proxy.identity.instance.to_string(),
        service: proxy.identity.service.to_string(),
        version: proxy.identity.version.to_string(),
        zone: proxy.config.zone.clone(),
        address: advertised.unwrap_or_default(),
        protocol: proxy.config.protocol.name().to_owned(),
        labels: proxy.config.labels.clone().into_iter().collect(),
        region: proxy.config.region.clone(),
        namespace: proxy.config.namespace.clone(),
        weight: Some(proxy.config.weight),
        priority: proxy.config.priority,
        upstreams: wanted(proxy),
    }
}

fn message(message: from_proxy::Message) -> FromProxy {
    FromProxy { message: Some(message) }
}

fn renewing(every: Duration) -> Interval {
    let every = every.clamp(FASTEST_RENEWAL, SLOWEST_RENEWAL);
    let mut renewals = interval_at(Instant::now() + every, every);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewals
}

/// Waits for the next renewal; for ever, before the welcome says how often to renew.
async fn due(renewals: &mut Option<Interval>) {
    match renewals {
        Some(renewals) => drop(renewals.tick().await),
        None => std::future::pending().await,
    }
}

/// Room in the queue once the collector has to be asked for other services.
async fn next_want<'a>(
    proxy: &Proxy,
    out: &'a mpsc::Sender<FromProxy>,
) -> Result<mpsc::Permit<'a, FromProxy>, tonic::Status> {
    let gone = |_| tonic::Status::unavailable("the collector ended the stream");
    let room = out.reserve().await.map_err(gone)?;
    proxy.services.wanted.notified().await;
    Ok(room)
}

/// Room in the queue first, so that an answer is only taken when it can be sent.
async fn next_answer<'a>(
    proxy: &Proxy,
    out: &'a mpsc::Sender<FromProxy>,
) -> Result<(mpsc::Permit<'a, FromProxy>, Answer), tonic::Status> {
    let gone = |_| tonic::Status::unavailable("the collector ended the stream");
    let room = out.reserve().await.map_err(gone)?;
    Ok((room, proxy.answers.next().await))
}

fn wire(proxy: &Proxy, answer: &Answer) -> HintAck {
    let mut ack = answer.ack.clone();
    ack.at = proxy.clock.now() - answer.given.elapsed();
    HintAck::from(&ack)
}
