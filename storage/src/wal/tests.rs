//! Frames, segments, the thread and replay, down to each byte.

use std::collections::HashSet;
use std::fs;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::buffer::Buffer;
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio::sync::oneshot::{self, error::TryRecvError};
use weir_model::{TenantId, limits};

use super::frame::{self, Payload};
use super::log::{Append, Command, Create, Log, Medium, files};
use super::replay::{Closed, Replayed, replay, segment_path};
use super::segment::{FRAME_HEAD, HEAD, Scan, SegmentHead, scan};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::shared::{Pending, lock};
use crate::state::Rows;
use crate::tests::{batch, samples, spans};
use crate::{Table, WriteError};

const SEGMENT: SegmentHead = SegmentHead { first_seq: 1, salt: 0x5eed };

/// A segment with a frame for each payload, numbered from one, and where each frame is.
fn segment(payloads: &[&[u8]]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut bytes = SEGMENT.to_bytes().to_vec();
    let mut frames = Vec::new();
    for (seq, payload) in (1..).zip(payloads) {
        let from = bytes.len();
        bytes.extend(SEGMENT.frame_head(seq, &[Buffer::from(*payload)], payload.len()));
        bytes.extend_from_slice(payload);
        frames.push(from..bytes.len());
    }
    (bytes, frames)
}

/// What a scan found: number and payload of each frame.
fn found<'a>(scan: &Scan, bytes: &'a [u8]) -> Vec<(u64, &'a [u8])> {
    scan.frames.iter().map(|frame| (frame.seq, &bytes[frame.payload.clone()])).collect()
}

type Frames = Vec<(u64, Vec<u8>)>;

fn replay_all(wal: &Path) -> (Frames, Replayed) {
    let mut frames = Vec::new();
    let replayed = replay(wal, |seq, payload| {
        frames.push((seq, payload.to_vec()));
        Ok(())
    });
    (frames, replayed.expect("the folder can be read"))
}

#[test]
fn rows_from_before_columns_were_added_are_read_with_nulls_there() {
    let today = batch(Table::Histograms, 3, &[]);
    let earlier = today.project(&(0..20).collect::<Vec<_>>()).unwrap();
    let mut rows = super::columns::Pieces::default();
    super::columns::write(&earlier, &mut rows).unwrap();
    let rows: Vec<u8> = rows.finish().iter().flat_map(Buffer::as_slice).copied().collect();
    let mut payload = b"\x01t\x01\x00\x03".to_vec();
    payload.extend((rows.len() as u32).to_le_bytes());
    payload.extend(rows);
    let (_, parts) = frame::decode(&payload, |_, _| true).unwrap();
    assert_eq!(parts.len(), 1);
    assert!(parts[0].batch == today, "{:?}", parts[0].batch);
    payload[4] = 3 | 2 << 6; // a revision that there never was
    assert_eq!(frame::decode(&payload, |_, _| true).unwrap_err(), "there is no table 131");
}

const THREE: [&[u8]; 3] = [b"the first frame", b"the WFRM in the middle", b"the last"];

#[test]
fn a_segment_cut_anywhere_keeps_its_whole_frames() {
    let (bytes, frames) = segment(&THREE);
    for cut in HEAD..=bytes.len() {
        let whole = frames.iter().filter(|frame| frame.end <= cut).count();
        let end = frames[..whole].last().map_or(HEAD, |frame| frame.end);
        for zeros in [0, 1, 4096] {
            let mut cut_off = bytes[..cut].to_vec();
            cut_off.resize(cut + zeros, 0);
            let scan = scan(SEGMENT, &cut_off);
            assert_eq!(scan.frames.len(), whole, "cut at {cut}, {zeros} zeros");
            assert_eq!(scan.end(), end);
            if zeros == 0 {
                assert_eq!(scan.torn, (cut > end).then_some(end), "cut at {cut}");
                assert!(scan.damaged.is_empty(), "cut at {cut}");
            }
        }
    }
}

