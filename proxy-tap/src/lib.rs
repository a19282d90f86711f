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
/// For fuzzing alone.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod run;
mod takeover;

mod body;
mod capture;
mod connect;
mod detect;
mod dial;
mod doors;
mod drain;
mod explicit;
mod forward;
mod headers;
mod http1;
mod http2;
mod inbound;
mod io;
mod listen;
mod mirror;
mod outbound;
mod reply;

mod discovery;
mod sending;
mod services;
mod sources;

mod applied;
mod attempt;
mod balance;
mod breaker;
mod concurrency;
mod health;
mod pool;
mod retry;
mod route;
mod tcp;
mod tls;
mod tunnel;
mod upstream;
mod worker;

mod admin;
mod call;
mod chance;
mod mesh;
mod telemetry;
mod trace;

#[doc(hidden)]
pub use balance::bench::BalanceBench;
pub use breaker::measure as measure_breaker;
pub use config::{Config, ConfigMistake, LogFilter, ProxyArgs};
pub use run::{Running, StartError, start};
pub use takeover::TakeoverError;
#[doc(hidden)]
pub use telemetry::measure;
