//! The collector as the program composes it: two listeners over one way in and one control plane.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::Service;
use weir_model::hint::HintSet;
use weir_model::mesh::mesh_server::MeshServer;
use weir_model::prometheus::Config;
use weir_model::{Clock, TenantId, limits};
use weir_storage::Storage;

use crate::body::Admission;
use crate::consul::{Consul, RestoreError};
use crate::counters::Counters;
use crate::decode::DeltaState;
use crate::ingest::Ingest;
use crate::mesh::{AckWriter, MeshService, RegisteredService};
use crate::remote_write::RemoteWrite;
use crate::{grpc, http, remote_write};

/// Takes telemetry in and tells proxies of endpoints and hints.
#[derive(Debug)]
pub struct Collector {
    ingest: Arc<Ingest>,
    mesh: MeshService,
    /// Ends the streams of proxies.
    mesh_stop: CancellationToken,
    /// Runs beside the gRPC server.
    acks: Mutex<Option<AckWriter>>,
    counters: Arc<Counters>,
}

/// Why a listener cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The gRPC server failed.
    #[error("the OTLP/gRPC server failed: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// The HTTP server failed.
    #[error("the OTLP/HTTP server failed: {0}")]
    Http(#[from] std::io::Error),
}

/// How often an idle connection is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Calls at once on one connection.
const STREAMS_PER_CONNECTION: u32 = 256;
/// Bytes that one connection may have sent and that have not been read: they are outside of admission.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

impl Collector {
    /// A collector that stores for `tenant` in `storage`, naming metrics as `config` says, and sends `hints` to the
    /// proxies concerned.
    pub fn new(
        storage: Storage,
        hints: watch::Receiver<HintSet>,
        config: watch::Receiver<Arc<Config>>,
        clock: Clock,
        tenant: TenantId,
    ) -> Self {
        let counters = Arc::new(Counters::default());
        let mesh_stop = CancellationToken::new();
        let (acks, queue) = mpsc::channel(limits::MESH_ACK_QUEUE);
        let mesh = MeshService::new(storage.epoch(), hints, acks, Arc::clone(&counters), mesh_stop.clone());
        let acks = AckWriter::new(queue, storage.writer(), &tenant, &clock, &counters);
        let ingest = Arc::new(Ingest {
            series: storage.series(&tenant),
            writer: storage.writer(),
            tenant,
            clock,
            deltas: DeltaState::default(),
            config,
            remote: RemoteWrite::default(),
            admission: Admission::new(limits::INGEST_BYTES_IN_FLIGHT),
            counters: Arc::clone(&counters),
        });
        Self { ingest, mesh, mesh_stop, acks: Mutex::new(Some(acks)), counters }
    }

    /// Serves OTLP/gRPC and the mesh on `listener` until `stop`; then finishes what is under way.
    pub async fn serve_grpc(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        let stopped = CancellationToken::new();
        let acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let storing = async {
            if let Some(acks) = acks {
                acks.run(stopped.clone()).await;
            }
        };
        let serving = async {
            let result = self.serve_calls(listener, stop).await;
            self.mesh_stop.cancel();
            stopped.cancel();
            result
        };
        let (result, (), ()) = tokio::join!(serving, storing, self.mesh.run_expiry());
        result
    }

    async fn serve_calls(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        let mesh_stop = self.mesh_stop.clone();
        let shutdown = {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                // Streams of proxies never end by themselves.
                mesh_stop.cancel();
            }
        };
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_stream_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(limits::HEADER_BYTES as u32)
            .serve_with_incoming_shutdown(
                calls(Arc::clone(&self.ingest), MeshServer::new(self.mesh.clone())),
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                shutdown,
            );
        drained(server, stop).await.unwrap_or(Ok(())).map_err(ServeError::from)
    }

    /// Serves OTLP/HTTP on `listener` until `stop`; then finishes what is under way.
    pub async fn serve_http(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        let router = http::router(Arc::clone(&self.ingest));
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        drained(server.into_future(), stop).await.unwrap_or(Ok(())).map_err(ServeError::from)
    }

    /// What Prometheus takes in over its own HTTP API: remote write, and metrics as OTLP.
    pub fn prometheus_router(&self) -> axum::Router {
        remote_write::router(Arc::clone(&self.ingest))
            .merge(http::prometheus_router(Arc::clone(&self.ingest)))
    }

    /// Consul's API over the same registry, reached at `http`, with registrations kept in `file`.
    pub fn consul(
        &self,
        http: SocketAddr,
        file: Option<PathBuf>,
        stop: CancellationToken,
    ) -> Result<Arc<Consul>, RestoreError> {
        Consul::open(self.mesh.clone(), http, file, stop)
    }

    /// The services that have registered endpoints, by name.
    pub fn registry_services(&self) -> Vec<RegisteredService> {
        self.mesh.services()
    }

    /// Appends the collector's own metrics in the Prometheus text format.
    pub fn write_prometheus(&self, out: &mut String) {
        self.counters.write_prometheus(out);
        let _ = writeln!(out, "# HELP weir_collector_registered_endpoints Instances in the registry.");
        let _ = writeln!(out, "# TYPE weir_collector_registered_endpoints gauge");
        let _ = writeln!(out, "weir_collector_registered_endpoints {}", self.mesh.registered());
        let _ = writeln!(out, "# HELP weir_collector_rate_claims Parts of shared limits that proxies have.");
        let _ = writeln!(out, "# TYPE weir_collector_rate_claims gauge");
        let _ = writeln!(out, "weir_collector_rate_claims {}", self.mesh.rate_claims());
    }
}

/// Sends each call where its path says.
fn calls(
    ingest: Arc<Ingest>,
    mesh: MeshServer<MeshService>,
) -> impl Service<
    Request<Body>,
    Response = Response<Body>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Body>, Infallible>> + Send,
> + Clone
+ Send {
    tower::service_fn(move |request: Request<Body>| {
        let ingest = Arc::clone(&ingest);
        let mut mesh = mesh.clone();
        async move {
            let path = request.uri().path();
            match grpc::signal(path) {
                Some(signal) => Ok(grpc::export(ingest, signal, request).await),
                None if path.starts_with(MESH_PREFIX) => mesh.call(request).await,
                None => Ok(grpc::unknown_method(path)),
            }
        }
    })
}

const MESH_PREFIX: &str = "/weir.mesh.v1.Mesh/";

/// Runs `server` to its end, or for [`limits::INGEST_DRAIN`] after `stop`.
async fn drained<F: IntoFuture>(server: F, stop: CancellationToken) -> Option<F::Output> {
    tokio::select! {
        output = server.into_future() => Some(output),
        () = async {
            stop.cancelled().await;
            tokio::time::sleep(limits::INGEST_DRAIN).await;
        } => None,
    }
}

#[cfg(test)]
mod tests;
