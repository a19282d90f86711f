//! Bodies as they come: by length, in chunks (RFC 9112 section 7.1, read strictly), or until the end.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use weir_model::limits;

use super::{Length, Malformed, malformed};

/// What has come of a body.
#[derive(Debug)]
pub(crate) enum Decoded {
    NeedMore,
    Data(Bytes),
    /// The end, with trailers where there are any.
    End(Option<HeaderMap>),
}

/// Where a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoder {
    Done,
    Exact(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

impl Decoder {
    pub(crate) fn new(length: Length) -> Self {
        match length {
            Length::None | Length::Exact(0) => Self::Done,
            Length::Exact(n) => Self::Exact(n),
            Length::Chunked => Self::ChunkSize,
            Length::UntilClose => Self::UntilClose,
        }
    }

    pub(crate) fn is_done(self) -> bool {
        self == Self::Done
    }

    /// Whether the body may end here with its connection.
    pub(crate) fn ends_with_connection(self) -> bool {
        self == Self::UntilClose
    }

    /// How many bytes are left, where that is known.
    pub(crate) fn remaining(self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Exact(n) => Some(n),
            _ => None,
        }
    }

    /// Takes what there is from `input`.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, Malformed> {
        loop {
            match *self {
                Self::Done => return Ok(Decoded::End(None)),
                _ if input.is_empty() => return Ok(Decoded::NeedMore),
                Self::UntilClose => return Ok(Decoded::Data(input.split().freeze())),
                Self::Exact(left) => {
                    let data = split(input, left);
                    let left = left - data.len() as u64;
                    *self = if left == 0 { Self::Done } else { Self::Exact(left) };
                    return Ok(Decoded::Data(data));
                }
                Self::Chunk(left) => {
                    let data = split(input, left);
                    let left = left - data.len() as u64;
                    *self = if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) };
                    return Ok(Decoded::Data(data));
                }
                Self::ChunkEnd => {
                    let Some(end) = input.get(..2) else {
                        let fits = input[0] == b'\r';
                        return if fits { Ok(Decoded::NeedMore) } else { Err(malformed("bad chunk end")) };
                    };
                    if end != b"\r\n" {
                        return Err(malformed("bad chunk end"));
                    }
                    let _ = input.split_to(2);
                    *self = Self::ChunkSize;
                }
                Self::ChunkSize => {
                    let Some(line) = line(input, limits::CHUNK_LINE_BYTES)? else {
                        return Ok(Decoded::NeedMore);
                    };
                    let size = chunk_size(&line)?;
                    *self = if size == 0 { Self::Trailers } else { Self::Chunk(size) };
                }
                Self::Trailers => {
                    let trailers = trailers(input)?;
                    let Some(trailers) = trailers else { return Ok(Decoded::NeedMore) };
                    *self = Self::Done;
                    return Ok(Decoded::End(Some(trailers).filter(|trailers| !trailers.is_empty())));
                }
            }
        }
    }
}

fn split(input: &mut BytesMut, most: u64) -> Bytes {
    let n = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    if n == input.len() { input.split().freeze() } else { input.split_to(n).freeze() }
}

/// Takes a line without its end; `None` where it has not ended.
fn line(input: &mut BytesMut, most: usize) -> Result<Option<Bytes>, Malformed> {
    let Some(at) = memchr::memchr(b'\n', input) else {
        let fits = input.len() <= most;
        return if fits { Ok(None) } else { Err(malformed("chunk line too long")) };
    };
    if at > most {
        return Err(malformed("chunk line too long"));
    }
    let line = input.split_to(at + 1).freeze();
    let line = line.slice(..at);
    match line.split_last() {
        Some((b'\r', before)) if !before.contains(&b'\r') => Ok(Some(line.slice(..at - 1))),
        _ => Err(malformed("line feed without carriage return")),
    }
}

/// Hexadecimal digits, then perhaps extensions, which are dropped.
fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    let begins = extensions.trim_ascii_start().first().is_none_or(|b| *b == b';');
    let spaces = extensions.iter().all(|b| *b == b'\t' || (b' '..=b'~').contains(b) || *b >= 0x80);
    // White space without an extension is no part of the grammar.
    let fits = extensions.is_empty() || extensions.contains(&b';');
    if !(1..=15).contains(&digits) || !begins || !spaces || !fits {
        return Err(malformed("bad chunk size"));
    }
    let hex = |b: u8| u64::from((b as char).to_digit(16).unwrap_or_default());
    Ok(size.iter().fold(0, |number, digit| number << 4 | hex(*digit)))
}

fn trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    if input.starts_with(b"\r\n") {
        let _ = input.split_to(2);
        return Ok(Some(HeaderMap::new()));
    }
    let end = super::head::end(input, &mut 0)?;
    if end.unwrap_or(input.len()) > limits::TRAILER_BYTES {
        return Err(malformed("trailers too large"));
    }
    let Some(end) = end else { return Ok(None) };
    let raw = input.split_to(end).freeze();
    let mut fields = [httparse::EMPTY_HEADER; limits::HEADERS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&raw, &mut fields) else {
        return Err(malformed("bad trailer"));
    };
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed("bad trailer"))?;
        let value = HeaderValue::from_maybe_shared(raw.slice_ref(field.value));
        let value = value.map_err(|_| malformed("bad trailer"))?;
        if may_trail(&name) {
            headers.append(name, value);
        }
    }
    Ok(Some(headers))
}

/// What frames a message, routes it or says who asks must not come after it (RFC 9110 section 6.5.1).
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    use http::header::*;
    let never = [
        TRANSFER_ENCODING,
        CONTENT_LENGTH,
        HOST,
        CONNECTION,
        UPGRADE,
        TE,
        TRAILER,
        EXPECT,
        AUTHORIZATION,
        PROXY_AUTHORIZATION,
        COOKIE,
        SET_COOKIE,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CONTENT_RANGE,
        CACHE_CONTROL,
        RANGE,
    ];
    !never.contains(name)
}
