//! Why a proxy did not start, in words that say what to change.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::takeover::TakeoverError;
use crate::tls::TlsError;

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("cannot listen on `{address}` for {what}: {source}; choose another with {what}")]
    Listen {
        /// The flag that gave it.
        what: String,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The collector's address is not one.
    #[error("`{0}` is not an address of a collector; give --collector host:port or none")]
    Collector(String),
    /// Certificate, key or authorities cannot be used.
    #[error("no encryption: {0}")]
    Tls(#[from] TlsError),
    /// Connections cannot be marked.
    #[error(
        "cannot mark connections with {mark}: {source}; give the process CAP_NET_ADMIN, or leave --mark out"
    )]
    Mark {
        /// The mark.
        mark: u32,
        /// What the system says.
        source: io::Error,
    },
    /// The application is the proxy itself.
    #[error(
        "--app {app} is where the proxy listens ({what}): requests would go round; give the application's own address"
    )]
    Loop {
        /// Where the application should be.
        app: String,
        /// The flag of the listener there.
        what: String,
    },
    /// A worker's thread could not be started.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
    /// The process before keeps its listeners, or the next one could not get at these.
    #[error("no hand-over by `{path}` (--takeover): {source}", path = .path.display())]
    Takeover {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: TakeoverError,
    },
}
