//! A Python with packages from PyPI, and what it says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::kept;

/// A Python in a virtual environment with what `tests/<folder>/requirements.txt` names, made on the first run and kept
/// while it has what is required.
pub(crate) fn python(folder: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let requirements = script(folder, "requirements.txt");
    let venv = kept(&format!("{folder}-venv"));
    let python = venv.join("bin/python");
    let done = venv.join("complete");
    let required = std::fs::read_to_string(&requirements).unwrap();
    if std::fs::read_to_string(&done).unwrap_or_default() != required {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements));
        std::fs::write(done, required).unwrap();
    }
    python
}

/// The file `name` in `tests/<folder>`.
pub(crate) fn script(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder).join(name)
}

/// What `command` writes to stdout; panics where it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
