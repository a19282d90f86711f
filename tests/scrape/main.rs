//! Prometheus' configuration files, as they are: real exporters are found in every way, scraped and queried, and what
//! becomes of them is seen.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod mesh;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Process, Server, until};

/// A real `prometheus-node-exporter`, on a port of its own.
struct NodeExporter {
    process: Process,
    address: String,
}

impl NodeExporter {
    async fn start() -> Self {
        let address = free_address();
        let mut command = Command::new("prometheus-node-exporter");
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--collector.disable-defaults", "--collector.cpu", "--collector.loadavg"]);
        let process =
            Process::start("prometheus-node-exporter (`make setup-test` installs it)", &mut command);
        until("answer of the exporter", 10, async || {
            reqwest::get(format!("http://{address}/metrics")).await.ok().map(|_| ())
        })
        .await;
        Self { process, address }
    }
}

/// An address on loopback where nobody listens.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// What `/api/v1/query` answers: each series with its value.
async fn query(server: &Server, query: &str) -> Vec<(Value, f64)> {
    let url =
        reqwest::Url::parse_with_params(&format!("http://{}/api/v1/query", server.http), [("query", query)]);
    let answer: Value = reqwest::get(url.unwrap()).await.unwrap().json().await.unwrap();
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("`{query}` answered {answer}"));
    result
        .iter()
        .map(|series| (series["metric"].clone(), series["value"][1].as_str().unwrap().parse().unwrap()))
        .collect()
}

/// Waits until `query` has the single value `expected`, or no series at all.
async fn until_value(server: &Server, of: &str, expected: Option<f64>) {
    until(&format!("{expected:?} of `{of}`"), 10, async || {
        let found = query(server, of).await;
        match expected {
            None => found.is_empty().then_some(()),
            Some(expected) => (found.len() == 1 && found[0].1 == expected).then_some(()),
        }
    })
    .await;
}

fn write(dir: &Path, name: &str, text: &str) {
    // As a careful user writes it: whoever reads sees the old file or the new one.
    let temporary = dir.join(format!("{name}.new"));
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, dir.join(name)).unwrap();
}

