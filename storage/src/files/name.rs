//! What a Parquet file is called, and what its name says.

use std::fmt;
use std::path::Path;

/// The name of a file that this program wrote: unique, because the epoch rises at each open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName {
    /// The first and last write that the file stands for; of a flush, the last one twice.
    pub(crate) writes: (u64, u64),
    /// What wrote it.
    pub(crate) kind: Kind,
    /// The run that wrote it.
    pub(crate) epoch: u64,
    /// CRC-32C of its bytes.
    pub(crate) checksum: u32,
}

/// What writes files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A flush.
    Flushed,
    /// A merge of files that held everything.
    Merged,
    /// Tail sampling, or a merge of what it left.
    Sampled,
}

impl Kind {
    /// The kinds that stand for a range of writes, and the word they are called by.
    const RANGES: [(Self, &'static str); 2] = [(Self::Merged, "compacted"), (Self::Sampled, "sampled")];
}

impl FileName {
    /// What the name of `path` says, where this program made it.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".parquet")?;
        let (word, rest) = name.split_once('-')?;
        let range = Kind::RANGES.into_iter().find(|(_, of)| *of == word).map(|(kind, _)| kind);
        let kind = range.or_else(|| (word == "wal").then_some(Kind::Flushed))?;
        let mut parts = rest.split('-');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let first = number()?;
        let last = if kind == Kind::Flushed { first } else { number()? };
        let epoch = number()?;
        let checksum = u32::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Self { writes: (first, last), kind, epoch, checksum })
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writes: (first, last), kind, epoch, checksum } = self;
        match Kind::RANGES.iter().find(|(of, _)| of == kind) {
            Some((_, word)) => write!(f, "{word}-{first:020}-{last:020}-{epoch}-{checksum:08x}.parquet"),
            None => write!(f, "wal-{last:020}-{epoch}-{checksum:08x}.parquet"),
        }
    }
}

/// Names as a flush up to `through` and a merge of `first` to `last` give them, for tests.
#[cfg(test)]
impl FileName {
    pub(crate) fn flushed(through: u64, epoch: u64) -> String {
        Self { writes: (through, through), kind: Kind::Flushed, epoch, checksum: 0xabc }.to_string()
    }

    pub(crate) fn merged(first: u64, last: u64, epoch: u64) -> String {
        Self { writes: (first, last), kind: Kind::Merged, epoch, checksum: 0xabc }.to_string()
    }
}
