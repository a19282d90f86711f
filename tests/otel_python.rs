//! Real clients: what the OpenTelemetry Python SDK sends by gRPC and by HTTP, and py_zipkin as JSON, SQL and
//! PromQL return.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::Server;
use support::python::{python, run, script};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_python_sdk_sends_comes_back_exactly() {
    let python = python("otel_python");
    let script = script("otel_python", "send.py");
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    for (protocol, endpoint) in [("grpc", &server.otlp_grpc), ("http", &server.otlp_http)] {
        let service = format!("sdk-{protocol}");
        let said = run(Command::new(&python).arg(&script).args([protocol, endpoint, &service]));
        let sent: Value = serde_json::from_str(&said).unwrap();
        check_traces(&server, &service, &sent).await;
        check_metrics(&server, &service).await;
        check_logs(&server, &service).await;
    }
    server.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_py_zipkin_sends_comes_back() {
    let python = python("otel_python");
    let script = script("otel_python", "send_zipkin.py");
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let said = run(Command::new(&python).arg(&script).args([&server.otlp_http, "shop"]));
    let sent: Value = serde_json::from_str(&said).unwrap();
    let rows = server
        .sql(
            "select name, kind, status, status_message, trace_id, span_id, parent_span_id, \
             attributes['item'] as item, events[1]['name'] as event from spans where service = 'shop' order by name",
        )
        .await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    let (inner, outer) = (&rows[0], &rows[1]);
    assert_eq!((&inner["name"], &outer["name"]), (&json!("inner"), &json!("outer")));
    assert_eq!((&inner["trace_id"], &outer["trace_id"]), (&sent["trace_id"], &sent["trace_id"]));
    assert_eq!((&outer["span_id"], &inner["parent_span_id"]), (&sent["outer"], &sent["outer"]));
    assert_eq!((&inner["kind"], &inner["item"]), (&json!("client"), &json!("book")));
    assert_eq!((&inner["status"], &inner["status_message"]), (&json!("error"), &json!("out of stock")));
    assert_eq!(inner["event"], "asked twice");
    server.process.stop();
}

async fn check_traces(server: &Server, service: &str, sent: &Value) {
    let rows = server
        .sql(&format!(
            "select name, kind, status, status_message, trace_id, span_id, parent_span_id, duration_ns, \
             cast(start_time as bigint) as start, http_method, http_status, service_version, \
             attributes['text'] as text, attributes['long'] as long, attributes['double'] as double, \
             attributes['bool'] as bool, attributes['http.request.method'] as method, \
             attr_long(attributes, 'long') as exact, \
             resource_attributes['team'] as team, resource_attributes['cores'] as cores \
             from spans where service = '{service}' order by name"
        ))
        .await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    let (child, parent) = (&rows[0], &rows[1]);
    for (row, name) in [(child, "child"), (parent, "parent")] {
        let sent = &sent[name];
        assert_eq!(row["name"], name);
        assert_eq!(row["trace_id"], sent["trace_id"]);
        assert_eq!(row["span_id"], sent["span_id"]);
        assert_eq!(row["start"], sent["start"], "nanoseconds survive");
        let duration = sent["end"].as_u64().unwrap() - sent["start"].as_u64().unwrap();
        assert_eq!(row["duration_ns"], duration);
        assert_eq!(row["team"], "checkout");
        assert_eq!(row["cores"], "4");
        assert_eq!(row["service_version"], "1.2.3");
    }
    assert_eq!(child["parent_span_id"], parent["span_id"]);
    assert_eq!((&child["kind"], &child["status"]), (&json!("client"), &json!("unset")));
    assert_eq!((&parent["kind"], &parent["status"]), (&json!("server"), &json!("error")));
    assert_eq!(parent["status_message"], "card declined");
    assert_eq!((&parent["http_method"], &parent["http_status"]), (&json!("POST"), &json!(500)));
    assert_eq!((&parent["text"], &parent["method"]), (&json!("grüße <b>"), &json!("POST")));
    assert_eq!((&parent["double"], &parent["bool"]), (&json!("0.1"), &json!("true")));
    assert_eq!(parent["exact"], json!(9_007_199_254_740_993_u64));
    let trace_id = sent["parent"]["trace_id"].as_str().unwrap();
    let by_id = server.sql_value(&format!("select count(*) from spans where trace_id = '{trace_id}'")).await;
    assert_eq!(by_id, 2);
    let trace = server.get(&format!("/api/traces/{trace_id}")).await;
    let spans = trace["spans"].as_array().unwrap();
    let child = spans.iter().find(|span| span["name"] == "child").unwrap();
    assert_eq!(child["events"][0]["name"], "retrying");
}

async fn check_metrics(server: &Server, service: &str) {
    let job = format!("shop/{service}");
    for (query, expected) in [
        (format!("sdk_orders_total{{job=\"{job}\",kind=\"book\"}}"), "8"),
        (format!("sdk_orders_total{{job=\"{job}\",kind=\"toy\"}}"), "2"),
        (format!("sum(sdk_orders_total{{job=\"{job}\"}})"), "10"),
        (format!("sdk_temperature_celsius{{job=\"{job}\",instance=\"{service}-1\"}}"), "21.5"),
        (format!("sdk_latency_milliseconds_bucket{{job=\"{job}\",le=\"10\"}}"), "2"),
        (format!("sdk_latency_milliseconds_bucket{{job=\"{job}\",le=\"100\"}}"), "3"),
        (format!("sdk_latency_milliseconds_bucket{{job=\"{job}\",le=\"+Inf\"}}"), "5"),
        (format!("sdk_latency_milliseconds_sum{{job=\"{job}\"}}"), "5562"),
        (format!("sdk_latency_milliseconds_count{{job=\"{job}\"}}"), "5"),
    ] {
        let answer = promql(server, &query).await;
        let result = answer["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 1, "{query}: {answer}");
        assert_eq!(result[0]["value"][1], expected, "{query}");
    }
    let by_sql = server
        .sql_value(&format!(
            "select sum(value) from metrics where name = 'sdk_orders_total' and labels['job'] = '{job}'"
        ))
        .await;
    assert_eq!(by_sql, 10.0);
}

async fn promql(server: &Server, query: &str) -> Value {
    let request =
        reqwest::Client::new().get(format!("http://{}/api/v1/query", server.http)).query(&[("query", query)]);
    request.send().await.unwrap().json().await.unwrap()
}

async fn check_logs(server: &Server, service: &str) {
    let rows = server
        .sql(&format!(
            "select body, severity_text, severity_number, attributes['order'] as \"order\" \
             from logs where service = '{service}' order by time"
        ))
        .await;
    assert_eq!(
        rows,
        [
            json!({"body": "order 17 placed", "severity_text": "INFO", "severity_number": 9, "order": "17"}),
            json!({"body": "card declined", "severity_text": "ERROR", "severity_number": 17, "order": null}),
        ]
    );
}
