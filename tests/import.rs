//! `weir import`: files go in through a running collector and straight into a data directory, and the same rows
//! come out; what cannot be read is named and stops nothing else.

#![allow(clippy::unwrap_used, reason = "this is a test")]

#[path = "import/nezha.rs"]
mod nezha;
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::{Value, json};
use support::{Server, until, weir};

/// 2022-08-22T08:00:00Z: old rows are stored under their own day.
const NANOS: u64 = 1_661_155_200_000_000_000;

/// What an import ended with.
struct Imported {
    code: i32,
    /// The account.
    said: String,
    /// What could not be read.
    faults: String,
}

fn imported(output: &Output) -> Imported {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Imported { code: output.status.code().unwrap(), said: text(&output.stdout), faults: text(&output.stderr) }
}

/// Imports `files` with more arguments.
fn import(files: &[PathBuf], more: &[&str]) -> Imported {
    imported(&weir().arg("import").args(files).args(more).output().unwrap())
}

/// An import that reads what is written to its stdin.
fn import_stdin(more: &[&str]) -> Child {
    let mut command = weir();
    command.args(["import", "-"]).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Writes `bytes` as a file of a name that says nothing.
fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The entry of a resource: its one scope, in `scopes`, has the list in `records`.
fn of_service(service: &str, scopes: &str, records: &str, list: Value) -> Value {
    let name = json!({"key": "service.name", "value": {"stringValue": service}});
    let mut of_scope = json!({"scope": {"name": "by-hand"}});
    of_scope[records] = list;
    let mut entry = json!({"resource": {"attributes": [name]}});
    entry[scopes] = json!([of_scope]);
    entry
}

/// A line of spans with these numbers, as the file exporter writes it.
fn spans_line(service: &str, numbers: std::ops::Range<u64>) -> String {
    let span = |n: u64| {
        json!({
            "traceId": format!("{:032x}", n / 4 + 1), "spanId": format!("{:016x}", n + 1),
            "parentSpanId": if n.is_multiple_of(4) { String::new() } else { format!("{n:016x}") },
            "name": format!("op{}", n % 3), "kind": 2,
            "startTimeUnixNano": (NANOS + n).to_string(), "endTimeUnixNano": (NANOS + n + 1_000 + n).to_string(),
            "attributes": [{"key": "n", "value": {"intValue": n.to_string()}}],
            "status": if n.is_multiple_of(5) { json!({"code": 2, "message": "no card"}) } else { json!({}) },
        })
    };
    let spans: Vec<_> = numbers.map(span).collect();
    json!({"resourceSpans": [of_service(service, "scopeSpans", "spans", json!(spans))]}).to_string()
}

fn metrics_line(service: &str) -> String {
    let point = |n: u64| {
        json!({"timeUnixNano": (NANOS + n * 1_000_000_000).to_string(), "asInt": (n * 10).to_string(),
            "startTimeUnixNano": NANOS.to_string()})
    };
    let sum = json!({"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point(1), point(2)]});
    let metric = json!({"name": "orders", "sum": sum});
    json!({"resourceMetrics": [of_service(service, "scopeMetrics", "metrics", json!([metric]))]}).to_string()
}

fn logs_line(service: &str) -> String {
    let record = json!({"timeUnixNano": NANOS.to_string(), "severityNumber": 9, "severityText": "INFO",
        "body": {"stringValue": "order 17 placed"}, "traceId": format!("{:032x}", 1)});
    json!({"resourceLogs": [of_service(service, "scopeLogs", "logRecords", json!([record]))]}).to_string()
}

/// Files of all three signals, with two faults and one record that is rejected: 40 spans, 2 points, 1 log record.
fn files(dir: &Path) -> [PathBuf; 3] {
    let bad = spans_line("shop", 0..1).replace(&format!("{:032x}", 1), &format!("{:032x}", 0));
    let cut = &spans_line("shop", 0..4)[..300];
    let plain = [
        spans_line("shop", 0..20),
        "garbage".to_owned(),
        metrics_line("shop"),
        bad,
        cut.to_owned(),
        logs_line("shop"),
        String::new(),
    ];
    // One object over several lines.
    let pretty: Value = serde_json::from_str(&spans_line("cart", 20..30)).unwrap();
    let zstd = zstd::encode_all(spans_line("shop", 30..40).as_bytes(), 1).unwrap();
    [
        file(dir, "plain", plain.join("\n").as_bytes()),
        file(dir, "pretty", &gzip(format!("{pretty:#}").as_bytes())),
        file(dir, "last", &zstd),
    ]
}

/// What was in [`files`] is what queries give.
async fn check(server: &Server) {
    let rows = server
        .sql(
            "select service, count(*) as spans, sum(duration_ns) as took, sum(attr_long(attributes, 'n')) as n, \
             count(distinct trace_id) as traces, min(cast(start_time as bigint)) as first from spans \
             where scope_name = 'by-hand' group by 1 order by 1",
        )
        .await;
    let sums = |service: &str, numbers: &[u64]| {
        let (count, sum) = (numbers.len() as u64, numbers.iter().sum::<u64>());
        let traces: std::collections::BTreeSet<_> = numbers.iter().map(|n| n / 4).collect();
        json!({"service": service, "spans": count, "took": 1_000 * count + sum, "n": sum, "traces": traces.len(),
            "first": NANOS + numbers[0]})
    };
    let of_shop: Vec<u64> = (0..20).chain(30..40).collect();
    assert_eq!(rows, [sums("cart", &(20..30).collect::<Vec<_>>()), sums("shop", &of_shop)]);
    let orphans = "select count(*) from spans c left join spans p on c.trace_id = p.trace_id and \
        c.parent_span_id = p.span_id where c.parent_span_id is not null and p.span_id is null";
    assert_eq!(server.sql_value(orphans).await, 0);
    let failed =
        server.sql_value("select count(*) from spans where status = 'error' and status_message = 'no card'");
    assert_eq!(failed.await, 8);
    let points = server.sql(
        "select value, cast(time as bigint) as time from metrics where name = 'orders_total' order by 2",
    );
    let point = |n: u64| json!({"value": (n * 10) as f64, "time": NANOS + n * 1_000_000_000});
    assert_eq!(points.await, [point(1), point(2)]);
    let logs = server.sql("select service, severity_text, body, trace_id from logs").await;
    let log = json!({"service": "shop", "severity_text": "INFO", "body": "order 17 placed", "trace_id": format!("{:032x}", 1)});
    assert_eq!(logs, [log]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_through_a_collector_or_into_a_directory_and_the_same_rows_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let (served, alone) = (dir.path().join("served"), dir.path().join("alone"));
    let server = Server::start(&served, &[]);
    for to in [["--to", server.otlp_grpc.as_str()], ["--data-dir", alone.to_str().unwrap()]] {
        let done = import(&files, &to);
        let told = format!("{}{}", done.said, done.faults);
        assert_eq!(done.code, 1, "{told}");
        let plain = files[0].display();
        for line in [
            &format!("{plain}:2:1: expected an object, found `g`"),
            &format!("{plain}:5:301: the line ends within"),
            "weir: 2 places could not be read",
        ] {
            assert!(done.faults.contains(line), "`{line}` is missing in: {told}");
        }
        for line in [
            "spans: 40 accepted, 1 rejected",
            "data points: 2 accepted, 0 rejected",
            "log records: 1 accepted, 0 rejected",
            "1 rejected: trace id is not 16 bytes or all zero",
            "places that could not be read: 2",
        ] {
            assert!(done.said.lines().any(|said| said == line), "`{line}` is missing in: {told}");
        }
        assert!(done.said.starts_with("imported 3 files ("), "{told}");
    }
    check(&server).await;
    // A directory in use is left alone.
    let refused = import(&files, &["--data-dir", served.to_str().unwrap()]);
    assert!(refused.code == 1 && refused.faults.contains("in use by process"), "{}", refused.faults);
    server.process.stop();
    for data_dir in [&alone, &served] {
        // All is in files of the day it is of.
        let listed = weir().args(["storage", "ls", "--data-dir"]).arg(data_dir).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("0 rows wait") && listed.contains("2022-08-22"), "{listed}");
        assert!(
            !listed.lines().any(|line| line.contains(" spans ") && !line.contains("2022-08-22")),
            "{listed}"
        );
        let server = Server::start(data_dir, &[]);
        check(&server).await;
        server.process.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jaegers_traces_come_in_through_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let trace = "5982fe77008310cc80f1da5e10147519";
    let tag = |key: &str, kind: &str, value: Value| json!({"key": key, "type": kind, "value": value});
    let span = |id: &str, name: &str, process: &str, references: Value, tags: Value| {
        json!({"traceID": trace, "spanID": id, "operationName": name, "references": references, "processID": process,
            "startTime": NANOS / 1_000, "duration": 26_000, "tags": tags, "warnings": null, "logs": [{
                "timestamp": NANOS / 1_000 + 1, "fields": [tag("event", "string", json!("cache miss"))]}]})
    };
    let parent = json!([{"refType": "CHILD_OF", "traceID": trace, "spanID": "90394f6bcffb5d13"}]);
    let answer = json!({"data": [{"traceID": trace, "spans": [
            span("90394f6bcffb5d13", "checkout", "p1", json!([]), json!([tag("span.kind", "string", json!("client"))])),
            span("67fae42571535f60", "charge", "p2", parent, json!([
                tag("span.kind", "string", json!("server")), tag("error", "bool", json!(true)),
                tag("otel.status_description", "string", json!("no card")), tag("amount", "float64", json!(0.1))])),
        ], "processes": {"p1": {"serviceName": "front", "tags": []},
            "p2": {"serviceName": "payments", "tags": [tag("hostname", "string", json!("h1"))]}}, "warnings": null}],
        "total": 0, "limit": 0, "offset": 0, "errors": null});
    let mut child = import_stdin(&["--to", &server.otlp_grpc]);
    child.stdin.take().unwrap().write_all(&gzip(format!("{answer:#}").as_bytes())).unwrap();
    let done = imported(&child.wait_with_output().unwrap());
    assert!(
        done.code == 0 && done.said.contains("spans: 2 accepted, 0 rejected"),
        "{}{}",
        done.said,
        done.faults
    );
    let rows = server
        .sql(&format!(
            "select service, name, kind, status, status_message, span_id, parent_span_id, duration_ns, \
             cast(start_time as bigint) as start, attributes['amount'] as amount, events[1]['name'] as event, \
             resource_attributes['host.name'] as host from spans where trace_id = '{trace}' order by service"
        ))
        .await;
    let expected = |service,
                    name,
                    kind,
                    status,
                    message: Value,
                    id,
                    parent: Value,
                    amount: Value,
                    host: Value| {
        json!({"service": service, "name": name, "kind": kind, "status": status, "status_message": message,
            "span_id": id, "parent_span_id": parent, "duration_ns": 26_000_000, "start": NANOS, "amount": amount,
            "event": "cache miss", "host": host})
    };
    let front = expected(
        "front",
        "checkout",
        "client",
        "unset",
        Value::Null,
        "90394f6bcffb5d13",
        Value::Null,
        Value::Null,
        Value::Null,
    );
    let payments = expected(
        "payments",
        "charge",
        "server",
        "error",
        json!("no card"),
        "67fae42571535f60",
        json!("90394f6bcffb5d13"),
        json!("0.1"),
        json!("h1"),
    );
    assert_eq!(rows, [front, payments]);
    server.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_dies_and_comes_back_meanwhile_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let to = server.otlp_grpc.clone();
    let mut child = import_stdin(&["--to", &to]);
    let mut stdin = child.stdin.take().unwrap();
    // Lines of 100 spans; a request of 8192 is sent while the rest is still to come.
    let mut write = |lines: std::ops::Range<u64>| {
        for line in lines {
            writeln!(stdin, "{}", spans_line("shop", line * 100..(line + 1) * 100)).unwrap();
        }
        stdin.flush().unwrap();
    };
    write(0..200);
    until("span of the first half", 30, async || {
        let count = server.sql_value("select count(*) from spans").await;
        (count.as_u64().unwrap() > 0).then_some(())
    })
    .await;
    server.process.kill();
    write(200..400);
    let server = Server::start(dir.path(), &["--otlp-grpc", &to]);
    drop(stdin);
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    let done = imported(&output);
    assert!(done.code == 0 && done.said.contains("spans: 40000 accepted"), "{}{}", done.said, done.faults);
    let found = server.sql("select count(distinct span_id) as ids, sum(distinct attr_long(attributes, 'n')) as sum from spans").await;
    assert_eq!(found, [json!({"ids": 40_000, "sum": 40_000_u64 * 39_999 / 2})]);
    server.process.stop();
}

#[test]
fn length_prefixed_protobuf_and_a_line_of_any_length_are_cut_into_requests() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    // One line of some 8 MB, and the same in the file exporter's other format.
    let line = spans_line("long", 0..20_000);
    let request: ExportTraceServiceRequest = serde_json::from_str(&line).unwrap();
    let message = request.encode_to_vec();
    let prefixed = [&(message.len() as u32).to_be_bytes()[..], &message].concat();
    let files = [file(dir.path(), "line", line.as_bytes()), file(dir.path(), "proto", &prefixed)];
    let done = import(&files, &["--data-dir", data_dir.to_str().unwrap(), "--tenant", "other"]);
    assert!(done.code == 0 && done.said.contains("spans: 40000 accepted"), "{}{}", done.said, done.faults);
    assert!(data_dir.join("other/spans/_delta_log").is_dir());
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let good = file(dir.path(), "good", spans_line("shop", 0..1).as_bytes());
    let to_dir = ["--data-dir", data_dir.to_str().unwrap()];
    for (name, why) in [("absent", "No such file"), (".", "it is a folder")] {
        let done = import(&[good.clone(), dir.path().join(name)], &to_dir);
        assert!(done.code == 1 && done.faults.contains(name) && done.faults.contains(why), "{}", done.faults);
        assert!(!data_dir.exists());
    }
    // A port that nobody listens on any more.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (to, why) in [(free.as_str(), "no answer from"), ("nowhere", "`nowhere` is not an address")] {
        let done = import(std::slice::from_ref(&good), &["--to", to]);
        assert!(
            done.code == 1 && done.faults.contains(why) && done.said.is_empty(),
            "{}{}",
            done.said,
            done.faults
        );
    }
    let both = import(&[good], &["--to", &free, "--data-dir", data_dir.to_str().unwrap()]);
    assert_eq!(both.code, 2, "{}", both.faults);
}

#[test]
fn a_signal_ends_an_import_with_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let mut child = import_stdin(&["--data-dir", data_dir.to_str().unwrap()]);
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", spans_line("shop", 0..20_000)).unwrap();
    stdin.flush().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let log = data_dir.join("wal");
    let stored = || {
        std::fs::read_dir(&log)
            .is_ok_and(|files| files.flatten().any(|f| f.metadata().is_ok_and(|m| m.len() > 1_000)))
    };
    while !stored() {
        assert!(std::time::Instant::now() < deadline, "nothing was stored");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    // Stdin is still open.
    let done = imported(&child.wait_with_output().unwrap());
    drop(stdin);
    assert!(done.code == 1 && done.faults.contains("interrupted"), "{}{}", done.said, done.faults);
    let accepted = done
        .said
        .lines()
        .find_map(|line| line.strip_prefix("spans: ")?.split(' ').next()?.parse::<u64>().ok());
    let listed = weir().args(["storage", "ls", "--data-dir"]).arg(&data_dir).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let rows = listed
        .lines()
        .filter(|line| line.contains(" spans "))
        .map(|line| line.split_whitespace().nth(4).unwrap().parse::<u64>().unwrap());
    assert_eq!(accepted, Some(rows.sum()), "{}{listed}", done.said);
}
