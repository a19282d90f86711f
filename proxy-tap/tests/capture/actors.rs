//! Who runs on the machines: servers and clients of the test's own program, and the proxy's binary.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::net::on;

/// How long anything here may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(10);

/// Servers and clients on one machine: `peer.py`.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    ends: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Peer {
    pub(crate) fn on(machine: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/capture/peer.py");
        let mut command = on(machine, "python3");
        // Nothing that stands around the test is any business of this program.
        command.env_remove("LD_LIBRARY_PATH").args(["-I", "-S"]).arg(script);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let ends = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, ends: Mutex::new(ends) }
    }

    /// Does what `order` says. Clients give up after 5 s by themselves.
    pub(crate) fn does(&self, order: Value) -> Value {
        let mut ends = self.ends.lock().unwrap();
        writeln!(ends.0, "{order}").unwrap();
        let mut line = String::new();
        ends.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{order}: {error} in `{line}`"))
    }

    /// Starts a server.
    pub(crate) fn serves(&self, kind: &str, name: &str, at: &str, port: u16) {
        assert_eq!(
            self.does(json!({"do": kind, "name": name, "at": [at, port]})),
            json!({}),
            "{name} serves"
        );
    }

    /// Asks with this `Host`; the admin page for its metrics.
    pub(crate) fn gets(&self, at: &str, port: u16, host: &str) -> Answer {
        let path = if port == ADMIN { "/metrics" } else { "/" };
        Answer::of(self.does(json!({"do": "get", "at": [at, port], "host": host, "path": path})))
    }

    /// All that was asked of the servers.
    pub(crate) fn seen(&self) -> Vec<Value> {
        self.does(json!({"do": "seen"}))["seen"].as_array().unwrap().clone()
    }
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn of(told: Value) -> Self {
        match told["error"].as_str() {
            Some(error) => Self { status: 0, body: error.to_owned() },
            None => Self {
                status: told["status"].as_u64().unwrap(),
                body: told["body"].as_str().unwrap().to_owned(),
            },
        }
    }

    /// `text` from a server that answered.
    pub(crate) fn ok(text: &str) -> Self {
        Self { status: 200, body: text.to_owned() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The proxy's binary on one machine.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    lines: Receiver<String>,
}

/// Where its admin page is.
pub(crate) const ADMIN: u16 = 15_000;

impl Proxy {
    /// Starts it with these flags, those of its name and its admin page included, and waits until it serves.
    pub(crate) fn on(machine: &str, flags: &[&str]) -> Self {
        let mut command = on(machine, env!("CARGO_BIN_EXE_weir-proxy"));
        command.args(["--service", "web", "--admin", &format!("127.0.0.1:{ADMIN}")]).args(flags);
        if !flags.contains(&"--collector") {
            command.args(["--collector", "none"]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (said, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).take_while(|line| said.send(line.clone()).is_ok()).count()
        });
        let proxy = Self { child, lines };
        proxy.says("ready ");
        proxy
    }

    /// Waits until it says something with these words.
    pub(crate) fn says(&self, words: &str) {
        let mut before = String::new();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return,
                Ok(line) => before = before + &line + "\n",
                Err(error) => panic!("no `{words}` ({error}); it said:\n{before}"),
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder for one test's files, removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Writes a file; its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
