//! PromQL over the same rows that SQL reads: text, plan, samples, answer.
//!
//! [`parse`](parser::parse) turns text into an [`ast::Expr`] with positions; [`plan`] resolves durations, `@`
//! and the time span that each selector needs; [`fetch`](Plan::fetch) asks a [`SampleSource`] for those samples,
//! label sets once per series; [`evaluate`](Plan::evaluate) is pure and synchronous and works on matrices of
//! series × steps, so that it belongs on a blocking thread. The semantics are those of Prometheus 3.14.
//!
//! Nothing here reads a clock or knows how samples are stored, [`snapshot`] aside.

pub mod ast;
pub mod duration;
pub mod features;
pub mod parser;

pub mod error;
pub mod histogram;
pub mod number;
pub mod value;

pub mod plan;
pub mod snapshot;
pub mod source;

mod ask;

mod eval;
pub mod functions;
mod labels;
mod lexer;

pub mod script;

pub use ask::{Question, ask};
pub use error::{Annotations, Error, ErrorKind};
pub use features::Features;
pub use plan::{Options, Plan, TimeRange};
pub use source::{SampleSource, Selection, SeriesSamples};
pub use value::{Answer, Output, Sample};