#[test]
fn replay_cuts_a_torn_tail_at_every_offset_and_counts_it() {
    let (bytes, frames) = segment(&THREE);
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 1);
    for cut in 0..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let whole = frames.iter().filter(|frame| frame.end <= cut).count();
        let (seen, replayed) = replay_all(dir.path());
        let expected: Vec<_> = (1..).zip(&THREE[..whole]).map(|(seq, p)| (seq, p.to_vec())).collect();
        assert_eq!(seen, expected, "cut at {cut}");
        let end = frames[..whole].last().map_or(HEAD, |frame| frame.end);
        let torn = cut < HEAD || cut > end;
        assert_eq!(replayed.torn_tails, u64::from(torn), "cut at {cut}");
        assert_eq!(replayed.quarantined, 0, "cut at {cut}");
        // A second open finds nothing torn, and nothing in the way of the next segment.
        assert_eq!(path.exists(), whole > 0, "cut at {cut}");
        let (again, replayed) = replay_all(dir.path());
        assert_eq!((again, replayed.torn_tails), (expected, 0), "cut at {cut}");
    }
    assert!(!dir.path().join("quarantine").exists());
}

#[test]
fn a_flip_anywhere_in_a_middle_frame_costs_that_frame_alone() {
    let (bytes, frames) = segment(&THREE);
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 1);
    for at in frames[1].clone() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let scan = scan(SEGMENT, &damaged);
            assert_eq!(found(&scan, &damaged), [(1, THREE[0]), (3, THREE[2])], "byte {at} ^ {flip:#x}");
            assert_eq!(scan.damaged.first().map(|range| range.start), Some(frames[1].start));
            assert_eq!(scan.damaged.last().map(|range| range.end), Some(frames[1].end));
            assert_eq!(scan.torn, None);
        }
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let (seen, replayed) = replay_all(dir.path());
        assert_eq!(seen, [(1, THREE[0].to_vec()), (3, THREE[2].to_vec())], "byte {at}");
        assert!(replayed.quarantined >= 1, "byte {at}");
        assert_eq!((replayed.torn_tails, replayed.last_seq), (0, 3));
    }
    let kept: Vec<_> = fs::read_dir(dir.path().join("quarantine")).unwrap().collect();
    assert!(!kept.is_empty());
}

#[test]
fn a_flip_in_a_segment_header_costs_nothing() {
    let (bytes, _) = segment(&THREE);
    for at in 0..HEAD {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        assert_eq!(SegmentHead::from_bytes(&damaged), Some(SEGMENT), "byte {at}");
    }
}

#[test]
fn a_segment_without_header_is_set_aside_whole() {
    let (mut bytes, _) = segment(&THREE);
    bytes[9] ^= 1;
    bytes[41] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment_path(dir.path(), 1), &bytes).unwrap();
    let (seen, replayed) = replay_all(dir.path());
    assert!(seen.is_empty() && replayed.segments.is_empty());
    assert_eq!(replayed.quarantined, 1);
    let kept = fs::read(dir.path().join("quarantine/00000000000000000001-0.bad")).unwrap();
    assert_eq!(kept, bytes);
}

#[test]
fn a_hostile_length_reads_nothing_and_hides_nothing() {
    let forged = |len: usize| {
        let mut head = SEGMENT.frame_head(2, &[], 0);
        head[12..16].copy_from_slice(&(len as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&SEGMENT.salt.to_le_bytes()), &head[..20]);
        head[20..].copy_from_slice(&crc.to_le_bytes());
        head
    };
    for len in [limits::WAL_FRAME_BYTES + 1, u32::MAX as usize] {
        let (mut bytes, frames) = segment(&THREE);
        bytes[frames[1].start..frames[1].start + FRAME_HEAD].copy_from_slice(&forged(len));
        let scan = scan(SEGMENT, &bytes);
        assert_eq!(found(&scan, &bytes), [(1, THREE[0]), (3, THREE[2])], "{len}");
    }
    // A length that a frame may have, and that the file does not have any more, is a torn tail.
    let (mut bytes, frames) = segment(&THREE[..1]);
    bytes.extend(forged(limits::WAL_FRAME_BYTES));
    let scan = scan(SEGMENT, &bytes);
    assert_eq!((scan.frames.len(), scan.torn), (1, Some(frames[0].end)));
}

