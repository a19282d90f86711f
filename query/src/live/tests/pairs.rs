//! Calls where no proxy is come from pairs of spans, once each.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use weir_storage::Table;

use super::mesh::{Call, Mesh};

fn span(mesh: &Mesh, id: u8, parent: Option<u8>, service: &str, kind: u8, more: Value) -> (Table, Value) {
    let parent = parent.map(|id| format!("{id:016x}"));
    let mut row = json!({"trace_id": format!("{:032x}", 9), "span_id": format!("{id:016x}"), "parent_span_id": parent,
        "service": service, "name": "GET /", "kind": kind, "start_time": mesh.now().to_columns().0,
        "duration_ns": 250_000_000});
    row.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    (Table::Spans, row)
}

/// Calls and errors by client and server.
fn calls(mesh: &Mesh) -> BTreeMap<(String, String), (u64, u64)> {
    let mut all = BTreeMap::new();
    for ((_, client, server, _, reporter), counted) in mesh.edges() {
        if reporter == "span" {
            let sum: &mut (u64, u64) = all.entry((client, server)).or_default();
            *sum = (sum.0 + counted.calls, sum.1 + counted.errors);
            assert_eq!(counted.sketch.count(), counted.calls);
        }
    }
    all
}

fn edge(client: &str, server: &str) -> (String, String) {
    (client.to_owned(), server.to_owned())
}

#[tokio::test]
async fn halves_meet_in_any_order_and_only_once() {
    let mut mesh = Mesh::open().await;
    let rows = [
        span(&mesh, 1, None, "web", 2, json!({})),
        span(&mesh, 2, Some(1), "web", 3, json!({"sample_weight": 10.0})),
        span(&mesh, 4, Some(3), "stock", 2, json!({"status": 2, "service_instance_id": "stock-1"})),
        // Within one service, of a database, and of proxies: no calls of this kind.
        span(&mesh, 20, Some(1), "web", 3, json!({})),
        span(&mesh, 21, Some(20), "web", 2, json!({})),
        span(&mesh, 22, Some(1), "web", 3, json!({"db_system": "postgresql"})),
        span(&mesh, 23, Some(22), "db", 2, json!({})),
        span(&mesh, 24, Some(1), "web", 3, json!({"direction": "outbound"})),
        span(&mesh, 25, Some(24), "cart", 2, json!({"direction": "inbound"})),
    ];
    mesh.store(rows).await;
    mesh.round().await;
    mesh.pass(Duration::from_secs(4));
    let rows = [
        span(&mesh, 5, Some(2), "cart", 2, json!({"service_instance_id": "cart-1"})),
        span(&mesh, 3, Some(1), "cart", 3, json!({"http_status": 500})),
        span(&mesh, 6, Some(2), "cart", 2, json!({})), // its client has been answered
    ];
    mesh.store(rows).await;
    mesh.finish().await;
    let expected =
        [(edge("cart", "stock"), (1, 1)), (edge("unknown", "web"), (1, 0)), (edge("web", "cart"), (10, 0))];
    assert_eq!(calls(&mesh), BTreeMap::from(expected));
    assert!(mesh.edges().keys().any(|key| key.3 == "cart-1"));
}

#[tokio::test]
async fn halves_wait_for_some_seconds_and_roots_count_where_no_proxy_is() {
    let mut mesh = Mesh::open().await;
    mesh.report(&[Call::ok(4.0)]).await;
    let rows = [
        span(&mesh, 1, None, "payments", 2, json!({})), // proxies count the calls of `payments`
        span(&mesh, 2, None, "web", 3, json!({})),
    ];
    mesh.store(rows).await;
    mesh.round().await;
    mesh.pass(Duration::from_secs(16));
    mesh.round().await;
    mesh.store([span(&mesh, 3, Some(2), "cart", 2, json!({}))]).await;
    mesh.finish().await;
    assert_eq!(calls(&mesh), BTreeMap::new());
    mesh.assert_edges();
}
