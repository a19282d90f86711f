//! Messages with descriptors between two processes of the same user.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;
use weir_model::limits;

use super::{STEP, TakeoverError};

const SPACE: usize = rustix::cmsg_space!(ScmRights(limits::TAKEOVER_DESCRIPTORS));

/// What one process says to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Message {
    /// Opens the conversation, both ways.
    Hello { version: u32 },
    /// Asks for listeners, or comes with them.
    Listener { door: String, address: SocketAddr },
    /// Of the listeners.
    End,
    /// The new process could serve.
    Prepared,
    /// The new process may serve.
    Go,
    /// The new process serves.
    Serving,
    /// There is no handing over.
    Refused { reason: String },
}

impl Message {
    pub(super) fn unexpected(self) -> TakeoverError {
        TakeoverError::Unexpected(format!("{self:?}"))
    }
}

/// One side of the conversation. Of a stream it has the type alone: packets keep their bounds.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Connects to whoever listens at `path`.
    pub(super) fn connect(path: &Path) -> Result<Self, TakeoverError> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        // Where too many wait to be heard, this fails instead of waiting.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Self::new(UnixStream::from_std(OwnedFd::from(socket).into())?)
    }

    /// A connected socket, if the process at its other end is of the same user.
    pub(super) fn new(socket: UnixStream) -> Result<Self, TakeoverError> {
        let theirs = socket.peer_cred()?.uid();
        let ours = rustix::process::geteuid().as_raw();
        if theirs != ours {
            return Err(TakeoverError::Stranger { theirs, ours });
        }
        Ok(Self(socket))
    }

    /// Sends a message and, with it, descriptors.
    pub(super) async fn send(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), TakeoverError> {
        let text = serde_json::to_vec(message).map_err(io::Error::from)?;
        let sent = self.0.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many listeners of one address"));
            }
            Ok(sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?)
        });
        match timeout(STEP, sent).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(gone_or(error)),
            Err(_) => Err(TakeoverError::Late(STEP)),
        }
    }

    /// The next message and the descriptors that came with it.
    pub(super) async fn receive(&self, within: Duration) -> Result<(Message, Vec<OwnedFd>), TakeoverError> {
        let received = self.0.async_io(Interest::READABLE, || {
            let mut text = [0; limits::TAKEOVER_MESSAGE_BYTES];
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags)?;
            // Taken first, so that they are closed whatever is wrong.
            let mut descriptors = Vec::new();
            for with in control.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = with {
                    descriptors.extend(some);
                }
            }
            if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
                let text = "a message did not arrive whole; descriptors may have run out";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            Ok((text[..got.bytes].to_vec(), descriptors))
        });
        let (text, descriptors) = match timeout(within, received).await {
            Ok(received) => received.map_err(gone_or)?,
            Err(_) => return Err(TakeoverError::Late(within)),
        };
        if text.is_empty() {
            return Err(TakeoverError::Gone);
        }
        let message =
            serde_json::from_slice(&text).map_err(|error| TakeoverError::Unexpected(error.to_string()))?;
        Ok((message, descriptors))
    }
}

fn gone_or(error: io::Error) -> TakeoverError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => TakeoverError::Gone,
        _ => error.into(),
    }
}
