//! Faults from outside: `strace` kills a process at its Nth system call of a kind, or lets that call fail.
//!
//! strace counts by thread: the Nth call is that of the first thread that has made N of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What happens to which system call.
pub(crate) struct Injection<'a> {
    pub(crate) syscall: &'a str,
    /// `signal=KILL`, `error=EIO`.
    pub(crate) fault: &'a str,
    pub(crate) nth: u32,
    /// Only calls that touch one of these; any call where empty.
    pub(crate) paths: &'a [PathBuf],
}

/// Whether processes can be traced here. Without that a test may pass over, but not in CI.
pub(crate) fn is_permitted() -> bool {
    let tried = Command::new("strace")
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=exit_group", "true"])
        .stdin(Stdio::null())
        .output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(e) => format!("strace cannot be run (`make setup-test` installs it): {e}"),
    };
    assert!(std::env::var_os("CI").is_none(), "faults cannot be injected, and CI must do so: {why}");
    eprintln!("passed over, faults cannot be injected: {why}");
    false
}

impl Injection<'_> {
    /// `command` with this fault. strace runs beside it, so the process keeps its place as our child.
    pub(crate) fn under(&self, command: &Command) -> Command {
        let Self { syscall, fault, nth, paths } = self;
        let mut traced = Command::new("strace");
        traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={syscall}")]);
        traced.args(["-e", &format!("inject={syscall}:{fault}:when={nth}")]);
        for path in *paths {
            traced.arg("-P").arg(path);
        }
        traced.arg("--").arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => traced.env(key, value),
                None => traced.env_remove(key),
            };
        }
        traced
    }
}