#[test]
fn payloads_that_contain_frames_do_not_pass_for_them() {
    // An attacker who does not know the salt sends a frame within telemetry, and the frame around it is
    // damaged: the reader comes by the inner one when it looks for the next good frame.
    let other = SegmentHead { first_seq: 1, salt: 1 };
    let mut inner = other.frame_head(2, &[Buffer::from(b"forged")], 6).to_vec();
    inner.extend_from_slice(b"forged");
    let (mut bytes, frames) = segment(&[b"one", &inner, b"three"]);
    bytes[frames[1].start] ^= 1;
    let scan = scan(SEGMENT, &bytes);
    assert_eq!(found(&scan, &bytes), [(1, b"one".as_slice()), (3, b"three")]);
}

fn table_rows() -> impl Strategy<Value = (Table, usize)> {
    (0..Table::ALL.len(), 0..20usize).prop_map(|(table, rows)| (Table::ALL[table], rows))
}

fn rows_of(table: Table, rows: usize) -> arrow::record_batch::RecordBatch {
    match table {
        Table::Samples => samples(0..rows as u64),
        Table::Spans => spans(0..rows as u64),
        _ => batch(table, rows, &[]),
    }
}

fn payload_of(tenant: &TenantId, parts: &[(Table, usize)]) -> (Vec<u8>, Vec<usize>) {
    let parts: Vec<_> = parts.iter().map(|(table, rows)| (*table, rows_of(*table, *rows))).collect();
    let (payload, sizes) = frame::encode(tenant, &parts).expect("it fits");
    assert_eq!(payload.len, payload.pieces.iter().map(Buffer::len).sum::<usize>());
    (payload.pieces.iter().flat_map(|piece| piece.to_vec()).collect(), sizes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_write_comes_back_from_its_frame(
        name in "[a-zA-Z0-9_-]{1,64}", parts in prop::collection::vec(table_rows(), 0..5),
    ) {
        let tenant = TenantId::new(&name).unwrap();
        let (payload, sizes) = payload_of(&tenant, &parts);
        let (bytes, _) = segment(&[&payload]);
        let scan = scan(SEGMENT, &bytes);
        prop_assert_eq!(scan.frames.len(), 1);
        let (whose, decoded) = frame::decode(&bytes[scan.frames[0].payload.clone()], |_, _| true).unwrap();
        prop_assert_eq!(whose, tenant.clone());
        prop_assert_eq!(decoded.len(), parts.len());
        for ((part, (table, rows)), size) in decoded.iter().zip(&parts).zip(sizes) {
            prop_assert_eq!((part.table, part.bytes), (*table, size));
            prop_assert_eq!(&part.batch, &rows_of(*table, *rows));
        }
        let wanted = |_: &TenantId, table| table == Table::Spans;
        let (_, some) = frame::decode(&payload, wanted).unwrap();
        prop_assert_eq!(some.len(), parts.iter().filter(|(table, _)| *table == Table::Spans).count());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = SegmentHead::from_bytes(&bytes);
        let scan = scan(SEGMENT, &bytes);
        prop_assert!(scan.frames.is_empty());
        let _ = frame::decode(&bytes, |_, _| true);
    }

    #[test]
    fn damage_never_makes_a_frame_up(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let (mut bytes, frames) = segment(&payloads);
        let mut hit = HashSet::new();
        for (at, value) in damage {
            let at = HEAD + at.index(bytes.len() - HEAD);
            if bytes[at] != value {
                hit.extend(frames.iter().position(|frame| frame.contains(&at)));
            }
            bytes[at] = value;
        }
        let found = found(&scan(SEGMENT, &bytes), &bytes).into_iter().map(|(seq, p)| (seq, p.to_vec()));
        let found: Vec<_> = found.collect();
        for (seq, payload) in &found {
            prop_assert_eq!(Some(payload.as_slice()), payloads.get(*seq as usize - 1).copied());
        }
        for untouched in (0..frames.len()).filter(|index| !hit.contains(index)) {
            prop_assert!(found.iter().any(|(seq, _)| *seq == untouched as u64 + 1));
        }
    }
}

#[test]
fn a_payload_with_any_byte_changed_is_read_without_a_panic() {
    let (payload, _) = payload_of(&TenantId::default(), &[(Table::Spans, 2), (Table::Samples, 3)]);
    for at in 0..payload.len() {
        for value in [0x7f, 0xff, payload[at] ^ 0x01] {
            let mut damaged = payload.clone();
            damaged[at] = value;
            let _ = frame::decode(&damaged, |_, _| true);
        }
    }
}

#[test]
fn a_payload_that_ends_early_or_late_says_so() {
    let (payload, _) = payload_of(&TenantId::default(), &[(Table::Samples, 3)]);
    for len in 0..payload.len() {
        assert!(frame::decode(&payload[..len], |_, _| true).is_err(), "{len} bytes");
    }
    let longer = [payload.as_slice(), b"x"].concat();
    assert_eq!(frame::decode(&longer, |_, _| true).unwrap_err(), "1 bytes are left over");
}

#[test]
fn the_largest_frame_counts_everything_that_is_written() {
    let tenant = TenantId::default();
    let parts = [(Table::Samples, samples(0..5)), (Table::Spans, spans(0..5))];
    let (payload, _) = frame::encode(&tenant, &parts).unwrap();
    let (same, _) = frame::encode_within(payload.len, &tenant, &parts).unwrap();
    assert_eq!(same.len, payload.len);
    let refused = frame::encode_within(payload.len - 1, &tenant, &parts).unwrap_err().to_string();
    let told = format!("it takes {0} bytes, more than the {1} that fit", payload.len, payload.len - 1);
    assert!(refused.starts_with(&told), "{refused}");
}

/// What happened behind a log, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Create(PathBuf),
    Append(usize),
    Sync,
    Publish(Vec<u64>),
}

