//! Where requests go: a collector over OTLP/gRPC, or a data directory by the collector's own decoder and storage's
//! one writer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use weir_collector::decode::{self, DecodeError, Decoded, DeltaState, Series, Signal};
use weir_model::prometheus::Otlp;
use weir_model::{Clock, TenantId};
use weir_storage::{Options, Storage, WriteBatch, WriteError};

use super::ImportError;
use crate::export::{self, Outcome};

/// First pause after a failure; each further one doubles it.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Longest pause after a failure, and the longest that a collector may ask for.
const BACK_OFF_MOST: Duration = Duration::from_secs(5);
/// After how long without success the import ends.
const GIVE_UP: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It is stored, but for these: reason and count.
    Taken(Vec<(String, u64)>),
    /// Nothing of it is, and never will be.
    Refused(String),
}

/// Why there is no use in going on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A signal came.
    Asked,
    /// Nothing was taken for too long, or nothing ever will be.
    Hopeless(String),
}

/// Where requests go.
#[derive(Debug)]
pub(super) enum Sink {
    Collector { to: String, channel: Channel },
    Directory(Arc<Directory>),
}

/// An open data directory.
pub(super) struct Directory {
    name: String,
    storage: Storage,
    deltas: DeltaState,
    tenant: TenantId,
    clock: Clock,
}

impl Sink {
    /// A collector that answers.
    pub(super) async fn collector(to: String) -> Result<Self, ImportError> {
        let Some(endpoint) = export::endpoint(&to) else { return Err(ImportError::Address { to }) };
        match endpoint.connect().await {
            Ok(channel) => Ok(Self::Collector { to, channel }),
            Err(error) => Err(ImportError::NoAnswer { to, why: with_causes(&error) }),
        }
    }

    /// A data directory that nobody else uses.
    pub(super) async fn directory(
        data_dir: PathBuf,
        tenant: TenantId,
        clock: Clock,
    ) -> Result<Self, ImportError> {
        let name = data_dir.display().to_string();
        let storage = Storage::open(Options::new(data_dir, clock.clone())).await?;
        let deltas = DeltaState::default();
        Ok(Self::Directory(Arc::new(Directory { name, storage, deltas, tenant, clock })))
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Collector { to, .. } => to.clone(),
            Self::Directory(directory) => directory.name.clone(),
        }
    }

    /// Stores a request, trying again for as long as there is hope.
    pub(super) async fn store(
        &self,
        signal: Signal,
        body: Bytes,
        stop: &CancellationToken,
    ) -> Result<Stored, Ended> {
        let patience = Patience { stop, began: Instant::now(), pause: BACK_OFF };
        match self {
            Self::Collector { channel, .. } => send(channel, signal, body, patience).await,
            Self::Directory(directory) => write(directory, signal, body, patience).await,
        }
    }

    /// Finishes: what was stored is in files afterwards.
    pub(super) async fn close(self) -> Result<(), ImportError> {
        match self {
            Self::Collector { .. } => Ok(()),
            Self::Directory(directory) => Ok(directory.storage.clone().close().await?),
        }
    }
}

async fn send(
    channel: &Channel,
    signal: Signal,
    body: Bytes,
    mut patience: Patience<'_>,
) -> Result<Stored, Ended> {
    loop {
        match export::export(channel, path(signal), body.clone()).await {
            Outcome::Acknowledged { rejected, message } => {
                return Ok(Stored::Taken(reasons(rejected, &message)));
            }
            Outcome::Overloaded { retry_after } => {
                patience.wait(Some(retry_after), "the collector is overloaded").await?;
            }
            Outcome::Failed { code, why } => match code {
                Code::InvalidArgument | Code::ResourceExhausted | Code::OutOfRange => {
                    return Ok(Stored::Refused(why));
                }
                // A connection that broke may be made anew.
                Code::Unavailable
                | Code::Unknown
                | Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted => {
                    patience.wait(None, &why).await?;
                }
                _ => return Err(Ended::Hopeless(format!("{code:?}: {why}"))),
            },
        }
    }
}

