//! Small servers that tell of targets as real ones do.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

/// Serves `router` and says where.
pub(crate) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A list of targets for those who have the token.
pub(crate) async fn http_sd(target: &str) -> String {
    let targets = json!([{"targets": [target], "labels": {"__meta_team": "shop"}}]);
    let answer = async move |headers: HeaderMap| -> Response {
        if headers.get("authorization").is_none_or(|value| value != "Bearer s3cret") {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        axum::Json(targets).into_response()
    };
    serve(Router::new().route("/targets", get(answer))).await
}

#[derive(serde::Deserialize)]
struct Wait {
    index: Option<u64>,
}

type Instances = Arc<[(&'static str, String, &'static str); 2]>;

/// The part of Consul's API that discovery uses: two services, one of which has the tag `prod`, and no change ever.
pub(crate) async fn consul(with_tag: &str, without: &str) -> String {
    let instances: Instances =
        Arc::new([("web", with_tag.to_owned(), "prod"), ("db", without.to_owned(), "test")]);
    let services = async |headers: HeaderMap, Query(wait): Query<Wait>| -> Response {
        if headers.get("x-consul-token").is_none_or(|value| value != "hunter2") {
            return StatusCode::FORBIDDEN.into_response();
        }
        after(wait, json!({"web": ["prod"], "db": ["test"], "consul": []})).await
    };
    let health = async |State(instances): State<Instances>,
                        axum::extract::Path(service): axum::extract::Path<String>,
                        Query(wait): Query<Wait>| {
        let found = instances.iter().filter(|(name, _, _)| *name == service).map(|(name, address, tag)| {
            let (host, port) = address.rsplit_once(':').unwrap();
            json!({
                "Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1", "Meta": {"rack-id": "7"}},
                "Service": {"ID": format!("{name}-1"), "Service": name, "Tags": [tag], "Address": host,
                            "Port": port.parse::<u16>().unwrap(), "Meta": null},
                "Checks": [{"CheckID": "http", "Status": "passing"}],
            })
        });
        after(wait, found.collect()).await
    };
    let router = Router::new()
        .route("/v1/catalog/services", get(services))
        .route("/v1/health/service/{service}", get(health))
        .with_state(instances);
    serve(router).await
}

/// An answer at once, and for who has seen it, after a while.
async fn after(wait: Wait, answer: serde_json::Value) -> Response {
    if wait.index.is_some() {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    ([("X-Consul-Index", "5")], axum::Json(answer)).into_response()
}

/// A DNS server whose every answer is one SRV record: `node.shop.test` at `port`.
pub(crate) fn dns(port: u16) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let question_end = 12 + buffer[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = buffer[..question_end].to_vec();
            answer[2..12].copy_from_slice(&[0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            // The name of the question, SRV, IN, a minute.
            answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60]);
            let mut data = vec![0, 1, 0, 1];
            data.extend(port.to_be_bytes());
            for label in ["node", "shop", "test", ""] {
                data.push(label.len() as u8);
                data.extend(label.as_bytes());
            }
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
            socket.send_to(&answer, client).unwrap();
        }
    });
    address
}

/// A native histogram of 10 observations whose sum is 12.5, in protobuf, for who takes that.
pub(crate) async fn native_histogram() -> String {
    fn bytes(number: u8, payload: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, payload.len() as u8], payload].concat()
    }
    fn double(number: u8, value: f64) -> Vec<u8> {
        [&[number << 3 | 1], value.to_le_bytes().as_slice()].concat()
    }
    let small = |number: u8, value: u8| vec![number << 3, value];
    // Schema 0, buckets (0.5, 1] and (1, 2] with 3 and 5, two of zero.
    let span = [small(1, 0), small(2, 2)].concat();
    let histogram = [
        small(1, 10),
        double(2, 12.5),
        double(6, 1e-3),
        small(7, 2),
        bytes(12, &span),
        bytes(13, &[6, 4]), // 3, and 2 more
    ]
    .concat();
    let metric = bytes(7, &histogram);
    let family = [bytes(1, b"native"), small(3, 4), bytes(4, &metric)].concat();
    let body = [&[family.len() as u8], family.as_slice()].concat();
    let answer = async move |headers: HeaderMap| -> Response {
        let asked = headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !asked.starts_with("application/vnd.google.protobuf") {
            return ([("content-type", "text/plain")], "native 1\n").into_response();
        }
        let content_type =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        ([("content-type", content_type)], body).into_response()
    };
    serve(Router::new().route("/metrics", get(answer))).await
}
