//! The file that keeps registrations over a restart, as an agent of Consul keeps its own: who registered once and only
//! reports since then is not lost.
//!
//! It is JSON, `{"version": 1, "services": …, "checks": …}`, always whole, and written anew after a change; changes
//! that come while it is written share the next writing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::agent::Saved;

/// What this program writes and reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    #[serde(flatten)]
    saved: Saved,
}

/// Why registrations cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file cannot be read.
    #[error("the registrations in `{path}` cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "the registrations in `{path}` are not understood ({why}); move the file away to start without them"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// What was kept; nothing where nothing was.
pub(super) fn read(path: &Path) -> Result<Saved, RestoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(source) => return Err(RestoreError::Unreadable { path: path.to_owned(), source }),
    };
    let damaged = |why: String| RestoreError::Damaged { path: path.to_owned(), why };
    let document: Document = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    match document.version {
        VERSION => Ok(document.saved),
        other => Err(damaged(format!("version {other} is not {VERSION}"))),
    }
}

/// Writes all of it, or nothing, and not before the disk has it.
pub(super) fn write(path: &Path, saved: Saved) -> io::Result<()> {
    let bytes = serde_json::to_vec(&Document { version: VERSION, saved })?;
    let staging = path.with_extension("json.new");
    let mut file = File::create(&staging)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&staging, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