async fn reload(server: &Server) -> reqwest::Response {
    reqwest::Client::new().post(format!("http://{}/-/reload", server.http)).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exporters_are_found_in_every_way_scraped_and_seen_to_end() {
    let (first, second) = (NodeExporter::start().await, NodeExporter::start().await);
    let (of_first, of_second) = (&first.address, &second.address);
    let nobody = free_address();
    let http = servers::http_sd(of_first).await;
    let consul = servers::consul(of_first, of_second).await;
    let dns = servers::dns(of_first.rsplit_once(':').unwrap().1.parse().unwrap());

    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "targets.json",
        &json!([{"targets": [of_first], "labels": {"env": "test"}}]).to_string(),
    );
    write(dir.path(), "token", "s3cret\n");
    let config = format!(
        r#"
global: {{scrape_interval: 500ms, external_labels: {{region: eu}}}}
scrape_configs:
- job_name: node
  static_configs: [{{targets: ['{of_first}'], labels: {{env: prod}}}}]
  metric_relabel_configs:
  - {{source_labels: [__name__], regex: 'go_.*|process_.*', action: drop}}
- job_name: nobody
  static_configs: [{{targets: ['{nobody}']}}]
- job_name: files
  file_sd_configs: [{{files: ['*.json']}}]
- job_name: http
  http_sd_configs: [{{url: 'http://{http}/targets', bearer_token_file: token}}]
  relabel_configs:
  - {{source_labels: [__meta_team], target_label: team}}
- job_name: consul
  consul_sd_configs: [{{server: '{consul}', refresh_interval: 100ms, token: hunter2}}]
  relabel_configs:
  - {{source_labels: [__meta_consul_tags], regex: '.*,prod,.*', action: keep}}
  - {{source_labels: [__meta_consul_service, __meta_consul_dc, __meta_consul_health], separator: /, target_label: consul}}
- job_name: dns
  dns_sd_configs: [{{names: [_node._tcp.shop.test], refresh_interval: 1s}}]
"#
    );
    write(dir.path(), "prometheus.yml", &config);
    let file = dir.path().join("prometheus.yml");
    let data = tempfile::tempdir().unwrap();
    let flags = [
        "--prometheus-config",
        file.to_str().unwrap(),
        "--dns-server",
        &dns,
        "--add-host",
        "node.shop.test:127.0.0.1",
    ];
    let server = Server::start(data.path(), &flags);

    for (job, value) in
        [("node", 1.0), ("nobody", 0.0), ("files", 1.0), ("http", 1.0), ("consul", 1.0), ("dns", 1.0)]
    {
        until_value(&server, &format!("up{{job=\"{job}\"}}"), Some(value)).await;
    }
    let labels = |found: Vec<(Value, f64)>| found.into_iter().map(|(labels, _)| labels).collect::<Vec<_>>();
    let up = |rest: Value| {
        let mut labels = json!({"__name__": "up", "instance": of_first});
        labels.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        [labels]
    };
    assert_eq!(labels(query(&server, "up{job=\"node\"}").await), up(json!({"job": "node", "env": "prod"})));
    assert_eq!(labels(query(&server, "up{job=\"files\"}").await), up(json!({"job": "files", "env": "test"})));
    assert_eq!(labels(query(&server, "up{job=\"http\"}").await), up(json!({"job": "http", "team": "shop"})));
    assert_eq!(
        labels(query(&server, "up{job=\"consul\"}").await),
        up(json!({"job": "consul", "consul": "web/dc1/passing"}))
    );
    let by_name = format!("node.shop.test:{}", of_first.rsplit_once(':').unwrap().1);
    assert_eq!(query(&server, "up{job=\"dns\"}").await[0].0["instance"], by_name);

    // What the exporter says is what is there.
    let processors = std::thread::available_parallelism().unwrap().get() as f64;
    until_value(&server, "count(node_cpu_seconds_total{job=\"node\",mode=\"idle\"})", Some(processors)).await;
    assert!(query(&server, "{__name__=~\"go_.*\",job=\"node\"}").await.is_empty(), "relabelling drops them");
    assert!(!query(&server, "{__name__=~\"go_.*\",job=\"files\"}").await.is_empty());
    assert!(
        query(&server, "scrape_samples_scraped{job=\"node\"} > scrape_samples_post_metric_relabeling")
            .await
            .len()
            == 1
    );

    the_api_tells_of_targets(&server, of_first).await;

    // A file of targets changes: what it had no more ends, what it has begins.
    write(dir.path(), "targets.json", &json!([{"targets": [of_second]}]).to_string());
    until_value(&server, &format!("up{{job=\"files\",instance=\"{of_second}\"}}"), Some(1.0)).await;
    until_value(&server, &format!("up{{job=\"files\",instance=\"{of_first}\"}}"), None).await;
    until_value(&server, &format!("node_load1{{job=\"files\",instance=\"{of_first}\"}}"), None).await;

    // The exporter dies: it is down, and its series end at once and not after five minutes.
    assert_eq!(query(&server, "node_load1{job=\"node\"}").await.len(), 1);
    first.process.kill();
    until_value(&server, "up{job=\"node\"}", Some(0.0)).await;
    until_value(&server, "node_load1{job=\"node\"}", None).await;
    assert_eq!(
        query(&server, "count_over_time(node_load1{job=\"node\"}[1m]) > 0").await.len(),
        1,
        "they were there"
    );

    the_configuration_is_loaded_again(&server, dir.path(), &config, of_second).await;
    server.process.stop();
}

