//! The way in: OTLP over gRPC and HTTP, remote write, Zipkin, files, scraping, and the mesh's control plane.
//!
//! In: export requests and the mesh streams of proxies. Out: rows, through [`weir_storage::Writer`], and
//! endpoints and hints to the proxies. A request is answered when its rows are on disk, never before;
//! nothing here reads what was stored.

pub mod decode;
/// For fuzzing alone.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod import;

mod body;
mod collector;
pub mod consul;
mod counters;
mod encode;
mod exposition;
mod grpc;
mod http;
mod ingest;
mod jaeger;
mod json;
mod mesh;
mod remote_write;
pub mod scrape;
mod status;
mod zipkin;

pub use collector::{Collector, ServeError};
pub use mesh::RegisteredService;