async fn write(
    directory: &Arc<Directory>,
    signal: Signal,
    body: Bytes,
    mut patience: Patience<'_>,
) -> Result<Stored, Ended> {
    let decoder = Arc::clone(directory);
    // Once: totals of delta series count what is decoded.
    let decoded = tokio::task::spawn_blocking(move || decoder.decode(signal, &body)).await;
    let decoded = match decoded.map_err(|error| Ended::Hopeless(format!("decoding failed: {error}")))? {
        Ok(decoded) => decoded,
        Err(DecodeError::Malformed(malformed)) => return Ok(Stored::Refused(malformed.to_string())),
        Err(error) => return Err(Ended::Hopeless(error.to_string())),
    };
    let rejected = decoded.rejected.iter().map(|(why, count)| (why.message().to_owned(), count)).collect();
    let batch = WriteBatch { tenant: directory.tenant.clone(), parts: decoded.parts };
    loop {
        match directory.storage.writer().write(batch.clone()).await {
            Ok(_) => return Ok(Stored::Taken(rejected)),
            Err(WriteError::Refused(why)) => return Ok(Stored::Refused(why)),
            Err(error @ (WriteError::Overloaded { retry_after } | WriteError::DiskFull { retry_after })) => {
                patience.wait(Some(retry_after), &error.to_string()).await?
            }
            Err(error @ WriteError::Stopped(_)) => return Err(Ended::Hopeless(error.to_string())),
        }
    }
}

impl Directory {
    fn decode(&self, signal: Signal, body: &[u8]) -> Result<Decoded, DecodeError> {
        let series = self.storage.series(&self.tenant);
        let known = |id, labels: &_, date| series.known(id, labels, date);
        let series = Series { known: &known, deltas: &self.deltas, naming: &Otlp::default() };
        decode::decode(signal, body, self.clock.now(), &series)
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How long one request may be tried.
struct Patience<'a> {
    stop: &'a CancellationToken,
    began: Instant,
    pause: Duration,
}

impl Patience<'_> {
    /// Waits for as long as was asked, or longer each time.
    async fn wait(&mut self, asked: Option<Duration>, why: &str) -> Result<(), Ended> {
        let pause = asked.unwrap_or(self.pause).clamp(BACK_OFF, BACK_OFF_MOST);
        self.pause = (self.pause * 2).min(BACK_OFF_MOST);
        if self.began.elapsed() + pause > GIVE_UP {
            return Err(Ended::Hopeless(format!("nothing was taken for {} s: {why}", GIVE_UP.as_secs())));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.stop.cancelled() => Err(Ended::Asked),
        }
    }
}

fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// What a collector said about what it rejected, by reason: Weir's says `3 rejected: why; 1 rejected: why`, of
/// others the whole text is one reason.
fn reasons(rejected: u64, message: &str) -> Vec<(String, u64)> {
    let reason = |part: &str| {
        let (count, why) = part.split_once(" rejected: ")?;
        Some((why.to_owned(), count.parse().ok()?))
    };
    let reasons: Option<Vec<(String, u64)>> = message.split("; ").map(reason).collect();
    match reasons {
        Some(reasons) if reasons.iter().map(|(_, count)| count).sum::<u64>() == rejected => reasons,
        _ if rejected == 0 => Vec::new(),
        _ => vec![(message.to_owned(), rejected)],
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart_where_they_add_up() {
        let told = |rejected, message| reasons(rejected, message);
        let two = vec![("a, b".to_owned(), 2), ("c".to_owned(), 1)];
        assert_eq!(told(3, "2 rejected: a, b; 1 rejected: c"), two);
        assert_eq!(told(4, "2 rejected: a"), [("2 rejected: a".to_owned(), 4)]);
        assert_eq!(told(2, "why not"), [("why not".to_owned(), 2)]);
        assert_eq!(told(0, ""), []);
        assert_eq!(told(0, "a warning"), []);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_after_a_minute_or_a_signal() {
        let stop = CancellationToken::new();
        let patience = || Patience { stop: &stop, began: Instant::now(), pause: BACK_OFF };
        let mut waiting = patience();
        let mut waits = 0;
        let ended = loop {
            match waiting.wait(None, "busy").await {
                Ok(()) => waits += 1,
                Err(ended) => break ended,
            }
        };
        assert_eq!(ended, Ended::Hopeless("nothing was taken for 60 s: busy".to_owned()));
        assert!((10..30).contains(&waits), "{waits}");
        stop.cancel();
        assert_eq!(patience().wait(Some(Duration::from_secs(3)), "busy").await, Err(Ended::Asked));
    }
}
