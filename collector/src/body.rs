//! Request bodies: admitted byte by byte, read with a deadline, inflated with a cap.

use std::io::Read;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_model::limits;

use crate::status::Refusal;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

/// Bytes that may be in memory at once, over all connections.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Semaphore>);

/// A share of [`Admission`]; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    all: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// A share of nothing yet.
    pub(crate) fn begin(&self) -> Admitted {
        Admitted { all: Arc::clone(&self.0), permit: None }
    }
}

impl Admitted {
    /// Takes `bytes` more, or refuses at once: whoever waited would hold what it has.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        let overloaded = || Refusal::Overloaded { retry_after: limits::INGEST_RETRY_AFTER };
        let count = u32::try_from(bytes).map_err(|_| Refusal::TooLarge)?;
        let more = Arc::clone(&self.all).try_acquire_many_owned(count).map_err(|_| overloaded())?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// Reads all of `body`, at most `limit` bytes, within [`limits::INGEST_READ`].
pub(crate) async fn read<B>(body: B, limit: usize, admitted: &mut Admitted) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    tokio::time::timeout(limits::INGEST_READ, read_all(body, limit, admitted))
        .await
        .unwrap_or(Err(Refusal::TooSlow))
}

async fn read_all<B>(body: B, limit: usize, admitted: &mut Admitted) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Malformed(format!("request was cut short: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - first.len() - all.len() {
            return Err(Refusal::TooLarge);
        }
        admitted.take(data.len())?;
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            // Small requests arrive in one piece and are not copied.
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Inflates `bytes` to at most [`limits::OTLP_REQUEST_BYTES`].
pub(crate) fn inflate(encoding: Encoding, bytes: &[u8], admitted: &mut Admitted) -> Result<Bytes, Refusal> {
    let bad = |error: std::io::Error| Refusal::Malformed(format!("body does not decompress: {error}"));
    match encoding {
        Encoding::Gzip => drain(flate2::read::MultiGzDecoder::new(bytes), admitted),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(bad)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(bad)?;
            drain(decoder, admitted)
        }
    }
}

/// Memory that a zstd frame may ask for: 8 MiB, which RFC 8878 recommends to support.
const ZSTD_WINDOW_LOG: u32 = 23;

fn drain(mut inflating: impl Read, admitted: &mut Admitted) -> Result<Bytes, Refusal> {
    let mut out = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = match inflating.read(&mut piece) {
            Ok(0) => return Ok(out.into()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Refusal::Malformed(format!("body does not decompress: {error}"))),
        };
        if read > limits::OTLP_REQUEST_BYTES - out.len() {
            return Err(Refusal::TooLarge);
        }
        admitted.take(read)?;
        out.extend_from_slice(&piece[..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::Full;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_encodings_inflate() {
        let text = b"one two three".repeat(10_000);
        let admission = Admission::new(limits::INGEST_BYTES_IN_FLIGHT);
        let zstd = zstd::encode_all(text.as_slice(), 1).unwrap();
        for (encoding, bytes) in [(Encoding::Gzip, gzip(&text)), (Encoding::Zstd, zstd)] {
            assert_eq!(inflate(encoding, &bytes, &mut admission.begin()).unwrap(), text);
            let cut = inflate(encoding, &bytes[..bytes.len() / 2], &mut admission.begin());
            assert!(matches!(cut, Err(Refusal::Malformed(_))), "{encoding:?} {cut:?}");
            let junk = inflate(encoding, b"junk", &mut admission.begin());
            assert!(matches!(junk, Err(Refusal::Malformed(_))), "{encoding:?} {junk:?}");
        }
    }

    #[test]
    fn bombs_are_refused_at_the_cap() {
        let zeros = vec![0; limits::OTLP_REQUEST_BYTES + 1];
        let admission = Admission::new(limits::INGEST_BYTES_IN_FLIGHT);
        let zstd = zstd::encode_all(zeros.as_slice(), 1).unwrap();
        for (encoding, bytes) in [(Encoding::Gzip, gzip(&zeros)), (Encoding::Zstd, zstd)] {
            let refused = inflate(encoding, &bytes, &mut admission.begin());
            assert!(matches!(refused, Err(Refusal::TooLarge)), "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn bytes_in_flight_are_bounded_and_given_back() {
        let admission = Admission::new(10);
        let body = || Full::new(Bytes::from_static(b"123456"));
        let mut first = admission.begin();
        assert!(read(body(), 100, &mut first).await.is_ok());
        let refused = read(body(), 100, &mut admission.begin()).await;
        assert!(matches!(refused, Err(Refusal::Overloaded { .. })));
        drop(first);
        assert!(read(body(), 100, &mut admission.begin()).await.is_ok());
        let too_large = read(body(), 5, &mut admission.begin()).await;
        assert!(matches!(too_large, Err(Refusal::TooLarge)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let stalled = http_body_util::StreamBody::new(futures::stream::pending::<
            Result<http_body::Frame<Bytes>, std::convert::Infallible>,
        >());
        let admission = Admission::new(10);
        let slow = read(stalled, 100, &mut admission.begin()).await;
        assert!(matches!(slow, Err(Refusal::TooSlow)));
    }
}
