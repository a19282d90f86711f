//! Space that is kept for getting out of a full disk: flushing needs some before it frees what the log holds.
//!
//! It is a file that is allocated and never read. When a flush finds the disk full the file goes,
//! and until there is room for it again no write is taken, so that the space serves what frees more.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use weir_model::limits;

/// Name of the file in the data directory.
const NAME: &str = ".reserve";
/// On a small disk, the share of it that is kept at most.
const SHARE: u64 = 16;

/// The space kept in one data directory.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: AtomicBool,
}

impl Reserve {
    /// The reserve of the data directory `dir`, given up until it is [`refill`](Self::refill)ed: opening may
    /// need the space.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let disk = statvfs(dir)?;
        let share = disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE;
        let reserve = Self {
            path: dir.join(NAME),
            bytes: limits::DISK_RESERVE_BYTES.min(share),
            held: AtomicBool::new(true),
        };
        reserve.release();
        Ok(reserve)
    }

    /// Whether the space is there.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Gives the space up; whether that freed any.
    pub(crate) fn release(&self) -> bool {
        self.held.swap(false, Ordering::AcqRel) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the space if it can be had; whether it is held now.
    pub(crate) fn refill(&self) -> bool {
        if self.is_held() {
            return true;
        }
        match self.allocate() {
            Ok(()) => self.held.store(true, Ordering::Release),
            Err(e) => {
                tracing::debug!(error = %e, bytes = self.bytes, "no room for the reserve yet");
                let _ = fs::remove_file(&self.path); // a part of it helps nobody; it may not be there
            }
        }
        self.is_held()
    }

    fn allocate(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes.max(1)) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = vec![0; 1 << 16];
                let mut left = self.bytes;
                while left > 0 {
                    let now = left.min(zeros.len() as u64);
                    file.write_all(&zeros[..now as usize])?;
                    left -= now;
                }
                Ok(())
            }
            result => Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_is_taken_given_up_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(dir.path()).unwrap();
        let path = dir.path().join(NAME);
        assert!(!reserve.is_held() && !path.exists());
        for _ in 0..2 {
            assert!(reserve.refill() && reserve.is_held());
            assert_eq!(fs::metadata(&path).unwrap().len(), reserve.bytes);
            assert!(reserve.release() && !reserve.is_held() && !path.exists());
            assert!(!reserve.release(), "there is nothing to give up any more");
        }
        reserve.refill();
        assert!(!Reserve::open(dir.path()).unwrap().is_held(), "opening may need the space");
    }
}
