//! Real clients of Consul: py-consul registers and finds services of the mesh, VictoriaMetrics' agent discovers targets
//! among them, and a registration outlives `kill -9`.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::net::SocketAddr;
use std::process::Command;

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use support::python::{python, run, script};
use support::{Process, Server, debian, until, weir};

/// A service that answers and can be scraped.
async fn service() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let router =
        Router::new().route("/", get(async || "the ledger")).route("/metrics", get(async || "entries 3\n"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    at
}

async fn put(server: &Server, path: &str, body: Value) {
    let request = reqwest::Client::new().put(format!("http://{}/v1/agent/{path}", server.http)).json(&body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn py_consul_registers_and_finds_services_of_the_mesh() {
    let python = python("consul");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let app = service().await;
    let mut payments = weir();
    payments.args(["proxy", "--collector", &server.otlp_grpc, "--service", "payments"]);
    payments.args(["--instance", "payments-1", "--version-label", "v7", "--app", &app.to_string()]);
    let mut payments = Process::start("weir proxy payments", &mut payments);
    let mut web = weir();
    web.args(["proxy", "--collector", &server.otlp_grpc, "--service", "web"]);
    web.args(["--outbound", "ledger=127.0.0.1:0", "--retries", "0", "--local-breaker", "off"]);
    let mut web = Process::start("weir proxy web", &mut web);
    payments.ready();
    let outbound = web.ready().get("outbound");
    let ledger = outbound.strip_prefix("ledger=").unwrap();
    let mut client = Command::new(python);
    client.arg(script("consul", "client.py")).args([&server.http, ledger, &app.port().to_string()]);
    assert_eq!(run(&mut client), "done\n");
}

/// Debian builds its Prometheus without discovery by Consul; VictoriaMetrics' agent has it, takes the same
/// configuration, and writes what it scrapes to Weir.
#[tokio::test]
async fn vmagent_discovers_what_is_registered() {
    let vmagent = debian::program("victoria-metrics", "vmagent");
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("weir"), &[]);
    let app = service().await;
    put(
        &server,
        "service/register",
        json!({ "ID": "ledger-1", "Name": "ledger", "Port": app.port(), "Tags": ["blue"],
            "Meta": { "team": "money" }, "Check": { "TTL": "10m", "Status": "passing" } }),
    )
    .await;
    let relabel = |from: &str, to: &str| format!("  - {{source_labels: [{from}], target_label: {to}}}\n");
    let configuration = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n- job_name: consul\n  \
         consul_sd_configs: [{{server: '{}'}}]\n  relabel_configs:\n{}{}{}{}",
        server.http,
        relabel("__meta_consul_service_id", "id"),
        relabel("__meta_consul_tags", "tags"),
        relabel("__meta_consul_service_metadata_team", "team"),
        relabel("__meta_consul_dc", "dc"),
    );
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(vmagent);
    command
        .arg(format!("-promscrape.config={}", file.display()))
        .arg("-promscrape.consulSDCheckInterval=1s")
        .arg(format!("-remoteWrite.url=http://{}/api/v1/write", server.http))
        .arg(format!("-remoteWrite.tmpDataPath={}", folder.path().join("queue").display()))
        .arg("-httpListenAddr=127.0.0.1:0")
        .current_dir(folder.path());
    let _running = Process::start("vmagent", &mut command);

    let entries =
        async || server.get("/api/v1/query?query=entries").await["data"]["result"].as_array().cloned();
    let found = until("what the target serves", 30, async || entries().await?.first().cloned()).await;
    let labels = json!({ "__name__": "entries", "job": "consul", "instance": app.to_string(), "id": "ledger-1",
        "tags": ",blue,", "team": "money", "dc": "dc1" });
    assert_eq!((&found["metric"], &found["value"][1]), (&labels, &json!("3")));

    put(&server, "service/deregister/ledger-1", Value::Null).await;
    until("an end of the target", 30, async || entries().await?.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_registration_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    put(&server, "service/register", json!({ "Name": "ledger", "Port": 80, "Check": { "TTL": "10m" } }))
        .await;
    server.process.kill();
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.get("/v1/agent/services").await["ledger"]["Port"], 80);
    put(&server, "check/pass/service:ledger", Value::Null).await;
    // Not before everybody who was there has had time to come back.
    let early = reqwest::get(format!("http://{}/v1/health/service/ledger", server.http)).await.unwrap();
    assert_eq!((early.status().as_u16(), early.text().await.unwrap().as_str()), (500, "No cluster leader"));
    let health = until("the instance", 30, async || {
        let answer = reqwest::get(format!("http://{}/v1/health/service/ledger?passing", server.http)).await;
        answer.unwrap().json::<Value>().await.ok()
    });
    assert_eq!(health.await[0]["Service"]["ID"], "ledger");
}
