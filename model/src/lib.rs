//! The vocabulary every part of Weir shares, so that two crates that never meet mean the same thing.
//!
//! In: nothing. Out: newtypes for what must not be mixed ([`TraceId`], [`SeriesId`], [`UnixNanos`]),
//! the names telemetry carries ([`semconv`]), the latency [`Sketch`], [`hint`]s as proxies obey them, the
//! [`mesh`] protocol that carries them, the [`policy`] of a mesh's traffic, Prometheus' configuration file as it is meant ([`prometheus`]), and every
//! bound the program has ([`limits`]).
//!
//! This crate depends on no other crate of Weir, does no I/O, and never reads a clock: it is told the time.

mod ids;
mod time;

pub mod hint;
pub mod limits;
pub mod mesh;
pub mod policy;
pub mod prometheus;
pub mod semconv;
pub mod sketch;
pub mod yaml;

pub use ids::{BadId, SeriesId, SpanId, TenantId, TraceId};
pub use sketch::Sketch;
pub use time::{Clock, UnixNanos};
