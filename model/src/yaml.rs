//! YAML documents read with positions, so that every mistake in a file is told at once, by path, line and
//! column.
//!
//! A [`Document`] hands out [`Node`]s; what is wrong with one goes to the document's [`Report`] and reading goes
//! on. Scalars keep the text they were written as, so that a label `1.10` stays `1.10`; merge keys (`<<`) and
//! YAML 1.1 truth values (`yes`, `on`) mean what Go's YAML readers take them for.

use std::cell::RefCell;
use std::fmt;

use saphyr::{MarkedYaml, Marker, ScalarStyle, YamlData, YamlLoader};

mod fields;
mod render;

pub use fields::Fields;

type Yaml = MarkedYaml<'static>;

/// Something to tell of one place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The place, as in `scrape_configs[1].job_name`; empty for the document itself.
    pub path: String,
    /// What is wrong there and what is expected.
    pub problem: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

/// Everything that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} mistake{}:{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, Listed(.0))]
pub struct Mistakes(pub Vec<Notice>);

struct Listed<'a>(&'a [Notice]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|notice| write!(f, "\n  {notice}"))
    }
}

/// What was found while reading.
#[derive(Debug, Default)]
pub struct Report {
    mistakes: RefCell<Vec<Notice>>,
    warnings: RefCell<Vec<Notice>>,
}

/// A parsed file; the first of its documents, as Go's readers take it.
#[derive(Debug)]
pub struct Document {
    root: Option<Yaml>,
    report: Report,
}

impl Document {
    /// Parses `text`; fails where it is no YAML.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let broken = |error: &saphyr::ScanError| {
            let at = error.marker();
            let problem = format!("not valid YAML: {}", error.info());
            Mistakes(vec![Notice { line: at.line(), column: at.col() + 1, path: String::new(), problem }])
        };
        let mut loader = YamlLoader::<Yaml>::default();
        loader.early_parse(false);
        let mut parser = saphyr_parser(text);
        parser.load(&mut loader, true).map_err(|error| broken(&error))?;
        if let Some(error) = loader.error() {
            return Err(broken(error));
        }
        let root = loader.into_documents().into_iter().next();
        Ok(Self { root, report: Report::default() })
    }

    /// The document, unless it is empty.
    pub fn root(&self) -> Option<Node<'_>> {
        let yaml = self.root.as_ref()?;
        let node = Node { path: String::new(), at: yaml.span.start, yaml, report: &self.report };
        (!node.is_null()).then_some(node)
    }

    /// The document written anew, in the order and with the values it was written in, without comments, and with
    /// `<secret>` where [`secret`](crate::prometheus::Secret) values are.
    pub fn without_secrets(&self) -> String {
        self.root.as_ref().map(render::without_secrets).unwrap_or_default()
    }

    /// The warnings, in the order of their places, or all mistakes.
    pub fn finish(self) -> Result<Vec<Notice>, Mistakes> {
        let mut mistakes = self.report.mistakes.into_inner();
        mistakes.sort();
        mistakes.dedup();
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        let mut warnings = self.report.warnings.into_inner();
        warnings.sort();
        warnings.dedup();
        Ok(warnings)
    }
}

fn saphyr_parser(
    text: &str,
) -> saphyr_parser::Parser<'static, saphyr_parser::BufferedInput<std::vec::IntoIter<char>>> {
    // Of its own characters, so that nodes borrow nothing.
    saphyr_parser::Parser::new(saphyr_parser::BufferedInput::new(
        text.chars().collect::<Vec<_>>().into_iter(),
    ))
}

/// A value in a document, with its path.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    path: String,
    at: Marker,
    yaml: &'a Yaml,
    report: &'a Report,
}

impl<'a> Node<'a> {
    /// The path of this value from the root, as in `groups[0].rules[2].expr`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Notes that this value is wrong.
    pub fn mistake(&self, problem: impl Into<String>) {
        self.report.mistakes.borrow_mut().push(self.notice(problem.into()));
    }

