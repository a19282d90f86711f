//! The path of one export request, whichever way it came: inflate, decode, write, and only then answer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use tracing::{Instrument, Span, field};
use weir_model::prometheus::Config;
use weir_model::{Clock, TenantId};
use weir_storage::{SeriesIndex, WriteBatch, Writer};

use crate::body::{Admission, Admitted, Encoding, inflate};
use crate::counters::Counters;
use crate::decode::{self, Decoded, DeltaState, Reason, Rejected, Series, Signal};
use crate::remote_write::RemoteWrite;
use crate::status::Refusal;
use crate::{json, zipkin};

/// What requests need on their way.
#[derive(Debug)]
pub(crate) struct Ingest {
    pub(crate) tenant: TenantId,
    pub(crate) writer: Writer,
    pub(crate) series: Arc<SeriesIndex>,
    pub(crate) clock: Clock,
    pub(crate) deltas: DeltaState,
    /// Says how metrics are named.
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) remote: RemoteWrite,
    pub(crate) admission: Admission,
    pub(crate) counters: Arc<Counters>,
}

/// A request whose bytes are in memory.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) signal: Signal,
    pub(crate) body: Bytes,
    pub(crate) encoding: Option<Encoding>,
    pub(crate) format: Format,
    pub(crate) admitted: Admitted,
}

/// What the bytes of a request are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OTLP protobuf.
    Protobuf,
    /// OTLP/JSON.
    Json,
    /// Zipkin v2 JSON.
    Zipkin,
}

/// Plain requests up to this size are decoded where they are; larger and compressed ones, which may grow,
/// on a thread that may block: at 100 MB/s this is a third of a millisecond.
const DECODED_IN_PLACE_BYTES: usize = 32 << 10;

impl Ingest {
    /// Stores what the request holds and says what was left out.
    pub(crate) async fn take(self: &Arc<Self>, request: Request) -> Result<Rejected, Refusal> {
        let span = tracing::info_span!(
            "ingest",
            otel.kind = "server",
            signal = request.signal.name(),
            bytes = request.body.len(),
            records = field::Empty,
            rejected = field::Empty,
        );
        self.store(request).instrument(span).await
    }

    async fn store(self: &Arc<Self>, request: Request) -> Result<Rejected, Refusal> {
        let signal = request.signal;
        let in_place = request.encoding.is_none()
            && request.format == Format::Protobuf
            && request.body.len() <= DECODED_IN_PLACE_BYTES;
        // The bytes stay admitted until their rows are written.
        let (mut decoded, _admitted) = if in_place {
            self.decode(request)?
        } else {
            let ingest = Arc::clone(self);
            tokio::task::spawn_blocking(move || ingest.decode(request))
                .await
                .map_err(|error| Refusal::Internal(format!("decoding failed: {error}")))??
        };
        let parts = std::mem::take(&mut decoded.parts);
        if !parts.is_empty() {
            self.writer.write(WriteBatch { tenant: self.tenant.clone(), parts }).await?;
        }
        self.counters.stored(signal, &decoded);
        let span = Span::current();
        span.record("records", decoded.accepted);
        span.record("rejected", decoded.rejected.total());
        Ok(decoded.rejected)
    }

    fn decode(&self, request: Request) -> Result<(Decoded, Admitted), Refusal> {
        let Request { signal, mut body, encoding, format, mut admitted } = request;
        if let Some(encoding) = encoding {
            body = inflate(encoding, &body, &mut admitted)?;
        }
        self.counters.read(signal, body.len());
        let malformed = |error| Refusal::Malformed(format!("malformed JSON: {error}"));
        let mut misshapen = 0;
        match format {
            Format::Protobuf => {}
            Format::Json => body = json::to_protobuf(signal, &body).map_err(malformed)?.into(),
            Format::Zipkin => {
                let spans = zipkin::to_protobuf(&body, self.clock.now()).map_err(malformed)?;
                (body, misshapen) = (spans.protobuf.into(), spans.rejected);
            }
        }
        let known = |id, labels: &_, date| self.series.known(id, labels, date);
        let config = Arc::clone(&self.config.borrow());
        let series = Series { known: &known, deltas: &self.deltas, naming: &config.otlp };
        let mut decoded = decode::decode(signal, &body, self.clock.now(), &series)?;
        decoded.rejected.add(Reason::Form, misshapen);
        Ok((decoded, admitted))
    }
}
