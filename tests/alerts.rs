//! From a metric to a person: a rule's alerts wait, fire, are grouped by Debian's Alertmanager, reach its webhook and
//! are resolved; and a restart of Weir in between costs them no time.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use support::{Process, Server, debian, until};
use tokio::net::TcpListener;

/// What a webhook was sent.
type Seen = Arc<Mutex<Vec<Value>>>;

async fn webhook() -> (String, Seen) {
    let seen = Seen::default();
    let take = async |State(seen): State<Seen>, Json(body): Json<Value>| seen.lock().unwrap().push(body);
    let app = Router::new().route("/", post(take)).with_state(Arc::clone(&seen));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Alertmanager with one route: alerts grouped by name, told to `webhook`.
async fn alertmanager(dir: &Path, webhook: &str) -> (Process, String) {
    let program = debian::program("prometheus-alertmanager", "prometheus-alertmanager");
    let config = dir.join("alertmanager.yml");
    let text = format!(
        "route: {{receiver: test, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: test, webhook_configs: [{{url: '{webhook}', send_resolved: true}}]}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let address = format!("127.0.0.1:{}", free_port().await);
    let process = Process::start(
        "prometheus-alertmanager",
        Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.join("alertmanager").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address="),
    );
    let url = format!("http://{address}");
    until("Alertmanager", 20, async || {
        reqwest::get(format!("{url}/-/ready")).await.ok()?.error_for_status().ok()
    })
    .await;
    (process, url)
}

/// Sends a gauge per instance, as OTLP.
async fn send(server: &Server, values: &[(&str, f64)]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().to_string();
    let points = values.iter().map(|(instance, value)| {
        json!({"timeUnixNano": now, "asDouble": value,
            "attributes": [{"key": "replica", "value": {"stringValue": instance}}]})
    });
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]},
        "scopeMetrics": [{"metrics": [{"name": "queue_length", "gauge": {"dataPoints": points.collect::<Vec<_>>()}}]}],
    }]});
    let sent =
        reqwest::Client::new().post(format!("http://{}/v1/metrics", server.otlp_http)).json(&body).send();
    assert!(sent.await.unwrap().status().is_success());
}

/// The states of the alerts, in order.
async fn states(server: &Server) -> Vec<String> {
    let answer = server.get("/api/v1/alerts").await;
    let alerts = answer["data"]["alerts"].as_array().unwrap();
    alerts.iter().map(|alert| alert["state"].as_str().unwrap().to_owned()).collect()
}

