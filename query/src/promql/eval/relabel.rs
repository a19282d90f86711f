//! Functions that change labels, or sort by them.

use std::cmp::Ordering;

use regex::Regex;

use super::{Evaluator, Value, labels};
use crate::promql::error::Error;
use crate::promql::plan::CallNode;
use crate::promql::value::{Grid, Matrix, Row, Sample};

impl Evaluator<'_> {
    /// The string argument number `at`.
    fn text(&mut self, node: &CallNode, at: usize, grid: Grid) -> Result<String, Error> {
        match node.args.get(at).map(|arg| self.eval(arg, grid)).transpose()? {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(Error::execution("expected a string").at("", node.span)),
        }
    }

    fn label_name(&mut self, node: &CallNode, at: usize, grid: Grid) -> Result<String, Error> {
        let name = self.text(node, at, grid)?;
        if name.is_empty() {
            let message = format!("invalid destination label name in {}(): {name}", node.function.name);
            return Err(Error::execution(message).at("", node.arg_spans[at]));
        }
        Ok(name)
    }

    pub(super) fn label_replace(&mut self, node: &CallNode, grid: Grid) -> Result<Matrix, Error> {
        let rows = self.vector(&node.args[0], grid)?;
        let to = self.label_name(node, 1, grid)?;
        let template = braced(&self.text(node, 2, grid)?);
        let from = self.text(node, 3, grid)?;
        let pattern = self.text(node, 4, grid)?;
        let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(|_| {
            let message = format!("invalid regular expression in label_replace(): {pattern}");
            Error::execution(message).at("", node.arg_spans[4])
        })?;
        let relabel = |mut row: Row| {
            if let Some(found) = regex.captures(row.labels.get(&from).unwrap_or_default()) {
                let mut value = String::new();
                found.expand(&template, &mut value);
                set(&mut row, &to, &value);
            }
            row
        };
        super::merged(rows.into_iter().map(relabel).collect())
    }

    pub(super) fn label_join(&mut self, node: &CallNode, grid: Grid) -> Result<Matrix, Error> {
        let mut rows = self.vector(&node.args[0], grid)?;
        let to = self.label_name(node, 1, grid)?;
        let separator = self.text(node, 2, grid)?;
        let mut sources = Vec::new();
        for at in 3..node.args.len() {
            sources.push(self.text(node, at, grid)?);
        }
        for row in &mut rows {
            let values: Vec<&str> =
                sources.iter().map(|name| row.labels.get(name).unwrap_or_default()).collect();
            let value = values.join(&separator);
            set(row, &to, &value);
        }
        super::merged(rows)
    }

    /// Sorts as people read: runs of digits by their number; equal ones by all labels.
    pub(super) fn sort_by_label(&mut self, node: &CallNode, grid: Grid) -> Result<Value, Error> {
        let mut rows = self.vector(&node.args[0], grid)?;
        let mut names = Vec::new();
        for at in 1..node.args.len() {
            names.push(self.text(node, at, grid)?);
        }
        let descending = node.function.name == "sort_by_label_desc";
        rows.retain(|row| row.cells.iter().any(Sample::is_present));
        if grid.len() > 1 {
            return Ok(Value::Vector(rows));
        }
        let value = |row: &Row, name: &str| row.labels.get(name).unwrap_or_default().to_owned();
        rows.sort_by(|a, b| {
            let by_names = names.iter().map(|name| natural(&value(a, name), &value(b, name)));
            let ordering =
                by_names.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
            if descending { ordering.reverse() } else { ordering }
        });
        Ok(Value::Vector(rows))
    }
}

/// Sets a label; a metric name set by hand stays.
fn set(row: &mut Row, name: &str, value: &str) {
    row.labels = labels::with(&row.labels, name, value);
    if name == "__name__" {
        row.drop_name = false;
    }
}

/// `$1x` as `${1x}`: which reference an unbraced name makes is the same in Go and here, except that Go knows
/// nothing of names beginning with a digit running on. Group numbers are therefore braced by hand.
fn braced(template: &str) -> String {
    let mut out = String::with_capacity(template.len() + 4);
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let word = after.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(after.len());
        if let Some(behind) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = behind;
        } else if word > 0 {
            out.push_str(&format!("${{{}}}", &after[..word]));
            rest = &after[word..];
        } else if after.starts_with('{') {
            out.push('$');
            rest = after;
        } else {
            // A lone dollar stands for itself.
            out.push_str("$$");
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Compares texts with runs of digits taken as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (a_run, a_rest, a_digits) = run(a);
        let (b_run, b_rest, b_digits) = run(b);
        if a_run.is_empty() || b_run.is_empty() {
            return a_run.len().cmp(&b_run.len());
        }
        let ordering = if a_digits && b_digits {
            let (x, y) = (a_run.trim_start_matches('0'), b_run.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            a_run.cmp(b_run)
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
        (a, b) = (a_rest, b_rest);
    }
}

/// The leading run of digits or of other characters, what follows, and which it was.
fn run(text: &str) -> (&str, &str, bool) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    (&text[..end], &text[end..], digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_compare_as_numbers() {
        let mut names = ["a10", "a9", "a", "b1", "a09x", "1.111.3", "1.2.3", "1.11.3"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["1.2.3", "1.11.3", "1.111.3", "a", "a9", "a09x", "a10", "b1"]);
    }
}
