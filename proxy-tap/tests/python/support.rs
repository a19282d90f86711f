//! Real processes: the proxies, and the peers in Python; what they say, what the proxies counted.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::venv::{python, run, script};

/// How long anything here may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const FOLDER: &str = "python";

/// A place for what a test makes once and later runs use again.
pub(crate) fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A process that says `ready key=value...` on stderr, killed when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    stderr: Arc<Mutex<Vec<String>>>,
    /// A file that it looks at again and again.
    reads: Option<File>,
}

impl Process {
    fn start(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stderr = Arc::new(Mutex::new(vec![]));
        let (lines, pipe) = (Arc::clone(&stderr), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut started = Self { child, name: name.to_owned(), stderr, reads: None };
        until(&format!("{name} that is ready"), || {
            assert_eq!(started.child.try_wait().unwrap(), None, "{name} ended");
            started.ready().map(drop)
        });
        started
    }

    fn ready(&self) -> Option<String> {
        self.stderr.lock().unwrap().iter().find(|line| line.starts_with("ready")).cloned()
    }

    /// What it said of `key` when it was ready.
    pub(crate) fn get(&self, key: &str) -> String {
        let (line, prefix) = (self.ready().unwrap(), format!("{key}="));
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(&prefix));
        found.unwrap_or_else(|| panic!("no `{key}` in `{line}`")).to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        run(Command::new("kill").args(["-TERM", &self.pid().to_string()]));
    }

    /// Waits until it has ended well.
    pub(crate) fn ended(&mut self) {
        let name = self.name.clone();
        let status = until(&format!("end of {name}"), || self.child.try_wait().unwrap());
        assert!(status.success(), "{name} ended with {status}");
    }

    /// The sum of the samples of `name` whose labels contain all of `labels`, on the proxy's own page.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = page(&self.get("admin"), "/metrics");
        let samples = page.lines().filter(|line| {
            let of = line.split(['{', ' ']).next() == Some(name);
            of && labels.iter().all(|label| line.contains(label))
        });
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Requests with these labels.
    pub(crate) fn requests(&self, labels: &[&str]) -> f64 {
        self.metric("istio_requests_total", labels)
    }

    /// Waits until `expected` requests with these labels were counted: a call is over for its caller before it is for
    /// the proxies behind.
    pub(crate) fn counted(&self, expected: f64, labels: &[&str]) {
        let mut last = -1.0;
        let end = Instant::now() + DEADLINE;
        while last != expected {
            let told = || {
                let page = page(&self.get("admin"), "/metrics");
                page.lines()
                    .filter(|line| line.starts_with("istio_requests_total{"))
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            assert!(
                Instant::now() < end && last <= expected,
                "{}: {last} of {labels:?}\n{}",
                self.name,
                told()
            );
            std::thread::sleep(Duration::from_millis(10));
            last = self.requests(labels);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- stderr of {} ----\n{}", self.name, self.stderr.lock().unwrap().join("\n"));
        }
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "after {DEADLINE:?} there is still no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A page of a proxy's admin listener.
fn page(admin: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

/// A server in Python, with these words.
pub(crate) fn server(name: &str, words: &[&str]) -> Process {
    Process::start(name, Command::new(python(FOLDER)).arg(script(FOLDER, name)).args(words))
}

/// Runs these cases of a client, each of which has to hold.
pub(crate) fn client(name: &str, setting: &Value, cases: &[&str]) {
    let mut command = Command::new(python(FOLDER));
    // The proxies here are told by the cases alone.
    for variable in
        ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "no_proxy", "ALL_PROXY"]
    {
        command.env_remove(variable);
    }
    let said = run(command.arg(script(FOLDER, name)).arg(setting.to_string()).args(cases));
    assert_eq!(said.lines().collect::<Vec<_>>(), cases);
}

/// A file that is there as long as this.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(name: &str, content: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = kept(&format!("python-{}-{n}-{name}", std::process::id()));
        fs::write(&file, content).unwrap();
        Self(file)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn proxy(name: &str, words: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-proxy"));
    command.args(["--collector", "none", "--admin", "127.0.0.1:0", "--service", name]).args(words);
    Process::start(&format!("proxy of {name}"), &mut command)
}

/// The proxy before an application that `peer` serves: `protocol` is what it speaks.
pub(crate) fn inbound(app: &str, protocol: &str) -> Process {
    proxy("peer", &["--app", app, "--inbound", "127.0.0.1:0", "--protocol", protocol])
}

/// The proxy of a caller of `peer`, which is at these addresses, with further words.
pub(crate) fn outbound(endpoints: &[String], protocol: &str, words: &[&str]) -> Process {
    let told = |address: &String| json!({ "address": address, "protocol": protocol });
    let told: Vec<_> = endpoints.iter().map(told).collect();
    // The second is for clients that come with TLS of their own.
    let content = json!({ "peer": told, "tunnelled.test": told }).to_string();
    let file = File::new("endpoints.json", content.as_bytes());
    let mut all = vec!["--endpoints", file.path(), "--outbound", "peer=127.0.0.1:0"];
    all.extend(["--http-proxy", "127.0.0.1:0"]);
    all.extend(words);
    let mut proxy = proxy("caller", &all);
    proxy.reads = Some(file);
    proxy
}

/// A server with a proxy before it and one beside its callers.
pub(crate) struct Mesh {
    pub(crate) server: Process,
    pub(crate) inbound: Process,
    pub(crate) outbound: Process,
}

impl Mesh {
    pub(crate) fn new(name: &str, protocol: &str, words: &[&str]) -> Self {
        let server = server(name, &[]);
        let inbound = inbound(&app(&server), protocol);
        let outbound = outbound(&[inbound.get("inbound")], protocol, words);
        Self { server, inbound, outbound }
    }

    /// Where callers of `peer` go.
    pub(crate) fn target(&self) -> String {
        target(&self.outbound)
    }

    /// On both proxies so many requests have these labels.
    pub(crate) fn counted(&self, expected: f64, labels: &[&str]) {
        self.outbound.counted(expected, labels);
        self.inbound.counted(expected, labels);
    }
}

/// Where a server in Python listens.
pub(crate) fn app(server: &Process) -> String {
    format!("127.0.0.1:{}", server.get("port"))
}

/// Where callers of `peer` go.
pub(crate) fn target(outbound: &Process) -> String {
    outbound.get("outbound").strip_prefix("peer=").unwrap().to_owned()
}
