//! What the command line says when it is asked wrongly or cannot do what it is asked.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use support::{Server, weir};

/// Runs `weir` with `args`; its exit code and what it wrote to stderr.
fn failing(args: &[&str]) -> (i32, String) {
    let output = weir().args(args).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// `weir serve` on free ports with more arguments.
fn failing_serve(data_dir: &Path, more: &[&str]) -> (i32, String) {
    let dir = data_dir.display().to_string();
    let mut args = vec!["serve", "--data-dir", &dir];
    for door in ["--otlp-grpc", "--otlp-http", "--http"] {
        if !more.contains(&door) {
            args.extend([door, "127.0.0.1:0"]);
        }
    }
    args.extend(more);
    failing(&args)
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = failing_serve(dir.path(), &["--http", &address]);
    assert_eq!(code, 1);
    assert!(said.contains(&format!("`{address}` is in use")) && said.contains("--http"), "{said}");
}

#[test]
fn mistakes_in_flags_are_listed_together() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) =
        failing_serve(dir.path(), &["--http", "nowhere", "--hints", "maybe", "--flush-age", "9"]);
    assert_eq!(code, 1);
    for part in ["3 mistakes", "http: ", "`nowhere`", "analysis.hints: ", "`maybe`", "storage.flush_age: "] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
}

#[test]
fn a_second_process_on_the_directory_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (code, said) = failing_serve(dir.path(), &[]);
    assert_eq!(code, 1);
    assert!(said.contains(&dir.path().display().to_string()) && said.contains("in use by process"), "{said}");
    server.process.stop();
    Server::start(dir.path(), &[]).process.stop();
}

#[test]
fn a_directory_of_a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Server::start(dir.path(), &[]).process.stop();
    let format = dir.path().join("FORMAT");
    assert!(format.exists());
    std::fs::write(&format, "weir 999\n").unwrap();
    let (code, said) = failing_serve(dir.path(), &[]);
    assert_eq!(code, 1);
    assert!(said.contains("999") && said.contains("newer"), "{said}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "weir 999\n");
}

#[test]
fn an_unwritable_data_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "in the way").unwrap();
    let (code, said) = failing_serve(&file.join("data"), &[]);
    assert_eq!(code, 1);
    assert!(said.contains("a-file"), "{said}");
}

#[test]
fn a_proxy_without_a_service_says_all_that_is_missing() {
    let (code, said) = failing(&["proxy", "--service", "", "--app", "here", "--collector", "there"]);
    assert_ne!(code, 0);
    for part in ["--service", "--app", "--collector"] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_is_read_only_and_errors_have_positions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let wrong = server.try_sql("select count(*)\nform spans").await;
    assert_eq!(wrong["error"]["position"]["line"], 2, "{wrong}");
    for refused in [
        "insert into spans select * from spans",
        "create table t as select 1",
        "drop table spans",
        "copy spans to '/tmp/weir-must-not-exist.csv'",
        "create external table p stored as csv location '/etc/passwd'",
        "select * from '/etc/passwd'",
        "set datafusion.execution.batch_size = 1",
    ] {
        let answer = server.try_sql(refused).await;
        assert!(answer["error"]["message"].is_string(), "`{refused}` answered {answer}");
    }
    assert!(!Path::new("/tmp/weir-must-not-exist.csv").exists());
    server.process.stop();
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut query = weir();
    query.args(["query", "select 1", "--server", &format!("http://{}", server.http)]);
    let mut query = query.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(query.stdout.take());
    let output = query.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_looked_after_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let storage = |verb: &str, data_dir: &Path| {
        let output = weir().args(["storage", verb, "--data-dir"]).arg(data_dir).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.success(), said.concat())
    };
    let (ok, said) = storage("ls", &dir.path().join("nothing"));
    assert!(!ok && said.contains("is no data directory"), "{said}");
    assert!(!dir.path().join("nothing").exists());

    let server = Server::start(dir.path(), &["--flush-age", "100ms"]);
    let (ok, said) = storage("ls", dir.path());
    assert!(!ok && said.contains("in use by process"), "{said}");
    let load =
        ["load", "spans", "--rate", "500", "--duration", "2s", "--seed", "1", "--to", &server.otlp_grpc];
    assert!(weir().args(load).output().unwrap().status.success());
    let spans = server.sql_value("select count(*) from spans").await;
    server.process.stop();
    for verb in ["ls", "compact", "ls", "vacuum"] {
        let (ok, said) = storage(verb, dir.path());
        assert!(ok, "{verb}: {said}");
        if verb == "ls" {
            let rows: u64 = said
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .filter(|words| words.get(1) == Some(&"spans"))
                .map(|words| words[4].parse::<u64>().unwrap())
                .sum();
            assert_eq!(serde_json::json!(rows), spans, "{said}");
        }
    }
}
