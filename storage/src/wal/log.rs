//! The thread that owns the log: it writes queued frames together, syncs once, publishes, and answers.
//!
//! The order is the promise. Rows become visible only after the sync that makes them durable, if their tenant
//! asks for one, and an answer follows only after the rows are visible. A sync that failed is never tried again: the kernel may
//! have dropped the dirty pages, so a second one that succeeds would prove nothing.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use weir_model::limits;

use super::frame::Payload;
use super::replay::{Closed, segment_path};
use super::segment::{HEAD, SegmentHead};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::shared::Pending;
use crate::state::Rows;
use crate::{WriteError, durable};

/// When a writer that found the disk full may try again.
pub(crate) const DISK_FULL_RETRY: Duration = Duration::from_secs(5);

/// What the thread is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Make these rows durable, then visible.
    Append(Append),
    /// Close the current segment, so that it can be deleted when its rows are flushed.
    Rotate(oneshot::Sender<io::Result<()>>),
    /// End, after what was queued before.
    Close,
}

/// A write in the queue.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) payload: Payload,
    pub(crate) rows: Rows,
    pub(crate) pending: Pending,
    /// Whether the answer promises that it is synced.
    pub(crate) synced: bool,
    pub(crate) answer: oneshot::Sender<Result<u64, WriteError>>,
}

