//! Frames by hand (RFC 9113 section 4.1), header blocks as literals without Huffman's code (RFC 7541 section 6.2.2).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::*;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const NONE: u8 = 0;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
/// A whole message.
pub(super) const WHOLE: u8 = END_STREAM | END_HEADERS;

pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const INTERNAL_ERROR: u32 = 2;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// Names and values, as they stand on the wire.
pub(super) type Fields<'a> = &'a [(&'a str, &'a str)];

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(super) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, NONE, 0, &payload)
}

pub(super) fn rst(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, NONE, stream, &code.to_be_bytes())
}

pub(super) fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, NONE, stream, &more.to_be_bytes())
}

pub(super) fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, NONE, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

pub(super) fn headers(flags: u8, stream: u32, fields: Fields<'_>) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields))
}

pub(super) fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.bytes());
        }
    }
    block
}

/// An integer of a prefix of seven bits (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(u8::try_from(length).unwrap()) };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The fields of a good request, and more.
pub(super) fn asking<'a>(method: &'a str, path: &'a str, more: Fields<'a>) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)];
    fields.extend(more);
    fields
}

pub(super) fn asks(stream: u32, path: &str) -> Vec<u8> {
    headers(WHOLE, stream, &asking("GET", path, &[]))
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn is(&self, kind: u8, stream: u32) -> bool {
        (self.kind, self.stream) == (kind, stream)
    }

    fn code(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of the first response of a connection.
    fn status(&self) -> u16 {
        let indexed = [200, 204, 206, 304, 400, 404, 500];
        match self.payload[..] {
            [first @ 0x88..=0x8e, ..] => indexed[usize::from(first - 0x88)],
            // A literal named `:status` whose digits are in Huffman's code.
            [0x48 | 0x08, length, ref rest @ ..] if length & 0x80 != 0 => {
                huffman_digits(&rest[..usize::from(length & 0x7f)])
            }
            _ => panic!("no status: {:?}", self.payload),
        }
    }
}

/// Three digits: `0`, `1` and `2` have five bits, others six (RFC 7541 appendix B).
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> =
        bytes.iter().flat_map(|b| (0..8).rev().map(move |at| u16::from(b >> at & 1))).collect();
    let mut at = 0;
    (0..3).fold(0, |number, _| {
        let mut take = |n: usize| {
            at += n;
            bits[at - n..at].iter().fold(0, |value, bit| value << 1 | bit)
        };
        let digit = match take(5) {
            small @ 0..=2 => small,
            more => (more << 1 | take(1)) - 0x19 + 3,
        };
        number * 10 + digit
    })
}

/// What became of a stream or its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
}

/// One side of a connection.
#[derive(Debug)]
pub(super) struct Raw {
    read: OwnedReadHalf,
    write: Option<OwnedWriteHalf>,
    input: Vec<u8>,
}

impl Raw {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let (read, write) = stream.into_split();
        Self { read, write: Some(write), input: Vec::new() }
    }

    /// A caller that has said nothing yet.
    pub(super) async fn silent(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    /// A caller with these settings.
    pub(super) async fn with(address: SocketAddr, pairs: &[(u16, u32)]) -> Self {
        let mut raw = Self::silent(address).await;
        raw.send(&[PREFACE, &settings(pairs)].concat()).await;
        raw
    }

    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::with(address, &[]).await
    }

    /// A server that has been greeted and has greeted.
    pub(super) async fn accept(listener: &TcpListener) -> Self {
        let mut raw = Self::new(listener.accept().await.unwrap().0);
        let mut preface = [0; PREFACE.len()];
        raw.read.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        raw.send(&settings(&[])).await;
        raw
    }

    /// The other side may have gone, which it may.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        if let Some(write) = &mut self.write {
            let _ = write.write_all(bytes).await;
        }
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let [l0, l1, l2, kind, flags, s0, s1, s2, s3, rest @ ..] = &self.input[..] {
                let length = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
                    let frame = Frame { kind: *kind, flags: *flags, stream, payload: payload.to_vec() };
                    self.input.drain(..9 + length);
                    return Some(frame);
                }
            }
            let mut more = [0; 16 << 10];
            match self.read.read(&mut more).await {
                Ok(n) if n > 0 => self.input.extend(&more[..n]),
                _ => return None,
            }
        }
    }

    /// Skips to the frame that `wanted` picks; answers pings and acknowledges settings on the way.
    pub(super) async fn find<T>(&mut self, mut wanted: impl FnMut(&Frame) -> Option<T>) -> Option<T> {
        loop {
            let frame = self.next().await?;
            if let Some(found) = wanted(&frame) {
                return Some(found);
            }
            match (frame.kind, frame.flags) {
                (PING, NONE) => self.send(&super::frames::frame(PING, ACK, 0, &frame.payload)).await,
                (SETTINGS, NONE) => self.send(&super::frames::frame(SETTINGS, ACK, 0, &[])).await,
                _ => {}
            }
        }
    }

    /// What becomes of `stream`.
    pub(super) async fn fate(&mut self, stream: u32) -> Fate {
        self.fate_within(DEADLINE, stream).await
    }

    pub(super) async fn fate_within(&mut self, limit: Duration, stream: u32) -> Fate {
        let found = self.find(|frame| match frame.kind {
            HEADERS if frame.stream == stream => Some(Fate::Status(frame.status())),
            RST_STREAM if frame.stream == stream => Some(Fate::Reset(frame.code(0))),
            GOAWAY => Some(Fate::GoAway(frame.code(4))),
            _ => None,
        });
        timeout(limit, found).await.expect("something to come of it").unwrap_or(Fate::Closed)
    }

    /// Waits until everything that was sent is looked at.
    pub(super) async fn synced(&mut self) -> bool {
        self.send(&frame(PING, NONE, 0, b"in order")).await;
        let is_pong = |frame: &Frame| (frame.is(PING, 0) && frame.flags == ACK).then_some(());
        timeout(DEADLINE, self.find(is_pong)).await.unwrap().is_some()
    }

    /// Sends without waiting for answers, and says what became of the connection.
    pub(super) async fn flooded(mut self, bytes: Vec<u8>) -> Fate {
        let Some(mut write) = self.write.take() else { panic!("it floods already") };
        // The half is handed back: dropped, it would end the connection.
        let writing = tokio::spawn(async move {
            let _ = write.write_all(&bytes).await;
            write
        });
        let goaway = self.find(|frame| (frame.kind == GOAWAY).then(|| Fate::GoAway(frame.code(4))));
        let fate = timeout(DEADLINE, goaway).await.expect("the flood to be stopped").unwrap_or(Fate::Closed);
        writing.abort();
        fate
    }
}
