//! The data plane: a proxy beside each service that forwards its traffic, observes it, and obeys hints.
//!
//! In: requests of HTTP/1.1, HTTP/2 and gRPC, and connections of bytes, from the mesh for the local application
//! ([`Config::inbound`]) and from the application for others ([`Config::outbound`], by name, or captured); what is
//! to become of them ([`config::Policy`]); endpoints and hints from the collector. Out: the same, and OTLP telemetry
//! about it. [`start`] runs one proxy on the current tokio runtime and a thread for each further worker;
//! [`Running::shutdown`] drains it. `PROXY.md` is the reference.
//!
//! It never holds a request back for the sake of telemetry: without a collector it balances over the
//! endpoints it knows and breaks by what it sees itself. It reads no clock and no environment.

pub mod config;
mod descriptors;
mod doors;
mod drain;
/// For fuzzing alone.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod run;
mod sources;
mod takeover;
mod worker;

// The ways in, and what is told of a connection before it is served.
mod capture;
mod connect;
mod detect;
mod explicit;
mod inbound;
mod listen;
mod outbound;

// Bytes and messages.
mod body;
mod dial;
mod forward;
mod headers;
mod http1;
mod http2;
mod io;
mod reply;
mod tcp;
mod tls;
mod tunnel;

// Where a request goes, and how often.
mod applied;
mod attempt;
mod balance;
mod breaker;
mod concurrency;
mod discovery;
mod health;
mod mirror;
mod pool;
mod retry;
mod route;
mod sending;
mod services;
mod upstream;

mod admin;
mod call;
mod chance;
pub mod log_lines;
mod mesh;
mod telemetry;
mod times;
mod trace;

#[doc(hidden)]
pub use balance::bench::BalanceBench;
#[doc(hidden)]
pub use breaker::measure as measure_breaker;
pub use config::{Config, ConfigMistake, LogFilter, ProxyArgs};
pub use descriptors::make_room;
pub use run::{Running, StartError, start};
pub use takeover::TakeoverError;
#[doc(hidden)]
pub use telemetry::measure;
pub use worker::beside;
