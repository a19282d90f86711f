use super::*;

/// The numbers that `sql` gives when it is asked as a person would ask it.
async fn asked(state: &State, shown: &Value) {
    let answer = ask(state, shown["sql"].as_str().unwrap()).await;
    let row = &answer["rows"][0];
    for name in ["calls", "calls_per_s", "error_rate", "p50_ms", "p90_ms", "p99_ms"] {
        let (shown, asked) = (&shown[name], &row[name]);
        match (shown.as_f64(), asked.as_f64()) {
            (Some(shown), Some(asked)) => {
                assert!((shown - asked).abs() <= 1e-9 * shown.abs(), "{name}: {shown} {asked}")
            }
            (shown, asked) => assert_eq!(shown.unwrap_or_default(), asked.unwrap_or_default(), "{name}"),
        }
    }
}

#[tokio::test]
async fn the_graph_shows_what_its_sql_gives() {
    let state = state();
    for level in ["service", "workload"] {
        let (status, graph) = get(&state, &format!("/api/graph?from=-2m&level={level}")).await;
        assert_eq!(status, StatusCode::OK, "{graph}");
        for shown in graph["edges"].as_array().unwrap().iter().chain(graph["nodes"].as_array().unwrap()) {
            asked(&state, shown).await;
        }
        insta::assert_json_snapshot!(level, graph);
    }
}

#[tokio::test]
async fn a_window_without_calls_is_empty() {
    let (_, graph) = get(&state(), "/api/graph?from=-10s").await;
    assert_eq!((&graph["nodes"], &graph["edges"]), (&json!([]), &json!([])));
    let (_, graph) = get(&state(), "/api/graph?from=2026-11-24T12:00:09Z&to=1795521620").await;
    assert_eq!(graph["edges"].as_array().unwrap().len(), 2, "the bucket that began before `from`");
}

#[tokio::test]
async fn what_is_kept_by_the_minute_alone_is_shown_by_the_minute() {
    let state = state();
    let (_, graph) = get(&state, "/api/graph?from=2026-11-21T11:59:55Z&to=2026-11-21T12:00:30Z").await;
    assert_eq!(graph["from"], "2026-11-21T11:59:00.000000000Z");
    assert_eq!(graph["edges"].as_array().unwrap().len(), 2);
    assert!(graph["sql"].as_str().unwrap().contains("FROM edges_1m WHERE"), "{}", graph["sql"]);
    for shown in graph["edges"].as_array().unwrap().iter().chain(graph["nodes"].as_array().unwrap()) {
        asked(&state, shown).await;
    }
}
