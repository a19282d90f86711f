//! Programs of Debian packages, unpacked beside what cargo builds and never installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The program `name` of `package`, fetched on the first run.
pub(crate) fn program(package: &str, name: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let folder = built.join("debian");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/debian.sh");
    super::python::run(Command::new("sh").arg(script).arg(&folder).arg(package));
    folder.join("usr/bin").join(name)
}
