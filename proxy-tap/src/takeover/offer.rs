//! The side that serves: gives its listeners to whoever comes to serve them, and leaves when they are served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;
use weir_model::limits;

use super::channel::{Channel, Message};
use super::{PREPARING, STEP, TakeoverError, VERSION, is_socket};
use crate::drain::{Drain, Why};

/// Processes that wait to be heard; there is hardly ever one.
const BACKLOG: i32 = 4;
/// Pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener that this process serves and can give away.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) door: String,
    pub(crate) address: SocketAddr,
    pub(crate) listeners: Vec<TcpListener>,
}

impl Held {
    /// Whether it is what somebody asks for: port 0 is any.
    fn is_for(&self, door: &str, address: SocketAddr) -> bool {
        let same_port = address.port() == 0 || address.port() == self.address.port();
        self.door == door && self.address.ip() == address.ip() && same_port
    }
}

/// The socket where a new process comes.
#[derive(Debug)]
pub(crate) struct Offer {
    listener: UnixListener,
    path: PathBuf,
    /// Where it is: beside `path` until it is open.
    at: PathBuf,
    /// Device and inode of the file, which a successor replaces.
    file: (u64, u64),
}

impl Offer {
    /// A socket for `path`, which is made beside it, so that whatever can fail fails before the one that is there is
    /// replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, TakeoverError> {
        is_socket(path)?;
        let mut at = path.as_os_str().to_owned();
        at.push(".new");
        let at = PathBuf::from(at);
        if is_socket(&at)? {
            std::fs::remove_file(&at)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_nonblocking(true)?;
        // The file gets the mode that the socket has when it is bound: at no time may others open it.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
        socket.bind(&SockAddr::unix(&at)?)?;
        let file = identity(&at)?;
        socket.listen(BACKLOG)?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into())?;
        Ok(Self { listener, path: path.to_owned(), at, file })
    }

    /// Takes its place, in one step from that of the socket that is there.
    pub(crate) fn open(&mut self) -> Result<(), TakeoverError> {
        std::fs::rename(&self.at, &self.path)?;
        self.at.clone_from(&self.path);
        Ok(())
    }

    /// Gives `held` to whoever asks, until one serves it or the proxy leaves for another reason.
    pub(crate) async fn run(self, held: Vec<Held>, drain: &Drain) {
        loop {
            let came = tokio::select! {
                () = drain.leave.cancelled() => return,
                came = self.listener.accept() => came,
            };
            let told = match came {
                Ok((socket, _)) => give(socket, &held).await,
                Err(error) => {
                    sleep(PAUSE).await;
                    Err(error.into())
                }
            };
            match told {
                Ok(()) => return drain.begin(Why::Successor),
                Err(error) => tracing::warn!(%error, "the listeners were not taken over, going on"),
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if identity(&self.at).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.at);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// The whole conversation: `Ok` when the other process serves.
async fn give(socket: UnixStream, held: &[Held]) -> Result<(), TakeoverError> {
    let channel = Channel::new(socket)?;
    let given = converse(&channel, held).await;
    if let Err(error) = &given {
        // Else it might take this process for gone.
        let reason = error.to_string();
        let _ = channel.send(&Message::Refused { reason }, &[]).await;
    }
    given
}

async fn converse(channel: &Channel, held: &[Held]) -> Result<(), TakeoverError> {
    match channel.receive(STEP).await?.0 {
        Message::Hello { version: VERSION } => {}
        Message::Hello { version } => {
            let problem = format!("version {version} of the conversation, this is {VERSION}");
            return Err(TakeoverError::Unexpected(problem));
        }
        other => return Err(other.unexpected()),
    }
    channel.send(&Message::Hello { version: VERSION }, &[]).await?;
    let mut asked = Vec::new();
    loop {
        match channel.receive(STEP).await?.0 {
            Message::Listener { door, address } if asked.len() < limits::TAKEOVER_ADDRESSES => {
                asked.extend(held.iter().find(|held| held.is_for(&door, address)));
            }
            Message::End => break,
            other => return Err(other.unexpected()),
        }
    }
    for held in &asked {
        let descriptors: Vec<_> = held.listeners.iter().map(AsFd::as_fd).collect();
        let message = Message::Listener { door: held.door.clone(), address: held.address };
        channel.send(&message, &descriptors).await?;
    }
    channel.send(&Message::End, &[]).await?;
    tracing::info!(addresses = asked.len(), "a new process has the listeners, waiting until it serves");
    expect(channel, Message::Prepared).await?;
    channel.send(&Message::Go, &[]).await?;
    expect(channel, Message::Serving).await
}

async fn expect(channel: &Channel, message: Message) -> Result<(), TakeoverError> {
    match channel.receive(PREPARING).await?.0 {
        said if said == message => Ok(()),
        other => Err(other.unexpected()),
    }
}
