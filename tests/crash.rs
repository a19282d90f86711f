//! What was acknowledged survives `kill -9` at any moment, exactly once.
//!
//! Each round loads a server from another process, which writes the ids of every acknowledged batch to a
//! ledger, kills the server at a random moment, and starts it again on the same directory. At the end the
//! ledger and the table must agree: each acknowledged span is there, none is there twice.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use support::{Process, Server, weir};

/// Rounds in `make test`; `make soak` sets `WEIR_CRASH_ROUNDS`.
const ROUNDS: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_and_double_nothing_that_was_acknowledged() {
    let rounds = std::env::var("WEIR_CRASH_ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap());
    let seed = fastrand::u64(..);
    println!("{rounds} rounds, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ledger = dir.path().join("ledger");

    for round in 0..rounds {
        // Frequent flushes, so that kills fall into flush, commit and truncation as well.
        let server = Server::start(&data, &["--flush-age", "200ms"]);
        let load = start_load(&server.otlp_grpc, &ledger, seed.wrapping_add(u64::from(round)));
        std::thread::sleep(Duration::from_millis(random.u64(50..1_000)));
        server.process.kill();
        load.kill();
    }

    let server = Server::start(&data, &[]);
    let acknowledged = read_ledger(&ledger);
    assert!(acknowledged.len() > 1_000, "only {} spans were acknowledged: no test", acknowledged.len());
    let stored = stored_spans(&server).await;
    let missing = acknowledged.keys().filter(|id| !stored.contains_key(*id)).count();
    let doubled = stored.values().filter(|n| **n > 1).count();
    println!("{} acknowledged, {} stored", acknowledged.len(), stored.len());
    assert_eq!((missing, doubled), (0, 0), "missing and doubled spans (seed {seed})");
    server.process.stop();
}

fn start_load(to: &str, ledger: &Path, seed: u64) -> Process {
    let mut command = weir();
    command.args(["load", "spans", "--to", to, "--rate", "3000", "--connections", "2", "--batch", "25"]);
    command.args(["--duration", "30s", "--seed", &seed.to_string(), "--ledger"]).arg(ledger);
    Process::start("weir load", &mut command)
}

/// The acknowledged ids, each with how often it was written down. A line that the kill cut short was not
/// acknowledged to anybody.
fn read_ledger(path: &Path) -> HashMap<String, u32> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let mut ids = HashMap::new();
    for line in whole.lines() {
        *ids.entry(line.replace(' ', "")).or_default() += 1;
    }
    ids
}

/// How often each span is stored, read in slices that fit the row cap.
async fn stored_spans(server: &Server) -> HashMap<String, u32> {
    let mut found = HashMap::new();
    for first in "0123456789abcdef".chars() {
        let rows = server
            .sql(&format!(
                "select trace_id || span_id as id, count(*) as n from spans where trace_id like '{first}%' group by 1"
            ))
            .await;
        assert!(rows.len() < 100_000, "a slice is as long as the row cap");
        for row in rows {
            found.insert(row["id"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap() as u32);
        }
    }
    found
}
