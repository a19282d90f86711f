//! Remote write as Prometheus sends it.

use ::http::StatusCode;
use prost::Message;

use super::*;
use crate::remote_write::tests::messages::{
    Referring, Request as Second, Sample, TimeSeries, WriteRequest, labels,
};

const FIRST: &str = "application/x-protobuf";
const SECOND: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const TIME: i64 = (NOW.0 / 1_000_000) as i64;

/// A collector whose routes for Prometheus are served.
struct Served {
    running: Running,
    address: SocketAddr,
}

impl Served {
    async fn start() -> Self {
        let running = Running::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, stop) = (running.collector.prometheus_router(), running.stop.clone());
        tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
        });
        Self { running, address }
    }

    async fn post(&self, content_type: &str, encoding: &str, body: Vec<u8>) -> reqwest::Response {
        let request = reqwest::Client::new().post(format!("http://{}/api/v1/write", self.address));
        let request = request.header("content-type", content_type).header("content-encoding", encoding);
        request.body(body).send().await.unwrap()
    }
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

fn samples(count: i64) -> Vec<Sample> {
    (0..count).map(|n| Sample { value: n as f64, timestamp: TIME - n, start_timestamp: 0 }).collect()
}

fn first(name: &str, count: i64) -> Vec<u8> {
    let labels = labels(&[("__name__", name), ("job", "shop")]);
    let timeseries = vec![TimeSeries { labels, samples: samples(count), ..TimeSeries::default() }];
    snappy(&WriteRequest { timeseries, metadata: vec![] }.encode_to_vec())
}

fn second(name: &str, samples: Vec<Sample>) -> Vec<u8> {
    let mut request = Second::default();
    let labels_refs = request.refs(&[("__name__", name)]);
    request.timeseries = vec![Referring { labels_refs, samples, ..Referring::default() }];
    snappy(&request.encode_to_vec())
}

fn written(response: &reqwest::Response) -> Option<[u64; 3]> {
    let header = |of: &str| {
        let value = response.headers().get(format!("x-prometheus-remote-write-{of}-written"))?;
        value.to_str().ok()?.parse().ok()
    };
    Some([header("samples")?, header("histograms")?, header("exemplars")?])
}

#[tokio::test]
async fn both_versions_are_stored_before_they_are_answered() {
    let served = Served::start().await;
    for content_type in [FIRST, "application/x-protobuf; proto=prometheus.WriteRequest"] {
        let before = served.running.count(Table::Samples);
        let response = served.post(content_type, "snappy", first("x", 3)).await;
        assert_eq!((response.status(), written(&response)), (StatusCode::NO_CONTENT, None));
        assert_eq!(served.running.count(Table::Samples), before + 3);
    }
    let response = served.post(SECOND, "snappy", second("y", samples(2))).await;
    assert_eq!((response.status(), written(&response)), (StatusCode::NO_CONTENT, Some([2, 0, 0])));
    assert_eq!(served.running.count(Table::Samples), 8);
    assert_eq!(served.running.metric("weir_collector_accepted_total{signal=\"metrics\"}"), 8);
}

#[tokio::test]
async fn what_is_written_in_part_is_said() {
    let served = Served::start().await;
    let mut all = samples(2);
    all.push(Sample { value: 1.0, timestamp: TIME + 4_000_000, start_timestamp: 0 });
    let response = served.post(SECOND, "snappy", second("x", all)).await;
    assert_eq!((response.status(), written(&response)), (StatusCode::BAD_REQUEST, Some([2, 0, 0])));
    let text = response.text().await.unwrap();
    assert!(text.starts_with("1 rejected: "), "{text}");
    assert_eq!(served.running.count(Table::Samples), 2);
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_the_status_that_says_why() {
    let served = Served::start().await;
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f].to_vec(); // says that it becomes 4 GiB
    for (content_type, encoding, body, status) in [
        ("application/json", "snappy", first("x", 1), 415),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", first("x", 1), 415),
        (FIRST, "gzip", first("x", 1), 415),
        (FIRST, "snappy", b"no snappy".to_vec(), 400),
        (FIRST, "snappy", snappy(b"no protobuf"), 400),
        (FIRST, "snappy", bomb.clone(), 413),
        (SECOND, "snappy", bomb, 413),
        (SECOND, "snappy", snappy(b"\xff"), 400),
    ] {
        let response = served.post(content_type, encoding, body).await;
        assert_eq!(response.status(), status, "{content_type} {encoding}");
        assert_eq!(written(&response).is_some(), content_type == SECOND);
        assert!(!response.text().await.unwrap().is_empty());
    }
    served.running.stores_nothing();
    let overload = served.running.overload();
    let response = served.post(SECOND, "snappy", second("x", samples(1))).await;
    assert_eq!((response.status(), written(&response)), (StatusCode::TOO_MANY_REQUESTS, Some([0, 0, 0])));
    assert_eq!(response.headers()["retry-after"], "1");
    drop(overload);
    assert_eq!(served.post(SECOND, "snappy", second("x", samples(1))).await.status(), 204);
}
