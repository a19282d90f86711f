//! The way out: SQL, PromQL, traces and the analysis, all over the same [`weir_storage::Snapshot`].
//!
//! In: a storage to take snapshots of, and questions. Out: rows, series, graphs, findings, and the hints
//! that the live loop publishes on a watch channel. Nothing here writes but the live loop, and that
//! through the one `storage::Writer`; nothing here knows about OTLP or proxies.

pub mod engine;

pub mod promql;

pub mod analysis;

pub mod rules;

pub mod live;

pub mod api;

/// For fuzzing alone.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
pub(crate) mod testdata;
