//! Writing so that it survives a power cut: a file is synced before it is named, and a name is synced by
//! syncing the directory that holds it, new parents included.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Syncs the entries of a directory.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
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
    file.sync_all()?;
    rename(staging, to)
}
