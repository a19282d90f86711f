//! What a Parquet file is called, and what its name says.

use std::fmt;
use std::path::Path;

/// The name of a file that this program wrote: unique, because the epoch rises at each open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName {
    /// The first and last write that the file stands for; of a flush, the last one twice.
    pub(crate) writes: (u64, u64),
    /// Whether a flush wrote it; a merge otherwise.
    pub(crate) flushed: bool,
    /// The run that wrote it.
    pub(crate) epoch: u64,
    /// CRC-32C of its bytes.
    pub(crate) checksum: u32,
}

impl FileName {
    /// What the name of `path` says, where this program made it.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".parquet")?;
        let (flushed, rest) = match name.strip_prefix("wal-") {
            Some(rest) => (true, rest),
            None => (false, name.strip_prefix("compacted-")?),
        };
        let mut parts = rest.split('-');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let first = number()?;
        let last = if flushed { first } else { number()? };
        let epoch = number()?;
        let checksum = u32::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Self { writes: (first, last), flushed, epoch, checksum })
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writes: (first, last), flushed, epoch, checksum } = self;
        if *flushed {
            write!(f, "wal-{last:020}-{epoch}-{checksum:08x}.parquet")
        } else {
            write!(f, "compacted-{first:020}-{last:020}-{epoch}-{checksum:08x}.parquet")
        }
    }
}

/// Names as a flush up to `through` and a merge of `first` to `last` give them, for tests.
#[cfg(test)]
impl FileName {
    pub(crate) fn flushed(through: u64, epoch: u64) -> String {
        Self { writes: (through, through), flushed: true, epoch, checksum: 0xabc }.to_string()
    }

    pub(crate) fn merged(first: u64, last: u64, epoch: u64) -> String {
        Self { writes: (first, last), flushed: false, epoch, checksum: 0xabc }.to_string()
    }
}
