//! Debian's real Prometheus scrapes real exporters and remote-writes into Weir: both answer the same queries alike.
//!
//! Ranges end a few hundred milliseconds off the times of samples: Prometheus 2.42 counts a sample at the very beginning
//! of a range in, later ones and Weir do not.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Process, Server, debian, until};

/// How often exporters are scraped.
const INTERVAL_MS: i64 = 500;
/// Scrapes that there must be before anything is asked.
const SCRAPES: f64 = 26.0;

/// Selectors of what Prometheus and its exporters say of themselves: gauges, counters, histograms, summaries.
const SELECTORS: [&str; 10] = [
    "up",
    "prometheus_http_requests_total",
    "prometheus_tsdb_head_samples_appended_total",
    "go_gc_duration_seconds_count",
    "go_memstats_alloc_bytes_total",
    "process_cpu_seconds_total",
    "weir_collector_accepted_total",
    "prometheus_http_request_duration_seconds_bucket{handler=\"/metrics\"}",
    "scrape_samples_scraped",
    "go_goroutines{job=\"prometheus\"}",
];

/// What is asked of each of them.
const TEMPLATES: [&str; 10] = [
    "X",
    "rate(X[5s])",
    "increase(X[7s])",
    "sum by (job) (X)",
    "topk(2, X)",
    "max_over_time(X[4s])",
    "quantile_over_time(0.7, X[6s])",
    "count(X) + on() group_left() sum(X)",
    "X offset 2s",
    "sum without (instance) (irate(X[5s]))",
];

/// What is asked once.
const QUERIES: [&str; 6] = [
    "histogram_quantile(0.9, sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[6s])))",
    "sum by (instance, job) (rate(prometheus_tsdb_head_samples_appended_total[5s])) / on (instance, job) up",
    "absent(nothing_of_the_kind)",
    "count by (__name__) ({__name__=~\"go_.*\"})",
    "max_over_time(rate(process_cpu_seconds_total[4s])[3s:1s])",
    "label_replace(up, \"kind\", \"$1\", \"job\", \"(.).*\")",
];

async fn ask(address: &str, path: &str, parameters: &[(&str, String)]) -> Value {
    let parameters = parameters.iter().map(|(name, value)| (*name, value.as_str()));
    let url =
        reqwest::Url::parse_with_params(&format!("http://{address}/api/v1/{path}"), parameters).unwrap();
    let answer = reqwest::get(url).await.unwrap();
    answer.json().await.unwrap()
}

/// Labels as text, and at each time a value.
type Series = BTreeMap<String, Vec<(f64, f64)>>;

fn series(answer: &Value) -> Series {
    assert_eq!(answer["status"], "success", "{answer}");
    let point = |point: &Value| {
        let value = point[1].as_str().unwrap();
        let number = match value {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            value => value.parse().unwrap(),
        };
        (point[0].as_f64().unwrap(), number)
    };
    let of = |one: &Value| {
        let points = match one.get("values") {
            Some(values) => values.as_array().unwrap().iter().map(point).collect(),
            None => vec![point(&one["value"])],
        };
        (one["metric"].to_string(), points)
    };
    answer["data"]["result"].as_array().unwrap().iter().map(of).collect()
}

fn alike(a: &Series, b: &Series) -> bool {
    let close =
        |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    let same = |a: &[(f64, f64)], b: &[(f64, f64)]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && close(a.1, b.1))
    };
    a.len() == b.len() && a.iter().zip(b).all(|((l, a), (m, b))| l == m && same(a, b))
}

