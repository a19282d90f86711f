//! The rows of `edges` add up to what was reported, however it is cut into rounds.

use std::time::Duration;

use proptest::prelude::*;
use weir_model::UnixNanos;

use super::mesh::{Call, Mesh};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn edges_add_up_to_what_was_reported() {
    let mut mesh = Mesh::open().await;
    for second in 0..25 {
        let seen_by_callee = Call { reporter: "destination", ..Call::ok(4.0) };
        let mut calls = vec![Call::ok(4.0), Call::ok(16.0), seen_by_callee];
        calls.push(Call { class: "error", endpoint: "payments-2", ..Call::ok(2.0) });
        if second % 3 == 0 {
            calls.push(Call { class: "client_error", ..Call::ok(1.0) });
            calls.push(Call { class: "refused", endpoint: "", ..Call::ok(0.0) });
            calls.push(Call { class: "error", probe: true, ..Call::ok(512.0) });
        }
        mesh.report(&calls).await;
        mesh.round().await;
        mesh.pass(SECOND);
    }
    mesh.finish().await;
    mesh.assert_edges();
    assert_eq!(mesh.shown().points, 25 * 3 + 9 * 3);
    assert_eq!(mesh.shown().late_points, 0);
}

#[tokio::test]
async fn late_rows_count_in_the_graph_and_in_no_tick() {
    let mut mesh = Mesh::open().await;
    for _ in 0..6 {
        mesh.report(&[Call::ok(4.0)]).await;
        mesh.round().await;
        mesh.pass(SECOND);
    }
    let ticks = mesh.shown().ticks;
    let early = UnixNanos(mesh.now().0 - 5_000_000_000);
    mesh.report_at(early, &[Call { client: "late", ..Call::ok(4.0) }; 9]).await;
    mesh.round().await;
    assert_eq!(mesh.shown().late_points, 1);
    assert_eq!(mesh.shown().ticks, ticks + 1);
    assert_eq!(mesh.shown().edges_watched, 1, "what came late is watched");
    mesh.finish().await;
    mesh.assert_edges();
}

#[tokio::test]
async fn rows_count_from_the_making_of_the_loop_and_across_flushes() {
    let mut mesh = Mesh::open().await;
    mesh.report(&[Call::ok(4.0)]).await;
    mesh.storage.flush().await.unwrap();
    mesh.round().await;
    mesh.report(&[Call::ok(8.0)]).await;
    mesh.finish().await;
    mesh.assert_edges();

    let before = mesh.reported.clone();
    let (now, dir) = (mesh.now().0, mesh.close().await);
    let mut mesh = Mesh::over(dir, now).await;
    mesh.report(&[Call::ok(2.0)]).await;
    mesh.finish().await;
    assert_eq!(mesh.edges(), mesh.reported, "what was counted before is not counted again");
    assert_ne!(before, mesh.reported);
}

fn any_call() -> impl Strategy<Value = Call> {
    let class = prop_oneof![Just("ok"), Just("client_error"), Just("error"), Just("refused")];
    let endpoint = prop_oneof![Just("payments-1"), Just("payments-2")];
    (class, endpoint, any::<bool>(), 0..2_000_u32, any::<bool>()).prop_map(
        |(class, endpoint, probe, ms, called)| {
            let reporter = if called { "destination" } else { "source" };
            Call { class, endpoint, probe, reporter, ..Call::ok(f64::from(ms)) }
        },
    )
}

/// Calls of one second, how long before now it ended, and what follows: another report in the same round, or
/// a round this much later.
type Step = (Vec<Call>, u64, Option<u64>);

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        prop::collection::vec(any_call(), 0..6),
        prop_oneof![3 => 0..2_000_u64, 1 => 0..60_000_u64],
        prop::option::of(0..4_000_u64),
    );
    prop::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn however_points_are_cut_into_rounds_edges_add_up(steps in any_steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (edges, reported) = runtime.block_on(async {
            let mut mesh = Mesh::open().await;
            for (calls, age_ms, round) in steps {
                mesh.report_at(mesh.now() - Duration::from_millis(age_ms), &calls).await;
                if let Some(later) = round {
                    mesh.pass(Duration::from_millis(later));
                    mesh.round().await;
                }
            }
            mesh.finish().await;
            (mesh.edges(), mesh.reported)
        });
        prop_assert_eq!(edges, reported);
    }
}
