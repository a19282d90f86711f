//! Where the running demo can be reached: a small file in its data directory, and a copy where
//! `weir demo fault` finds the newest demo without being told.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the file, in both places.
const FILE: &str = "demo.json";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Address {
    /// `host:port` of the HTTP listener.
    pub(super) http: String,
    /// The demo's data directory.
    pub(super) data_dir: PathBuf,
}

/// The files of a running demo; removed when it ends.
#[derive(Debug)]
pub(crate) struct Announcement {
    address: Address,
    files: Vec<PathBuf>,
}

/// Writes `demo.json` to `data_dir`, and to [`newest_dir`] where that can be written: the demo there is
/// at `http`.
pub(crate) fn announce(http: SocketAddr, data_dir: &Path) -> io::Result<Announcement> {
    let data_dir = std::path::absolute(data_dir)?;
    announce_to(Address { http: http.to_string(), data_dir }, newest_dir())
}

fn announce_to(address: Address, newest: io::Result<PathBuf>) -> io::Result<Announcement> {
    let text = serde_json::to_vec_pretty(&address)?;
    let own = address.data_dir.join(FILE);
    fs::write(&own, &text)?;
    let mut files = vec![own];
    // A convenience: without it, `--data-dir` still works.
    if let Ok(file) = newest.and_then(|dir| replace(&dir.join(FILE), &text)) {
        files.push(file);
    }
    Ok(Announcement { address, files })
}

impl Drop for Announcement {
    fn drop(&mut self) {
        for file in &self.files {
            // Another demo may have announced itself there since.
            if read(file).is_ok_and(|address| address == self.address) {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// The demo that announced itself in `data_dir`, or the newest one.
pub(super) fn find(data_dir: Option<&Path>) -> io::Result<Address> {
    match data_dir {
        Some(dir) => read(&dir.join(FILE)),
        None => read(&newest_dir()?.join(FILE)),
    }
}

fn read(file: &Path) -> io::Result<Address> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

/// Readers see the old text or the new one, never half of it.
fn replace(file: &Path, text: &[u8]) -> io::Result<PathBuf> {
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, file)?;
    Ok(file.to_owned())
}

/// `$XDG_RUNTIME_DIR/weir-demo`, or `weir-demo-<user id>` in the system's temporary directory: a
/// directory of this user alone, made where it is missing.
fn newest_dir() -> io::Result<PathBuf> {
    let user = fs::metadata("/proc/self")?.uid();
    let dir = match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("weir-demo"),
        None => std::env::temp_dir().join(format!("weir-demo-{user}")),
    };
    match DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => (),
    }
    let found = fs::symlink_metadata(&dir)?;
    if !found.is_dir() || found.uid() != user {
        let why = format!("`{}` is not a directory of this user", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_is_found_while_it_runs_and_not_after() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address { http: "127.0.0.1:4319".to_owned(), data_dir: dir.path().to_owned() };
        let newest = tempfile::tempdir().unwrap();
        let announcement = announce_to(address.clone(), Ok(newest.path().to_owned())).unwrap();
        assert_eq!(find(Some(dir.path())).unwrap(), address);
        assert_eq!(find(Some(newest.path())).unwrap(), address);

        let later = Address { http: "127.0.0.1:9".to_owned(), ..address };
        let elsewhere = tempfile::tempdir().unwrap();
        let later = Address { data_dir: elsewhere.path().to_owned(), ..later };
        let second = announce_to(later.clone(), Ok(newest.path().to_owned())).unwrap();
        drop(announcement);
        assert!(find(Some(dir.path())).is_err());
        assert_eq!(find(Some(newest.path())).unwrap(), later);
        drop(second);
        assert!(find(Some(newest.path())).is_err());
    }
}
