//! Files that rot on disk: answers go on without them and say so, in whichever language they were asked.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{Server, until, weir};

fn now_nanos() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

/// Sends spans `from..to` of one service and as many samples.
async fn send(server: &Server, service: &str, trace: u64, count: u64) {
    let now = now_nanos();
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": service}}]});
    let spans: Vec<Value> = (1..=count)
        .map(|n| {
            json!({"traceId": format!("{trace:032x}"), "spanId": format!("{n:016x}"), "name": "work",
                   "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now + 1_000).to_string()})
        })
        .collect();
    let points: Vec<Value> = (0..count)
        .map(|n| json!({"asInt": n, "timeUnixNano": (now + u128::from(n) * 1_000_000).to_string()}))
        .collect();
    let metric = json!({"name": format!("depth_{service}"), "gauge": {"dataPoints": points}});
    let bodies = [
        ("traces", json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})),
        (
            "metrics",
            json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}),
        ),
    ];
    for (signal, body) in bodies {
        let url = format!("http://{}/v1/{signal}", server.otlp_http);
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

/// The only published file of a table, flipped in the middle.
fn damage(data: &Path, table: &str) -> PathBuf {
    let files = parquet_files(&data.join("default").join(table));
    let [file] = &files[..] else { panic!("{files:?}") };
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).unwrap();
    file.clone()
}

fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let is_aside = entry.ends_with("_quarantine") || entry.ends_with("_delta_log");
        if entry.is_dir() && !is_aside {
            found.extend(parquet_files(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "parquet") {
            found.push(entry);
        }
    }
    found
}

fn warnings(answer: &Value) -> Vec<&str> {
    let list = answer["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|warning| warning.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_go_on_without_damaged_files_and_say_what_they_lack() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    send(&server, "rotten", 0xbad, 10).await;
    server.process.stop();
    let spans = damage(&data, "spans");
    let samples = damage(&data, "samples");

    let server = Server::start(&data, &[]);
    send(&server, "sound", 0x900d, 4).await;
    let first = server.try_sql("SELECT count(*) AS n FROM spans").await;
    assert_eq!(first["rows"], json!([{"n": 4}]));
    let [warning] = warnings(&first)[..] else { panic!("{first}") };
    assert!(
        warning.starts_with("10 rows of `spans` of ") && warning.contains("damaged (its checksum is "),
        "{warning}"
    );

    let told = until("quarantine of the spans", 10, async || {
        let status = server.get("/api/status").await;
        status["quarantine"].as_array().filter(|list| list.iter().any(|it| it["table"] == "spans")).cloned()
    });
    assert_eq!(told.await[0]["rows"], 10);
    assert!(!spans.exists(), "it left its table");
    // It is still known which answers lack it.
    let again = server.try_sql("SELECT count(*) AS n FROM spans WHERE service <= 'rz'").await;
    assert_eq!((&again["rows"], warnings(&again)), (&json!([{"n": 0}]), vec![warning]));
    let other = server.try_sql("SELECT count(*) AS n FROM spans WHERE service >= 'sound'").await;
    assert_eq!((&other["rows"], warnings(&other).len()), (&json!([{"n": 4}]), 0));

    let trace = server.get("/api/traces/0000000000000000000000000000900d").await;
    assert_eq!((trace["spans"].as_array().unwrap().len(), warnings(&trace)), (4, vec![warning]));
    let lost = server.get("/api/traces/00000000000000000000000000000bad").await;
    assert!(lost["error"]["message"].as_str().unwrap().contains("are missing: the file"), "{lost}");

    let count = |metric: &str| format!("/api/v1/query?query=count_over_time({metric}[5m])");
    let rotten = server.get(&count("depth_rotten")).await;
    assert_eq!((&rotten["status"], &rotten["data"]["result"]), (&json!("success"), &json!([])));
    assert!(warnings(&rotten)[0].starts_with("10 rows of `samples` of "), "{rotten}");
    let sound = server.get(&count("depth_sound")).await;
    assert_eq!(sound["data"]["result"][0]["value"][1], "4");
    assert!(sound["warnings"].is_null(), "its metric is in no damaged file: {sound}");
    until("quarantine of the samples", 10, async || (!samples.exists()).then_some(())).await;
    server.process.stop();

    let check = weir().args(["storage", "check", "--data-dir"]).arg(&data).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    assert!(!check.status.success() && err.contains("2 files are damaged and were set aside"), "{err}");
    for part in ["files are sound", "spans", "samples", "its checksum is"] {
        assert!(out.contains(part), "`{part}` is missing in:\n{out}");
    }
    let stat = weir().args(["storage", "stat", "--data-dir"]).arg(&data).output().unwrap();
    let out = String::from_utf8_lossy(&stat.stdout);
    assert!(stat.status.success() && out.contains("BYTES/ROW") && out.contains("its checksum is"), "{out}");
}
