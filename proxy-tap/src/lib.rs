//! The data plane: a proxy beside each service that forwards its traffic, observes it, and obeys hints.
//!
//! In: HTTP/1.1, HTTP/2 and gRPC requests, from the mesh for the local application ([`Config::inbound`])
//! and from the application for other services ([`Config::outbound`]); endpoints and hints from the
//! collector. Out: the same requests, and OTLP telemetry about them. [`start`] runs one proxy on the
//! current tokio runtime; [`Running::shutdown`] drains it.
//!
//! It never holds a request back for the sake of telemetry: without a collector it balances over the
//! endpoints it knows and breaks by what it sees itself. It reads no clock and no environment.

pub mod config;
mod run;

mod body;
mod forward;
mod headers;
mod inbound;
mod listen;
mod outbound;
mod reply;

mod attempt;
mod balance;
mod breaker;
mod pool;
mod retry;
mod upstream;

mod admin;
mod call;
mod chance;
mod mesh;
mod telemetry;
mod trace;

pub use config::{Config, ConfigMistake, ProxyArgs};
pub use run::{Running, StartError, start};
