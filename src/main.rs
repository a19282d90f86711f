//! The program `weir`: one binary whose verbs serve, proxy, ask and demonstrate.
//!
//! This crate composes the others and is the only one, beside `weir-proxy`'s main, that reads the
//! environment, signals and the wall clock.

mod cli;
mod config;
mod demo;
mod export;
mod features;
mod glob;
mod import;
mod load;
mod process;
mod rules;
mod serve;
mod telemetry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
