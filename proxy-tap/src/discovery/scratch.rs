//! What the tests of discovery keep beside what cargo builds.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder that cargo builds into.
pub(super) fn built() -> PathBuf {
    // The test is `deps/NAME` in the folder of its profile.
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// A new folder, removed when dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("discovery-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = built().join("tmp").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
