//! Refusals in Consul's shape: a status and a line of text.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use weir_model::limits;

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The body is not what it should be.
    #[error("Request decode failed: {0}")]
    Undecodable(String),
    /// What is asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A check that cannot be.
    #[error("Invalid check: {0}")]
    InvalidCheck(String),
    /// There is no such instance.
    #[error("Unknown service ID {0:?}. Ensure that the service ID is passed, not the service name.")]
    UnknownService(String),
    /// There is no such check.
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck(String),
    /// The check is of a kind that nobody reports from outside.
    #[error("CheckID {0:?} does not have associated TTL")]
    NoTtl(String),
    /// The body is too long.
    #[error("Request body too large, max size: {} bytes", limits::AGENT_REQUEST_BYTES)]
    TooLarge,
    /// The body does not arrive.
    #[error("the request did not arrive in time")]
    TooSlow,
    /// A bound is reached.
    #[error("there is no room for more: {count} {what} are the most")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        count: usize,
    },
    /// Too many requests wait already.
    #[error("too many requests wait for a change, {} are the most; try again later", limits::AGENT_WATCHES)]
    TooManyWatches,
    /// A restarted collector has not yet heard from those who were there. Consul says so while it elects a leader, and
    /// its clients know to keep what they have.
    #[error("No cluster leader")]
    Early,
    /// Another data centre is asked for.
    #[error("No path to datacenter")]
    NoSuchDatacenter,
    /// The registration could not be written down.
    #[error("registered, but not kept over a restart: {0}")]
    NotKept(String),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Undecodable(_) | Self::Invalid(_) | Self::InvalidCheck(_) => StatusCode::BAD_REQUEST,
            Self::UnknownService(_) | Self::UnknownCheck(_) | Self::NoTtl(_) => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Full { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyWatches => StatusCode::TOO_MANY_REQUESTS,
            Self::Early | Self::NoSuchDatacenter | Self::NotKept(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}
