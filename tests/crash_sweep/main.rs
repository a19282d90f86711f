//! `kill -9` at every Nth write, sync, rename, link and unlink: nothing that was acknowledged is lost or doubled.
//!
//! Every point starts from a copy of the same data directory (files to merge, rows in the write-ahead log, a
//! Delta checkpoint and a clean-up of the Delta log about to be due), runs one scene on it under `strace`,
//! which kills the process at one system call, opens what is left, and compares it with the ledger.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod points;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, SystemTime};

use points::{Point, Scene};
use support::ledger::{self, Differences};
use support::strace::{self, Injection};
use support::{Process, Server, until, weir};

/// Flushes follow each other, so that a second of load holds several.
const FLUSH_AGE: [&str; 2] = ["--flush-age", "100ms"];
/// Files of spans that a point begins with; a merge needs eight.
const FILES: usize = 12;
/// How long a point's load runs.
const LOAD: &str = "1500ms";
/// How long `weir storage` may take.
const VERB: Duration = Duration::from_secs(60);
/// Age given to what is there before a point: vacuum and the clean-up of the Delta log are due.
const AGE: Duration = Duration::from_secs(3 * 86_400);

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_system_call_loses_and_doubles_nothing() {
    if !strace::is_permitted() {
        return;
    }
    let seed = std::env::var("WEIR_CRASH_SEED").map_or_else(|_| fastrand::u64(..), |n| n.parse().unwrap());
    let (points, wanted) = chosen_points();
    println!("{wanted} points, seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let merged = Start::merged(&Start::make(&dir.path().join("small-files"), seed).await, dir.path());
    let small = Start { dir: dir.path().join("small-files") };

    let mut reached: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut kills = 0;
    for (index, point) in points.iter().enumerate() {
        if kills == wanted {
            break;
        }
        let start = if point.scene == Scene::Vacuum { &merged } else { &small };
        let run = dir.path().join("run");
        let began = std::time::Instant::now();
        let outcome = run_point(point, start, &run, seed.wrapping_add(1 + index as u64)).await;
        let killed = outcome.unwrap_or_else(|what| {
            let kept = std::env::temp_dir().join(format!("weir-crash-{}", std::process::id()));
            let _ = fs::rename(&run, &kept);
            panic!(
                "{point}: {what}\nwhat is left: {}\nagain: WEIR_CRASH_SEED={seed} WEIR_CRASH_POINT={point} \
                 cargo test --test crash_sweep",
                kept.display()
            )
        });
        println!(
            "{point}: {} ({} ms)",
            if killed { "killed" } else { "not reached" },
            began.elapsed().as_millis()
        );
        let count = reached.entry(format!("{} {} {}", point.scene, point.group, point.syscall)).or_default();
        *count = (count.0 + u32::from(killed), count.1 + 1);
        kills += usize::from(killed);
        fs::remove_dir_all(&run).unwrap();
    }
    for (what, (killed, tried)) in &reached {
        println!("{what}: {killed} of {tried}");
    }
    println!("in all: {kills} kills");
    // Whether the last calls of a phase are reached depends on the machine.
    assert!(kills * 5 >= wanted * 4, "only {kills} of {wanted} points were reached: no test");
}

/// The points to try, in this order, and how many kills are enough: all the fixed ones of `make test`, as many as
/// `WEIR_CRASH_POINTS` says, or the one of `WEIR_CRASH_POINT`.
fn chosen_points() -> (Vec<Point>, usize) {
    if let Ok(name) = std::env::var("WEIR_CRASH_POINT") {
        return (vec![points::named(&name)], 1);
    }
    match std::env::var("WEIR_CRASH_POINTS") {
        Ok(wanted) => {
            let wanted = wanted.parse().unwrap();
            (points::spread(2 * wanted), wanted)
        }
        Err(_) => (points::fixed(), points::fixed().len()),
    }
}

/// What points begin with: a data directory and the ledger of what is in it.
struct Start {
    dir: PathBuf,
}

impl Start {
    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// Several small files of spans, and rows that are in the write-ahead log alone.
    async fn make(dir: &Path, seed: u64) -> Self {
        let start = Self { dir: dir.to_owned() };
        fs::create_dir_all(dir).unwrap();
        let server = Server::start(&start.data(), &FLUSH_AGE);
        let load = start_load(&server.otlp_grpc, &start.ledger(), seed, "30s");
        let spans = start.data().join("default/spans");
        until("small files", 30, async || {
            let files = points::files_below(&spans).into_iter();
            let files = files.filter(|path| path.extension().is_some_and(|e| e == "parquet")).count();
            (files >= FILES).then_some(())
        })
        .await;
        load.kill();
        server.process.kill();
        // Commits between checkpoints, in the table's own properties.
        for table in fs::read_dir(start.data().join("default")).unwrap() {
            let first = table.unwrap().path().join("_delta_log/00000000000000000000.json");
            let text = fs::read_to_string(&first).unwrap();
            let often =
                text.replace(r#""delta.checkpointInterval":"100""#, r#""delta.checkpointInterval":"5""#);
            assert_ne!(text, often, "the checkpoint interval is not where it was");
            fs::write(&first, often).unwrap();
        }
        start.grow_old();
        start
    }

    /// The same after a merge: its inputs wait for vacuum.
    fn merged(start: &Self, dir: &Path) -> Self {
        let merged = Self { dir: dir.join("merged") };
        start.copy_to(&merged.dir);
        let done = storage_verb("compact", &merged.data()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        merged.grow_old();
        merged
    }

    fn grow_old(&self) {
        let then = SystemTime::now() - AGE;
        for path in points::files_below(&self.data().join("default")) {
            fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        }
    }

    fn copy_to(&self, to: &Path) {
        for from in points::files_below(&self.dir) {
            let copy = to.join(from.strip_prefix(&self.dir).unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&from, &copy).unwrap();
            let modified = fs::metadata(&from).unwrap().modified().unwrap();
            fs::File::options().write(true).open(copy).unwrap().set_modified(modified).unwrap();
        }
    }
}

fn start_load(to: &str, ledger: &Path, seed: u64, duration: &str) -> Process {
    let mut command = weir();
    command.args(["load", "spans", "--to", to, "--rate", "2000", "--connections", "2", "--batch", "25"]);
    command.args(["--duration", duration, "--seed", &seed.to_string(), "--ledger"]).arg(ledger);
    Process::start("weir load", &mut command)
}

fn storage_verb(verb: &str, data: &Path) -> Command {
    let mut command = weir();
    command.args(["storage", verb, "--data-dir"]).arg(data);
    command
}

/// Whether the point was reached; an error where what is left is not what was acknowledged.
async fn run_point(point: &Point, start: &Start, run: &Path, seed: u64) -> Result<bool, String> {
    let run = Start { dir: run.to_owned() };
    if point.scene == Scene::Begin {
        fs::create_dir_all(&run.dir).unwrap();
    } else {
        start.copy_to(&run.dir);
    }
    let paths = point.group.paths(&run.data());
    let injection = Injection { syscall: point.syscall, fault: "signal=KILL", nth: point.nth, paths: &paths };
    let ended = match point.scene {
        Scene::Begin | Scene::Serve => {
            let command = injection.under(&Server::command(&run.data(), &FLUSH_AGE));
            serve(command, &run.ledger(), seed)
        }
        Scene::Compact => storage(injection.under(&storage_verb("compact", &run.data()))),
        Scene::Vacuum => storage(injection.under(&storage_verb("vacuum", &run.data()))),
    };
    let killed = match ended {
        Some(status) if status.signal() == Some(9) => true,
        Some(status) if status.success() && point.scene != Scene::Serve => false,
        None => false,
        Some(status) => return Err(format!("it was to be killed and ended with {status}")),
    };

    if run.data().join("wal/quarantine").exists() {
        return Err("a kill alone leaves nothing to quarantine".to_owned());
    }
    let server = Server::start(&run.data(), &[]);
    let acknowledged = ledger::read(&run.ledger());
    let differences = ledger::compare(&acknowledged, &ledger::stored_spans(&server).await);
    server.process.kill();
    if differences == Differences::default() {
        Ok(killed)
    } else {
        Err(format!("of {} acknowledged spans: {differences:?}", acknowledged.len()))
    }
}

/// Serves a load until it is killed; how it ended, or `None` where it had to be killed when the load was over.
fn serve(mut command: Command, ledger: &Path, seed: u64) -> Option<ExitStatus> {
    let mut process = Process::start("weir serve", &mut command);
    let ready = match process.ready_or_ended() {
        Ok(ready) => ready,
        Err(status) => return Some(status),
    };
    let mut load = start_load(&ready.get("otlp_grpc"), ledger, seed, LOAD);
    let mut ended = None;
    while ended.is_none() && load.ended().is_none() {
        std::thread::sleep(Duration::from_millis(5));
        ended = process.ended();
    }
    load.kill();
    if ended.is_none() {
        process.kill();
    }
    ended
}

fn storage(mut command: Command) -> Option<ExitStatus> {
    Some(Process::start("weir storage", &mut command).wait(VERB))
}