async fn the_api_tells_of_targets(server: &Server, exporter: &str) {
    let targets = server.get("/api/v1/targets?scrapePool=node").await;
    let active = &targets["data"]["activeTargets"];
    assert_eq!(active.as_array().unwrap().len(), 1, "{targets}");
    let target = &active[0];
    assert_eq!(target["labels"], json!({"env": "prod", "instance": exporter, "job": "node"}));
    assert_eq!(target["discoveredLabels"]["__address__"], *exporter);
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")));
    assert_eq!(target["scrapeUrl"], format!("http://{exporter}/metrics"));
    assert_eq!(target["scrapeInterval"], "500ms");
    assert!(target["lastScrape"].as_str().unwrap().starts_with("20"), "{target}");
    let down = server.get("/api/v1/targets?state=active&scrapePool=nobody").await;
    let error = down["data"]["activeTargets"][0]["lastError"].as_str().unwrap();
    assert!(error.contains("refused"), "{error}");
    let dropped = server.get("/api/v1/targets?state=dropped&scrapePool=consul").await;
    assert_eq!(dropped["data"]["droppedTargets"].as_array().unwrap().len(), 1, "{dropped}");
    assert_eq!(dropped["data"]["droppedTargetCounts"]["consul"], 1);
    let wrong = server.get("/api/v1/targets?state=odd").await;
    assert_eq!((&wrong["status"], &wrong["errorType"]), (&json!("error"), &json!("bad_data")));

    let metadata = server.get("/api/v1/targets/metadata?match_target={job=\"node\"}&metric=node_load1").await;
    assert_eq!(metadata["data"][0]["type"], "gauge");
    assert_eq!(metadata["data"][0]["help"], "1m load average.");
    let pools = server.get("/api/v1/scrape_pools").await;
    assert_eq!(pools["data"]["scrapePools"], json!(["consul", "dns", "files", "http", "nobody", "node"]));
    let config = server.get("/api/v1/status/config").await;
    let yaml = config["data"]["yaml"].as_str().unwrap();
    assert!(yaml.contains("job_name: nobody") && yaml.contains("token: <secret>"), "{yaml}");
    assert!(!yaml.contains("hunter2"), "{yaml}");
    let metrics =
        reqwest::get(format!("http://{}/metrics", server.http)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("weir_collector_scrape_targets{job=\"node\"} 1"), "{metrics}");
}

async fn the_configuration_is_loaded_again(server: &Server, dir: &Path, config: &str, exporter: &str) {
    let refused = {
        write(dir, "prometheus.yml", &config.replace("metric_relabel_configs", "metric_relabel"));
        reload(server).await
    };
    assert_eq!(refused.status(), 500);
    let said = refused.text().await.unwrap();
    assert!(said.contains("scrape_configs[0].metric_relabel: no such key"), "{said}");
    assert_eq!(query(server, "up{job=\"files\"}").await.len(), 1, "it goes on as it was");

    let more = config.replace("- job_name: nobody", "- job_name: somebody");
    write(dir, "prometheus.yml", &more.replace("job_name: node\n", "job_name: nodes\n"));
    assert_eq!(reload(server).await.status(), 200);
    until_value(server, "up{job=\"somebody\"}", Some(0.0)).await;
    until_value(server, "up{job=\"nobody\"}", None).await;

    let addressed = more.replace(
        "- job_name: somebody\n",
        &format!("- job_name: late\n  static_configs: [{{targets: ['{exporter}']}}]\n- job_name: somebody\n"),
    );
    write(dir, "prometheus.yml", &addressed);
    server.process.signal("HUP");
    until_value(server, "up{job=\"late\"}", Some(1.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_scraped_and_queried() {
    let address = servers::native_histogram().await;
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "global: {{scrape_interval: 300ms, scrape_native_histograms: true}}\nscrape_configs:\n- job_name: native\n  \
         static_configs: [{{targets: ['{address}']}}]\n"
    );
    write(dir.path(), "prometheus.yml", &config);
    let file = dir.path().join("prometheus.yml");
    let server = Server::start(&dir.path().join("data"), &["--prometheus-config", file.to_str().unwrap()]);
    until_value(&server, "histogram_count(native)", Some(10.0)).await;
    until_value(&server, "histogram_sum(native)", Some(12.5)).await;
    until_value(&server, "histogram_fraction(1, 2, native)", Some(0.5)).await;
    server.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_mistakes_is_refused_with_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "prometheus.yml", "scrape_configs:\n- job_nam: a\n  scheme: ftp\n");
    let file = dir.path().join("prometheus.yml");
    let flags = ["--prometheus-config", file.to_str().unwrap()];
    let mut process = Process::start("weir serve", &mut Server::command(&dir.path().join("data"), &flags));
    let status = process.wait(Duration::from_secs(20));
    assert!(!status.success());
    let log = process.log();
    for told in [
        "line 2, column 3: scrape_configs[0]: `job_name` is missing",
        "job_nam: no such key",
        "line 3, column 3: scrape_configs[0].scheme",
    ] {
        assert!(log.contains(told), "no `{told}` in {log}");
    }
}