/// A segment file as the log needs it; tests put faults behind it.
pub(crate) trait Medium: Send {
    /// Writes all slices at the end.
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

impl Medium for File {
    fn append(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match self.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Makes the medium of a new segment.
pub(crate) type Create = Box<dyn FnMut(&Path) -> io::Result<Box<dyn Medium>> + Send>;

/// Real files, opened for appending.
pub(crate) fn files() -> Create {
    Box::new(|path| {
        let file = File::options().append(true).create_new(true).open(path)?;
        Ok(Box::new(file) as Box<dyn Medium>)
    })
}

struct Segment {
    path: PathBuf,
    head: SegmentHead,
    medium: Box<dyn Medium>,
    len: u64,
    /// Whether something in it is not synced.
    unsynced: bool,
}

/// The log, as its thread owns it.
pub(crate) struct Log {
    wal: PathBuf,
    create: Create,
    segment: Segment,
    next_seq: u64,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl Log {
    /// Begins a segment in the folder `wal` with the sequence number `next_seq`.
    pub(crate) fn begin(
        wal: &Path,
        next_seq: u64,
        mut create: Create,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> io::Result<Self> {
        let segment = begin_segment(wal, next_seq, &mut create)?;
        metrics.wal_bytes.add(HEAD as u64);
        Ok(Self { wal: wal.to_owned(), create, segment, next_seq, metrics, health })
    }

    /// Serves `queue` until it is told to close. `publish` makes rows visible under their sequence
    /// numbers; `closed` takes note of a segment that is no longer written.
    pub(crate) fn run(
        mut self,
        mut queue: mpsc::Receiver<Command>,
        mut publish: impl FnMut(Vec<(u64, Rows)>),
        mut closed: impl FnMut(Closed),
    ) {
        let mut held = VecDeque::new();
        while let Some(command) = held.pop_front().or_else(|| queue.blocking_recv()) {
            match command {
                Command::Append(first) => {
                    let group = gather(first, &mut queue, &mut held);
                    self.commit(group, &mut publish);
                    if self.segment.len >= limits::WAL_SEGMENT_BYTES {
                        self.rotate(&mut closed).unwrap_or_else(|e| self.note_failed_rotation(&e));
                    }
                }
                Command::Rotate(answer) => {
                    let _ = answer.send(self.rotate(&mut closed)); // the asker may have gone
                }
                Command::Close => break,
            }
            if self.health.is_closed() {
                break;
            }
        }
    }

    fn commit(&mut self, group: Vec<Append>, publish: &mut impl FnMut(Vec<(u64, Rows)>)) {
        let synced = group.iter().any(|append| append.synced);
        match self.write(&group).and_then(|()| if synced { self.sync() } else { Ok(()) }) {
            Ok(()) => {
                let mut rows = Vec::with_capacity(group.len());
                let mut answers = Vec::with_capacity(group.len());
                for append in group {
                    rows.push((self.next_seq, append.rows));
                    answers.push((self.next_seq, append.answer, append.pending));
                    self.next_seq += 1;
                }
                self.metrics.acked_batches.add(rows.len() as u64);
                publish(rows);
                for (seq, answer, pending) in answers {
                    drop(pending); // its bytes count as hot now
                    let _ = answer.send(Ok(seq)); // the writer may have gone; the rows are stored
                }
            }
            Err(failure) => {
                for append in group {
                    let _ = append.answer.send(Err(failure.again()));
                }
            }
        }
    }

    /// Appends the frames of a group; on failure nothing of them is left, or the storage has stopped.
    fn write(&mut self, group: &[Append]) -> Result<(), Failure> {
        if let Some(reason) = self.health.stopped() {
            return Err(Failure::Stopped(reason));
        }
        let heads: Vec<_> = (self.next_seq..)
            .zip(group)
            .map(|(seq, append)| {
                let Payload { pieces, len } = &append.payload;
                self.segment.head.frame_head(seq, pieces, *len)
            })
            .collect();
        let mut slices = Vec::new();
        for (head, append) in heads.iter().zip(group) {
            slices.push(IoSlice::new(head));
            slices.extend(append.payload.pieces.iter().map(|piece| IoSlice::new(piece)));
        }
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        match self.segment.medium.append(&mut slices) {
            Ok(()) => {
                self.segment.len += bytes as u64;
                self.segment.unsynced = true;
                self.metrics.wal_bytes.add(bytes as u64);
                Ok(())
            }
            Err(e) if durable::is_full(&e) => match self.segment.medium.truncate(self.segment.len) {
                Ok(()) => {
                    self.metrics.disk_full.add(1);
                    Err(Failure::DiskFull)
                }
                Err(e) => Err(self.stop(format!("a cut-off write could not be removed: {e}"))),
            },
            Err(e) => Err(self.stop(format!("the write-ahead log cannot be written: {e}"))),
        }
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let synced = self.segment.medium.sync();
        self.metrics.fsync(began.elapsed());
        self.segment.unsynced = false;
        synced.map_err(|e| self.stop(format!("the write-ahead log cannot be synced: {e}")))
    }

    fn stop(&self, reason: String) -> Failure {
        Failure::Stopped(self.health.stop(reason))
    }

    /// Begins a new segment, unless the current one is still empty.
    fn rotate(&mut self, closed: &mut impl FnMut(Closed)) -> io::Result<()> {
        if self.segment.len == HEAD as u64 {
            return Ok(());
        }
        if self.segment.unsynced {
            self.sync().map_err(|failure| io::Error::other(failure.again()))?;
        }
        let next = begin_segment(&self.wal, self.next_seq, &mut self.create)?;
        self.metrics.wal_bytes.add(HEAD as u64);
        let done = std::mem::replace(&mut self.segment, next);
        closed(Closed { path: done.path, bytes: done.len, last_seq: self.next_seq - 1 });
        Ok(())
    }

    /// A segment that cannot be begun is no failure of a write: the current one goes on.
    fn note_failed_rotation(&self, e: &io::Error) {
        tracing::warn!(error = %e, "no new WAL segment can be begun; the current one goes on");
    }
}

/// What `first` shares a sync with: what waits already, up to a size. A command of another kind ends the
/// group and is held for later.
fn gather(first: Append, queue: &mut mpsc::Receiver<Command>, held: &mut VecDeque<Command>) -> Vec<Append> {
    let mut bytes = first.payload.len;
    let mut group = vec![first];
    while bytes < limits::WAL_GROUP_BYTES {
        match queue.try_recv() {
            Ok(Command::Append(append)) => {
                bytes += append.payload.len;
                group.push(append);
            }
            Ok(other) => {
                held.push_back(other);
                break;
            }
            Err(_) => break,
        }
    }
    group
}

fn begin_segment(wal: &Path, first_seq: u64, create: &mut Create) -> io::Result<Segment> {
    // Drawn, not derived: nobody who sends telemetry may know it.
    let head = SegmentHead { first_seq, salt: uuid::Uuid::new_v4().as_u64_pair().0 };
    let path = segment_path(wal, first_seq);
    let mut begin = || -> io::Result<Box<dyn Medium>> {
        let mut medium = create(&path)?;
        medium.append(&mut [IoSlice::new(&head.to_bytes())])?;
        medium.sync()?;
        durable::sync_dir(wal)?;
        Ok(medium)
    };
    match begin() {
        Ok(medium) => Ok(Segment { path, head, medium, len: HEAD as u64, unsynced: false }),
        Err(e) => {
            if e.kind() != io::ErrorKind::AlreadyExists {
                let _ = fs::remove_file(&path); // what is left of it would stand in the way of the next attempt
            }
            Err(e)
        }
    }
}

enum Failure {
    DiskFull,
    Stopped(String),
}

impl Failure {
    /// The error that one of the writers is told.
    fn again(&self) -> WriteError {
        match self {
            Self::DiskFull => WriteError::DiskFull { retry_after: DISK_FULL_RETRY },
            Self::Stopped(reason) => WriteError::Stopped(reason.clone()),
        }
    }
}
