//! Writing so that it survives a power cut: a file is synced before it is named, and a name is synced by
//! syncing the directory that holds it, new parents included.
//!
//! A sync that failed is told apart ([`is_unsynced`]), because it must not be tried again: the kernel may
//! have dropped what was to be written, and a second sync that succeeds would prove nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// A sync that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot be synced: {0}")]
struct Unsynced(io::Error);

fn unsynced(e: io::Error) -> io::Error {
    io::Error::new(e.kind(), Unsynced(e))
}

/// Whether `e` is a failed sync.
pub(crate) fn is_unsynced(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|inner| inner.is::<Unsynced>())
}

/// Whether more space would have helped.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Syncs a file that is written anew where this fails: that there was no space is then no failed sync.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all().map_err(|e| if is_full(&e) { e } else { unsynced(e) })
}

/// Syncs the entries of a directory.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all().map_err(unsynced)
}

/// Makes `dir` and whichever parents are missing, and syncs each parent that got a new entry.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_dir(parent)
}

/// Moves the synced file `from` to `to`, replacing what is there, and syncs the directory of `to`.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(to.parent().unwrap_or(Path::new("/")))
}

/// Writes a file through `staging` (a name in the same file system), so that `to` is whole or absent.
pub(crate) fn write(staging: &Path, to: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::create(staging)?;
    for part in parts {
        file.write_all(part)?;
    }
    sync_file(&file)?;
    rename(staging, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_files_are_made_whole() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir(&deep).unwrap();
        create_dir(&deep).unwrap();
        write(&dir.path().join("staged"), &deep.join("file"), &[b"one", b"two"]).unwrap();
        write(&dir.path().join("staged"), &deep.join("file"), &[b"three"]).unwrap();
        assert_eq!(fs::read(deep.join("file")).unwrap(), b"three");
        assert!(!dir.path().join("staged").exists());
    }

    #[test]
    fn a_failed_sync_is_told_apart_from_other_failures() {
        // A directory of `/proc` can be opened and not be synced.
        let e = sync_dir(Path::new("/proc/self")).unwrap_err();
        assert!(is_unsynced(&e), "{e}");
        let missing = sync_dir(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(!is_unsynced(&missing), "{missing}");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(is_full(&full) && !is_unsynced(&full));
        assert!(is_full(&unsynced(full)));
    }
}
