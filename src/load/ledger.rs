//! The ledger: ids of what the collector acknowledged, so that a crash test can ask for each of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::batch::RecordId;

/// An append-only file of one line per acknowledged record: `<trace id> <span id>` in hex, or
/// `<worker>/<series> <nanoseconds>` for a sample.
#[derive(Debug)]
pub(super) struct Ledger {
    file: File,
    lines: Vec<u8>,
}

impl Ledger {
    /// Opens `path` for appending.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)?, lines: Vec::new() })
    }

    /// Notes an acknowledged batch of `worker`, in one write.
    pub(super) fn append(&mut self, worker: usize, ids: &[RecordId]) -> io::Result<()> {
        self.lines.clear();
        for id in ids {
            match id {
                RecordId::Span(trace, span) => writeln!(self.lines, "{trace} {span}")?,
                RecordId::Sample { series, time } => writeln!(self.lines, "{worker}/{series} {time}")?,
            }
        }
        self.file.write_all(&self.lines)
    }
}
