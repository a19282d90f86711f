//! A service mesh's primer as it is typed: the scrape configuration of its control plane and proxies, and then the
//! rate of requests from one service's callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use serde_json::Value;

use super::support::{Server, until};

/// As such primers have it; intervals are shorter, so that a test has not to wait.
const PRIMER: &str = r#"
global:
  scrape_interval: 400ms
scrape_configs:
# Telemetry of the mesh
- job_name: 'istio-mesh'
  static_configs:
  - targets: ['istio-telemetry:42422']
# The control plane
- job_name: 'istio-pilot'
  static_configs:
  - targets: ['pilot-proxy:15014']
- job_name: 'istio-policy'
  static_configs:
  - targets: ['istio-policy:15014']
# The proxies themselves
- job_name: 'envoy-stats'
  metrics_path: /stats/prometheus
  static_configs:
  - targets: ['myservice-envoy:15090']
    labels: {pod_name: myservice-0}
  relabel_configs:
  - source_labels: [__address__]
    regex: ([^:]+)(?::\d+)?
    replacement: $1:15090
    target_label: __address__
  - action: labeldrop
    regex: __meta_(.+)
"#;

/// The query as it is typed.
const QUERY: &str = r#"rate(istio_requests_total{reporter="source",destination_service="myservice"}[5m])"#;

/// Requests that each scrape finds to have been made since the one before.
const STEP: u64 = 7;

/// What a mesh's telemetry service serves: the requests of two callers, as both sides have seen them.
fn telemetry(requests: u64) -> String {
    let mut text =
        String::from("# HELP istio_requests_total requests\n# TYPE istio_requests_total counter\n");
    for (reporter, destination, value) in [
        ("source", "myservice", requests),
        ("destination", "myservice", requests * 2),
        ("source", "otherservice", requests * 3),
    ] {
        text.push_str(&format!(
            "istio_requests_total{{connection_security_policy=\"mutual_tls\",destination_app=\"{destination}\",\
             destination_principal=\"cluster.local/ns/default/sa/{destination}\",destination_service=\"{destination}\",\
             destination_service_name=\"{destination}\",destination_service_namespace=\"default\",\
             destination_version=\"v1\",destination_workload=\"{destination}\",permissive_response_code=\"none\",\
             reporter=\"{reporter}\",request_protocol=\"http\",response_code=\"200\",response_flags=\"-\",\
             source_app=\"web\",source_principal=\"cluster.local/ns/default/sa/web\",source_version=\"v1\",\
             source_workload=\"web\",source_workload_namespace=\"default\"}} {value}\n"
        ));
    }
    text
}

/// Serves `text` at `address`, made anew for each scrape.
async fn exporter(address: &str, path: &str, text: impl Fn() -> String + Clone + Send + Sync + 'static) {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .unwrap_or_else(|error| panic!("{address} is needed for this test: {error}"));
    let answer = async move || ([("content-type", "text/plain; version=0.0.4")], text());
    let router = Router::new().route(path, get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
}

async fn ask(server: &Server, query: &str, time: &str) -> Vec<Value> {
    let url = format!("http://{}/api/v1/query", server.http);
    let url = reqwest::Url::parse_with_params(&url, [("query", query), ("time", time)]).unwrap();
    let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    answer["data"]["result"].as_array().unwrap_or_else(|| panic!("`{query}` answered {answer}")).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primer_works_as_typed() {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = move || telemetry(requests.fetch_add(STEP, Ordering::Relaxed));
    // Each has its own address, as ports are given.
    exporter("127.77.15.1:42422", "/metrics", counted).await;
    exporter("127.77.15.2:15014", "/metrics", || "# TYPE pilot_xds gauge\npilot_xds 3\n".to_owned()).await;
    exporter("127.77.15.3:15014", "/metrics", || "mixer_up 1\n".to_owned()).await;
    exporter("127.77.15.4:15090", "/stats/prometheus", || "envoy_server_live 1\n".to_owned()).await;

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, PRIMER).unwrap();
    let hosts = "istio-telemetry:127.77.15.1,pilot-proxy:127.77.15.2,istio-policy:127.77.15.3,\
                 myservice-envoy:127.77.15.4";
    let flags = ["--prometheus-config", file.to_str().unwrap(), "--add-host", hosts];
    let server = Server::start(&dir.path().join("data"), &flags);

    let begun = Instant::now();
    let now = || {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        format!("{:.3}", since_epoch.as_secs_f64())
    };
    until("four targets that are up", 10, async || {
        (ask(&server, "up == 1", &now()).await.len() == 4).then_some(())
    })
    .await;
    let pilot = ask(&server, "pilot_xds", &now()).await;
    assert_eq!(pilot[0]["metric"]["instance"], "pilot-proxy:15014");
    assert_eq!(pilot[0]["metric"]["job"], "istio-pilot");
    let envoy = ask(&server, "envoy_server_live", &now()).await;
    assert_eq!(envoy[0]["metric"]["pod_name"], "myservice-0");

    // Some scrapes later, at one moment: the rate, and the samples it is made of.
    let time = until("six scrapes of the mesh", 10, async || {
        let time = now();
        let counted = ask(&server, &QUERY.replace("rate(", "count_over_time("), &time).await;
        let enough = |series: &Value| series["value"][1].as_str().unwrap().parse::<f64>().unwrap() >= 6.0;
        counted.first().is_some_and(enough).then_some(time)
    })
    .await;
    let rate = ask(&server, QUERY, &time).await;
    assert_eq!(rate.len(), 1, "one caller, as its own side has seen it: {rate:?}");
    assert_eq!(rate[0]["metric"]["source_workload"], "web");
    let rate: f64 = rate[0]["value"][1].as_str().unwrap().parse().unwrap();

    // Whole milliseconds: seconds since 1970 leave too few digits behind the point.
    let millis = |seconds: f64| (seconds * 1e3).round();
    let selector = QUERY.trim_start_matches("rate(").trim_end_matches(')');
    let samples = ask(&server, selector, &time).await;
    let samples: Vec<(f64, f64)> = samples[0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| (millis(sample[0].as_f64().unwrap()), sample[1].as_str().unwrap().parse().unwrap()))
        .collect();
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    assert_eq!(
        last.1 - first.1,
        (STEP * (samples.len() as u64 - 1)) as f64,
        "no request is lost: {samples:?}"
    );
    // Prometheus adds at both ends what half a step, or the way to zero, would have brought, and divides by the range.
    let (end, step) = (millis(time.parse().unwrap()), (last.0 - first.0) / (samples.len() - 1) as f64);
    let at_end = if end - last.0 < step * 1.1 { end - last.0 } else { step / 2.0 };
    let to_zero = (last.0 - first.0) * first.1 / (last.1 - first.1);
    let expected =
        (last.1 - first.1) * (1.0 + (at_end + (step / 2.0).min(to_zero)) / (last.0 - first.0)) / 300.0;
    assert!((rate - expected).abs() < 1e-9 * expected, "{rate} is not {expected}");
    server.process.stop();
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
}
