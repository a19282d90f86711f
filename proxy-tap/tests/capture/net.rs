//! Two machines with a cable between them: network namespaces, which are gone when this is dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the machines are called to each other, in both families.
pub(crate) const CLIENT: [&str; 2] = ["10.77.0.1", "fd77::1"];
pub(crate) const SERVER: [&str; 2] = ["10.77.0.2", "fd77::2"];
/// A second address of the server's machine.
pub(crate) const REPLICA: [&str; 2] = ["10.77.0.3", "fd77::3"];

/// Names begin with it; the process that made them and a number follow.
const PREFIX: &str = "weir-test";

/// Two machines: the client's and the server's.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) client: String,
    pub(crate) server: String,
}

impl Net {
    /// `None` where the system does not allow it, which it says; in CI that is a failure.
    pub(crate) fn new() -> Option<Self> {
        let why = match permitted() {
            Ok(()) => return Some(Self::made()),
            Err(why) => why,
        };
        assert!(std::env::var_os("CI").is_none(), "connections cannot be captured, and CI must do so: {why}");
        eprintln!("passed over, connections cannot be captured: {why}");
        None
    }

    fn made() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_left();
        let name = format!("{PREFIX}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let net = Self { client: format!("{name}-c"), server: format!("{name}-s") };
        let Self { client, server } = &net;
        ip(&["netns", "add", client]);
        ip(&["netns", "add", server]);
        ip(&["-n", client, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", server]);
        let addresses = [(client, &[CLIENT][..]), (server, &[SERVER, REPLICA])];
        for (machine, addresses) in addresses {
            for [v4, v6] in addresses {
                ip(&["-n", machine, "address", "add", &format!("{v4}/24"), "dev", "up0"]);
                // Without the check that nobody else has it, which takes a second.
                ip(&["-n", machine, "address", "add", &format!("{v6}/64"), "dev", "up0", "nodad"]);
            }
            ip(&["-n", machine, "link", "set", "lo", "up"]);
            ip(&["-n", machine, "link", "set", "up0", "up"]);
        }
        net
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for machine in [&self.client, &self.server] {
            let _ = Command::new("ip").args(["netns", "del", machine]).output();
        }
    }
}

/// A program as the machine runs it.
pub(crate) fn on(machine: &str, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", machine]).arg(program.as_ref());
    let (path, libraries) = unpacked();
    command.env("PATH", path).env("LD_LIBRARY_PATH", libraries);
    command
}

/// Runs the script of the example: `up` or `down`.
pub(crate) fn capture(machine: &str, what: &str, settings: &[(&str, &str)]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/transparent/capture.sh");
    let mut command = on(machine, script);
    succeeds(command.arg(what).envs(settings.iter().copied()));
}

/// Gives rules to nftables.
pub(crate) fn rules(machine: &str, rules: &str) {
    succeeds(on(machine, "nft").arg(rules));
}

/// Connections that were redirected on the way out, or in, by the example's rules.
pub(crate) fn redirected(machine: &str, chain: &str) -> u64 {
    let listed = succeeds(on(machine, "nft").args(["list", "chain", "inet", "weir", chain]));
    let text = String::from_utf8(listed.stdout).unwrap();
    let count = text.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
    count.unwrap_or_else(|| panic!("no counter in {text}")).parse().unwrap()
}

fn ip(arguments: &[&str]) {
    succeeds(Command::new("ip").args(arguments));
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn permitted() -> Result<(), String> {
    let name = format!("{PREFIX}-{}-p", std::process::id());
    let tried = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => {
            Err(format!("{:?} cannot be run (`make setup-test` installs it): {error}", command.get_program()))
        }
    };
    // Several tests may ask at once, and all have to ask about the same.
    static ONE: std::sync::Mutex<Option<Result<(), String>>> = std::sync::Mutex::new(None);
    let mut known = ONE.lock().unwrap();
    known
        .get_or_insert_with(|| {
            tried(Command::new("ip").args(["netns", "add", &name]))?;
            let rules = tried(on(&name, "nft").args(["list", "ruleset"]));
            let python = tried(on(&name, "python3").args(["-c", "import ssl"]));
            tried(Command::new("ip").args(["netns", "del", &name]))?;
            rules.and(python)
        })
        .clone()
}

/// Where to look for programs and libraries: Debian's packages may be unpacked beside what cargo builds.
fn unpacked() -> (String, String) {
    // The test is `deps/NAME` in the folder of its profile.
    let test = std::env::current_exe().unwrap();
    let debian = test.ancestors().nth(3).unwrap().join("debian");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:/usr/sbin:{}", debian.join("usr/sbin").display());
    let own: Option<Vec<PathBuf>> = std::fs::read_dir(debian.join("usr/lib"))
        .ok()
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    let libraries = std::env::join_paths(own.unwrap_or_default()).unwrap();
    (path, libraries.into_string().unwrap())
}

/// Removes what tests left that were killed.
fn remove_left() {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    for name in String::from_utf8_lossy(&listed.stdout).lines().filter_map(|line| line.split(' ').next()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}
