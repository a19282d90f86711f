//! The API as clients see it: routes, blocking queries and restarts, on a paused clock.

use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;
use weir_model::hint::HintSet;

use super::*;
use crate::counters::Counters as CollectorCounters;

/// An API that runs over a mesh of its own.
struct Running {
    consul: Arc<Consul>,
    mesh: MeshService,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    index: u64,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    /// The ids of the instances in an answer of `/v1/health/service/…`.
    fn ids(&self) -> Vec<String> {
        let all = self.json();
        all.as_array().unwrap().iter().map(|one| one["Service"]["ID"].as_str().unwrap().to_owned()).collect()
    }
}

impl Running {
    fn start(epoch: u64, file: Option<&Path>) -> Self {
        let stop = CancellationToken::new();
        let (_, hints) = watch::channel(HintSet::default());
        let (acks, _) = mpsc::channel(1);
        let counters = Arc::new(CollectorCounters::default());
        let mesh = MeshService::new(epoch, hints, acks, counters, stop.clone());
        let http = SocketAddr::from(([127, 0, 0, 1], 4319));
        let file = file.map(Path::to_owned);
        let consul = Consul::open(mesh.clone(), http, file, stop.clone()).unwrap();
        let (running, expiring) = (Arc::clone(&consul), mesh.clone());
        let task = tokio::spawn(async move {
            tokio::join!(running.run(), expiring.run_expiry());
        });
        Self { consul, mesh, stop, task }
    }