    /// Notes something about this value that keeps the file from meaning all it says.
    pub fn warn(&self, problem: impl Into<String>) {
        self.report.warnings.borrow_mut().push(self.notice(problem.into()));
    }

    fn notice(&self, problem: String) -> Notice {
        Notice { line: self.at.line(), column: self.at.col() + 1, path: self.path.clone(), problem }
    }

    /// The line that the value begins in, from 1.
    pub fn line(&self) -> usize {
        self.yaml.span.start.line()
    }

    fn data(&self) -> &'a YamlData<'static, Yaml> {
        match &self.yaml.data {
            YamlData::Tagged(_, inner) => &inner.data,
            data => data,
        }
    }

    /// Whether nothing is written here, or a null.
    pub fn is_null(&self) -> bool {
        is_null(self.data())
    }

    fn scalar(&self) -> Option<&'a str> {
        match self.data() {
            YamlData::Representation(text, _, _) => Some(text),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self.data() {
            YamlData::Sequence(_) => "a list",
            YamlData::Mapping(_) => "a map",
            YamlData::Representation(..) | YamlData::Value(_) if self.is_null() => "nothing",
            _ => "a value",
        }
    }

    /// The scalar as it was written; a null is empty.
    pub fn text(&self) -> Option<String> {
        match self.scalar() {
            _ if self.is_null() => Some(String::new()),
            Some(text) => Some(text.to_owned()),
            None => {
                self.mistake(format!("expected text, found {}", self.kind()));
                None
            }
        }
    }

    /// What `parse` makes of the scalar; where it makes nothing, `expected` was expected.
    pub fn parsed<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let Some(text) = self.scalar() else {
            self.mistake(format!("expected {expected}, found {}", self.kind()));
            return None;
        };
        let parsed = parse(text);
        if parsed.is_none() {
            self.mistake(format!("expected {expected}, found `{text}`"));
        }
        parsed
    }

    /// A truth value.
    pub fn flag(&self) -> Option<bool> {
        self.parsed("true or false", |text| match text {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
                Some(false)
            }
            _ => None,
        })
    }

    /// A whole number that is not negative.
    pub fn count(&self) -> Option<u64> {
        self.parsed("a whole number that is not negative", |text| text.replace('_', "").parse().ok())
    }

    /// The elements of a list; a null is an empty one.
    pub fn items(&self) -> Vec<Node<'a>> {
        match self.data() {
            YamlData::Sequence(items) => items
                .iter()
                .enumerate()
                .map(|(index, yaml)| Node {
                    path: format!("{}[{index}]", self.path),
                    at: yaml.span.start,
                    yaml,
                    report: self.report,
                })
                .collect(),
            _ if self.is_null() => Vec::new(),
            _ => {
                self.mistake(format!("expected a list, found {}", self.kind()));
                Vec::new()
            }
        }
    }

    /// The elements of a list of texts.
    pub fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Node::text).collect()
    }

    /// The keys of a map, each to be taken once.
    pub fn fields(&self) -> Option<Fields<'a>> {
        match self.data() {
            YamlData::Mapping(_) => Some(Fields::new(self.clone())),
            _ => {
                self.mistake(format!("expected a map, found {}", self.kind()));
                None
            }
        }
    }

    /// The entries of a map with any keys; a null is an empty one.
    pub fn entries(&self) -> Vec<(String, Node<'a>)> {
        if self.is_null() {
            return Vec::new();
        }
        self.fields().map(Fields::into_entries).unwrap_or_default()
    }

    /// A map of texts.
    pub fn text_map(&self) -> Vec<(String, String)> {
        self.entries().into_iter().filter_map(|(key, node)| Some((key, node.text()?))).collect()
    }
}

fn is_null(data: &YamlData<'static, Yaml>) -> bool {
    match data {
        YamlData::Representation(text, ScalarStyle::Plain, tag) => {
            tag.is_none() && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL")
        }
        YamlData::Value(saphyr::Scalar::Null) => true,
        YamlData::BadValue => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