/// A medium that records what is asked of it, on a file or on nothing.
struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
    /// Asked before each sync and each publication.
    none_answered: Arc<dyn Fn() + Send + Sync>,
}

impl Medium for Recorder {
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        lock(&self.events).push(Event::Append(bytes));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        (self.none_answered)();
        lock(&self.events).push(Event::Sync);
        Ok(())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        unreachable!("nothing failed")
    }
}

fn append(payload: Vec<u8>) -> (Command, oneshot::Receiver<Result<u64, WriteError>>) {
    let (answer, answered) = oneshot::channel();
    let len = payload.len();
    let payload = Payload { pieces: vec![Buffer::from_vec(payload)], len };
    let rows = Rows { tenant: TenantId::default(), parts: Vec::new(), series: Vec::new() };
    let pending = Pending::default();
    (Command::Append(Append { payload, rows, pending, synced: true, answer }), answered)
}

/// Runs a log over `commands` to its end; gives the segments it closed.
fn run(wal: &Path, create: Create, commands: Vec<Command>, mut publish: impl FnMut(Vec<u64>)) -> Vec<Closed> {
    let (queue, receiver) = mpsc::channel(commands.len() + 1);
    for command in commands.into_iter().chain([Command::Close]) {
        assert!(queue.try_send(command).is_ok());
    }
    let log = Log::begin(wal, 1, create, Arc::default(), Arc::default()).unwrap();
    let mut closed = Vec::new();
    log.run(
        receiver,
        |writes| publish(writes.into_iter().map(|(seq, _)| seq).collect()),
        |segment| closed.push(segment),
    );
    closed
}

