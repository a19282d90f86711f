//! The mesh's control plane: who is there ([`registry`]), which part each proxy has in the limits that they share
//! ([`rates`]), and what each proxy is told ([`service`]).

mod acks;
mod rates;
mod registry;
mod service;

pub(crate) use acks::AckWriter;
pub use registry::RegisteredService;
pub(crate) use registry::Registry;
pub(crate) use service::{MeshService, News};
