//! What a caller is told when a question cannot be answered: a code for programs, a sentence for people,
//! what to do, and where in the text.

use std::sync::LazyLock;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use regex::Regex;
use serde::Serialize;

use super::{Interrupted, catalogue};

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// One of `syntax`, `unknown_table`, `unknown_column`, `not_read_only`, `bad_parameter`, `bad_request`,
    /// `plan`, `execution`, `too_long`, `too_complex`, `deadline`, `memory`, `internal`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where in the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// A place in a text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Character of the line.
    pub column: u64,
}

impl SqlError {
    /// An error without hint or position.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, position: None }
    }

    /// … that says what to do.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Points at the end of `text` where the parser only said that it came too soon.
    pub(super) fn or_at_end_of(mut self, text: &str) -> Self {
        if self.position.is_none() && self.code == "syntax" {
            let line = text.lines().last().unwrap_or_default();
            let at = |count: usize| count as u64 + 1;
            let lines = text.lines().count().saturating_sub(1);
            self.position = Some(Position { line: at(lines), column: at(line.chars().count()) });
        }
        self
    }

    /// Whether the caller can put it right by asking otherwise.
    pub fn is_callers_fault(&self) -> bool {
        !matches!(self.code, "deadline" | "memory" | "internal")
    }
}

/// A query that did not come to its end.
pub(super) fn interrupted(interrupted: &Interrupted) -> SqlError {
    match interrupted {
        Interrupted::Deadline(_) => SqlError::new("deadline", interrupted.to_string())
            .with_hint("narrow the time range, or filter by `service`"),
        Interrupted::Queued(_) | Interrupted::Full(_) => SqlError::new("busy", interrupted.to_string()),
        Interrupted::Panicked(_) | Interrupted::Stopped => SqlError::new("internal", interrupted.to_string()),
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let mut diagnosed = None;
        let mut root = &error;
        loop {
            root = match root {
                DataFusionError::Diagnostic(diagnostic, inner) => {
                    diagnosed = diagnosed.or(diagnostic.span);
                    inner
                }
                DataFusionError::Context(_, inner) => inner,
                DataFusionError::Shared(inner) => inner,
                DataFusionError::Collection(several) if !several.is_empty() => &several[0],
                _ => break,
            };
        }
        let mut answer = described(root);
        let in_text = LINE_COLUMN.captures(&answer.message).and_then(|found| {
            Some(Position { line: found[1].parse().ok()?, column: found[2].parse().ok()? })
        });
        answer.message = LINE_COLUMN.replace(&answer.message, "").into_owned();
        answer.position =
            diagnosed.map(|span| Position { line: span.start.line, column: span.start.column }).or(in_text);
        answer
    }
}

#[allow(clippy::expect_used, reason = "a literal pattern, compiled by every test")]
static LINE_COLUMN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r" ?at Line: (\d+), Column: (\d+)").expect("pattern"));

fn described(root: &DataFusionError) -> SqlError {
    match root {
        DataFusionError::SQL(parser, _) => {
            let text = parser.to_string();
            SqlError::new("syntax", text.trim_start_matches("sql parser error: ").to_owned())
        }
        DataFusionError::SchemaError(schema, _) => column_error(schema),
        DataFusionError::Plan(message) => plan_error(message),
        DataFusionError::ResourcesExhausted(message) => SqlError::new("memory", first_line(message))
            .with_hint("all queries share one memory bound: ask for fewer rows, columns or groups"),
        DataFusionError::NotImplemented(message) => SqlError::new("plan", first_line(message)),
        DataFusionError::Execution(message) => SqlError::new("execution", first_line(message)),
        DataFusionError::ArrowError(error, _) => SqlError::new("execution", first_line(&error.to_string())),
        DataFusionError::Internal(message) => SqlError::new("internal", first_line(message)),
        other => SqlError::new("execution", first_line(&other.strip_backtrace())),
    }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn column_error(error: &SchemaError) -> SqlError {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return SqlError::new("plan", first_line(&error.to_string()));
    };
    let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
    let found = SqlError::new("unknown_column", format!("no column `{}`", field.name));
    match near(&field.name, &names) {
        Some(near) => found.with_hint(near),
        None if names.is_empty() => found,
        None => found.with_hint(format!("columns are {}", quoted(&names))),
    }
}

fn plan_error(message: &str) -> SqlError {
    if ["DDL not supported", "DML not supported", "Statement not supported"]
        .iter()
        .any(|refused| message.starts_with(refused))
    {
        return SqlError::new("not_read_only", first_line(message))
            .with_hint("only reading is possible here");
    }
    let Some(name) = message.strip_prefix("table '").and_then(|rest| rest.split('\'').next()) else {
        return SqlError::new("plan", first_line(message));
    };
    let name = name.strip_prefix("weir.public.").unwrap_or(name);
    let tables: Vec<&str> = catalogue().iter().map(|view| view.name).collect();
    let hint = near(name, &tables).unwrap_or_else(|| format!("tables are {}", quoted(&tables)));
    SqlError::new("unknown_table", format!("no table `{name}`")).with_hint(hint)
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Names that `wanted` may have meant.
fn near(wanted: &str, names: &[&str]) -> Option<String> {
    let wanted = wanted.to_lowercase();
    let mut ranked: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (edits(&wanted, name), *name))
        .filter(|(distance, name)| {
            let part = wanted.len() > 2 && (name.contains(&wanted) || wanted.contains(*name));
            part || *distance <= (name.len().min(wanted.len()) / 3).max(1)
        })
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.truncate(3);
    let names: Vec<&str> = ranked.into_iter().map(|(_, name)| name).collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", quoted(&names)))
}

/// Characters to insert, delete or replace between `a` and `b` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
