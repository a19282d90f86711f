//! Files of telemetry, read from front to back in pieces of bounded size that are OTLP requests.
//!
//! In: bytes, plain or compressed with gzip or zstd. Out: a [`Piece`] for each entry of `resourceSpans`,
//! `resourceMetrics` or `resourceLogs` in JSON (one document a line, as OpenTelemetry Collector's file exporter
//! writes, or over several lines), for each trace in Jaeger's JSON, and for each of the file exporter's
//! length-prefixed messages; and [`Unreadable`], with the place, for what is none of these. Reading goes on
//! behind what cannot be read. What a file is shows in its bytes; its name does not matter.

mod documents;
mod messages;
mod records;
mod source;
mod split;

use std::fmt;
use std::io::{self, Read};

use crate::decode::Signal;
use documents::Documents;
use messages::Messages;
use source::Source;

pub use split::{Part, split};

/// What was read, as an OTLP export request.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// What it holds.
    pub signal: Signal,
    /// The protobuf bytes of an `Export…ServiceRequest`.
    pub request: Vec<u8>,
    /// Where it begins.
    pub place: Place,
}

/// Where something begins in a file, once that is inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In text: line and column, from 1, columns in bytes.
    Line(u64, u64),
    /// In a file of length-prefixed messages: which one, from 1.
    Message(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line, column) => write!(f, "{line}:{column}"),
            Self::Message(number) => write!(f, "message {number}"),
        }
    }
}

/// What could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Unreadable {
    /// Where the fault is.
    pub place: Place,
    /// What is wrong there.
    pub why: String,
}

/// The pieces of a file; ends at its end, or after an error of reading.
pub struct Pieces<R>(Kind<R>);

enum Kind<R> {
    /// Not even the first bytes can be read.
    Unreadable(Option<Unreadable>),
    Documents(Documents<Inflating<R>>),
    Messages(Messages<Inflating<R>>),
}

impl<R: Read> Pieces<R> {
    /// Looks at the first bytes of `file` to see what it is.
    pub fn new(file: R) -> Self {
        let begun = inflating(file).and_then(|file| {
            let mut source = Source::new(file);
            Ok((source.peek()?, source))
        });
        Self(match begun {
            // The upper byte of a length; no text begins so.
            Ok((Some(0..=8), source)) => Kind::Messages(Messages::new(source)),
            Ok((_, source)) => Kind::Documents(Documents::new(source)),
            Err(error) => {
                Kind::Unreadable(Some(Unreadable { place: Place::Line(1, 1), why: cut_off(&error) }))
            }
        })
    }
}

impl<R: Read> Iterator for Pieces<R> {
    type Item = Result<Piece, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Kind::Unreadable(unreadable) => unreadable.take().map(Err),
            Kind::Documents(documents) => documents.next(),
            Kind::Messages(messages) => messages.next(),
        }
    }
}

fn cut_off(error: &io::Error) -> String {
    format!("the file cannot be read further: {error}")
}

/// A file as it was before it was compressed.
enum Inflating<R> {
    Plain(Begun<R>),
    Gzip(Box<flate2::read::MultiGzDecoder<Begun<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, io::BufReader<Begun<R>>>),
}

/// A file whose first bytes have been read already.
type Begun<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn inflating<R: Read>(mut file: R) -> io::Result<Inflating<R>> {
    let mut head = Vec::new();
    file.by_ref().take(ZSTD.len() as u64).read_to_end(&mut head)?;
    let (gzip, zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
    let file = io::Cursor::new(head).chain(file);
    Ok(if gzip {
        Inflating::Gzip(Box::new(flate2::read::MultiGzDecoder::new(file)))
    } else if zstd {
        // Frames that ask for more than 128 MiB of memory are refused, as by the command `zstd`.
        Inflating::Zstd(zstd::stream::read::Decoder::new(file)?)
    } else {
        Inflating::Plain(file)
    })
}

impl<R: Read> Read for Inflating<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(out),
            Self::Gzip(file) => file.read(out),
            Self::Zstd(file) => file.read(out),
        }
    }
}

#[cfg(test)]
mod tests;
