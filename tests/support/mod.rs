//! Real processes for whole-system tests: start them, wait until they serve, ask them, kill them.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod debian;
pub(crate) mod ledger;
pub(crate) mod python;
pub(crate) mod strace;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a process may take to say that it serves.
const READY: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) fn weir() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env("WEIR_LOG", "info,deltalake_core=warn,buoyant_kernel=warn");
    command
}

/// A process whose stderr is kept, killed when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    stderr: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `command`.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        let stderr = Arc::new(Mutex::new(vec![]));
        let (lines, pipe) = (stderr.clone(), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, name: name.to_owned(), stderr }
    }

    /// The first line of stderr that starts with `ready`, split into its `key=value` words.
    pub(crate) fn ready(&mut self) -> Ready {
        self.ready_or_ended().unwrap_or_else(|ended| panic!("{} ended ({ended}):\n{}", self.name, self.log()))
    }

    /// Like [`Process::ready`], or how it ended before that.
    pub(crate) fn ready_or_ended(&mut self) -> Result<Ready, ExitStatus> {
        let deadline = Instant::now() + READY;
        loop {
            let ended = self.ended();
            let line = self.stderr.lock().unwrap().iter().find(|line| line.starts_with("ready")).cloned();
            if let Some(line) = line {
                return Ok(Ready(line));
            }
            if let Some(status) = ended {
                return Err(status);
            }
            assert!(Instant::now() < deadline, "{} is not ready:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Everything it wrote to stderr.
    pub(crate) fn log(&self) -> String {
        self.stderr.lock().unwrap().join("\n")
    }

    /// Ends it as a power button would: SIGKILL, no goodbye.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and waits for a clean end.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait(Duration::from_secs(30));
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log());
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, at_most: Duration) -> ExitStatus {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- stderr of {} ----\n{}", self.name, self.log());
        }
    }
}

/// The line in which a process says where it serves.
pub(crate) struct Ready(String);

impl Ready {
    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> String {
        let prefix = format!("{key}=");
        let found = self.0.split_whitespace().find_map(|word| word.strip_prefix(&prefix));
        found.unwrap_or_else(|| panic!("no `{key}` in `{}`", self.0)).to_owned()
    }
}

/// A running `weir serve`.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) otlp_grpc: String,
    pub(crate) otlp_http: String,
    pub(crate) http: String,
}

impl Server {
    /// Starts one on `data_dir` with free ports.
    pub(crate) fn start(data_dir: &Path, extra: &[&str]) -> Self {
        let mut process = Process::start("weir serve", &mut Self::command(data_dir, extra));
        let ready = process.ready();
        Self::of(process, &ready)
    }

    /// The command that starts one on `data_dir` with free ports.
    pub(crate) fn command(data_dir: &Path, extra: &[&str]) -> Command {
        let mut command = weir();
        command.arg("serve").arg("--data-dir").arg(data_dir);
        for door in ["--otlp-grpc", "--otlp-http", "--http"] {
            if !extra.contains(&door) {
                command.args([door, "127.0.0.1:0"]);
            }
        }
        command.args(extra);
        command
    }

    /// The server that `process` is, by what it said when it was ready.
    pub(crate) fn of(process: Process, ready: &Ready) -> Self {
        Self {
            otlp_grpc: ready.get("otlp_grpc"),
            otlp_http: ready.get("otlp_http"),
            http: ready.get("http"),
            process,
        }
    }

    /// The rows that `query` answers with; panics on an error.
    pub(crate) async fn sql(&self, query: &str) -> Vec<Value> {
        let answer = self.try_sql(query).await;
        let rows = answer["rows"].as_array();
        rows.unwrap_or_else(|| panic!("`{query}` answered {answer}")).clone()
    }

    /// What `/api/sql` answers, be it rows or an error.
    pub(crate) async fn try_sql(&self, query: &str) -> Value {
        let request = reqwest::Client::new()
            .post(format!("http://{}/api/sql", self.http))
            .json(&json!({"query": query}));
        request.send().await.unwrap().json().await.unwrap()
    }

    /// The single value that `query` answers with.
    pub(crate) async fn sql_value(&self, query: &str) -> Value {
        let rows = self.sql(query).await;
        rows[0].as_object().unwrap().values().next().unwrap().clone()
    }

    /// The body of a GET of `path`.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = reqwest::get(format!("http://{}{path}", self.http)).await.unwrap();
        response.json().await.unwrap()
    }
}

/// Asks `question` again and again until it has an answer, for at most `seconds`.
pub(crate) async fn until<T>(what: &str, seconds: u64, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "after {seconds} s there is still no {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A place for what a test makes once and later runs use again.
pub(crate) fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
