//! Frames that cost and ask for nothing: settings, pings, priorities, windows, resets, unknown ones, as many as a
//! caller likes (CVE-2019-9512, 9513, 9515, 9518), and requests that are taken back as soon as they are made, at a
//! pace at which hyper has begun each of them (CVE-2023-44487). Beyond their bounds the connection ends with
//! `ENHANCE_YOUR_CALM`.
//!
//! Frames are told apart by their heads alone (RFC 9113 section 4.1), on their way to hyper.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use weir_model::limits;

use crate::io::Conn;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ENHANCE_YOUR_CALM: u8 = 11;
/// What settings cost: they may have every open stream looked at.
const SETTINGS_COST: u32 = 10;
/// Control frames that a request, a piece of its body or a second may bring with it …
const EARNED_BY_REQUEST: u32 = 8;
const EARNED_BY_DATA: u32 = 4;
const EARNED_BY_SECOND: f64 = 20.0;
/// … and so many bytes that the caller is sent, for which it opens windows.
const SENT_BYTES: usize = 256;
/// A stream that is reset sooner than this was hardly meant.
const MEANT: Duration = Duration::from_secs(1);

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flood {
    #[error("more control frames than its requests need")]
    Control,
    #[error("most requests are reset as soon as they are made")]
    Resets,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds the heads of frames in a stream of bytes.
#[derive(Debug)]
struct Heads {
    head: [u8; HEAD_BYTES],
    have: usize,
    /// Bytes before the next head.
    skip: usize,
}

impl Heads {
    fn after(skip: usize) -> Self {
        Self { head: [0; HEAD_BYTES], have: 0, skip }
    }

    /// Whether the bytes so far end with a frame.
    fn is_between_frames(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// Takes bytes up to the next complete head; `None` where they end before.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let missing = (HEAD_BYTES - self.have).min(bytes.len() - skipped);
        self.head[self.have..self.have + missing].copy_from_slice(&bytes[skipped..skipped + missing]);
        self.have += missing;
        *bytes = &bytes[skipped + missing..];
        if self.have < HEAD_BYTES {
            return None;
        }
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        (self.have, self.skip) = (0, length);
        Some(Head { length, kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) })
    }
}

/// What a caller may still send.
#[derive(Debug)]
struct Account {
    control: u32,
    /// When time was last paid for.
    paid: Instant,
    last_stream: u32,
    /// The last stream some time ago, and longer ago than [`MEANT`].
    recent: u32,
    old: u32,
    turned: Instant,
    /// Requests lately, and those of them that were taken back at once.
    requests: u32,
    resets: u32,
}

impl Account {
    fn new(now: Instant) -> Self {
        Self {
            control: limits::HTTP2_CONTROL_FRAMES,
            paid: now,
            last_stream: 0,
            recent: 0,
            old: 0,
            turned: now,
            requests: 0,
            resets: 0,
        }
    }

    fn earn(&mut self, frames: u32) {
        self.control = self.control.saturating_add(frames).min(limits::HTTP2_CONTROL_FRAMES);
    }

    fn time(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.paid).as_secs_f64() * EARNED_BY_SECOND;
        if earned >= 1.0 {
            self.earn(earned as u32);
            self.paid = now;
        }
        if now.saturating_duration_since(self.turned) >= MEANT {
            (self.old, self.recent) = (self.recent, self.last_stream);
            self.turned = now;
            // What was long ago counts ever less.
            self.requests /= 2;
            self.resets /= 2;
        }
    }

    fn frame(&mut self, head: Head) -> Result<(), Flood> {
        let cost = match head.kind {
            DATA if head.length > 0 => {
                self.earn(EARNED_BY_DATA);
                0
            }
            HEADERS if head.stream > self.last_stream => {
                self.last_stream = head.stream;
                self.requests = self.requests.saturating_add(1);
                self.earn(EARNED_BY_REQUEST);
                0
            }
            DATA if head.flags & END_STREAM != 0 => 0,
            SETTINGS => SETTINGS_COST,
            RST_STREAM => {
                self.reset(head.stream)?;
                1
            }
            _ => 1,
        };
        self.control = self.control.checked_sub(cost).ok_or(Flood::Control)?;
        Ok(())
    }

    fn reset(&mut self, stream: u32) -> Result<(), Flood> {
        if stream > self.old {
            self.resets = self.resets.saturating_add(1);
        }
        let many = self.resets > limits::HTTP2_RESETS && self.resets > self.requests / 2;
        if many { Err(Flood::Resets) } else { Ok(()) }
    }
}

/// A caller's connection whose frames are counted.
#[derive(Debug)]
pub(super) struct Guarded {
    conn: Conn,
    received: Heads,
    sent: Heads,
    account: Account,
    /// Bytes sent that have not earned anything yet.
    unearned: usize,
}

impl Guarded {
    pub(super) fn new(conn: Conn) -> Self {
        let account = Account::new(Instant::now());
        Self { conn, received: Heads::after(PREFACE_BYTES), sent: Heads::after(0), account, unearned: 0 }
    }

    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        self.account.time(Instant::now());
        while let Some(head) = self.received.next(&mut bytes) {
            self.account.frame(head)?;
        }
        Ok(())
    }

    fn wrote(&mut self, mut bytes: &[u8]) {
        self.unearned += bytes.len();
        self.account.earn((self.unearned / SENT_BYTES) as u32);
        self.unearned %= SENT_BYTES;
        while self.sent.next(&mut bytes).is_some() {}
    }

    /// Says why the connection ends, if there is room for it and no frame is half sent.
    fn go_away(&mut self, cx: &mut Context<'_>) {
        if !self.sent.is_between_frames() {
            return;
        }
        let [s0, s1, s2, s3] = self.account.last_stream.to_be_bytes();
        let frame = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, s0, s1, s2, s3, 0, 0, 0, ENHANCE_YOUR_CALM];
        let _ = Pin::new(&mut self.conn).poll_write(cx, &frame);
        let _ = Pin::new(&mut self.conn).poll_flush(cx);
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.conn).poll_read(cx, buf))?;
        if let Err(flood) = this.count(&buf.filled()[before..]) {
            this.go_away(cx);
            return Poll::Ready(Err(io::Error::other(flood)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = ready!(Pin::new(&mut this.conn).poll_write(cx, buf))?;
        this.wrote(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = ready!(Pin::new(&mut this.conn).poll_write_vectored(cx, bufs))?;
        let mut left = n;
        for buf in bufs {
            let written = left.min(buf.len());
            this.wrote(&buf[..written]);
            left -= written;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conn).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().conn).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
