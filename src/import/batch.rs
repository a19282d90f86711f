//! Requests of bounded size, made of pieces that remember where they came from.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use weir_collector::decode::Signal;
use weir_collector::import::{Part, Place};
use weir_model::limits;

use super::reader::Reader;

/// A request that is ready to be stored.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) signal: Signal,
    /// The protobuf bytes of an `Export…ServiceRequest`.
    pub(super) body: Bytes,
    /// What it was put together from.
    pub(super) pieces: Vec<Piece>,
}

/// A part of a batch that is a request by itself.
#[derive(Debug)]
pub(super) struct Piece {
    /// Which file it came from, and where there it is.
    pub(super) file: usize,
    pub(super) place: Place,
    /// Where it is in the body.
    pub(super) bytes: Range<usize>,
    /// Spans, data points or log records.
    pub(super) records: u64,
}

impl Batch {
    /// Spans, data points or log records in all.
    pub(super) fn records(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.records).sum()
    }

    /// Where a piece came from, for people.
    pub(super) fn place(&self, piece: usize, reader: &Reader) -> String {
        match self.pieces.get(piece) {
            Some(piece) => reader.place(piece.file, piece.place),
            None => "the end".to_owned(),
        }
    }
}

/// Batches that are being filled, one for each signal.
#[derive(Debug, Default)]
pub(super) struct Batches(BTreeMap<Signal, Open>);

#[derive(Debug, Default)]
struct Open {
    body: Vec<u8>,
    pieces: Vec<Piece>,
    records: u64,
}

impl Batches {
    /// Adds a part; returns the batch that has no room for it.
    pub(super) fn add(&mut self, signal: Signal, file: usize, place: Place, part: &Part) -> Option<Batch> {
        let open = self.0.entry(signal).or_default();
        let fits = open.body.len() + part.request.len() <= limits::IMPORT_BATCH_BYTES
            && open.records + part.records <= limits::IMPORT_BATCH_RECORDS as u64;
        let full = (!fits && !open.pieces.is_empty()).then(|| std::mem::take(open).close(signal));
        let start = open.body.len();
        open.body.extend_from_slice(&part.request);
        open.records += part.records;
        open.pieces.push(Piece { file, place, bytes: start..open.body.len(), records: part.records });
        full
    }

    /// What is left.
    pub(super) fn finish(self) -> impl Iterator<Item = Batch> {
        self.0
            .into_iter()
            .filter(|(_, open)| !open.pieces.is_empty())
            .map(|(signal, open)| open.close(signal))
    }
}

impl Open {
    fn close(self, signal: Signal) -> Batch {
        Batch { signal, body: self.body.into(), pieces: self.pieces }
    }
}
