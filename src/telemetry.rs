//! What the program tells of itself: log lines on stderr, and its own spans, to its own tables or to another
//! collector.
//!
//! Spans are off unless a share of requests to trace is set. Work that nobody asked for (flushes) is rare and always
//! traced then; what is below a traced request is traced with it. Storing own spans makes no spans: it would never
//! end.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{Link, SpanKind, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingResult, SdkTracerProvider, ShouldSample,
    SpanData, SpanExporter,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, reload};
use weir_collector::decode::{self, DeltaState, Series, Signal};
use weir_model::prometheus::Otlp;
use weir_model::{Clock, TenantId, limits};
use weir_proxy_tap::{LogFilter, log_lines};
use weir_storage::{Storage, WriteBatch};

use crate::export::{self, Outcome};

/// Which of its own spans the program makes, and where they go.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    /// Share of requests that are traced; nothing is where it is zero.
    pub(crate) sample: f64,
    /// An OTLP/gRPC endpoint; the program's own tables where absent.
    pub(crate) endpoint: Option<String>,
}

/// The method that spans are exported to.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// How long a span waits for company.
const BATCH_DELAY: Duration = Duration::from_secs(2);

/// Sends log lines to stderr: `WEIR_LOG` says which (as `RUST_LOG` would), `quiet` when it is not set.
pub(crate) fn start_log(quiet: &str) {
    start(quiet, &Settings::default());
}

/// [`start_log`] for a proxy, whose admin page may change which lines there are.
pub(crate) fn start_proxy_log() -> LogFilter {
    let filter = log_lines::start_filter(std::env::var("WEIR_LOG").ok(), "info");
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(log_lines::has_colours(std::env::var("NO_COLOR").ok()))
        .with_filter(filter);
    if tracing_subscriber::registry().with(lines).try_init().is_err() {
        tracing::debug!("the log was started before");
    }
    LogFilter::reloading(handle)
}

/// [`start_log`], and makes own spans where `settings` ask for them: they come out of the outbox.
pub(crate) fn start(quiet: &str, settings: &Settings) -> Option<Outbox> {
    let filter = log_lines::start_filter(std::env::var("WEIR_LOG").ok(), quiet);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(log_lines::has_colours(std::env::var("NO_COLOR").ok()))
        .with_filter(filter);
    let (provider, outbox) = (settings.sample > 0.0).then(|| provider(settings.sample)).unzip();
    let spans = provider.map(|provider: SdkTracerProvider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("weir"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target("weir", LevelFilter::INFO))
    });
    if tracing_subscriber::registry().with(lines).with(spans).try_init().is_err() {
        tracing::debug!("the log was started before");
    }
    outbox
}

fn provider(sample: f64) -> (SdkTracerProvider, Outbox) {
    let (queue, spans) = mpsc::channel(limits::OWN_SPAN_BATCHES);
    let resource = Resource::builder_empty()
        .with_service_name("weir")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .build();
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(limits::OWN_SPANS)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(Queue(queue)).with_batch_config(batches).build())
        .with_sampler(Sampler::ParentBased(Box::new(Requests(sample))))
        .with_resource(resource.clone())
        .build();
    (provider.clone(), Outbox { spans, provider, resource })
}

/// Samples requests at a rate, and everything else that has no parent always.
#[derive(Debug, Clone)]
struct Requests(f64);

impl ShouldSample for Requests {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler =
            if *kind == SpanKind::Server { Sampler::TraceIdRatioBased(self.0) } else { Sampler::AlwaysOn };
        sampler.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

/// Hands finished spans from OpenTelemetry's thread to [`Outbox::run`].
#[derive(Debug)]
struct Queue(mpsc::Sender<Vec<SpanData>>);

impl SpanExporter for Queue {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.0.try_send(batch).map_err(|e| {
            tracing::warn!(spans, error = %e, "own spans are dropped");
            OTelSdkError::InternalFailure(e.to_string())
        })
    }
}

/// Own spans on their way.
#[derive(Debug)]
pub(crate) struct Outbox {
    spans: mpsc::Receiver<Vec<SpanData>>,
    provider: SdkTracerProvider,
    resource: Resource,
}

/// Where own spans go.
#[derive(Debug)]
pub(crate) enum Destination {
    /// To another collector.
    Elsewhere(Channel),
    /// Into this storage.
    Here(Storage, TenantId, Clock),
}

impl Destination {
    /// What `settings` ask for.
    pub(crate) fn of(
        settings: &Settings,
        storage: &Storage,
        tenant: &TenantId,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        let Some(to) = &settings.endpoint else {
            return Ok(Self::Here(storage.clone(), tenant.clone(), clock.clone()));
        };
        let endpoint = export::endpoint(to)
            .ok_or_else(|| anyhow::anyhow!("`{to}` is no address of a collector (telemetry.endpoint)"))?;
        Ok(Self::Elsewhere(endpoint.connect_lazy()))
    }

    async fn take(&self, body: Vec<u8>) -> Result<(), String> {
        match self {
            Self::Elsewhere(channel) => match export::export(channel, EXPORT, body.into()).await {
                Outcome::Acknowledged { rejected: 0, .. } => Ok(()),
                Outcome::Acknowledged { rejected, message } => Err(format!("{rejected} rejected: {message}")),
                Outcome::Overloaded { .. } => Err("the collector is overloaded".to_owned()),
                Outcome::Failed { why, .. } => Err(why),
            },
            Self::Here(storage, tenant, clock) => {
                let index = storage.series(tenant);
                let known = |id, labels: &_, date| index.known(id, labels, date);
                let series =
                    Series { known: &known, deltas: &DeltaState::default(), naming: &Otlp::default() };
                let decoded = decode::decode(Signal::Traces, &body, clock.now(), &series);
                let parts = decoded.map_err(|e| e.to_string())?.parts;
                let batch = WriteBatch { tenant: tenant.clone(), parts };
                storage.writer().write(batch).await.map(|_| ()).map_err(|e| e.to_string())
            }
        }
    }
}

impl Outbox {
    /// Sends spans until `stop`, then those that are left. What cannot be sent is dropped, with a word.
    pub(crate) async fn run(mut self, to: Destination, stop: CancellationToken) {
        let resource = ResourceAttributesWithSchema::from(&self.resource);
        let to = Arc::new(to);
        let provider = self.provider.clone();
        let ended = tokio::spawn(async move {
            stop.cancelled().await;
            // Waits for OpenTelemetry's thread, which hands over what it has and then hangs up.
            tokio::task::spawn_blocking(move || provider.shutdown()).await
        });
        while let Some(batch) = self.spans.recv().await {
            let spans = batch.len();
            let resource_spans = group_spans_by_resource_and_scope(batch, &resource);
            let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
            let sent = to.take(body).with_subscriber(NoSubscriber::default()).await;
            if let Err(why) = sent {
                tracing::warn!(spans, why, "own spans are dropped");
            }
        }
        if let Ok(Ok(Err(e))) = ended.await {
            tracing::warn!(error = %e, "own spans may be lost");
        }
    }
}
