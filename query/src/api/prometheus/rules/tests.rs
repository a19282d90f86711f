//! Rules and alerts as clients of Prometheus read them, from groups that run.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use weir_model::{Clock, UnixNanos};

use super::*;
use crate::promql::features::Features;
use crate::promql::{Options, Sample};
use crate::rules::{Environment, Memory, Nobody, Point, Store, Timing, file};

const RULES: &str = r#"
groups:
- name: a
  interval: 50ms
  labels: {team: x}
  rules:
  - {record: "job:up:sum", expr: "sum by(job) (up)"}
  - alert: Down
    expr: up == 0
    for: 1h
    labels: {severity: page}
    annotations: {summary: "{{ $labels.instance }} is down"}
- name: b
  interval: 50ms
  limit: 3
  rules:
  - {alert: Broken, expr: 'label_replace(up, "instance", "same", "", "")'}
"#;

/// The answer to a GET, with what differs from run to run made the same.
async fn get(app: &Router, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let times = regex::Regex::new(r#""(evaluationTime)":[0-9.e-]+|"(lastEvaluation|activeAt)":"2026-[^"]*""#)
        .unwrap();
    let same = times.replace_all(&text, r#""$1$2":"..""#);
    (status, serde_json::from_str(&same).unwrap())
}

#[tokio::test]
async fn rules_and_alerts_read_as_in_prometheus() {
    // A clock that goes on from a fixed moment.
    let began = tokio::time::Instant::now();
    let clock = Clock::new(move || UnixNanos(1_795_521_600_000_000_000) + began.elapsed());
    let store = Memory::new(Options::default());
    let point = |instance: &str, value: f64| Point {
        labels: Labels::new([("__name__", "up"), ("job", "node"), ("instance", instance)]),
        time_ms: 1_795_521_600_000,
        sample: Sample::Float(value),
    };
    store.write(vec![point("a", 0.0), point("b", 1.0)]).await.unwrap();
    let environment = Environment {
        store: Arc::new(store),
        clock,
        notify: Arc::new(Nobody),
        external_url: "http://weir".to_owned(),
        external_labels: Labels::default(),
        timing: Timing::default(),
    };
    let rules = Rules::default();
    rules.load(file::parse("rules.yml", RULES, Features::NONE).unwrap(), environment);
    let app = routes(rules.clone(), Notifier::default());
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (rules, stop) = (rules.clone(), stop.clone());
        async move { rules.run(stop).await }
    });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while rules.groups().len() < 2 || rules.groups().iter().any(|group| group.counts.iterations < 3) {
        assert!(tokio::time::Instant::now() < deadline, "the groups are evaluated");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.unwrap();

    insta::assert_json_snapshot!("rules", get(&app, "/api/v1/rules").await.1);
    insta::assert_json_snapshot!("alerts", get(&app, "/api/v1/alerts").await.1);
    let names = async |query: &str| -> Vec<String> {
        let (status, answer) = get(&app, &format!("/api/v1/rules?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{query}: {answer}");
        let groups = answer["data"]["groups"].as_array().unwrap().clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("type=record").await, ["job:up:sum"]);
    assert_eq!(names("type=alert").await, ["Down", "Broken"]);
    assert_eq!(names("rule_name[]=Down&rule_name[]=Broken").await, ["Down", "Broken"]);
    assert_eq!(names("rule_group[]=b").await, ["Broken"]);
    assert_eq!(names("file[]=other.yml").await, Vec::<String>::new());
    assert_eq!(names("match[]=%7Bseverity%3D%22page%22%7D").await, ["Down"]);
    let (_, without) = get(&app, "/api/v1/rules?exclude_alerts=true&rule_name[]=Down").await;
    assert_eq!(without["data"]["groups"][0]["rules"][0]["alerts"], json!([]));

    let (_, first) = get(&app, "/api/v1/rules?group_limit=1").await;
    let token = first["data"]["groupNextToken"].as_str().unwrap();
    assert_eq!(first["data"]["groups"].as_array().unwrap().len(), 1);
    let (_, second) = get(&app, &format!("/api/v1/rules?group_limit=1&group_next_token={token}")).await;
    assert_eq!(second["data"]["groups"][0]["name"], "b");
    assert_eq!(second["data"].get("groupNextToken"), None);

    for wrong in [
        "type=both",
        "exclude_alerts=maybe",
        "group_limit=0",
        "group_next_token=x",
        "match[]=up%7B",
        "group_limit=1&group_next_token=x",
    ] {
        let (status, answer) = get(&app, &format!("/api/v1/rules?{wrong}")).await;
        assert_eq!((status, &answer["errorType"]), (StatusCode::BAD_REQUEST, &json!("bad_data")), "{wrong}");
    }
    let managers =
        json!({"status": "success", "data": {"activeAlertmanagers": [], "droppedAlertmanagers": []}});
    assert_eq!(get(&app, "/api/v1/alertmanagers").await.1, managers);
    let mut metrics = String::new();
    rules.write_prometheus(&mut metrics);
    assert!(metrics.contains("weir_rule_group_rules{rule_group=\"rules.yml;a\"} 2"), "{metrics}");
    assert!(metrics.contains("weir_alerts{alertstate=\"pending\"} 1"), "{metrics}");
}
