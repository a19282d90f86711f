//! The tables are open: PyPI's `deltalake`, DuckDB and pyarrow return, for every table and every column, the counts,
//! sums and bounds that Weir's SQL returns, and never see half a write while the tables are written and compacted.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod measures;
mod rows;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use measures::Measures;
use serde_json::{Value, json};
use support::python::{python, run, script};
use support::{Process, Server, until, weir};
use weir_storage::Table;

const FOLDER: &str = "open_tables";
/// Flushes follow each other, so that there are many versions.
const FLUSH_AGE: [&str; 2] = ["--flush-age", "100ms"];

#[tokio::test(flavor = "multi_thread")]
async fn every_table_reads_from_outside_as_sql_reads_it() {
    let python = python(FOLDER);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    a_shop_with_a_fault(&data).await;

    let server = Server::start(&data, &FLUSH_AGE);
    let watch = start_watch(&python, &data);
    let mut loads = ["spans", "metrics", "logs"].map(|signal| start_load(&server, signal));
    rows::post_one_of_everything(&server).await;
    let mut requests = 0;
    let spans = data.join("default/spans");
    until("checkpoint and merged file while spans are written", 300, async || {
        rows::post_batch(&server, requests).await;
        requests += 1;
        (spans.join("_delta_log/_last_checkpoint").exists() && has_merged_file(&spans)).then_some(())
    })
    .await;
    for load in &mut loads {
        assert!(load.wait(std::time::Duration::from_secs(120)).success());
    }
    compare_all(&python, &data, &server).await;

    let watched = watch.end();
    println!("versions read meanwhile: {watched}");
    assert!(watched.contains(&format!("requests={requests}")), "{requests} were sent: {watched}");
    let versions: u64 = watched.split_once("spans=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(versions >= 10, "only {versions} versions of spans were read: no test");

    server.process.stop();
    run(weir().args(["storage", "compact", "--data-dir"]).arg(&data));
    assert!(Table::ALL.iter().any(|table| has_merged_file(&data.join("default").join(table.name()))));
    let server = Server::start(&data, &FLUSH_AGE);
    compare_all(&python, &data, &server).await;
    server.process.stop();
}

/// Fills the directory with the traffic of `weir demo`, a fault in it, a finding and a hint that was applied.
async fn a_shop_with_a_fault(data: &Path) {
    let mut command = weir();
    command.args(["demo", "--no-open", "--data-dir"]).arg(data);
    for door in ["--http", "--otlp-grpc", "--otlp-http"] {
        command.args([door, "127.0.0.1:0"]);
    }
    let mut process = Process::start("weir demo", &mut command);
    let ready = process.ready();
    let demo = Server::of(process, &ready);
    let edges = "select count(*) from edges where reporter = 'source'";
    until("edges", 60, async || (demo.sql_value(edges).await.as_u64() > Some(50)).then_some(())).await;
    run(weir().args(["demo", "fault", "errors", "payments/2", "--data-dir"]).arg(data));
    let applied = "select count(*) from hints where verdict = 'applied'";
    until("applied hint", 120, async || (demo.sql_value(applied).await.as_u64() > Some(0)).then_some(()))
        .await;
    demo.process.stop();
}

fn start_load(server: &Server, signal: &str) -> Process {
    let mut command = weir();
    command.args(["load", signal, "--to", &server.otlp_grpc, "--rate", "500", "--connections", "1"]);
    command.args(["--count", "5000", "--seed", "7"]);
    Process::start("weir load", &mut command)
}

fn has_merged_file(table: &Path) -> bool {
    let days = fs::read_dir(table).unwrap().map(|day| day.unwrap().path()).filter(|day| day.is_dir());
    let files = days.flat_map(|day| fs::read_dir(day).unwrap());
    files.into_iter().any(|file| file.unwrap().file_name().to_string_lossy().starts_with("compacted-"))
}

/// A reader that runs beside the server, until it is told to end.
struct Watch(Child);

fn start_watch(python: &Path, data: &Path) -> Watch {
    let mut command = Command::new(python);
    command.arg(script(FOLDER, "watch.py")).arg(data.join("default")).arg(rows::BATCH.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Watch(command.spawn().unwrap())
}

impl Watch {
    /// Ends it; what it says of all that it read.
    fn end(mut self) -> String {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && complaints.is_empty(), "a version is not whole: {complaints}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Waits until what is in memory yet has become files, and everybody agrees.
async fn compare_all(python: &Path, data: &Path, server: &Server) {
    let all: BTreeMap<Table, Measures> =
        Table::ALL.into_iter().map(|table| (table, Measures::of(table))).collect();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let mut differences = Vec::new();
        let theirs = read(python, data, &all);
        let mut compared = 0;
        for (table, measures) in &all {
            let ours = server.sql(&measures.ours()).await.remove(0);
            let theirs = &theirs[table.name()];
            assert_eq!(theirs["protocol"], json!({"reader": 1, "writer": 2, "features": []}));
            assert_ne!(theirs["logged"], 0, "`{}` has no rows: no test", table.name());
            for way in ["dataset", "parquet"] {
                assert_eq!(theirs[way]["rows"], theirs["logged"], "{} by {way}", table.name());
                differences.extend(
                    measures
                        .differences(&ours, &theirs[way])
                        .into_iter()
                        .map(|what| format!("{} by {way}: {what}", table.name())),
                );
                compared += measures.len();
            }
        }
        if differences.is_empty() {
            eprintln!("{compared} measures of {} tables agree", all.len());
            return;
        }
        assert!(std::time::Instant::now() < deadline, "they differ:\n{}", differences.join("\n"));
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// What Python reads of every table.
fn read(python: &Path, data: &Path, all: &BTreeMap<Table, Measures>) -> Value {
    let queries: BTreeMap<&str, String> =
        all.iter().map(|(table, measures)| (table.name(), measures.theirs())).collect();
    let input = data.with_extension("queries.json");
    fs::write(&input, serde_json::to_vec(&queries).unwrap()).unwrap();
    let mut command = Command::new(python);
    command.arg(script(FOLDER, "read.py")).arg(data.join("default")).stdin(fs::File::open(&input).unwrap());
    serde_json::from_str(&run(&mut command)).unwrap()
}
