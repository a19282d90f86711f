//! HTTP/1.1 as a proxy needs it (RFC 9112): read strictly, written anew, nothing copied that need not be.
//!
//! One task serves a caller's connection ([`server`]) and drives the connection to the endpoint itself
//! ([`client`]): no channel lies between the two. What two readers could understand differently is refused
//! ([`head`], [`decode`]); nothing of it is passed on, because every message is written from what was understood.

pub(crate) mod client;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod head;
pub(crate) mod server;

/// How long a body is, and how its end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is none.
    None,
    /// So many bytes.
    Exact(u64),
    /// Chunks.
    Chunked,
    /// All until the connection ends; responses only.
    UntilClose,
}

/// Why a message cannot be understood, or must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Malformed {
    /// What a caller is answered.
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

const fn malformed(reason: &'static str) -> Malformed {
    Malformed { status: 400, reason }
}
