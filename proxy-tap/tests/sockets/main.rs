//! One proxy or two on real sockets, between real servers and clients, through the public API alone.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod admin;
mod balance;
mod breaker;
mod connections;
mod encryption;
mod forward;
mod health;
mod hostile;
mod http2;
mod mesh;
mod overlap;
mod policy;
mod retry;
mod sources;
mod support;
mod telemetry;
mod trace;
mod upgrade;
mod ways;
