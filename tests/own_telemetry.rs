//! Weir tells of itself what it tells of others: its own spans, in its own tables or at another collector.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use serde_json::{Value, json};
use support::{Server, until};

async fn send_a_span(server: &Server) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let span = json!({"traceId": format!("{now:032x}"), "spanId": "00000000000000aa", "name": "theirs",
                      "startTimeUnixNano": now.to_string(), "endTimeUnixNano": now.to_string()});
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "client"}}]});
    let body = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]});
    let url = format!("http://{}/v1/traces", server.otlp_http);
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success());
}

/// Names of Weir's own spans in `server`'s tables, each once.
async fn own(server: &Server) -> Vec<String> {
    let rows = server.sql("SELECT DISTINCT name FROM spans WHERE service = 'weir' ORDER BY name").await;
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// How many spans of its own have the name.
async fn count(server: &Server, name: &str) -> u64 {
    let query = format!("SELECT count(*) FROM spans WHERE service = 'weir' AND name = '{name}'");
    server.sql_value(&query).await.as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn own_spans_are_in_its_own_tables_and_make_no_spans_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--telemetry-sample", "1", "--flush-age", "300ms"]);
    send_a_span(&server).await;
    until("span of an ingest, a flush of a table and an answer", 20, async || {
        let names = own(&server).await;
        let has = |name: &str| names.iter().any(|of| of.contains(name));
        (has("ingest") && has("flush_table") && has("POST /api/sql")).then_some(())
    })
    .await;
    let rows = server.sql(
        "SELECT c.name AS child, p.name AS parent, p.attributes['table'] AS t FROM spans c JOIN spans p \
         ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id WHERE c.service = 'weir'",
    );
    let pairs: Vec<Value> = rows.await;
    assert!(pairs.iter().any(|row| row["child"] == "flush_table" && row["parent"] == "flush"), "{pairs:?}");

    // Own spans are stored and flushed; a flush is told of, storing is not, or it would never end.
    let (flushes, ingests) = (count(&server, "flush").await, count(&server, "ingest").await);
    until("flush of own spans", 20, async || (count(&server, "flush").await >= flushes + 2).then_some(()))
        .await;
    assert_eq!((count(&server, "ingest").await, ingests), (1, 1));
    server.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn own_spans_go_to_another_collector_where_one_is_named() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let collector = Server::start(other.path(), &[]);
    let endpoint = format!("http://{}", collector.otlp_grpc);
    let server = Server::start(dir.path(), &["--telemetry-sample", "1", "--telemetry-endpoint", &endpoint]);
    send_a_span(&server).await;
    until("span of an ingest", 20, async || {
        own(&collector).await.iter().any(|name| name.contains("ingest")).then_some(())
    })
    .await;
    assert_eq!(own(&server).await, Vec::<String>::new());
    server.process.stop();
    collector.process.stop();
}
