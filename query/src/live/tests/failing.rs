//! One replica of three fails: it is named, hints come and go, readers see it, and a restart cleans up.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;
use weir_model::hint::{Action, Target};
use weir_storage::Table;

use super::mesh::{Call, Mesh};
use crate::api;

const SECOND: Duration = Duration::from_secs(1);
const REPLICAS: [&str; 3] = ["payments-1", "payments-2", "payments-3"];

/// A second of steady traffic, in which all calls of `bad` fail.
fn second(number: u64, bad: Option<&str>) -> Vec<Call> {
    let mut calls = vec![];
    for endpoint in REPLICAS {
        for n in 0..20 {
            let class = if bad == Some(endpoint) { "error" } else { "ok" };
            let call = Call { endpoint, class, ..Call::ok(4.0 + ((number * 7 + n * 3) % 5) as f64) };
            calls.extend([call, Call { reporter: "destination", ..call }]);
        }
        calls.push(Call { client: "web", server: "checkout", endpoint: "checkout-1", ..Call::ok(20.0) });
    }
    calls
}

async fn run(mesh: &mut Mesh, seconds: u64, bad: Option<&str>) {
    for number in 0..seconds {
        mesh.pass(SECOND);
        mesh.report(&second(number, bad)).await;
        mesh.round().await;
    }
}

/// A failed call of `payments-2` as its caller's proxy and its own see it, and others that are no examples.
async fn spans(mesh: &Mesh) {
    let micros = mesh.now().to_columns().0;
    let span = |n: u8, row: Value| {
        let mut all = json!({"trace_id": format!("{n:032x}"), "span_id": format!("{n:016x}"), "service": "checkout",
            "name": "POST /pay", "kind": 3, "status": 2, "start_time": micros, "duration_ns": 5_000_000,
            "client": "checkout", "server": "payments", "endpoint": "payments-2"});
        all.as_object_mut().unwrap().extend(row.as_object().cloned().unwrap());
        (Table::Spans, all)
    };
    mesh.store([
        span(1, json!({})),
        span(1, json!({"kind": 2, "service": "payments"})),
        span(2, json!({"status": 0})),
        span(3, json!({"endpoint": "payments-1"})),
        span(4, json!({"refused": "h-1-1; ejected"})),
        span(
            5,
            json!({"client": null, "server": null, "endpoint": null, "kind": 2, "service": "payments",
            "service_instance_id": "payments-2", "status": 0, "http_status": 500}),
        ),
    ])
    .await;
}

async fn get(state: &api::State, path: &str) -> Value {
    let response = api::router(state.clone()).oneshot(Request::get(path).body(Body::empty()).unwrap()).await;
    let body = axum::body::to_bytes(response.unwrap().into_body(), 1 << 24).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// A mesh whose `payments-2` has failed for long enough.
async fn failing() -> Mesh {
    let mut mesh = Mesh::open().await;
    run(&mut mesh, 60, None).await;
    assert_eq!(mesh.shown().finding_events, 0);
    run(&mut mesh, 3, Some("payments-2")).await;
    spans(&mesh).await;
    run(&mut mesh, 12, Some("payments-2")).await;
    mesh
}

#[tokio::test]
async fn a_failing_replica_is_named_and_its_hint_comes_and_goes() {
    let mut mesh = failing().await;
    let found = "SELECT id, state, kind, level, service, endpoint, causal_path, trace_ids FROM findings ORDER BY time";
    let [one, five] = [1, 5].map(|n| format!("{n:032x}"));
    let traces = format!("{five},{one}");
    let named = ["f-1-1", "opened", "errors", "endpoint", "payments", "payments-2"];
    let rows = mesh.texts(found).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0][..6], named);
    assert_eq!(rows[0][6..], ["web > checkout > payments > payments-2", traces.as_str()]);

    let set = mesh.hints.borrow_and_update().clone();
    assert_eq!((set.epoch, set.hints.len()), (1, 1));
    let hint = &set.hints[0];
    assert_eq!((&hint.action, &hint.scope.target), (&Action::Eject, &Target::Endpoint("payments-2".into())));
    assert_eq!(hint.evidence.trace_ids, [five, one]);
    let evidence = mesh.sql(&hint.evidence.query).await;
    assert!(evidence.stats.rows > 6, "{}", hint.evidence.query);
    let failed = format!(
        "SELECT sum(errors) > 20 AND min(errors) >= 0 FROM ({}) WHERE endpoint = 'payments-2'",
        hint.evidence.query
    );
    assert_eq!(mesh.texts(&failed).await, [["true"]]);

    run(&mut mesh, 40, None).await;
    assert!(mesh.hints.borrow_and_update().hints.is_empty());
    let states: Vec<String> = mesh.texts(found).await.into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(states, ["opened", "resolved"]);
    let told = "SELECT event, id, revision, mode, action, service, target_kind, target, ttl_ms, finding FROM hints ORDER BY time";
    let rows = mesh.texts(told).await;
    let events: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!((events[0], events[1], events[events.len() - 1]), ("issued", "renewed", "withdrawn"));
    assert!(events[1..events.len() - 1].iter().all(|event| *event == "renewed"), "{events:?}");
    for row in &rows {
        assert_eq!(row[3..], ["enforce", "eject", "payments", "endpoint", "payments-2", "15000", "f-1-1"]);
    }
    mesh.finish().await;
    mesh.assert_edges();
}

