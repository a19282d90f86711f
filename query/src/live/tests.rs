//! The live loop over a real storage: rows as the collector stores them go in, a round at a time.

mod failing;
mod graph;
mod mesh;
mod pairs;

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use weir_model::UnixNanos;
use weir_storage::Table;

use self::mesh::{Call, Mesh};
use crate::testdata;

#[tokio::test]
async fn a_stopped_loop_stores_what_is_left() {
    let mut mesh = Mesh::open().await;
    let live = mesh.live.clone();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { live.run(stop).await }
    });
    mesh.report(&[Call::ok(4.0); 7]).await;
    stop.cancel();
    running.await.unwrap();
    mesh.assert_edges();
    assert_eq!(mesh.edges().len(), 1);
    mesh.live.run(CancellationToken::new()).await; // has run: returns at once, and counts nothing twice
    mesh.assert_edges();
}

#[tokio::test]
async fn a_running_loop_does_its_rounds_by_itself() {
    let mut mesh = Mesh::open().await;
    let live = mesh.live.clone();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { live.run(stop).await }
    });
    mesh.report(&[Call::ok(4.0)]).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while mesh.edges().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "no round in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await.unwrap();
    mesh.assert_edges();
}

#[tokio::test]
async fn what_cannot_be_used_is_counted_by_reason() {
    let mut mesh = Mesh::open().await;
    let labels = Call::ok(1.0).labels();
    let point = |at: u64, change: serde_json::Value| {
        let sketch = weir_model::Sketch::default();
        let [(_, mut row), (_, series)] = testdata::edge_point(&labels, UnixNanos(at), &sketch);
        row.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
        [(Table::Histograms, row), (Table::Series, series)]
    };
    let at = mesh.now().0;
    let mut rows = vec![];
    rows.extend(point(at + 1, json!({"temporality": 2})));
    rows.extend(point(at + 2, json!({"scale": -53, "custom_bounds": [1.0]})));
    rows.extend(point(at + 3, json!({"series_id": 77}))); // nobody's labels
    rows.extend(point(at + 4, json!({"metric": "another"})));
    rows.extend(point(at + 5, json!({})));
    rows.extend(point(at + 5, json!({}))); // sent again
    let odd = Call { class: "perhaps", ..Call::ok(1.0) };
    rows.extend(testdata::edge_point(&odd.labels(), UnixNanos(at + 6), &weir_model::Sketch::default()));
    mesh.store(rows).await;
    mesh.round().await;
    let counted = |reason: &str| mesh.shown().unused.get(reason);
    assert_eq!(["temporality", "custom_bounds", "labels", "repeated"].map(counted), [1, 1, 2, 1]);
    assert_eq!(mesh.shown().points, 1);

    let mut text = String::new();
    mesh.live.write_prometheus(&mut text);
    for line in [
        "weir_live_points_total 1",
        "weir_live_unused_total{reason=\"repeated\"} 1",
        "weir_live_rounds_total 1",
        "weir_hints_in_force 0",
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
}

#[tokio::test]
async fn a_refusal_of_storage_loses_nothing() {
    let mut mesh = Mesh::open().await;
    mesh.report(&[Call::ok(4.0); 3]).await;
    mesh.fill().await;
    mesh.round().await;
    mesh.pass(Duration::from_secs(2));
    mesh.round().await;
    assert_eq!(mesh.shown().writes_refused, 2);
    assert!(mesh.edges().is_empty());

    mesh.storage.flush().await.unwrap();
    mesh.report(&[Call::ok(8.0); 2]).await;
    mesh.pass(Duration::from_secs(2));
    mesh.round().await;
    mesh.assert_edges();
    assert_eq!(mesh.edges().len(), 1);
    assert_eq!(mesh.shown().unused, Default::default());
}
