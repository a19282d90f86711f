//! Length-prefixed messages, as OpenTelemetry Collector's file exporter writes them with `format: proto` or
//! `compression: zstd`: four bytes of length, the highest first, then protobuf or JSON, compressed alone.

use std::io::{Cursor, Read};

use weir_model::limits;

use super::documents::Documents;
use super::source::Source;
use super::{Piece, Place, Unreadable, ZSTD, cut_off, records};

/// Reads messages one by one.
pub(super) struct Messages<R> {
    source: Source<R>,
    /// Messages read so far.
    number: u64,
    /// What is left of a message in JSON.
    documents: Option<Documents<Cursor<Vec<u8>>>>,
    over: bool,
}

impl<R: Read> Messages<R> {
    pub(super) fn new(source: Source<R>) -> Self {
        Self { source, number: 0, documents: None, over: false }
    }

    /// The bytes of the next message, inflated; `None` at the end.
    fn message(&mut self) -> Option<Result<Vec<u8>, String>> {
        let mut prefix = [0; 4];
        let length = match self.source.read(&mut prefix) {
            Ok(0) => return None,
            Ok(4) => u32::from_be_bytes(prefix) as usize,
            Ok(_) => return Some(self.end("the file ends within a length".to_owned())),
            Err(error) => return Some(self.end(cut_off(&error))),
        };
        self.number += 1;
        let cut = |read: usize| format!("the file ends after {read} of the message's {length} bytes");
        if length > limits::IMPORT_PIECE_BYTES {
            return Some(match self.source.skip(length) {
                Ok(skipped) if skipped == length => Err(too_large()),
                Ok(skipped) => self.end(cut(skipped)),
                Err(error) => self.end(cut_off(&error)),
            });
        }
        let mut message = vec![0; length];
        match self.source.read(&mut message) {
            Ok(read) if read == length => Some(inflated(message)),
            Ok(read) => Some(self.end(cut(read))),
            Err(error) => Some(self.end(cut_off(&error))),
        }
    }

    fn end<T>(&mut self, why: String) -> Result<T, String> {
        self.over = true;
        Err(why)
    }
}

impl<R: Read> Iterator for Messages<R> {
    type Item = Result<Piece, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.documents.as_mut().and_then(Iterator::next) {
                let place = Place::Message(self.number);
                return Some(match piece {
                    Ok(piece) => Ok(Piece { place, ..piece }),
                    Err(Unreadable { place: within, why }) => {
                        Err(Unreadable { place, why: format!("at {within}: {why}") })
                    }
                });
            }
            self.documents = None;
            if self.over {
                return None;
            }
            let message = self.message()?;
            let place = Place::Message(self.number.max(1));
            let found = message.and_then(|request| {
                if request.first() == Some(&b'{') {
                    self.documents = Some(Documents::new(Source::new(Cursor::new(request))));
                    return Ok(None);
                }
                let malformed = |error: crate::decode::Malformed| error.to_string();
                match records::signal(&request).map_err(malformed)? {
                    Some(signal) => Ok(Some(Piece { signal, request, place })),
                    None if records::is_empty(&request).map_err(malformed)? => Ok(None),
                    None => Err("this holds neither spans nor metrics nor log records".to_owned()),
                }
            });
            match found {
                Ok(None) => {}
                Ok(Some(piece)) => return Some(Ok(piece)),
                Err(why) => return Some(Err(Unreadable { place, why })),
            }
        }
    }
}

fn too_large() -> String {
    format!("the message is larger than {} MiB", limits::IMPORT_PIECE_BYTES >> 20)
}

fn inflated(message: Vec<u8>) -> Result<Vec<u8>, String> {
    if !message.starts_with(&ZSTD) {
        return Ok(message);
    }
    let mut out = Vec::new();
    let limit = limits::IMPORT_PIECE_BYTES as u64 + 1;
    let read = zstd::stream::read::Decoder::new(message.as_slice())
        .and_then(|decoder| decoder.take(limit).read_to_end(&mut out));
    match read {
        Ok(_) if out.len() > limits::IMPORT_PIECE_BYTES => Err(too_large()),
        Ok(_) => Ok(out),
        Err(error) => Err(format!("the message does not decompress: {error}")),
    }
}
