//! A segment file: a header that is written twice, then frames. Reading is total: whatever the bytes,
//! it gives the frames that are whole and the ranges that are not.
//!
//! Each header's checksum is salted with a number drawn for the segment. Telemetry that happens to hold
//! (or was made to hold) the bytes of a frame can therefore not pass for one when a reader looks for the
//! next good frame behind a damaged one.

use std::ops::Range;

use arrow::buffer::Buffer;
use weir_model::limits;

/// Bytes of one copy of the segment header.
const HEAD_COPY: usize = 32;
/// Where frames begin.
pub(crate) const HEAD: usize = 2 * HEAD_COPY;
/// Bytes of a frame's header.
pub(crate) const FRAME_HEAD: usize = 24;

const SEGMENT_MAGIC: [u8; 8] = *b"WEIRWAL1";
const FRAME_MAGIC: [u8; 4] = *b"WFRM";

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    /// The lowest sequence number a frame in it may have.
    pub(crate) first_seq: u64,
    /// What frame checksums start from.
    pub(crate) salt: u64,
}

impl SegmentHead {
    pub(crate) fn to_bytes(self) -> [u8; HEAD] {
        let mut copy = [0; HEAD_COPY];
        copy[..8].copy_from_slice(&SEGMENT_MAGIC);
        copy[8..16].copy_from_slice(&self.first_seq.to_le_bytes());
        copy[16..24].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&copy[..28]);
        copy[28..].copy_from_slice(&crc.to_le_bytes());
        let mut head = [0; HEAD];
        head[..HEAD_COPY].copy_from_slice(&copy);
        head[HEAD_COPY..].copy_from_slice(&copy);
        head
    }

    /// The header that either copy holds.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.get(..HEAD)?.chunks_exact(HEAD_COPY).find_map(|copy| {
            let whole = copy[..8] == SEGMENT_MAGIC && crc32c::crc32c(&copy[..28]) == u32_at(copy, 28);
            whole.then(|| Self { first_seq: u64_at(copy, 8), salt: u64_at(copy, 16) })
        })
    }

    /// The header of the frame `seq` whose payload is `pieces`, `len` bytes in all.
    pub(crate) fn frame_head(self, seq: u64, pieces: &[Buffer], len: usize) -> [u8; FRAME_HEAD] {
        let payload_crc = pieces.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
        let mut head = [0; FRAME_HEAD];
        head[..4].copy_from_slice(&FRAME_MAGIC);
        head[4..12].copy_from_slice(&seq.to_le_bytes());
        head[12..16].copy_from_slice(&(len as u32).to_le_bytes());
        head[16..20].copy_from_slice(&payload_crc.to_le_bytes());
        let crc = self.head_crc(&head[..20]);
        head[20..].copy_from_slice(&crc.to_le_bytes());
        head
    }

    fn head_crc(self, head: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.salt.to_le_bytes()), head)
    }

    /// The frame header at the start of `bytes`: sequence number, payload length and checksum.
    fn frame_at(self, bytes: &[u8]) -> Option<(u64, usize, u32)> {
        let head = bytes.get(..FRAME_HEAD)?;
        let len = u32_at(head, 12) as usize;
        let whole = head[..4] == FRAME_MAGIC
            && self.head_crc(&head[..20]) == u32_at(head, 20)
            && len <= limits::WAL_FRAME_BYTES;
        whole.then(|| (u64_at(head, 4), len, u32_at(head, 16)))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// A whole frame of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) seq: u64,
    /// Where its payload is.
    pub(crate) payload: Range<usize>,
}

/// What a segment's bytes hold behind its header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The whole frames, by ascending sequence number.
    pub(crate) frames: Vec<Frame>,
    /// Ranges that are no frames and have whole frames behind them, or cannot be a write cut short.
    pub(crate) damaged: Vec<Range<usize>>,
    /// Where a write that was cut short begins, if there is one at the end.
    pub(crate) torn: Option<usize>,
}

#[cfg(test)]
impl Scan {
    /// Where the last whole frame ends.
    pub(crate) fn end(&self) -> usize {
        self.frames.last().map_or(HEAD, |frame| frame.payload.end)
    }
}

/// Reads all frames of a segment.
pub(crate) fn scan(head: SegmentHead, bytes: &[u8]) -> Scan {
    let mut found = Scan::default();
    let mut at = HEAD;
    let mut next_seq = head.first_seq;
    let mut bad_from = None;
    while at < bytes.len() {
        let frame = head.frame_at(&bytes[at..]).filter(|(seq, ..)| *seq >= next_seq);
        let payload = frame.map(|(_, len, _)| at + FRAME_HEAD..at + FRAME_HEAD + len);
        match (frame, payload) {
            (Some((_, len, _)), _) if bytes.len() - at - FRAME_HEAD < len => {
                end_damage(&mut found, &mut bad_from, at);
                found.torn = Some(at);
                return found;
            }
            (Some((seq, _, crc)), Some(payload)) if crc32c::crc32c(&bytes[payload.clone()]) == crc => {
                end_damage(&mut found, &mut bad_from, at);
                next_seq = seq.saturating_add(1);
                at = payload.end;
                found.frames.push(Frame { seq, payload });
            }
            (Some(_), Some(payload)) => {
                // The header is good, so its length is: the next frame starts right behind.
                end_damage(&mut found, &mut bad_from, at);
                found.damaged.push(at..payload.end);
                at = payload.end;
            }
            _ => {
                bad_from.get_or_insert(at);
                at = next_magic(bytes, at + 1);
            }
        }
    }
    if let Some(from) = bad_from {
        // A cut write ends within a header, or in zeros where data never reached the disk.
        let rest = &bytes[from..];
        if rest.len() < FRAME_HEAD || rest.iter().all(|byte| *byte == 0) {
            found.torn = Some(from);
        } else {
            found.damaged.push(from..bytes.len());
        }
    }
    found
}

fn end_damage(found: &mut Scan, bad_from: &mut Option<usize>, at: usize) {
    if let Some(from) = bad_from.take() {
        found.damaged.push(from..at);
    }
}

/// Where, from `at` on, a frame may begin.
fn next_magic(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at.min(bytes.len())..];
    rest.windows(FRAME_MAGIC.len())
        .position(|window| window == FRAME_MAGIC)
        .map_or(bytes.len(), |found| at + found)
}
