//! Processes that die at chosen moments and at any: what was acknowledged is there once, whole.
//!
//! Each test runs its own binary again as a child, told by the environment to be the one that dies.

use std::env;
use std::io::{self, BufRead, BufReader, IoSlice};
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::runtime::Runtime;
use weir_model::TenantId;

use super::{open, options, samples, seen, spans, spans_seen};
use crate::shared::{Stage, lock};
use crate::wal::log::{Create, Medium, files};
use crate::{OpenError, Storage, Table, WriteBatch};

const DIR: &str = "WEIR_TEST_CRASH_DIR";
const POINT: &str = "WEIR_TEST_CRASH_POINT";
/// Rows of a write.
const ROWS: u64 = 10;

/// Where a child dies.
const POINTS: [&str; 9] = [
    "half a frame is written",
    "the frame is written",
    "the frame is synced",
    "the write is answered",
    "spans are in a file",
    "spans are committed",
    "samples are in a file",
    "samples are committed",
    "the flush is done",
];
/// Where a child dies that opens what another left.
const POINTS_OF_RECOVERY: [&str; 4] =
    ["no segment is begun", "a segment is empty", "a segment is begun", "it is open"];

/// What a child is told, if this is one.
fn told() -> Option<(std::path::PathBuf, String)> {
    Some((env::var_os(DIR)?.into(), env::var(POINT).ok()?))
}

/// Runs the test `name` as a child that dies at `point`.
fn child(name: &str, dir: &Path, point: &str) -> Child {
    let program = env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(program);
    command.args(["--exact", &format!("tests::crash::{name}"), "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir).env(POINT, point).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("the test binary runs")
}

/// The numbers after `word` in what a child prints, as they come.
fn told_numbers(child: &mut Child, word: &'static str) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    // The harness writes the test's name before the first of them.
    lines.filter_map(move |line| line.split_once(word)?.1.trim().parse().ok())
}

/// Rows of two tables that survive together or not at all.
fn pair(from: u64) -> WriteBatch {
    let parts = vec![(Table::Spans, spans(from..from + ROWS)), (Table::Samples, samples(from..from + ROWS))];
    WriteBatch { tenant: TenantId::default(), parts }
}

/// Checks that `storage` shows each write in `acked` once and whole, and of others whole ones among `tried`.
fn check(storage: &Storage, acked: &[u64], tried: impl Fn(u64) -> bool, when: &str) {
    let rows = seen(storage);
    assert_eq!(rows, spans_seen(storage), "{when}: both tables have the same writes");
    let starts: Vec<u64> = rows.chunks(ROWS as usize).map(|chunk| chunk[0]).collect();
    for (chunk, start) in rows.chunks(ROWS as usize).zip(&starts) {
        assert!(
            chunk.iter().copied().eq(*start..*start + ROWS),
            "{when}: half a write or one twice: {chunk:?}"
        );
        assert!(tried(*start), "{when}: {start} was never written");
    }
    for start in acked {
        assert!(
            starts.binary_search(start).is_ok(),
            "{when}: the write {start} was acknowledged and is lost"
        );
    }
}

/// A segment file of a process that dies at a write.
struct Deadly {
    inner: Box<dyn Medium>,
    point: String,
    /// Writes until then.
    left: Arc<AtomicU64>,
}

impl Deadly {
    fn die_at(&self, point: &str) {
        if self.point == point && self.left.load(Ordering::Relaxed) == 0 {
            process::abort();
        }
    }
}

impl Medium for Deadly {
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        if self.left.load(Ordering::Relaxed) == 1 && self.point == POINTS[0] {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.inner.append(&mut [IoSlice::new(&bytes[..bytes.len() / 2])])?;
            process::abort();
        }
        self.inner.append(slices)?;
        self.left.fetch_sub(1, Ordering::Relaxed);
        self.die_at(POINTS[1]);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()?;
        self.die_at(POINTS[2]);
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
}

/// Writes five times with a flush in the midst, then flushes, and dies at `point`.
async fn live_and_die(dir: &Path, point: &str) {
    // Two segments begun, each with a write of its header, and five frames: the last of them is the seventh.
    let left = Arc::new(AtomicU64::new(7));
    let mut create = files();
    let (of_segments, at) = (Arc::clone(&left), point.to_owned());
    let create: Create = Box::new(move |path| {
        let inner = create(path)?;
        Ok(Box::new(Deadly { inner, point: at.clone(), left: Arc::clone(&of_segments) }))
    });
    let storage = Storage::open_with(options(dir), create).await.expect("it opens");
    for n in 0..5 {
        storage.writer().write(pair(n * ROWS)).await.expect("it is stored");
        println!("acked {}", n * ROWS);
        if n == 2 {
            storage.flush().await.expect("it is flushed");
        }
    }
    if point == POINTS[3] {
        process::abort();
    }
    let at = point.to_owned();
    *lock(&storage.shared().at_stage) = Some(Box::new(move |stage| {
        let reached = match stage {
            Stage::Written(Table::Spans) => POINTS[4],
            Stage::Committed(Table::Spans) => POINTS[5],
            Stage::Written(Table::Samples) => POINTS[6],
            Stage::Committed(Table::Samples) => POINTS[7],
            _ => return,
        };
        if reached == at {
            process::abort();
        }
    }));
    storage.flush().await.expect("it is flushed");
    process::abort();
}

/// Opens and dies at `point`.
async fn recover_and_die(dir: &Path, point: &str) {
    let mut create = files();
    let at = point.to_owned();
    let create: Create = Box::new(move |path| {
        if at == POINTS_OF_RECOVERY[0] {
            process::abort();
        }
        let inner = create(path)?;
        if at == POINTS_OF_RECOVERY[1] {
            process::abort();
        }
        // Its header is the only write.
        let point = if at == POINTS_OF_RECOVERY[2] { POINTS[2] } else { "never" };
        Ok(Box::new(Deadly { inner, point: point.to_owned(), left: Arc::new(AtomicU64::new(1)) }))
    });
    match Storage::open_with(options(dir), create).await {
        Ok(_) => process::abort(),
        Err(e) => println!("failed 1 {e}"),
    }
}

#[test]
fn acknowledged_writes_survive_a_crash_at_each_point() {
    if let Some((dir, point)) = told() {
        let life = async {
            if POINTS.contains(&point.as_str()) {
                live_and_die(&dir, &point).await;
            } else {
                recover_and_die(&dir, &point).await;
            }
        };
        return Runtime::new().unwrap().block_on(life);
    }
    let die = |dir: &Path, point: &str| -> Vec<u64> {
        let mut child = child("acknowledged_writes_survive_a_crash_at_each_point", dir, point);
        let acked = told_numbers(&mut child, "acked ").collect();
        let status = child.wait().unwrap();
        assert!(!status.success() && status.code().is_none(), "the child was to die where {point}: {status}");
        acked
    };
    let runtime = Runtime::new().unwrap();
    for (index, point) in POINTS.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let acked = die(dir.path(), point);
        let expected = if index < 3 { 4 } else { 5 };
        assert_eq!(acked.len(), expected, "acknowledged before {point}");
        // Every other time, recovery itself dies over and over.
        if index % 2 == 0 {
            for again in POINTS_OF_RECOVERY.into_iter().chain(POINTS_OF_RECOVERY) {
                die(dir.path(), again);
            }
        }
        runtime.block_on(async {
            let storage = open(dir.path()).await;
            check(&storage, &acked, |start| start < 5 * ROWS, point);
            assert_eq!(on_disk(dir.path()), known(&storage), "{point}: files that no commit names are gone");
            storage.writer().write(pair(1_000)).await.unwrap();
            storage.close().await.unwrap();
            let storage = open(dir.path()).await;
            let acked: Vec<u64> = acked.iter().copied().chain([1_000]).collect();
            check(&storage, &acked, |start| start < 5 * ROWS || start == 1_000, point);
        });
    }
}

/// Parquet files in the folders of the tenant.
fn on_disk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.canonicalize().unwrap().join("default")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Parquet files that the snapshot names.
fn known(storage: &Storage) -> Vec<std::path::PathBuf> {
    let snapshot = storage.snapshot(&TenantId::default());
    let files = Table::ALL.into_iter().flat_map(|table| snapshot.table(table).files.to_vec());
    let mut paths: Vec<_> = files.map(|file| file.path).collect();
    paths.sort();
    paths
}

/// Four writers and a flusher that never rests, until killed. Numbers begin at `base`.
async fn work(dir: &Path, base: u64) {
    let storage = open(dir).await;
    let next = Arc::new(AtomicU64::new(base));
    for _ in 0..4 {
        let (writer, next) = (storage.writer(), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let from = next.fetch_add(ROWS, Ordering::Relaxed);
                writer.write(pair(from)).await.expect("it is stored");
                println!("acked {from}");
            }
        });
    }
    loop {
        storage.flush().await.expect("it is flushed");
    }
}

