//! Who may touch a data directory: one process at a time, and none that is older than its format.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::OpenError;
use crate::durable;

/// The format this program writes, and the only one it reads: the log's frames and the files have the columns
/// of its tables. Format 1 had no exemplars and fewer columns for metrics.
pub(crate) const FORMAT: u64 = 4;

/// The folder for files that are not yet named; emptied at each open.
pub(crate) const STAGING: &str = ".staging";

/// An open data directory; released when dropped.
#[derive(Debug)]
pub(crate) struct DirLock {
    /// The directory, absolute.
    pub(crate) dir: PathBuf,
    /// The number of this run.
    pub(crate) epoch: u64,
    _file: File,
}

impl DirLock {
    /// Takes `dir`, which is made if absent, and raises its epoch. A directory of another format or of
    /// another process is left as it is.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: dir.to_owned(), source };
        check_format(dir)?;
        durable::create_dir(dir).map_err(unwritable)?;
        let dir = dir.canonicalize().map_err(unwritable)?;
        let file = lock(&dir)?;
        let new = !check_format(&dir)?;
        let staging = dir.join(STAGING);
        empty(&staging).map_err(|source| OpenError::Unwritable { path: dir.clone(), source })?;
        if new {
            put(&dir, "FORMAT", &format!("weir {FORMAT}\n"))?;
        }
        let epoch = match read(&dir.join("EPOCH"))? {
            None => 1,
            Some(text) => {
                1 + number(text.trim()).ok_or_else(|| OpenError::Corrupt {
                    path: dir.join("EPOCH"),
                    reason: "it must hold one number".to_owned(),
                })?
            }
        };
        put(&dir, "EPOCH", &format!("{epoch}\n"))?;
        Ok(Self { dir, epoch, _file: file })
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n| *n < u64::MAX)
}

/// Whether the directory has a format, which must be one this program reads.
fn check_format(dir: &Path) -> Result<bool, OpenError> {
    let path = dir.join("FORMAT");
    let Some(text) = read(&path)? else {
        if dir.join("wal").exists() {
            return Err(OpenError::Corrupt {
                path,
                reason: "it is missing beside a write-ahead log".to_owned(),
            });
        }
        return Ok(false);
    };
    match text.trim().strip_prefix("weir ").and_then(number) {
        None => Err(OpenError::Corrupt { path, reason: "it must read `weir <number>`".to_owned() }),
        Some(found) if found > FORMAT => {
            Err(OpenError::Newer { path: dir.to_owned(), found, supported: FORMAT })
        }
        Some(found) if found < FORMAT => {
            Err(OpenError::Older { path: dir.to_owned(), found, supported: FORMAT })
        }
        Some(_) => Ok(true),
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("LOCK");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| OpenError::Unwritable { path: dir.to_owned(), source })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked { path: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
    }
    sign(&mut file).map_err(|source| OpenError::Unwritable { path: dir.to_owned(), source })?;
    Ok(file)
}

/// Writes who holds the lock into it.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn empty(staging: &Path) -> io::Result<()> {
    match fs::remove_dir_all(staging) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    durable::create_dir(staging)
}

/// The text of a small file, or `None` where there is no such file.
fn read(path: &Path) -> Result<Option<String>, OpenError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            Err(OpenError::Unwritable { path: path.parent().unwrap_or(path).to_owned(), source: e })
        }
        Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
    }
}

fn put(dir: &Path, name: &str, text: &str) -> Result<(), OpenError> {
    let path = dir.join(name);
    durable::write(&dir.join(STAGING).join(name), &path, &[text.as_bytes()])
        .map_err(|source| OpenError::Unwritable { path, source })
}

#[cfg(test)]
mod tests;
