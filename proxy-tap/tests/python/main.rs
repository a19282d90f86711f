//! Foreign peers through the mesh: clients and servers in Python that nobody here wrote the protocols of, with two
//! proxies between them, the caller's and the callee's.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod grpc;
mod http;
mod support;
mod websocket;

#[path = "../../../tests/support/python.rs"]
mod venv;

use support::kept;
