//! YAML read with places, so that every mistake of a file can be told at once, each with its line.

use std::collections::BTreeMap;
use std::fmt;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use weir_model::limits::{RULE_FILE_BYTES, RULE_MISTAKES};

use crate::promql::duration;

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The key, as in `groups[0].rules[1].expr`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

/// A place in a document and how one gets there.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    yaml: &'a MarkedYaml<'a>,
    path: String,
}

/// The fields of a mapping by their names.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(BTreeMap<String, Node<'a>>);

impl<'a> Fields<'a> {
    /// The field `name`, unless it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.0.get(name).filter(|node| !matches!(node.yaml.data, YamlData::Value(Scalar::Null)))
    }
}

/// Reads values out of nodes and keeps what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    pub(super) mistakes: Vec<Mistake>,
}

/// The documents of `text`, or where it is no YAML, or that it is too long.
pub(super) fn documents<'a>(file: &str, text: &'a str) -> Result<Vec<MarkedYaml<'a>>, Mistake> {
    if text.len() > RULE_FILE_BYTES {
        let problem = format!("the file has {} bytes, at most {RULE_FILE_BYTES} are read", text.len());
        return Err(Mistake { file: file.to_owned(), line: 1, column: 1, path: String::new(), problem });
    }
    MarkedYaml::load_from_str(text).map_err(|error| Mistake {
        file: file.to_owned(),
        line: error.marker().line(),
        column: error.marker().col() + 1,
        path: String::new(),
        problem: format!("this is not YAML: {}", error.info()),
    })
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, lines: text.lines().collect(), mistakes: Vec::new() }
    }

    /// The node at the top of a document.
    pub(super) fn root(yaml: &'a MarkedYaml<'a>) -> Node<'a> {
        Node { yaml, path: String::new() }
    }

    /// Notes that something is wrong at `node`.
    pub(super) fn wrong(&mut self, node: &Node<'_>, problem: impl Into<String>) {
        if self.mistakes.len() >= RULE_MISTAKES {
            return;
        }
        let start = node.yaml.span.start;
        self.mistakes.push(Mistake {
            file: self.file.to_owned(),
            line: start.line(),
            column: start.col() + 1,
            path: node.path.clone(),
            problem: problem.into(),
        });
    }

    /// The fields of a mapping; those that are not `known` are mistakes.
    pub(super) fn fields(&mut self, node: &Node<'a>, known: &[&str]) -> Fields<'a> {
        let mut fields = Fields::default();
        for (name, key, value) in self.pairs(node) {
            if known.contains(&name.as_str()) {
                fields.0.insert(name, value);
            } else {
                self.wrong(&key, format!("no such field; expected one of {}", known.join(", ")));
            }
        }
        fields
    }

    /// The names, keys and values of a mapping.
    fn pairs(&mut self, node: &Node<'a>) -> Vec<(String, Node<'a>, Node<'a>)> {
        let mapping = match &node.yaml.data {
            YamlData::Mapping(mapping) => mapping,
            YamlData::Value(Scalar::Null) => return Vec::new(),
            _ => {
                self.wrong(node, "expected fields and their values");
                return Vec::new();
            }
        };
        let mut pairs = Vec::with_capacity(mapping.len());
        for (key, value) in mapping {
            let key_node = Node { yaml: key, path: node.path.clone() };
            let Some(name) = self.scalar(&key_node) else {
                self.wrong(&key_node, "expected a name");
                continue;
            };
            let path = if node.path.is_empty() { name.clone() } else { format!("{}.{name}", node.path) };
            let key_node = Node { yaml: key, path: path.clone() };
            pairs.push((name, key_node, Node { yaml: value, path }));
        }
        pairs
    }

    /// The elements of a list.
    pub(super) fn items(&mut self, node: &Node<'a>) -> Vec<Node<'a>> {
        match &node.yaml.data {
            YamlData::Sequence(items) => {
                let each = items.iter().enumerate();
                each.map(|(at, yaml)| Node { yaml, path: format!("{}[{at}]", node.path) }).collect()
            }
            _ => {
                self.wrong(node, "expected a list");
                Vec::new()
            }
        }
    }

    /// A text; numbers and the like are taken as they are written.
    pub(super) fn text(&mut self, node: &Node<'a>) -> Option<String> {
        let text = self.scalar(node);
        if text.is_none() {
            self.wrong(node, "expected a text");
        }
        text
    }

    /// The text of the optional field `name`, or an empty one.
    pub(super) fn text_of(&mut self, fields: &Fields<'a>, name: &str) -> String {
        fields.get(name).cloned().and_then(|node| self.text(&node)).unwrap_or_default()
    }

    fn scalar(&self, node: &Node<'a>) -> Option<String> {
        match &node.yaml.data {
            YamlData::Value(Scalar::String(text)) => Some(text.clone().into_owned()),
            YamlData::Value(Scalar::Null) => Some(String::new()),
            // What looks like a number keeps the digits it was written with.
            YamlData::Value(_) => {
                let (start, end) = (node.yaml.span.start, node.yaml.span.end);
                let line = self.lines.get(start.line().checked_sub(1)?)?;
                let len = end.col().saturating_sub(start.col());
                Some(line.chars().skip(start.col()).take(len).collect::<String>().trim().to_owned())
            }
            _ => None,
        }
    }

    /// What `parse` makes of the optional field `name`.
    pub(super) fn value<T>(
        &mut self,
        fields: &Fields<'a>,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let node = fields.get(name)?.clone();
        let text = self.text(&node)?;
        let value = parse(&text);
        if value.is_none() {
            self.wrong(&node, format!("expected {expected}, found `{text}`"));
        }
        value
    }

    /// A duration in milliseconds.
    pub(super) fn duration_ms(&mut self, fields: &Fields<'a>, name: &str) -> Option<i64> {
        self.value(fields, name, "a duration such as `5m`", duration::read_ms)
    }

    /// Names and texts, each with its place.
    pub(super) fn texts(&mut self, fields: &Fields<'a>, name: &str) -> Vec<(String, String, Node<'a>)> {
        let Some(node) = fields.get(name).cloned() else { return Vec::new() };
        let mut out = Vec::new();
        for (name, _, value) in self.pairs(&node) {
            if let Some(text) = self.text(&value) {
                out.push((name, text, value));
            }
        }
        out
    }
}
