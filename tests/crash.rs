//! What was acknowledged survives `kill -9` at any moment, exactly once.
//!
//! Each round loads a server from another process, which writes the ids of every acknowledged batch to a
//! ledger, kills the server at a random moment, and starts it again on the same directory. At the end the
//! ledger and the table must agree: each acknowledged span is there, none is there twice.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::path::Path;
use std::time::Duration;

use support::ledger::{self, Differences};
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
    let acknowledged = ledger::read(&ledger);
    assert!(acknowledged.len() > 1_000, "only {} spans were acknowledged: no test", acknowledged.len());
    let stored = ledger::stored_spans(&server).await;
    println!("{} acknowledged, {} stored", acknowledged.len(), stored.len());
    assert_eq!(ledger::compare(&acknowledged, &stored), Differences::default(), "seed {seed}");
    server.process.stop();
}

fn start_load(to: &str, ledger: &Path, seed: u64) -> Process {
    let mut command = weir();
    command.args(["load", "spans", "--to", to, "--rate", "3000", "--connections", "2", "--batch", "25"]);
    command.args(["--duration", "30s", "--seed", &seed.to_string(), "--ledger"]).arg(ledger);
    Process::start("weir load", &mut command)
}
