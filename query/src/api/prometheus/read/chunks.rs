//! Streamed answers: frames of series with their samples in chunks.
//!
//! A frame is the length of a message as a varint, the message's CRC-32C, highest byte first, and the message.
//! A series with more chunks than a frame takes goes on in the next.

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::encode_varint;
use weir_storage::Labels;

use super::wire::{Chunk, ChunkedReadResponse, ChunkedSeries, Label};
use super::xor::{CHUNK_SAMPLES, encoded};
use super::{FRAME_BYTES, labels};
use crate::promql::SeriesSamples;

/// The number of the XOR encoding.
const XOR: i32 = 1;
/// Bytes of a chunk's message beside its data, at most: two times, a kind, a length, and the tags.
const CHUNK_HEAD: usize = 48;

/// The frames that answer queries, a result each, in their order.
pub(super) fn frames(results: &[Vec<SeriesSamples>], external: &Labels) -> Vec<Bytes> {
    let mut out = Vec::new();
    for (index, all) in (0..).zip(results) {
        for series in all {
            let labels = labels(&series.labels, external);
            let head: usize = labels.iter().map(|label| label.encoded_len() + 4).sum();
            let (mut chunks, mut size) = (Vec::new(), head);
            for chunk in chunks_of(series) {
                let bytes = chunk.data.len() + CHUNK_HEAD;
                if !chunks.is_empty() && size + bytes > FRAME_BYTES {
                    out.push(frame(index, labels.clone(), std::mem::take(&mut chunks)));
                    size = head;
                }
                size += bytes;
                chunks.push(chunk);
            }
            if !chunks.is_empty() {
                out.push(frame(index, labels, chunks));
            }
        }
    }
    out
}

fn chunks_of(series: &SeriesSamples) -> impl Iterator<Item = Chunk> {
    let floats = &series.floats;
    floats.times.chunks(CHUNK_SAMPLES).zip(floats.values.chunks(CHUNK_SAMPLES)).filter_map(
        |(times, values)| {
            let (first, last) = (times.first()?, times.last()?);
            Some(Chunk { min_time_ms: *first, max_time_ms: *last, kind: XOR, data: encoded(times, values) })
        },
    )
}

fn frame(query_index: i64, labels: Vec<Label>, chunks: Vec<Chunk>) -> Bytes {
    let chunked_series = vec![ChunkedSeries { labels, chunks }];
    let message = ChunkedReadResponse { chunked_series, query_index }.encode_to_vec();
    let mut out = Vec::with_capacity(message.len() + 14);
    encode_varint(message.len() as u64, &mut out);
    out.put_u32(crc32c(&message));
    out.extend(message);
    out.into()
}

/// CRC-32C: the polynomial of Castagnoli, bits reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)]; // the lowest byte
    !bytes.iter().fold(u32::MAX, step)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksums_are_castagnoli_s() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(super::crc32c(b""), 0);
    }
}
