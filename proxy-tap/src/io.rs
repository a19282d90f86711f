//! A connection's bytes: TCP with or without TLS, behind one type, and the buffers before and after it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

use crate::dial::Own;
use crate::pool::Place;

/// Room that a read finds at least.
const READ_BYTES: usize = 8 << 10;
/// Room for a connection that fills what it is given.
const READ_MORE_BYTES: usize = 64 << 10;

/// A TCP connection of which some bytes may have been read already.
#[derive(Debug)]
pub(crate) struct Tcp {
    first: Bytes,
    pub(crate) stream: TcpStream,
    /// The proxy made it, and knows it by this.
    _own: Option<Own>,
    /// It counts against the bound of a service.
    _place: Option<Place>,
}

impl Tcp {
    /// A connection whose first bytes are `first`.
    pub(crate) fn new(first: Bytes, stream: TcpStream) -> Self {
        Self { first, stream, _own: None, _place: None }
    }

    /// A connection that the proxy made.
    pub(crate) fn dialled(stream: TcpStream, own: Option<Own>, place: Option<Place>) -> Self {
        Self { first: Bytes::new(), stream, _own: own, _place: place }
    }
}

/// TCP with or without TLS.
#[derive(Debug)]
pub(crate) enum Io {
    Tcp(Tcp),
    Tls(Box<TlsStream<Tcp>>),
    /// Somebody else has it.
    Taken,
}

/// A connection and what was read from it, or is to be written, and was not looked at yet.
#[derive(Debug)]
pub(crate) struct Conn {
    io: Io,
    pub(crate) input: BytesMut,
    pub(crate) output: BytesMut,
    /// The last read filled all of its room.
    plenty: bool,
}

/// Which side of a direction broke.
#[derive(Debug)]
pub(crate) enum Broke {
    /// The one that is read.
    From,
    /// The one that is written to.
    To,
}

/// How far one direction of a connection has come that is passed on byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    Open,
    /// Its end is still to be passed on.
    Ending,
    Over,
}

impl Conn {
    pub(crate) fn new(mut io: Io) -> Self {
        let input = match &mut io {
            Io::Tcp(tcp) => BytesMut::from(std::mem::take(&mut tcp.first)),
            Io::Tls(_) | Io::Taken => BytesMut::new(),
        };
        Self { io, input, output: BytesMut::new(), plenty: false }
    }

    /// A new TCP connection.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self::new(Io::Tcp(Tcp::new(Bytes::new(), stream)))
    }

    /// The TCP connection below and what was read from it; `None` where it is encrypted.
    pub(crate) fn into_tcp(self) -> Option<(Bytes, TcpStream)> {
        match self.io {
            Io::Tcp(tcp) => Some((self.input.freeze(), tcp.stream)),
            Io::Tls(_) | Io::Taken => None,
        }
    }

    /// The connection with all that was read, for somebody else; none is left here.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(Io::Taken))
    }

    /// Gives up the memory of buffers that nothing is in: of ten thousand connections most are idle.
    pub(crate) fn rest(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Reads more into `input`; 0 is the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = if self.plenty { READ_MORE_BYTES } else { READ_BYTES };
        // Small rests of a buffer make small reads.
        if self.input.capacity() - self.input.len() < room / 2 {
            self.input.reserve(room);
        }
        let room = self.input.capacity() - self.input.len();
        let n = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input))?;
        self.plenty = n >= room && n >= READ_BYTES / 2;
        Poll::Ready(Ok(n))
    }

    /// Reads more into `input`; 0 is the end.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Bytes that wait to be sent; of those that are encrypted already only that there are some.
    pub(crate) fn unsent(&self) -> usize {
        let encrypted = matches!(&self.io, Io::Tls(tls) if tls.get_ref().1.wants_write());
        self.output.len() + usize::from(encrypted)
    }

    /// Writes `output`.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.output))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(n);
        }
        match &mut self.io {
            Io::Tcp(_) | Io::Taken => Poll::Ready(Ok(())),
            // What is encrypted may still wait in the session.
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    /// Writes `output` and then `data`, of which what is left when it is pending stays in place.
    pub(crate) fn poll_write_through(
        &mut self,
        data: &mut Bytes,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.output.is_empty() || !data.is_empty() {
            let n = if self.output.is_empty() {
                ready!(Pin::new(&mut self.io).poll_write(cx, data))?
            } else {
                let slices = [io::IoSlice::new(&self.output), io::IoSlice::new(data)];
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_output = n.min(self.output.len());
            self.output.advance(of_output);
            data.advance(n - of_output);
        }
        self.poll_flush(cx)
    }

    /// Moves what it reads to `to`, and its end; ready when both are done, or one broke. `count` is told what was
    /// written.
    pub(crate) fn poll_pass(
        &mut self,
        to: &mut Self,
        state: &mut Passing,
        count: impl Fn(usize),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broke>> {
        loop {
            match state {
                Passing::Over => return Poll::Ready(Ok(())),
                Passing::Ending => {
                    ready!(to.poll_shutdown(cx)).map_err(|_| Broke::To)?;
                    *state = Passing::Over;
                }
                Passing::Open if self.input.is_empty() => {
                    // What was written has to leave before anything is waited for.
                    if let Io::Tls(tls) = &mut to.io {
                        let _ = Pin::new(tls).poll_flush(cx).map_err(|_| Broke::To)?;
                    }
                    if ready!(self.poll_fill(cx)).map_err(|_| Broke::From)? == 0 {
                        *state = Passing::Ending;
                    }
                }
                Passing::Open => {
                    let n =
                        ready!(Pin::new(&mut to.io).poll_write(cx, &self.input)).map_err(|_| Broke::To)?;
                    if n == 0 {
                        return Poll::Ready(Err(Broke::To));
                    }
                    self.input.advance(n);
                    count(n);
                }
            }
        }
    }

    /// Ends the writing half.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Whoever is at the other end shall see that it broke, and not an end that looks like any other.
    pub(crate) fn reset_on_drop(&self) {
        let tcp = match &self.io {
            Io::Tcp(tcp) => tcp,
            Io::Tls(tls) => tls.get_ref().0,
            Io::Taken => return,
        };
        // Where it fails it is closed all the same.
        let _ = socket2::SockRef::from(&tcp.stream).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Whether an idle connection is still good: nothing came, and the other side has not closed it.
    pub(crate) fn is_quiet(&mut self) -> bool {
        if !self.input.is_empty() {
            return false;
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.poll_fill(&mut cx).is_pending()
    }
}

fn taken() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let n = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(n));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// As if nothing had been read yet.
impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.input.is_empty() {
            let n = this.input.len().min(buf.remaining());
            buf.put_slice(&this.input.split_to(n));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Taken => Poll::Ready(Err(taken())),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            Self::Taken => Poll::Ready(Err(taken())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            Self::Taken => Poll::Ready(Err(taken())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Taken => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Taken => Poll::Ready(Ok(())),
        }
    }
}