#[tokio::test]
async fn what_the_loop_writes_is_what_the_routes_show() {
    let mut mesh = failing().await;
    let api = mesh.api();
    let findings = get(&api, "/api/findings?active=true").await;
    assert_eq!(findings["findings"].as_array().map(Vec::len), Some(1), "{findings}");
    assert_eq!(findings["findings"][0]["endpoint"], "payments-2");
    assert_eq!(findings["findings"][0]["causal_path"], json!(["web", "checkout", "payments", "payments-2"]));
    let hints = get(&api, "/api/hints?active=true").await;
    assert_eq!(hints["hints"].as_array().map(Vec::len), Some(1), "{hints}");
    assert_eq!(hints["hints"][0]["evidence"]["finding"], "f-1-1");
    assert_eq!(hints["hints"][0]["target"], "payments-2");

    let graph = get(&api, "/api/graph?level=workload").await;
    let edge = graph["edges"].as_array().unwrap().iter().find(|edge| edge["server"] == "payments-2");
    let edge = edge.unwrap_or_else(|| panic!("{graph}"));
    assert_eq!((edge["health"].as_str(), edge["breaker"].as_str()), (Some("failing"), Some("ejected")));

    let mut text = String::new();
    mesh.live.write_prometheus(&mut text);
    let line = "weir_finding_active{service=\"payments\",target=\"payments-2\",kind=\"errors\",level=\"endpoint\",severity=\"critical\"} 1";
    assert!(text.lines().any(|l| l == line), "{text}");
    assert!(text.lines().any(|l| l == "weir_hints_in_force 1"), "{text}");

    run(&mut mesh, 40, None).await;
    let findings = get(&mesh.api(), "/api/findings?active=true").await;
    assert_eq!(findings["findings"], json!([]));
    let hints = get(&mesh.api(), "/api/hints").await;
    assert_eq!(hints["hints"][0]["active"], false);
}

#[tokio::test]
async fn a_restart_resolves_what_was_left_open() {
    let mut mesh = failing().await;
    mesh.finish().await;
    let (now, dir) = (mesh.now().0, mesh.close().await);
    let mut mesh = Mesh::over(dir, now + 5_000_000_000).await;
    assert_eq!(get(&mesh.api(), "/api/findings?active=true").await["findings"][0]["id"], "f-1-1");
    mesh.round().await;
    assert_eq!(get(&mesh.api(), "/api/findings?active=true").await["findings"], json!([]));
    let rows =
        mesh.texts("SELECT id, state, endpoint, message FROM findings ORDER BY time DESC LIMIT 1").await;
    assert_eq!(rows, [["f-1-1", "resolved", "payments-2", "the analysis was restarted and judges anew"]]);
    let set = mesh.hints.borrow_and_update().clone();
    assert_eq!((set.epoch, set.hints.len()), (2, 0));

    run(&mut mesh, 20, Some("payments-2")).await;
    let rows = mesh.texts("SELECT id, state FROM findings ORDER BY time DESC LIMIT 1").await;
    assert_eq!(rows, [["f-2-1", "opened"]]);
    // Neither a further restart nor a look at its own findings closes anything twice.
    mesh.finish().await;
    let (now, dir) = (mesh.now().0, mesh.close().await);
    let mut mesh = Mesh::over(dir, now).await;
    mesh.round().await;
    let closed = "SELECT id, count(*) FROM findings WHERE state = 'resolved' GROUP BY id ORDER BY id";
    assert_eq!(mesh.texts(closed).await, [["f-1-1", "1"], ["f-2-1", "1"]]);
}
