//! The keys of a map, taken one by one: what is left at the end was not expected.

use std::time::Duration;

use saphyr::{Marker, YamlData};

use super::{Node, Yaml};
use crate::prometheus::units;

/// The keys of one map.
#[derive(Debug)]
pub struct Fields<'a> {
    of: Node<'a>,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    key: String,
    at: Marker,
    yaml: &'a Yaml,
}

/// Deepest chain of merge keys.
const MERGES: usize = 16;

impl<'a> Fields<'a> {
    pub(super) fn new(of: Node<'a>) -> Self {
        let mut fields = Self { entries: Vec::new(), of };
        fields.add(fields.of.yaml, MERGES);
        fields
    }

    /// Adds the entries of `yaml` whose keys are not there yet, then those it merges in.
    fn add(&mut self, yaml: &'a Yaml, merges: usize) {
        let data = match &yaml.data {
            YamlData::Tagged(_, inner) => &inner.data,
            data => data,
        };
        let YamlData::Mapping(map) = data else {
            self.of.mistake("`<<` merges something that is no map");
            return;
        };
        let mut merged = Vec::new();
        for (key, value) in map {
            match &key.data {
                YamlData::Representation(text, _, _) if text == "<<" => match &value.data {
                    YamlData::Sequence(maps) => merged.extend(maps),
                    _ => merged.push(value),
                },
                YamlData::Representation(text, _, _) => {
                    if !self.entries.iter().any(|entry| entry.key == text.as_ref()) {
                        self.entries.push(Entry { key: text.to_string(), at: key.span.start, yaml: value });
                    }
                }
                _ => self.of.mistake("a key is no text"),
            }
        }
        for yaml in merged {
            match merges.checked_sub(1) {
                Some(merges) => self.add(yaml, merges),
                None => self.of.mistake("`<<` merges too deeply"),
            }
        }
    }

    fn node(&self, entry: Entry<'a>) -> Node<'a> {
        let path = match self.of.path.as_str() {
            "" => entry.key,
            path => format!("{path}.{}", entry.key),
        };
        Node { path, at: entry.at, yaml: entry.yaml, report: self.of.report }
    }

    pub(super) fn into_entries(mut self) -> Vec<(String, Node<'a>)> {
        let entries = std::mem::take(&mut self.entries);
        entries.into_iter().map(|entry| (entry.key.clone(), self.node(entry))).collect()
    }

    /// The map itself.
    pub fn of(&self) -> &Node<'a> {
        &self.of
    }

    /// The value of `key`, null or not.
    pub fn take_any(&mut self, key: &str) -> Option<Node<'a>> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        let entry = self.entries.remove(index);
        Some(self.node(entry))
    }

    /// The value of `key`, unless it is absent or null.
    pub fn take(&mut self, key: &str) -> Option<Node<'a>> {
        self.take_any(key).filter(|node| !node.is_null())
    }

    /// The keys that are left.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// The text of `key`.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.take(key)?.text()
    }

    /// The truth value of `key`, or `default`.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        self.optional_flag(key).unwrap_or(default)
    }

    /// The truth value of `key`.
    pub fn optional_flag(&mut self, key: &str) -> Option<bool> {
        self.take(key)?.flag()
    }

    /// The whole number of `key`, or zero.
    pub fn count(&mut self, key: &str) -> u64 {
        self.take(key).and_then(|node| node.count()).unwrap_or_default()
    }

    /// The duration of `key`, as Prometheus writes one.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        self.take(key)?.parsed("a duration such as `30s` or `1h30m`", units::parse_duration)
    }

    /// The size of `key` in bytes, as Prometheus writes one; zero where there is none.
    pub fn bytes(&mut self, key: &str) -> u64 {
        let node = self.take(key);
        node.and_then(|node| node.parsed("a size with a unit such as `10MB`", units::parse_bytes))
            .unwrap_or_default()
    }

    /// The list of texts of `key`.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        self.take(key).map(|node| node.texts()).unwrap_or_default()
    }

    /// What `read` makes of the elements of the list `key`.
    pub fn list<T>(&mut self, key: &str, read: impl FnMut(Node<'a>) -> Option<T>) -> Vec<T> {
        self.take(key).map(|node| node.items().into_iter().filter_map(read).collect()).unwrap_or_default()
    }

    /// Keys that nobody took are mistakes.
    pub fn finish(mut self) {
        for entry in std::mem::take(&mut self.entries) {
            self.node(entry).mistake("no such key");
        }
    }
}
