//! Decoding against its promises: what any sender may send becomes rows that say the same, and what no
//! sender should send is refused with a reason.

mod generators;
mod hostile;
mod logs;
mod metrics;
mod read;
mod spans;

pub(crate) use generators::{Doubles, logs_request, metrics_request, traces_request};

use weir_model::prometheus::Otlp;
use weir_model::{SeriesId, UnixNanos};
use weir_storage::{Known, Labels};

use super::*;

/// The collector's clock in tests: November 2026.
pub(crate) const NOW: UnixNanos = UnixNanos(1_795_000_000_123_456_789);

/// Decodes with an index that knows no series and holds any number of them.
pub(crate) fn decoded(signal: Signal, request: &[u8]) -> Result<Decoded, DecodeError> {
    let known = |_: SeriesId, _: &Labels, _: i32| Known::New;
    decode(
        signal,
        request,
        NOW,
        &Series { known: &known, deltas: &DeltaState::default(), naming: &Otlp::default() },
    )
}

/// The rejections of a request that is taken otherwise.
fn rejected(signal: Signal, request: &impl prost::Message) -> Vec<(Reason, u64)> {
    let decoded = decoded(signal, &request.encode_to_vec()).expect("the message is well-formed");
    decoded.rejected.iter().collect()
}

/// The only batch of a request.
fn only(decoded: Decoded) -> RecordBatch {
    assert_eq!(decoded.parts.len(), 1);
    decoded.parts.into_iter().next().expect("there is one").1
}
