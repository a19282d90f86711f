//! A disk that fails or is full: what was acknowledged stays, and nothing else is acknowledged.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::ledger::{self, Differences};
use support::strace::{self, Injection};
use support::{Process, Server, until, weir};

/// How long a server may take to stop itself.
const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// Spans of a batch.
const BATCH: usize = 25;
const FLUSH_AGE: [&str; 2] = ["--flush-age", "100ms"];

fn start_load(server: &str, ledger: &Path) -> Process {
    let mut command = weir();
    command.args(["load", "spans", "--to", server, "--rate", "500", "--connections", "1"]);
    command.args(["--batch", &BATCH.to_string(), "--duration", "60s", "--ledger"]).arg(ledger);
    Process::start("weir load", &mut command)
}

/// Serves a load while `syscall` fails once with EIO on `paths`; gives what was acknowledged when the server
/// has stopped itself, and compares it with what is there after a restart.
async fn served_until_eio(dir: &Path, options: &[&str], syscall: &str, nth: u32, paths: &[PathBuf]) -> usize {
    let (data, ledger) = (dir.join("data"), dir.join("ledger"));
    let injection = Injection { syscall, fault: "error=EIO", nth, paths };
    let mut process = Process::start("weir serve", &mut injection.under(&Server::command(&data, options)));
    let ready = process.ready();
    let load = start_load(&ready.get("otlp_grpc"), &ledger);
    let ended = process.wait(STOPS_WITHIN);
    assert_eq!(ended.code(), Some(1), "{}", process.log());
    assert!(process.log().contains("storage has stopped"), "it stops without a word:\n{}", process.log());
    load.kill();

    let server = Server::start(&data, &[]);
    let acknowledged = ledger::read(&ledger);
    let stored = ledger::stored_spans(&server).await;
    assert_eq!(ledger::compare(&acknowledged, &stored), Differences::default());
    server.process.stop();
    acknowledged.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_synced_acknowledges_nothing_more() {
    if !strace::is_permitted() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Only the 20th sync fails; whoever tried again would succeed. Without a flush no segment is begun but the first,
    // so it is one of a write.
    let acknowledged = served_until_eio(dir.path(), &[], "fdatasync", 20, &[]).await;
    assert!((1..20 * BATCH).contains(&acknowledged), "{acknowledged} spans were acknowledged with 19 syncs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_synced_stops_the_server_and_its_rows_stay_in_the_log() {
    if !strace::is_permitted() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let names = (0..2_000).map(|n| dir.path().join(format!("data/.staging/object-{n}")));
    let acknowledged = served_until_eio(dir.path(), &FLUSH_AGE, "fsync", 2, &names.collect::<Vec<_>>()).await;
    assert!(acknowledged > 0);
}

/// A small file system of its own, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One of `size`, or `None` where this process may not mount.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "weir-test"])
            .arg(at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                eprintln!("passed over, no disk to fill: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(e) => {
                eprintln!("passed over, no disk to fill: {e}");
                None
            }
        }
    }

    /// Fills it to the last byte; gives the file that does so.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        for size in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Sends one span with the number `n` in its ids; the status code and the `Retry-After` of the answer.
async fn send(server: &Server, n: u64) -> (u16, Option<String>) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let span = json!({
        "traceId": format!("{n:032x}"), "spanId": format!("{n:016x}"), "name": "x".repeat(4_000),
        "startTimeUnixNano": now.to_string(), "endTimeUnixNano": now.to_string(),
    });
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
    let url = format!("http://{}/v1/traces", server.otlp_http);
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), retry_after)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_with_a_delay_answers_queries_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk"), "16m") else { return };
    let data = disk.0.join("data");
    let server = Server::start(&data, &FLUSH_AGE);
    let mut acknowledged = 0;
    for n in 1..=20 {
        assert_eq!(send(&server, n).await.0, 200);
        acknowledged = n;
    }

    let ballast = disk.fill();
    let refused = until("refusal", 30, async || match send(&server, acknowledged + 1).await {
        (200, _) => {
            acknowledged += 1; // there was room in the last page of a file
            None
        }
        other => Some(other),
    });
    let (status, retry_after) = refused.await;
    assert_eq!(status, 503);
    let retry_after = retry_after.map(|seconds| seconds.parse::<u64>().unwrap());
    assert!(retry_after.is_some_and(|seconds| seconds > 0), "{retry_after:?}");
    let count = "select count(distinct trace_id) from spans";
    assert_eq!(server.sql_value(count).await, acknowledged);

    fs::remove_file(ballast).unwrap();
    until("recovery", 30, async || (send(&server, acknowledged + 1).await.0 == 200).then_some(())).await;
    acknowledged += 1;
    until("flush", 60, async || {
        let metrics = reqwest::get(format!("http://{}/metrics", server.http)).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let is = |line: &str| metrics.lines().any(|found| found == line);
        assert!(is("weir_storage_disk_full 0"), "{metrics}");
        is("weir_storage_hot_rows 0").then_some(())
    })
    .await;
    server.process.kill();

    let server = Server::start(&data, &[]);
    assert_eq!(server.sql_value(count).await, acknowledged);
    assert_eq!(server.sql_value("select count(*) from spans").await, acknowledged);
    server.process.stop();
}