#[tokio::test]
async fn prometheus_and_weir_answer_alike() {
    let prometheus = debian::program("prometheus", "prometheus");
    let folder = tempfile::tempdir().unwrap();
    let weir = Server::start(&folder.path().join("weir"), &[]);
    // Somebody else may take it before Prometheus does; nobody in a test run is that quick.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let configuration = format!(
        "global:\n  scrape_interval: {INTERVAL_MS}ms\n  scrape_timeout: {INTERVAL_MS}ms\n\
         scrape_configs:\n\
         - job_name: prometheus\n  static_configs: [{{targets: ['{address}']}}]\n\
         - job_name: weir\n  static_configs: [{{targets: ['{}']}}]\n\
         remote_write:\n- url: http://{}/api/v1/write\n  queue_config: {{batch_send_deadline: 200ms}}\n",
        weir.http, weir.http
    );
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .current_dir(folder.path());
    let _running = Process::start("prometheus", &mut command);

    let count = |answer: &Value| {
        let counted = answer["data"]["result"][0]["value"][1].as_str().and_then(|text| text.parse().ok());
        counted.unwrap_or(0.0)
    };
    let enough = [("query", "min(count_over_time(up[60s]))".to_owned())];
    until("scrapes in Prometheus", 30, async || {
        let url = format!("http://{address}/-/ready");
        reqwest::get(url).await.ok().filter(|answer| answer.status() == 200)?;
        let scraped = ask(&address, "query", &enough).await;
        (count(&scraped) >= SCRAPES).then_some(())
    })
    .await;

    // Of a moment that both know all about, off the times of samples.
    let last = [("query", "max(timestamp(up{job=\"prometheus\"}))".to_owned())];
    let end = count(&ask(&address, "query", &last).await);
    let end = (end * 1000.0) as i64 - 2 * INTERVAL_MS + 137;
    let there = [("query", "count({__name__=~\".+\"}) + sum(timestamp(up))".to_owned()), ("time", text(end))];
    until("the samples of the same time in Weir", 20, async || {
        let (theirs, ours) = (ask(&address, "query", &there).await, ask(&weir.http, "query", &there).await);
        (count(&theirs) > 100.0 && theirs["data"] == ours["data"]).then_some(())
    })
    .await;

    let all_arrived = Instant::now() + Duration::from_secs(5);
    let mut different = Vec::new();
    let (mut asked, mut answered) = (0, 0);
    let each =
        SELECTORS.iter().flat_map(|of| TEMPLATES.iter().map(move |template| template.replace('X', of)));
    for query in each.chain(QUERIES.iter().map(|query| (*query).to_owned())) {
        let instant = [("query", query.clone()), ("time", text(end))];
        let range = [
            ("query", query.clone()),
            ("start", text(end - 2_500)),
            ("end", text(end)),
            ("step", "0.625".to_owned()),
        ];
        for (path, parameters) in [("query", &instant[..]), ("query_range", &range[..])] {
            let theirs = series(&ask(&address, path, parameters).await);
            let mut ours = series(&ask(&weir.http, path, parameters).await);
            asked += 1;
            answered += usize::from(!theirs.is_empty());
            // The last samples of some series may still be on their way.
            while !alike(&theirs, &ours) && Instant::now() < all_arrived {
                ours = series(&ask(&weir.http, path, parameters).await);
            }
            if !alike(&theirs, &ours) {
                different.push(format!("{path} {query}\n  prometheus {theirs:?}\n  weir       {ours:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{} of {asked}:\n{}", different.len(), different.join("\n"));
    assert!(answered * 10 > asked * 8, "{answered} of {asked} have an answer at all");
}

/// An exporter of metrics of every type that stand still.
const STILL: &str = r#"# HELP still_requests_total Requests,\nby "kind".
# TYPE still_requests_total counter
still_requests_total{kind="a\"b\\c\nd",zone=""} 12
still_requests_total{kind="grüße"} 3e4
# TYPE still_temperature gauge
still_temperature{room="a"} -0.25
still_temperature{room="b"} NaN
still_temperature{room="c"} +Inf
# TYPE still_seconds histogram
still_seconds_bucket{le="0.1"} 8
still_seconds_bucket{le="0.5"} 9
still_seconds_bucket{le="+Inf"} 10
still_seconds_sum 3.5
still_seconds_count 10
# TYPE still_wait summary
still_wait{quantile="0.5"} 0.2
still_wait{quantile="0.99"} 0.9
still_wait_sum 17
still_wait_count 21
still_untyped{instance="its own",job="mine"} 1
still_secret{password="x"} 1
"#;

/// What both answer alike however far apart they scrape.
const SCRAPED: [&str; 14] = [
    "{__name__=~\"still_.*\"}",
    "up",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "count by (job, instance, zone) (up)",
    "rate(still_requests_total[3s])",
    "histogram_quantile(0.85, still_seconds_bucket)",
    "sum by (kind, job) (still_requests_total) / on (job) group_left () still_seconds_count",
    "count by (__name__) ({job=\"node\",__name__!~\"scrape_.*\"})",
    "count by (mode) (node_cpu_seconds_total)",
    "node_uname_info",
    "node_memory_MemTotal_bytes",
    "group without (cpu) (node_cpu_seconds_total)",
    "changes(still_temperature[2s])",
];

#[tokio::test]
async fn exporters_are_scraped_alike() {
    let folder = tempfile::tempdir().unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (address, node) = (free(), free());
    let mut command = Command::new("prometheus-node-exporter");
    command.arg(format!("--web.listen-address={node}")).arg("--collector.disable-defaults");
    command.args(["--collector.cpu", "--collector.uname", "--collector.meminfo"]);
    let _node = Process::start("prometheus-node-exporter (`make setup-test` installs it)", &mut command);
    let exporter = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let still = exporter.local_addr().unwrap();
    let text = axum::routing::get(async || ([("content-type", "text/plain; version=0.0.4")], STILL));
    tokio::spawn(async move { axum::serve(exporter, axum::Router::new().route("/metrics", text)).await });

    let configuration = format!(
        "global:\n  scrape_interval: {INTERVAL_MS}ms\n  scrape_timeout: {INTERVAL_MS}ms\n\
         scrape_configs:\n\
         - job_name: still\n  honor_labels: true\n  static_configs: [{{targets: ['{still}'], labels: {{zone: z1}}}}]\n  \
         metric_relabel_configs:\n  - {{source_labels: [__name__], regex: '.*_secret', action: drop}}\n  \
         - {{source_labels: [room], target_label: place, replacement: 'room $1'}}\n\
         - job_name: node\n  static_configs: [{{targets: ['{node}', 'localhost:1']}}]\n  \
         relabel_configs:\n  - {{source_labels: [__address__], regex: '(.*):\\d+', target_label: host}}\n"
    );
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(debian::program("prometheus", "prometheus"));
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .current_dir(folder.path());
    let _prometheus = Process::start("prometheus", &mut command);
    let weir = Server::start(&folder.path().join("weir"), &["--prometheus-config", file.to_str().unwrap()]);

    let seen = [("query", "count_over_time(up[1m]) > 8".to_owned())];
    for of in [&address, &weir.http] {
        until("scrapes", 30, async || {
            reqwest::get(format!("http://{of}/-/ready"))
                .await
                .ok()
                .filter(|answer| answer.status() == 200)?;
            let scraped = series(&ask(of, "query", &seen).await);
            (scraped.len() == 3).then_some(())
        })
        .await;
    }
    for query in SCRAPED {
        let asked = [("query", query.to_owned())];
        let theirs = series(&ask(&address, "query", &asked).await);
        let ours = series(&ask(&weir.http, "query", &asked).await);
        let values = |all: &Series| -> Vec<(String, String)> {
            all.iter().map(|(labels, points)| (labels.clone(), points[0].1.to_string())).collect()
        };
        assert_eq!(values(&ours), values(&theirs), "{query}");
        assert!(!theirs.is_empty(), "{query}");
    }
    for (path, parameters) in [
        ("series", vec![("match[]", "{__name__=~\"still.*\"}".to_owned())]),
        ("label/job/values", vec![]),
        ("label/place/values", vec![]),
        ("metadata", vec![("metric", "still_requests_total".to_owned())]),
    ] {
        let theirs = ask(&address, path, &parameters).await["data"].clone();
        let sorted = |mut data: Value| {
            if let Some(list) = data.as_array_mut() {
                list.sort_by_key(Value::to_string);
            }
            data
        };
        let ours = ask(&weir.http, path, &parameters).await["data"].clone();
        assert_eq!(sorted(ours), sorted(theirs), "{path}");
    }
}

/// Milliseconds as seconds.
fn text(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
