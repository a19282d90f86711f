//! A new process takes the listeners over from the one before it, so that no connection finds nobody home.
//!
//! The proxy that serves listens on a Unix socket (`--takeover`). A new one connects to it and receives the listening
//! sockets themselves (`SCM_RIGHTS`, unix(7)), with whatever connections the kernel holds for them. From then on
//! both have them, and each connection is accepted by one of the two: nothing has to happen at one instant. The
//! conversation, one message a packet (`SOCK_SEQPACKET`), JSON:
//!
//! ```text
//!    new                                        old
//!    hello {version}               ──►
//!                                  ◄──          hello {version}, or refused {reason}
//!    listener {door, address} …    ──►                                               asks
//!    end                           ──►
//!                                  ◄──          listener {door, address} … and descriptors
//!                                  ◄──          end
//!    prepared                      ──►                       what can fail has not failed
//!                                  ◄──          go           from here on the new one may serve
//!    serving                       ──►                       the old one drains and ends
//! ```
//!
//! Until `serving` the old proxy goes on as if nothing had happened, whatever becomes of the new one. If the old one
//! ends before `go`, by itself or by a signal, the new one has all it needs and serves.
//!
//! With several workers an address has several sockets (`SO_REUSEPORT`), each with connections of its own that wait.
//! All of them are passed on, and a proxy with fewer workers serves several with each, because a socket that is closed
//! resets what waits in it. So the number of sockets of an address never falls.

mod channel;
mod offer;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use channel::{Channel, Message};
use socket2::SockRef;
use weir_model::limits;

pub(crate) use offer::{Held, Offer};

/// The version of the conversation.
const VERSION: u32 = 1;
/// How long one side waits for the other's next message, where nothing but the message has to be made.
const STEP: Duration = Duration::from_secs(5);
/// How long the new process may take to prepare, and then to serve: it learns of its services first.
const PREPARING: Duration = Duration::from_secs(30);

/// Why listeners could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The socket cannot be used.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// There is something else at the path.
    #[error("there is a file that is no socket; remove it or choose another path")]
    NoSocket,
    /// The other side runs as somebody else.
    #[error("the process at the other end runs as user {theirs}, this one as {ours}")]
    Stranger {
        /// The other side's user id.
        theirs: u32,
        /// Our own.
        ours: u32,
    },
    /// The other side is gone.
    #[error("the process at the other end is gone")]
    Gone,
    /// The other side took too long.
    #[error("the process at the other end did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The other side does not want to.
    #[error("the process at the other end declined: {0}")]
    Refused(String),
    /// The other side says what makes no sense.
    #[error("the process at the other end said what it should not: {0}")]
    Unexpected(String),
}

/// Listeners of one address, from the process before.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) door: String,
    pub(crate) address: SocketAddr,
    pub(crate) listeners: Vec<TcpListener>,
}

/// The process before this one, which still serves.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
    pub(crate) listeners: Vec<Inherited>,
}

/// Asks whoever listens at `path` for listeners, by name and address; `None` where nobody does.
pub(crate) async fn claim(
    path: &Path,
    wanted: &[(String, SocketAddr)],
) -> Result<Option<Predecessor>, TakeoverError> {
    if !is_socket(path)? {
        return Ok(None);
    }
    let channel = match Channel::connect(path) {
        Ok(channel) => channel,
        // Left behind by a process that has ended.
        Err(TakeoverError::Socket(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match ask(&channel, wanted).await {
        Ok(listeners) => Ok(Some(Predecessor { channel, listeners })),
        Err(TakeoverError::Gone) => {
            tracing::warn!("the process before ended while it was asked for its listeners");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn ask(channel: &Channel, wanted: &[(String, SocketAddr)]) -> Result<Vec<Inherited>, TakeoverError> {
    channel.send(&Message::Hello { version: VERSION }, &[]).await?;
    match channel.receive(STEP).await?.0 {
        Message::Hello { version: VERSION } => {}
        Message::Refused { reason } => return Err(TakeoverError::Refused(reason)),
        other => return Err(other.unexpected()),
    }
    for (door, address) in wanted.iter().take(limits::TAKEOVER_ADDRESSES) {
        channel.send(&Message::Listener { door: door.clone(), address: *address }, &[]).await?;
    }
    channel.send(&Message::End, &[]).await?;
    let mut given = Vec::new();
    loop {
        let (message, descriptors) = channel.receive(STEP).await?;
        match message {
            Message::Listener { door, address } if given.len() < limits::TAKEOVER_ADDRESSES => {
                let listeners: Vec<TcpListener> = descriptors.into_iter().map(TcpListener::from).collect();
                if listeners.is_empty() || !listeners.iter().all(|one| is_listener(one, address)) {
                    return Err(TakeoverError::Unexpected(format!("what came is no listener on {address}")));
                }
                given.push(Inherited { door, address, listeners });
            }
            Message::End => return Ok(given),
            Message::Refused { reason } => return Err(TakeoverError::Refused(reason)),
            other => return Err(other.unexpected()),
        }
    }
}

/// Whether a socket is at `path`; an error where something else is.
fn is_socket(path: &Path) -> Result<bool, TakeoverError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(true),
        Ok(_) => Err(TakeoverError::NoSocket),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_listener(one: &TcpListener, address: SocketAddr) -> bool {
    SockRef::from(one).is_listener().unwrap_or(false) && one.local_addr().is_ok_and(|at| at == address)
}

impl Predecessor {
    /// Says that all is prepared, and waits until this process may serve.
    pub(crate) async fn prepared(&self) -> Result<(), TakeoverError> {
        let go = async {
            self.channel.send(&Message::Prepared, &[]).await?;
            self.channel.receive(STEP).await
        };
        match go.await {
            Ok((Message::Go, _)) => Ok(()),
            Ok((Message::Refused { reason }, _)) => Err(TakeoverError::Refused(reason)),
            Ok((other, _)) => Err(other.unexpected()),
            // Its listeners are here, and there is nobody else who serves them.
            Err(TakeoverError::Gone) => {
                tracing::warn!("the process before ended before it was asked to");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Says that this process serves: the one before drains.
    pub(crate) async fn serving(self) {
        if let Err(error) = self.channel.send(&Message::Serving, &[]).await {
            tracing::warn!(%error, "the process before was not told that it may end");
        }
    }
}

#[cfg(test)]
mod tests;
