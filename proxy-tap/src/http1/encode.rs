//! Messages as they are written: from what was understood, framed anew.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, response};
use http_body::Body;

use super::Length;
use crate::forward::Head;
use crate::io::Conn;

/// Bytes that are gathered before they are written.
const GATHERED: usize = 16 << 10;
/// Data up to this size is copied beside what goes before it.
const COPIED: usize = 8 << 10;

/// Writes the head of a request.
pub(crate) fn request(out: &mut BytesMut, head: &Head, length: Length) {
    out.reserve(256 + 64 * head.headers.len());
    out.put_slice(head.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.target.as_str().as_bytes());
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    out.put_slice(head.authority.as_bytes());
    out.put_slice(b"\r\n");
    fields(out, &head.headers);
    match length {
        Length::None if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            out.put_slice(b"content-length: 0\r\n");
        }
        Length::None | Length::UntilClose => {}
        Length::Exact(length) => content_length(out, length),
        Length::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(protocol) = &head.upgrade {
        upgrade(out, protocol);
    }
    out.put_slice(b"\r\n");
}

/// What a response's head needs to say beside its own fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    pub(crate) length: Length,
    /// The request was a HEAD: the length is that of the body it asked about.
    pub(crate) head_only: bool,
    /// The `Connection` field, where one is needed.
    pub(crate) connection: Option<&'static str>,
}

/// Writes the head of a response. One that changes the protocol has it in `Upgrade`.
pub(crate) fn response(out: &mut BytesMut, parts: &response::Parts, framing: Framing) {
    out.reserve(256 + 64 * parts.headers.len());
    status_line(out, parts.status);
    fields(out, &parts.headers);
    match framing.length {
        _ if framing.head_only || parts.status == StatusCode::NOT_MODIFIED => {
            match (parts.headers.get(CONTENT_LENGTH), framing.length) {
                (Some(length), _) => field(out, b"content-length", length.as_bytes()),
                (None, Length::Exact(length)) => content_length(out, length),
                _ => {}
            }
        }
        Length::None if bodyless(parts.status) => {}
        Length::None => content_length(out, 0),
        Length::Exact(length) => content_length(out, length),
        Length::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Length::UntilClose => {}
    }
    if parts.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(protocol) = parts.headers.get(UPGRADE)
    {
        upgrade(out, protocol);
    } else if let Some(text) = framing.connection {
        field(out, b"connection", text.as_bytes());
    }
    out.put_slice(b"\r\n");
}

/// A status that never has a body.
pub(crate) fn bodyless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

fn status_line(out: &mut BytesMut, status: StatusCode) {
    if status == StatusCode::OK {
        return out.put_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// All fields but those that frame the message or belong to the connection.
fn fields(out: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        if *name != CONTENT_LENGTH
            && *name != TRANSFER_ENCODING
            && *name != CONNECTION
            && *name != UPGRADE
            && *name != HOST
        {
            field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn upgrade(out: &mut BytesMut, protocol: &HeaderValue) {
    out.put_slice(b"connection: upgrade\r\n");
    field(out, b"upgrade", protocol.as_bytes());
}

fn content_length(out: &mut BytesMut, length: u64) {
    out.put_slice(b"content-length: ");
    decimal(out, length);
    out.put_slice(b"\r\n");
}

fn decimal(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.put_slice(&digits[at..]);
        }
    }
}

fn hexadecimal(out: &mut BytesMut, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (number >> (4 * place) & 15) as u8;
        out.put_u8(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
}

/// A connection to write to, reached for a moment at a time: one that others read from meanwhile is locked.
pub(crate) trait Reach {
    fn with<R>(&mut self, act: impl FnOnce(&mut Conn) -> R) -> R;
}

impl Reach for &mut Conn {
    fn with<R>(&mut self, act: impl FnOnce(&mut Conn) -> R) -> R {
        act(self)
    }
}

/// A body that may have work of its own to do while it is not asked for more.
pub(crate) trait Source: Body<Data = Bytes> {
    /// Does it, as far as possible.
    fn progress(&mut self, cx: &mut Context<'_>);
}

/// Why a body was not written to its end.
#[derive(Debug)]
pub(crate) enum Cut<E> {
    /// The reader is gone.
    Write(std::io::Error),
    /// The body broke off.
    Body(E),
    /// The body is not as long as was said.
    Length,
}

/// How much of a body is written.
#[derive(Debug)]
pub(crate) struct Writer {
    chunked: bool,
    /// Bytes that are still to come, where that is known.
    left: Option<u64>,
    /// Data too large to be copied.
    data: Bytes,
    /// Whether `data` ends a chunk.
    closes_chunk: bool,
    ended: bool,
}

impl Writer {
    pub(crate) fn new(length: Length) -> Self {
        let left = match length {
            Length::None => Some(0),
            Length::Exact(length) => Some(length),
            Length::Chunked | Length::UntilClose => None,
        };
        Self {
            chunked: length == Length::Chunked,
            left,
            data: Bytes::new(),
            closes_chunk: false,
            ended: left == Some(0),
        }
    }

    /// Bytes that wait to be written beside the connection's own.
    pub(crate) fn held(&self) -> usize {
        self.data.len()
    }

    /// Writes what `body` has, and is ready when everything is written.
    pub(crate) fn poll<B, C>(
        &mut self,
        body: &mut B,
        conn: &mut C,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut<B::Error>>>
    where
        B: Source + Unpin,
        C: Reach,
    {
        loop {
            let full = !self.data.is_empty() || conn.with(|conn| conn.output.len()) >= GATHERED;
            if full || self.ended {
                let flushed = self.flush(conn, cx);
                if flushed.is_pending() {
                    body.progress(cx);
                }
                ready!(flushed).map_err(Cut::Write)?;
                if self.ended {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.flush(conn, cx)).map_err(Cut::Write)?;
                    return Poll::Pending;
                }
            };
            match frame {
                None => conn.with(|conn| self.end(conn, None))?,
                Some(Err(error)) => return Poll::Ready(Err(Cut::Body(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => conn.with(|conn| self.put(conn, data))?,
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        conn.with(|conn| self.end(conn, trailers.as_ref()))?;
                    }
                },
            }
        }
    }

    fn put<E>(&mut self, conn: &mut Conn, data: Bytes) -> Result<(), Cut<E>> {
        if data.is_empty() {
            return Ok(());
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(Cut::Length)?;
            self.ended = *left == 0;
        }
        let out = &mut conn.output;
        if self.chunked {
            hexadecimal(out, data.len());
            out.put_slice(b"\r\n");
        }
        if data.len() > COPIED {
            self.data = data;
            self.closes_chunk = self.chunked;
            return Ok(());
        }
        out.extend_from_slice(&data);
        if self.chunked {
            out.put_slice(b"\r\n");
        }
        Ok(())
    }

    fn end<E>(&mut self, conn: &mut Conn, trailers: Option<&HeaderMap>) -> Result<(), Cut<E>> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(Cut::Length);
        }
        self.ended = true;
        if self.chunked {
            conn.output.put_slice(b"0\r\n");
            if let Some(trailers) = trailers {
                fields(&mut conn.output, trailers);
            }
            conn.output.put_slice(b"\r\n");
        }
        Ok(())
    }

    fn flush<C: Reach>(&mut self, conn: &mut C, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        conn.with(|conn| {
            if !self.data.is_empty() {
                ready!(conn.poll_write_through(&mut self.data, cx))?;
                if std::mem::take(&mut self.closes_chunk) {
                    conn.output.put_slice(b"\r\n");
                }
            }
            conn.poll_flush(cx)
        })
    }
}
