//! The write-ahead log: what makes "acknowledged" mean "on disk".
//!
//! One thread ([`log`]) takes queued [`frame`]s, writes them together, syncs once, publishes their rows and
//! answers. [`replay`] reads the [`segment`]s back at open, past torn tails and flipped bits. FORMAT.md
//! draws the bytes.

pub(crate) mod columns;
pub(crate) mod frame;
pub(crate) mod log;
pub(crate) mod replay;
pub(crate) mod segment;

#[cfg(test)]
mod tests;
