//! What can go wrong with a query, and what is worth saying beside a result.

use std::fmt;

use super::ast::Span;

/// The kind of a failure, as the HTTP API of Prometheus tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The question is malformed.
    BadData,
    /// It cannot be answered on this data.
    Execution,
    /// It took too long.
    Timeout,
    /// Too many others are asked already.
    Unavailable,
    /// Reading samples failed.
    Internal,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind.
    pub kind: ErrorKind,
    /// What happened, position included where there is one.
    pub message: String,
    /// Where in the text.
    pub span: Option<Span>,
}

impl Error {
    /// A parse error at `span` of `text`.
    pub fn parse(text: &str, span: Span, message: impl fmt::Display) -> Self {
        let (line, column) = line_column(text, span.start);
        Self {
            kind: ErrorKind::BadData,
            message: format!("{line}:{column}: parse error: {message}"),
            span: Some(span),
        }
    }

    /// The query is fine, the data are not.
    pub fn execution(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Execution, message: message.into(), span: None }
    }

    /// The question is malformed in a way that has no place in the text.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::BadData, message: message.into(), span: None }
    }

    /// The same, about the place `span` of `text`.
    pub fn at(mut self, _text: &str, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// The deadline has passed.
    pub fn timeout() -> Self {
        let message = "query timed out in expression evaluation".to_owned();
        Self { kind: ErrorKind::Timeout, message, span: None }
    }

    /// It was not its turn in time.
    pub fn queued() -> Self {
        Self { message: "query timed out in query queue".to_owned(), ..Self::timeout() }
    }

    /// It may not even wait for its turn.
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::Unavailable, message: message.to_string(), span: None }
    }

    /// Samples could not be read.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::Internal, message: message.to_string(), span: None }
    }
}

impl From<std::io::Error> for Error {
    fn from(failed: std::io::Error) -> Self {
        Self::internal(failed)
    }
}

/// Line and column of a byte offset, both from 1; the column counts characters.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let mut before = offset.min(text.len());
    while !text.is_char_boundary(before) {
        before -= 1;
    }
    let before = &text[..before];
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    (line, last.chars().count() + 1)
}

/// A remark with the place it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The text, without prefix and position.
    pub message: String,
    /// Where in the query.
    pub span: Span,
}

/// Remarks gathered while evaluating; each is kept once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    warnings: Vec<Remark>,
    infos: Vec<Remark>,
    /// Warnings about what the query reads, wherever it says so.
    notes: Vec<String>,
}

/// Remarks kept per kind: more than a person reads, and a bound.
const REMARKS: usize = 100;

impl Annotations {
    /// Adds a warning: the result is probably not what was meant.
    pub fn warn(&mut self, span: Span, message: impl Into<String>) {
        push(&mut self.warnings, Remark { message: message.into(), span });
    }

    /// Adds an info: the result may surprise.
    pub fn info(&mut self, span: Span, message: impl Into<String>) {
        push(&mut self.infos, Remark { message: message.into(), span });
    }

    /// Adds a warning about what the query reads.
    pub fn note(&mut self, warning: String) {
        self.notes.push(warning);
    }

    /// Takes over the remarks of `other`.
    pub fn extend(&mut self, other: Self) {
        self.notes.extend(other.notes);
        other.warnings.into_iter().for_each(|remark| push(&mut self.warnings, remark));
        other.infos.into_iter().for_each(|remark| push(&mut self.infos, remark));
    }

    /// The warnings as Prometheus writes them; with positions where `text` is the query.
    pub fn warnings(&self, text: Option<&str>) -> Vec<String> {
        let mut warnings = shown("PromQL warning", &self.warnings, text);
        warnings.extend(self.notes.iter().cloned());
        warnings
    }

    /// The infos as Prometheus writes them; with positions where `text` is the query.
    pub fn infos(&self, text: Option<&str>) -> Vec<String> {
        shown("PromQL info", &self.infos, text)
    }
}

fn push(remarks: &mut Vec<Remark>, remark: Remark) {
    if remarks.len() < REMARKS && !remarks.contains(&remark) {
        remarks.push(remark);
    }
}

fn shown(prefix: &str, remarks: &[Remark], text: Option<&str>) -> Vec<String> {
    let show = |remark: &Remark| match text {
        Some(text) => {
            let (line, column) = line_column(text, remark.span.start);
            format!("{prefix}: {} ({line}:{column})", remark.message)
        }
        None => format!("{prefix}: {}", remark.message),
    };
    let mut all: Vec<String> = remarks.iter().map(show).collect();
    all.sort();
    all.dedup();
    all
}
