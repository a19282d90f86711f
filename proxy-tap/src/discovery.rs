//! Endpoints that are found without the registry: by names of the DNS, and in a file that may change.
//!
//! Out: whole sets of endpoints, handed to a callback each time they change; who asked for them puts them into
//! its [`Upstream`](crate::upstream::Upstream). A source that fails takes nothing away: what it said last stays
//! in force, for a bounded time where it is the DNS.

pub(crate) mod dns;
pub(crate) mod file;
mod target;

pub use target::Target;

#[cfg(test)]
mod scratch;