    async fn ask(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let response = self.consul.router().oneshot(request).await.unwrap();
        let status = response.status();
        let index = response.headers().get("x-consul-index").map_or("0", |value| value.to_str().unwrap());
        let index = index.parse().unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, index, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Body::empty()).await
    }

    async fn put(&self, path: &str, body: Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.ask("PUT", path, body).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, ""), "{path}");
    }

    async fn register(&self, body: Value) {
        self.put("/v1/agent/service/register", body).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn ttl(id: &str, name: &str) -> Value {
    json!({ "ID": id, "Name": name, "Port": 80, "Tags": ["v1"], "Check": { "TTL": "10s", "Status": "passing" } })
}

#[tokio::test(start_paused = true)]
async fn a_blocking_query_ends_with_a_change_of_its_service_and_of_no_other() {
    let running = Running::start(1, None);
    running.register(ttl("a-1", "a")).await;
    let first = running.get("/v1/health/service/a").await;
    assert_eq!(first.ids(), ["a-1"]);
    let path = format!("/v1/health/service/a?index={}&wait=1m", first.index);
    let began = Instant::now();
    let changing = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        running.register(ttl("b-1", "b")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        running.put("/v1/agent/check/fail/service:a-1?note=broken", Value::Null).await;
    };
    let (answer, ()) = tokio::join!(running.get(&path), changing);
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert!(answer.index > first.index);
    let entry = &answer.json()[0];
    assert_eq!(
        (&entry["Checks"][0]["Status"], &entry["Checks"][0]["Output"]),
        (&json!("critical"), &json!("broken"))
    );
    assert_eq!(running.get("/v1/health/service/a?passing").await.ids(), Vec::<String>::new());
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_blocking_query_without_a_change_ends_in_time() {
    let running = Running::start(1, None);
    running.register(json!({ "ID": "a-1", "Name": "a" })).await;
    for (path, wait) in [
        ("/v1/health/service/a?wait=160s&index=", 160),
        ("/v1/catalog/service/a?wait=2m&index=", 120),
        ("/v1/catalog/services?index=", 300),
        ("/v1/catalog/nodes?wait=1h&index=", 600),
        ("/v1/health/state/any?wait=16s&index=", 16),
        ("/v1/health/service/nobody?wait=16s&index=", 16),
    ] {
        let index = running.get(path).await.index;
        assert!(index > 0, "{path}");
        let began = Instant::now();
        let answer = running.get(&format!("{path}{index}")).await;
        assert_eq!(answer.index, index);
        let (took, wait) = (began.elapsed(), Duration::from_secs(wait));
        assert!(took >= wait && took <= wait + wait / 16 + Duration::from_millis(2), "{path} took {took:?}");
    }
    let began = Instant::now();
    running.get(&format!("/v1/health/service/a?index={}", u64::MAX)).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "an index of another life is not waited for");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_lapses_wakes_who_waits_and_in_the_end_the_instance_goes() {
    let running = Running::start(1, None);
    let check = json!({ "TTL": "10s", "Status": "passing", "DeregisterCriticalServiceAfter": "90s" });
    running.register(json!({ "ID": "a-1", "Name": "a", "Port": 80, "Check": check })).await;
    let mut changes = vec![];
    let began = Instant::now();
    let mut index = running.get("/v1/health/service/a").await.index;
    for _ in 0..2 {
        let answer = running.get(&format!("/v1/health/service/a?index={index}&wait=5m")).await;
        let status = answer.json()[0]["Checks"][0]["Status"].clone();
        changes.push((began.elapsed().as_secs(), status));
        index = answer.index;
    }
    assert_eq!(changes, [(10, json!("critical")), (100, Value::Null)]);
    assert_eq!(running.get("/v1/catalog/services").await.json(), json!({}));
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait_and_a_stop_ends_them() {
    let running = Running::start(1, None);
    let index = running.get("/v1/catalog/services").await.index;
    let path = format!("/v1/catalog/services?index={index}");
    let held = running.consul.watches.try_acquire_many(limits::AGENT_WATCHES as u32).unwrap();
    let refused = running.get(&path).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(running.get("/v1/catalog/services").await.status, StatusCode::OK);
    drop(held);
    let mut metrics = String::new();
    running.consul.write_prometheus(&mut metrics);
    assert!(metrics.contains("\nweir_consul_watches_refused_total 1\n"), "{metrics}");
    let began = Instant::now();
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        running.stop.cancel();
    };
    tokio::join!(running.get(&path), stopping);
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn registrations_outlive_a_restart_and_nobody_is_told_too_early() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("consul.json");
    let running = Running::start(1, Some(&file));
    running.register(ttl("a-1", "a")).await;
    running.register(ttl("a-2", "a")).await;
    running.register(ttl("gone", "a")).await;
    running.put("/v1/agent/service/deregister/gone", Value::Null).await;
    running.put("/v1/agent/check/fail/service:a-2", Value::Null).await;
    let index = running.get("/v1/health/service/a").await.index;
    running.end().await;

    let running = Running::start(2, Some(&file));
    let early = running.get("/v1/health/service/a").await;
    assert_eq!((early.status, early.text.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader"));
    assert_eq!(running.get("/v1/status/leader").await.json(), json!(""));
    assert_eq!(running.get("/v1/agent/services").await.json().as_object().unwrap().len(), 2);
    tokio::time::sleep(limits::REGISTRATION_RENEW + limits::REGISTRATION_SETTLE).await;
    let answer = running.get(&format!("/v1/health/service/a?index={index}")).await;
    assert!(answer.index > index, "{index} {answer:?}");
    assert_eq!(answer.ids(), ["a-1", "a-2"]);
    assert_eq!(running.get("/v1/health/service/a?passing").await.ids(), ["a-1"]);
    let services = running.mesh.services();
    assert_eq!((services[0].name.as_str(), &services[0].instances), ("a", &vec!["a-1".to_owned()]));
    assert_eq!(running.get("/v1/catalog/services").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    // Nobody has reported since.
    tokio::time::sleep(limits::REGISTRATION_GRACE).await;
    assert_eq!(running.get("/v1/health/service/a?passing").await.ids(), Vec::<String>::new());
    assert_eq!(running.get("/v1/catalog/services").await.json(), json!({ "a": ["v1"] }));
    assert_eq!(running.get("/v1/status/leader").await.json(), json!("127.0.0.1:4319"));
    running.end().await;
}

#[tokio::test]
async fn a_registration_that_cannot_be_written_down_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sub").join("consul.json");
    let running = Running::start(1, Some(&file));
    let answer = running.ask("PUT", "/v1/agent/service/register", ttl("a-1", "a").to_string()).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        answer.text.starts_with("registered, but not kept over a restart: No such file"),
        "{}",
        answer.text
    );
    running.end().await;
}

#[test]
fn a_damaged_file_is_told_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("consul.json");
    assert_eq!(file::read(&path).unwrap(), Default::default());
    for bytes in ["{\"version\":1,\"serv", "{\"version\":9,\"services\":[],\"checks\":[]}", "[]"] {
        std::fs::write(&path, bytes).unwrap();
        let error = file::read(&path).unwrap_err();
        assert!(matches!(error, RestoreError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_have_the_members_that_clients_read() {
    let running = Running::start(1, None);
    running
        .register(json!({ "ID": "a-1", "Name": "a", "Address": "10.0.0.1", "Port": 80, "Tags": ["V1", "x"],
            "Meta": { "k": "v" }, "Weights": { "Passing": 7, "Warning": 3 }, "EnableTagOverride": true,
            "TaggedAddresses": { "wan": { "Address": "1.2.3.4", "Port": 8 } },
            "Check": { "HTTP": "http://127.0.0.1:1/", "Interval": "90s", "Timeout": "1s", "Notes": "n" } }))
        .await;
    running
        .put("/v1/agent/check/register", json!({ "Name": "disk", "TTL": "1h", "Status": "warning" }))
        .await;
    let services = running.get("/v1/agent/services").await.json();
    let service = &services["a-1"];
    for (key, value) in [
        ("ID", json!("a-1")),
        ("Service", json!("a")),
        ("Tags", json!(["V1", "x"])),
        ("Meta", json!({ "k": "v" })),
        ("Port", json!(80)),
        ("Address", json!("10.0.0.1")),
        ("TaggedAddresses", json!({ "wan": { "Address": "1.2.3.4", "Port": 8 } })),
        ("Weights", json!({ "Passing": 7, "Warning": 3 })),
        ("EnableTagOverride", json!(true)),
    ] {
        assert_eq!(service[key], value, "{key}");
    }
    assert_eq!(running.get("/v1/agent/service/a-1").await.json(), *service);
    let checks = running.get("/v1/agent/checks").await.json();
    let check = &checks["service:a-1"];
    assert_eq!((&check["Name"], &check["Type"]), (&json!("Service 'a' check"), &json!("http")));
    assert_eq!((&check["Interval"], &check["Timeout"]), (&json!("1m30s"), &json!("1s")));
    assert_eq!((&checks["disk"]["ServiceID"], &checks["disk"]["Status"]), (&json!(""), &json!("warning")));
    let catalog = running.get("/v1/catalog/service/a?tag=v1&tag=X").await.json();
    assert_eq!(
        (&catalog[0]["ServiceID"], &catalog[0]["ServiceAddress"]),
        (&json!("a-1"), &json!("10.0.0.1"))
    );
    assert_eq!((&catalog[0]["ServicePort"], &catalog[0]["Node"]), (&json!(80), &json!("weir")));
    assert_eq!(running.get("/v1/catalog/service/a?tag=other").await.json(), json!([]));
    assert_eq!(running.get("/v1/health/service/a?node-meta=a:b").await.json(), json!([]));
    assert_eq!(running.get("/v1/health/checks/a").await.json()[0]["CheckID"], "service:a-1");
    assert_eq!(running.get("/v1/health/state/warning").await.json()[0]["CheckID"], "disk");
    assert_eq!(running.get("/v1/health/state/any").await.json().as_array().unwrap().len(), 2);
    assert_eq!(running.get("/v1/catalog/nodes").await.json()[0]["Address"], "127.0.0.1");
    assert_eq!(running.get("/v1/catalog/datacenters").await.json(), json!(["dc1"]));
    assert_eq!(running.get("/v1/agent/self").await.json()["Config"]["Datacenter"], "dc1");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_lines_of_text() {
    let running = Running::start(1, None);
    running.register(json!({ "Name": "a", "Check": { "TCP": "127.0.0.1:1", "Interval": "1h" } })).await;
    let long = "x".repeat(limits::AGENT_REQUEST_BYTES + 1);
    for (method, path, body, status, said) in [
        ("PUT", "/v1/agent/service/register", "{", 400, "Request decode failed: EOF while parsing"),
        ("PUT", "/v1/agent/service/register", long.as_str(), 413, "Request body too large"),
        ("PUT", "/v1/agent/service/deregister/b", "", 404, "Unknown service ID \"b\""),
        (
            "PUT",
            "/v1/agent/check/register",
            "{\"Name\":\"c\",\"TTL\":\"1s\",\"ServiceID\":\"b\"}",
            404,
            "Unknown service ID",
        ),
        ("PUT", "/v1/agent/check/deregister/b", "", 404, "Unknown check ID \"b\""),
        ("PUT", "/v1/agent/check/pass/b", "", 404, "Unknown check ID \"b\""),
        (
            "PUT",
            "/v1/agent/check/warn/service:a",
            "",
            404,
            "CheckID \"service:a\" does not have associated TTL",
        ),
        ("PUT", "/v1/agent/check/update/service:a", "{}", 400, "Invalid check status: ''"),
        ("GET", "/v1/agent/service/b", "", 404, "Unknown service ID \"b\""),
        ("GET", "/v1/agent/service/deregister/a", "", 405, "method not allowed"),
        ("POST", "/v1/health/service/a", "", 405, "method not allowed"),
        ("GET", "/v1/health/state/odd", "", 400, "Invalid state: 'odd'"),
        ("GET", "/v1/health/service/a?dc=other", "", 500, "No path to datacenter"),
        ("GET", "/v1/kv/a", "", 404, "not found"),
    ] {
        let answer = running.ask(method, path, body.to_owned()).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text);
        assert!(answer.text.starts_with(said), "{method} {path}: {}", answer.text);
    }
    running.end().await;
}