const RULES: &str = r#"
groups:
- name: cart
  interval: 500ms
  rules:
  - record: job:queue_length:sum
    expr: sum by (job) (queue_length)
  - alert: QueueLong
    expr: queue_length > 10
    for: 5s
    labels: {severity: page}
    annotations: {summary: "{{ $labels.replica }} holds {{ $value }}"}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_waits_fires_is_grouped_and_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let (url, seen) = webhook().await;
    let (direct_url, direct) = webhook().await;
    let (_alertmanager, address) = alertmanager(dir.path(), &url).await;
    std::fs::write(dir.path().join("cart.rules.yml"), RULES).unwrap();
    let config = dir.path().join("weir.toml");
    let text = format!(
        "[rules]\nfiles = ['*.rules.yml']\nfor_grace_period = '1s'\nresend_delay = '1s'\n\
         [alerts]\nalertmanagers = ['{address}']\nwebhook = '{direct_url}'\n"
    );
    std::fs::write(&config, text).unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let data = dir.path().join("data");
    let long = [("a", 11.0), ("b", 12.5), ("c", 1.0)];

    let server = Server::start(&data, &args);
    until("pending alerts", 10, async || {
        send(&server, &long).await;
        (states(&server).await == ["pending", "pending"]).then_some(())
    })
    .await;
    let recorded = async |server: &Server| {
        let answer = server.get("/api/v1/query?query=job:queue_length:sum").await;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    assert_eq!(until("a recorded sum", 10, async || recorded(&server).await).await, "24.5");
    let since = async |server: &Server| {
        let answer = server.get("/api/v1/query?query=min(ALERTS_FOR_STATE)").await;
        answer["data"]["result"][0]["value"][1].as_str().map(|text| text.parse::<f64>().unwrap())
    };
    let active_since = until("ALERTS_FOR_STATE", 10, async || since(&server).await).await;
    server.process.stop();

    let server = Server::start(&data, &args);
    send(&server, &long).await;
    until("firing alerts", 20, async || {
        send(&server, &long).await;
        (states(&server).await == ["firing", "firing"]).then_some(())
    })
    .await;
    // The time in which nobody looked does not count; the time before does.
    let restored = since(&server).await.unwrap();
    assert!((active_since..active_since + 5.0).contains(&restored), "{active_since} became {restored}");

    let group = |seen: &Seen, status: &str, count: usize| {
        let messages = seen.lock().unwrap().clone();
        messages.into_iter().find(|message| {
            let alerts = message["alerts"].as_array().unwrap();
            message["status"] == status && alerts.len() == count
        })
    };
    let told = until("a group of two", 20, async || {
        send(&server, &long).await;
        group(&seen, "firing", 2)
    })
    .await;
    assert_eq!(told["groupLabels"], json!({"alertname": "QueueLong"}));
    assert_eq!(told["commonLabels"]["severity"], "page");
    let summaries: Vec<&str> = told["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["annotations"]["summary"].as_str().unwrap())
        .collect();
    assert!(summaries.contains(&"a holds 11") && summaries.contains(&"b holds 12.5"), "{summaries:?}");
    let link = told["alerts"][0]["generatorURL"].as_str().unwrap();
    assert_eq!(link, format!("http://{}/graph?g0.expr=queue_length+%3E+10&g0.tab=1", server.http));
    until("a group at the webhook", 10, async || group(&direct, "firing", 2)).await;

    until("their end", 20, async || {
        send(&server, &[("a", 0.0), ("b", 0.0)]).await;
        group(&seen, "resolved", 2).or_else(|| group(&seen, "resolved", 1))
    })
    .await;
    assert_eq!(states(&server).await, Vec::<String>::new());
    let managers = server.get("/api/v1/alertmanagers").await;
    assert_eq!(managers["data"]["activeAlertmanagers"], json!([{"url": format!("{address}/api/v2/alerts")}]));
    tokio::time::timeout(Duration::from_secs(30), async { server.process.stop() }).await.unwrap();
}

/// What Prometheus' own file says of rules and alerts is done as it says, and again when it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_prometheus_says_who_is_told_of_what() {
    let dir = tempfile::tempdir().unwrap();
    let (url, seen) = webhook().await;
    let (_alertmanager, address) = alertmanager(dir.path(), &url).await;
    let config = dir.path().join("prometheus.yml");
    let rules = dir.path().join("rules.yml");
    let write = |region: &str, rule: &str| {
        let host = address.strip_prefix("http://").unwrap();
        let text = format!(
            "global: {{evaluation_interval: 500ms, external_labels: {{region: {region}, replica_of: x}}}}\n\
             rule_files: ['*rules.yml']\n\
             alerting:\n  alert_relabel_configs: [{{regex: replica_of, action: labeldrop}}]\n  alertmanagers:\n  \
             - static_configs: [{{targets: ['{host}']}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        std::fs::write(&rules, format!("groups: [{{name: cart, rules: [{rule}]}}]\n")).unwrap();
    };
    write("eu", "{alert: First, expr: vector(1)}");
    let own = dir.path().join("weir.toml");
    std::fs::write(&own, "[rules]\nresend_delay = '1s'\n").unwrap();
    let args = ["--config", own.to_str().unwrap(), "--prometheus-config", config.to_str().unwrap()];
    let server = Server::start(&dir.path().join("data"), &args);
    let told = |name: &str, region: &str| {
        let messages = seen.lock().unwrap().clone();
        let mut alerts = messages
            .iter()
            .flat_map(|message| message["alerts"].as_array().unwrap().clone())
            .collect::<Vec<_>>();
        alerts.retain(|alert| {
            alert["labels"] == json!({"alertname": name, "region": region}) && alert["status"] == "firing"
        });
        alerts.pop()
    };
    until("the first alert", 20, async || told("First", "eu")).await;
    let reload = async || {
        let asked = reqwest::Client::new().post(format!("http://{}/-/reload", server.http)).send().await;
        let answer = asked.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    write("us", "{alert: Second, expr: 'vector('}");
    let (status, said) = reload().await;
    assert!(status == 500 && said.contains("rules.yml:1:") && said.contains("expr"), "{status} {said}");
    assert_eq!(states(&server).await, ["firing"], "nothing has changed");
    write("us", "{alert: Second, expr: vector(2)}");
    assert_eq!(reload().await, (200, String::new()));
    until("the second alert", 20, async || told("Second", "us")).await;
    until("the end of the first", 20, async || (states(&server).await == ["firing"]).then_some(())).await;
    let managers = server.get("/api/v1/alertmanagers").await;
    assert_eq!(managers["data"]["activeAlertmanagers"], json!([{"url": format!("{address}/api/v2/alerts")}]));
    server.process.stop();
}
