//! What fuzzing calls: the write-ahead log's bytes, with what must hold whatever they are.
//!
//! `tests/fuzz` makes the bytes up, as a program of its own outside the workspace; the tests here replay those that
//! are kept in `tests/fuzz/corpus`.

use arrow::buffer::Buffer;

use crate::wal::frame;
use crate::wal::segment::{self, HEAD, SegmentHead};

/// Takes any bytes; panics where a promise is broken.
pub type Target = fn(&[u8]);

/// The targets by name, which is that of their folder in the corpus.
pub const TARGETS: [(&str, Target); 1] = [("wal_frame", wal_frame)];

const SEGMENT: SegmentHead = SegmentHead { first_seq: 1, salt: 0x5eed };

/// The bytes as a segment, as a frame's payload, and as what follows the whole frames of a segment.
fn wal_frame(bytes: &[u8]) {
    if let Some(head) = SegmentHead::from_bytes(bytes) {
        check_scan(head, bytes);
    }
    payload(bytes);

    let two_frames = segment(&[b"a frame", bytes]);
    assert_eq!(found(&two_frames), [(1, &b"a frame"[..]), (2, bytes)]);
    let whole = segment(&[b"a frame", b"another"]);
    let followed = [&whole, bytes].concat();
    check_scan(SEGMENT, &followed);
    assert_eq!(found(&followed)[..2], [(1, &b"a frame"[..]), (2, &b"another"[..])]);
}

/// A segment of whole frames.
fn segment(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = SEGMENT.to_bytes().to_vec();
    for (seq, payload) in (1..).zip(payloads) {
        bytes.extend(SEGMENT.frame_head(seq, &[Buffer::from(*payload)], payload.len()));
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// Number and payload of each frame of a segment.
fn found(bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let scan = segment::scan(SEGMENT, bytes);
    scan.frames.iter().map(|frame| (frame.seq, &bytes[frame.payload.clone()])).collect()
}

/// What a scan finds is ordered, does not overlap and accounts for every byte.
fn check_scan(head: SegmentHead, bytes: &[u8]) {
    let scan = segment::scan(head, bytes);
    assert!(scan.frames.iter().all(|frame| frame.seq >= head.first_seq));
    assert!(scan.frames.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{scan:?}");
    let frames = scan.frames.iter().map(|frame| frame.payload.start - segment::FRAME_HEAD..frame.payload.end);
    let torn = scan.torn.map(|at| at..bytes.len());
    let mut ranges: Vec<_> = frames.chain(scan.damaged.iter().cloned()).chain(torn).collect();
    ranges.sort_by_key(|range| range.start);
    let end = ranges.iter().fold(HEAD, |end, range| {
        assert_eq!(range.start, end, "{scan:?}");
        range.end
    });
    assert_eq!(end, bytes.len().max(HEAD), "{scan:?}");
    for frame in &scan.frames {
        payload(&bytes[frame.payload.clone()]);
    }
}

/// A write that is read is written and read again as the same.
fn payload(bytes: &[u8]) {
    let Ok((tenant, parts)) = frame::decode(bytes, |_, _| true) else { return };
    let rows: Vec<_> = parts.into_iter().map(|part| (part.table, part.batch)).collect();
    let written = frame::encode(&tenant, &rows).expect("it came from a frame").0;
    let written: Vec<u8> = written.pieces.iter().flat_map(Buffer::as_slice).copied().collect();
    let (whose, again) = frame::decode(&written, |_, _| true).expect("it was just written");
    assert_eq!(whose, tenant);
    assert_eq!(again.len(), rows.len());
    for (part, (table, batch)) in again.iter().zip(&rows) {
        assert_eq!((part.table, part.batch.num_rows()), (*table, batch.num_rows()));
        assert!(part.batch == *batch, "rows of {} change", table.name());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::wal::replay::{replay, segment_path};

    #[test]
    fn the_corpus_keeps_every_promise() {
        let dir = tempfile::tempdir().unwrap();
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
            let mut count = 0;
            for file in fs::read_dir(&folder).unwrap() {
                let path = file.unwrap().path();
                println!("{}", path.display());
                let bytes = fs::read(path).unwrap();
                target(&bytes);
                replays(&dir.path().join(count.to_string()), &bytes);
                count += 1;
            }
            assert!(count >= 3, "{count} files for {name}");
        }
    }

    /// Replay of a log whose last segment ends in the bytes gives what a scan of it gives.
    fn replays(wal: &Path, bytes: &[u8]) {
        fs::create_dir(wal).unwrap();
        let whole = [&segment(&[b"a frame", b"another"]), bytes].concat();
        fs::write(segment_path(wal, SEGMENT.first_seq), &whole).unwrap();
        let mut frames = Vec::new();
        let replayed = replay(wal, |seq, payload| {
            frames.push((seq, payload.to_vec()));
            Ok(())
        });
        let expected: Vec<_> =
            found(&whole).into_iter().map(|(seq, payload)| (seq, payload.to_vec())).collect();
        assert_eq!(frames, expected);
        assert_eq!(Some(replayed.unwrap().last_seq), expected.last().map(|(seq, _)| *seq));
    }
}