#[test]
fn waiting_writes_share_a_sync_and_are_answered_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (commands, answers): (Vec<_>, Vec<_>) = (0..5u8).map(|n| append(vec![n; 100])).unzip();
    let answers = Arc::new(Mutex::new(answers));
    let events = Arc::new(Mutex::new(Vec::new()));
    let watched = Arc::clone(&answers);
    let none_answered: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        for answer in lock(&watched).iter_mut() {
            assert!(matches!(answer.try_recv(), Err(TryRecvError::Empty)), "answered before it was synced");
        }
    });
    let (log, check) = (Arc::clone(&events), Arc::clone(&none_answered));
    let create: Create = Box::new(move |path| {
        lock(&log).push(Event::Create(path.to_owned()));
        Ok(Box::new(Recorder { events: Arc::clone(&log), none_answered: Arc::clone(&check) }))
    });
    let log = Arc::clone(&events);
    run(dir.path(), create, commands, move |seqs| {
        none_answered();
        lock(&log).push(Event::Publish(seqs));
    });
    let frames = 5 * (FRAME_HEAD + 100);
    let expected = [
        Event::Create(segment_path(dir.path(), 1)),
        Event::Append(HEAD),
        Event::Sync,
        Event::Append(frames),
        Event::Sync,
        Event::Publish(vec![1, 2, 3, 4, 5]),
    ];
    assert_eq!(*lock(&events), expected);
    for (seq, answer) in (1..).zip(lock(&answers).iter_mut()) {
        assert_eq!(answer.try_recv().unwrap().unwrap(), seq);
    }
}

#[test]
fn segments_follow_each_other_by_size_and_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let (rotate, rotated) = oneshot::channel();
    let (again, rotated_again) = oneshot::channel();
    let half = limits::WAL_SEGMENT_BYTES as usize / 2;
    let larger_than_a_segment = half * 3;
    let (commands, answers): (Vec<_>, Vec<_>) =
        [100, half, half, larger_than_a_segment, 7].into_iter().map(|len| append(vec![1; len])).unzip();
    let mut commands: Vec<_> = commands.into_iter().collect();
    commands.push(Command::Rotate(rotate));
    commands.push(Command::Rotate(again)); // the segment is empty: nothing to do
    let (last, last_answer) = append(vec![2; 10]);
    commands.push(last);
    let closed = run(dir.path(), files(), commands, |_| {});
    for (seq, mut answer) in (1..).zip(answers.into_iter().chain([last_answer])) {
        assert_eq!(answer.try_recv().unwrap().unwrap(), seq);
    }
    for mut rotated in [rotated, rotated_again] {
        rotated.try_recv().unwrap().unwrap();
    }
    let last_seqs: Vec<_> = closed.iter().map(|segment| segment.last_seq).collect();
    assert_eq!(last_seqs, [3, 4, 5]);
    for segment in &closed {
        assert_eq!(fs::metadata(&segment.path).unwrap().len(), segment.bytes);
    }
    let (frames, replayed) = replay_all(dir.path());
    let lens: Vec<_> = frames.iter().map(|(seq, payload)| (*seq, payload.len())).collect();
    assert_eq!(lens, [(1, 100), (2, half), (3, half), (4, larger_than_a_segment), (5, 7), (6, 10)]);
    assert_eq!((replayed.segments.len(), replayed.quarantined, replayed.torn_tails), (4, 0, 0));
    assert_eq!(replayed.segments[..3], closed);
}

#[test]
fn a_segment_that_exists_is_never_begun_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 1);
    fs::write(&path, b"rows").unwrap();
    let begun = Log::begin(dir.path(), 1, files(), Arc::<Metrics>::default(), Arc::<Health>::default());
    assert_eq!(begun.err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"rows");
}
