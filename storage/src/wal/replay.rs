//! Reading the log back: every whole frame once, in order, past torn tails and damage.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::segment::{self, HEAD, SegmentHead};
use crate::durable;

/// A segment on disk that is no longer written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// The highest sequence number in it.
    pub(crate) last_seq: u64,
}

/// What reading the log found.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The segments that stay, oldest first.
    pub(crate) segments: Vec<Closed>,
    /// The highest sequence number of any frame or segment.
    pub(crate) last_seq: u64,
    pub(crate) quarantined: u64,
    pub(crate) torn_tails: u64,
}

/// The name of the segment that begins with `first_seq`.
pub(crate) fn segment_path(wal: &Path, first_seq: u64) -> PathBuf {
    wal.join(format!("{first_seq:020}.wal"))
}

/// Hands each frame's sequence number and payload to `visit`, which says what is wrong with a payload it
/// cannot read. Damaged bytes are copied to `quarantine/`; a torn tail of the last segment is cut off, and a
/// segment without a whole frame is deleted: its name is that of the next one to begin.
pub(crate) fn replay(
    wal: &Path,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> io::Result<Replayed> {
    let mut result = Replayed::default();
    let paths = segments(wal)?;
    for (index, path) in paths.iter().enumerate() {
        let bytes = fs::read(path)?;
        let last = index + 1 == paths.len();
        let Some(head) = SegmentHead::from_bytes(&bytes) else {
            abandon(wal, path, &bytes, &mut result)?;
            continue;
        };
        let mut scan = segment::scan(head, &bytes);
        scan.frames.retain(|frame| frame.seq > result.last_seq);
        for frame in &scan.frames {
            if let Err(reason) = visit(frame.seq, &bytes[frame.payload.clone()]) {
                tracing::warn!(segment = %path.display(), seq = frame.seq, reason, "a WAL frame cannot be read");
                scan.damaged.push(frame.payload.clone());
            }
        }
        for range in &scan.damaged {
            quarantine(wal, path, range.start, &bytes[range.clone()])?;
            result.quarantined += 1;
        }
        let mut len = bytes.len();
        if let Some(at) = scan.torn {
            result.torn_tails += 1;
            tracing::warn!(segment = %path.display(), at, bytes = len - at, "a WAL segment ends in a torn write");
        }
        let Some(last_seq) = scan.frames.last().map(|frame| frame.seq) else {
            result.last_seq = result.last_seq.max(head.first_seq.saturating_sub(1));
            remove(wal, path)?;
            continue;
        };
        if let Some(at) = scan.torn.filter(|_| last) {
            len = at;
            cut(path, at as u64)?;
        }
        result.last_seq = result.last_seq.max(last_seq);
        result.segments.push(Closed { path: path.clone(), bytes: len as u64, last_seq });
    }
    Ok(result)
}

/// The segment files, oldest first.
fn segments(wal: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(wal)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Deals with a segment whose header is no header: one that was being made when the power went is
/// removed, anything longer is kept in quarantine.
fn abandon(wal: &Path, path: &Path, bytes: &[u8], result: &mut Replayed) -> io::Result<()> {
    if bytes.len() <= HEAD {
        result.torn_tails += 1;
    } else {
        quarantine(wal, path, 0, bytes)?;
        result.quarantined += 1;
    }
    remove(wal, path)
}

fn remove(wal: &Path, path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    durable::sync_dir(wal)
}

fn quarantine(wal: &Path, path: &Path, at: usize, bytes: &[u8]) -> io::Result<()> {
    let dir = wal.join("quarantine");
    durable::create_dir(&dir)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let kept = dir.join(format!("{stem}-{at}.bad"));
    tracing::warn!(
        segment = %path.display(), at, bytes = bytes.len(), kept = %kept.display(),
        "damaged bytes in the WAL were set aside"
    );
    durable::write(&dir.join("part"), &kept, &[bytes])
}

fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}
