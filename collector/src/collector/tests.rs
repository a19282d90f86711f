//! The collector as senders and proxies see it: over real sockets, with a real storage behind.

mod grpc;
mod http;
mod mesh;
mod remote_write;

use std::net::SocketAddr;
use std::path::Path;

use arrow::array::RecordBatch;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tempfile::TempDir;
use tokio::task::JoinSet;
use weir_model::UnixNanos;
use weir_storage::{Options, Table};

use super::*;
use crate::decode::tests::NOW;

/// A collector that serves, and everything around it.
struct Running {
    collector: Arc<Collector>,
    storage: Storage,
    hints: watch::Sender<HintSet>,
    http: SocketAddr,
    grpc: SocketAddr,
    stop: CancellationToken,
    servers: JoinSet<Result<(), ServeError>>,
    dir: TempDir,
}

impl Running {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(dir: TempDir) -> Self {
        let storage = open(dir.path()).await;
        let (hints, of_collector) = watch::channel(HintSet::default());
        let clock = Clock::new(|| NOW);
        let config = tokio::sync::watch::channel(Arc::default()).1;
        let collector =
            Arc::new(Collector::new(storage.clone(), of_collector, config, clock, TenantId::default()));
        let stop = CancellationToken::new();
        let mut servers = JoinSet::new();
        let listen = || async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            (listener.local_addr().unwrap(), listener)
        };
        let ((http, on_http), (grpc, on_grpc)) = (listen().await, listen().await);
        let (of_http, of_grpc) = (Arc::clone(&collector), Arc::clone(&collector));
        let (stop_http, stop_grpc) = (stop.clone(), stop.clone());
        servers.spawn(async move { of_http.serve_http(on_http, stop_http).await });
        servers.spawn(async move { of_grpc.serve_grpc(on_grpc, stop_grpc).await });
        Self { collector, storage, hints, http, grpc, stop, servers, dir }
    }

    /// The rows of `table` that a reader sees now.
    fn rows(&self, table: Table) -> Vec<RecordBatch> {
        rows_of(&self.storage, table)
    }

    fn count(&self, table: Table) -> usize {
        self.rows(table).iter().map(RecordBatch::num_rows).sum()
    }

    /// No table has a row.
    fn stores_nothing(&self) {
        for table in Table::ALL {
            assert_eq!(self.count(table), 0, "{table:?}");
        }
    }

    /// The value of one of the collector's own metrics.
    fn metric(&self, series: &str) -> u64 {
        let mut text = String::new();
        self.collector.write_prometheus(&mut text);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no `{series}` in\n{text}")).parse().unwrap()
    }

    /// Leaves no room for another byte; gives it back when dropped.
    fn overload(&self) -> crate::body::Admitted {
        let mut all = self.collector.ingest.admission.begin();
        all.take(limits::INGEST_BYTES_IN_FLIGHT).unwrap();
        all
    }
}

async fn open(data_dir: &Path) -> Storage {
    let options = Options {
        flush_age: Duration::from_secs(3_600),
        flush_bytes: usize::MAX,
        ..Options::new(data_dir.to_owned(), Clock::new(|| NOW))
    };
    Storage::open(options).await.unwrap()
}

fn rows_of(storage: &Storage, table: Table) -> Vec<RecordBatch> {
    let snapshot = storage.snapshot(&TenantId::default());
    snapshot.table(table).hot.iter().map(|(_, batch)| batch.clone()).collect()
}

/// Waits until `condition` holds, for at most half a minute.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn span(number: u8) -> Span {
    Span {
        trace_id: vec![number; 16],
        span_id: vec![number; 8],
        name: format!("span {number}"),
        start_time_unix_nano: NOW.0 - 1_000,
        end_time_unix_nano: NOW.0,
        ..Span::default()
    }
}

fn spans(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
    }
}

/// A span that is taken, one that is not, and another that is.
fn one_bad_span() -> ExportTraceServiceRequest {
    spans(vec![span(1), Span { trace_id: vec![], ..span(2) }, span(3)])
}

/// A `google.rpc.Status`, as senders of OTLP read it.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<RpcAny>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RpcDuration>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct RpcDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RpcStatus {
    /// After how many seconds to try again, if that is said.
    fn retry_delay(&self) -> Option<i64> {
        use prost::Message;
        let any = self.details.first()?;
        assert_eq!(any.type_url, "type.googleapis.com/google.rpc.RetryInfo");
        RetryInfo::decode(any.value.as_slice()).unwrap().retry_delay.map(|delay| delay.seconds)
    }
}

#[tokio::test]
async fn stopping_ends_both_servers() {
    let mut running = Running::start().await;
    running.stop.cancel();
    while let Some(ended) = running.servers.join_next().await {
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn its_own_metrics_are_in_the_text_format() {
    let running = Running::start().await;
    let mut text = String::new();
    running.collector.write_prometheus(&mut text);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(series.starts_with("weir_collector_"), "{line}");
        assert!(value.parse::<u64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name}");
    }
    assert_eq!(running.metric("weir_collector_registered_endpoints"), 0);
}