#[test]
fn acknowledged_writes_survive_kill_at_any_moment() {
    const ROUND: u64 = 1_000_000;
    if let Some((dir, base)) = told() {
        return Runtime::new().unwrap().block_on(work(&dir, base.parse().unwrap()));
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let mut acked = Vec::new();
    for (round, kill_after) in (0..).zip([1, 40, 97, 160]) {
        let base = (round * ROUND).to_string();
        let mut child = child("acknowledged_writes_survive_kill_at_any_moment", dir.path(), &base);
        let mut of_round = 0;
        for number in told_numbers(&mut child, "acked ") {
            acked.push(number);
            of_round += 1;
            if of_round == kill_after {
                child.kill().unwrap(); // what it printed until then is read to the end
            }
        }
        child.wait().unwrap();
        assert!(of_round >= kill_after, "the child ended by itself");
        let storage = runtime.block_on(open(dir.path()));
        check(&storage, &acked, |start| start / ROUND <= round && start % ROWS == 0, "killed");
        assert_eq!(on_disk(dir.path()), known(&storage));
    }
}

#[test]
fn a_second_process_is_refused_and_changes_nothing() {
    if let Some((dir, _)) = told() {
        let opened = Runtime::new().unwrap().block_on(Storage::open(options(&dir)));
        match opened {
            Err(OpenError::Locked { pid: Some(pid), .. }) => println!("refused {pid}"),
            other => println!("opened: {other:?}"),
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let storage = runtime.block_on(open(dir.path()));
    runtime.block_on(storage.writer().write(pair(0))).unwrap();
    let refused = || {
        let mut child = child("a_second_process_is_refused_and_changes_nothing", dir.path(), "open");
        let owners: Vec<u64> = told_numbers(&mut child, "refused ").collect();
        child.wait().unwrap();
        owners
    };
    assert_eq!(refused(), [u64::from(process::id())]);
    runtime.block_on(storage.writer().write(pair(ROWS))).unwrap();
    check(&storage, &[0, ROWS], |_| true, "refused");
    runtime.block_on(storage.close()).unwrap();
    assert!(refused().is_empty(), "a directory that was closed is free");
    let runs = thread::spawn(move || Runtime::new().unwrap().block_on(open(dir.path())).epoch());
    assert_eq!(runs.join().unwrap(), 3, "only runs that opened it count");
}
