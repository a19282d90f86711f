//! Go's `text/template`, as far as rules use it, with the functions that Prometheus adds.
//!
//! A [`Template`] is parsed once. Expanding it is pure: where it asks a query whose answer is not known yet,
//! it ends with [`Unexpanded::Needs`], and whoever expands it adds the answer and expands it again.
//! Messages are worded and placed as Go's are, for people and tools know those.

mod builtin;
mod exec;
mod format;
mod functions;
mod humanize;
mod lex;
mod parse;
mod text;
mod time;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use weir_storage::Labels;

use crate::promql::Sample;
use exec::Stop;
use parse::Bodies;
use value::{Data, Value};

pub use text::graph_link;

/// What a query yields, or why it yields nothing.
pub type Rows = Result<Vec<(Labels, Sample)>, String>;

/// The answers to the queries of a template, by their text; all at one moment.
pub type Answers = BTreeMap<String, Rows>;

/// A template, parsed.
#[derive(Debug)]
pub struct Template {
    name: String,
    /// The text, the definitions of variables included.
    text: String,
    bodies: Bodies,
}

/// What a template is about: the sample that an alert comes from.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: Sample,
}

/// What a template may know beside its subject.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// When it is expanded, in Unix milliseconds.
    pub now_ms: i64,
    /// Under which address people reach this server.
    pub external_url: &'a str,
    /// The labels that everything sent from here carries.
    pub external_labels: &'a Labels,
}

/// Why there is no expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unexpanded {
    /// The template is wrong.
    Failed(String),
    /// The answer to this query must be known.
    Needs(String),
}

/// The variables that every template of an alerting rule knows.
const VARIABLES: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

impl Template {
    /// Reads the template `text` of the alerting rule `alert`; the error is worded as Go's.
    pub fn parse(alert: &str, text: &str) -> Result<Self, String> {
        let name = format!("__alert_{alert}");
        let text = format!("{VARIABLES}{text}");
        match parse::parse(&text) {
            Ok(bodies) => Ok(Self { name, text, bodies }),
            Err(fault) => {
                let (line, _) = line_column(&text, fault.at);
                Err(format!("template: {name}:{line}: {}", fault.message))
            }
        }
    }

    /// The text about `subject`.
    pub fn expand(
        &self,
        subject: &Subject,
        context: &Context<'_>,
        answers: &Answers,
    ) -> Result<String, Unexpanded> {
        let data = Value::Data(std::sync::Arc::new(Data {
            labels: subject.labels.clone(),
            external_labels: context.external_labels.clone(),
            external_url: context.external_url.into(),
            value: subject.value.clone(),
        }));
        exec::expand((&self.name, &self.text), &self.bodies, data, context, answers).map_err(
            |stop| match stop {
                Stop::Needs(query) => Unexpanded::Needs(query),
                Stop::Failed(message) | Stop::Plain(message) | Stop::Placed(message) => {
                    Unexpanded::Failed(format!("error executing template {}: {message}", self.name))
                }
            },
        )
    }
}

/// Line from 1, column from 0 in bytes, as Go counts them.
fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    (line, before.rfind('\n').map_or(before.len(), |newline| before.len() - newline - 1))
}

/// `name:line:column`
fn place(name: &str, text: &str, at: usize) -> String {
    let (line, column) = line_column(text, at);
    format!("{name}:{line}:{column}")
}
