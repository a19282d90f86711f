//! Relabelling: rules that rewrite, keep or drop a set of labels (prometheus.io, "Configuration",
//! `relabel_config`).

use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;

use super::element;
use super::names::NameScheme;
use crate::yaml::{Fields, Node};

mod md5;

/// A set of labels by name; an absent label counts as empty.
pub type Labels = BTreeMap<String, String>;

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Relabel {
    /// Labels whose values, joined by `separator`, are what the rule looks at.
    pub source_labels: Vec<String>,
    /// What joins them.
    pub separator: String,
    /// What the joined value must match, as a whole.
    pub regex: Pattern,
    /// Of `hashmod`.
    pub modulus: u64,
    /// The label that is written.
    pub target_label: String,
    /// What is written, with references to groups.
    pub replacement: String,
    /// What to do.
    pub action: Action,
    /// Which names of labels are valid.
    pub names: NameScheme,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Writes the replacement to the target label where the source matches.
    Replace,
    /// Drops the set where the source does not match.
    Keep,
    /// Drops the set where it does.
    Drop,
    /// Drops the set where the source is not the value of the target label.
    KeepEqual,
    /// Drops the set where it is.
    DropEqual,
    /// Writes a hash of the source, modulo `modulus`.
    HashMod,
    /// Copies labels whose names match to the names that the replacement makes of them.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Writes the source in lower case.
    Lowercase,
    /// Writes the source in upper case.
    Uppercase,
}

impl Action {
    const NAMES: [(&str, Self); 11] = [
        ("replace", Self::Replace),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("keepequal", Self::KeepEqual),
        ("dropequal", Self::DropEqual),
        ("hashmod", Self::HashMod),
        ("labelmap", Self::LabelMap),
        ("labeldrop", Self::LabelDrop),
        ("labelkeep", Self::LabelKeep),
        ("lowercase", Self::Lowercase),
        ("uppercase", Self::Uppercase),
    ];

    fn parse(text: &str) -> Option<Self> {
        let name = text.to_lowercase();
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, action)| *action)
    }
}

/// A regular expression that matches a text as a whole, and remembers how it was written.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles `source`; fails where it is no regular expression.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        Regex::new(source)?; // on its own first: `a)|(b` would pass within the group
        Ok(Self { source: source.to_owned(), regex: Regex::new(&format!("^(?s:{source})$"))? })
    }

    /// Whether it matches all of `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

/// Applies `rules` in order; false where one of them drops the set.
pub fn apply(rules: &[Relabel], labels: &mut Labels) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl Relabel {
    /// Applies the rule; false where it drops the set. Labels that become empty are removed.
    pub fn apply(&self, labels: &mut Labels) -> bool {
        match self.action {
            Action::Keep => self.regex.is_match(&self.source(labels)),
            Action::Drop => !self.regex.is_match(&self.source(labels)),
            Action::KeepEqual => value(labels, &self.target_label) == self.source(labels),
            Action::DropEqual => value(labels, &self.target_label) != self.source(labels),
            _ => {
                self.rewrite(labels);
                true
            }
        }
    }

    fn rewrite(&self, labels: &mut Labels) {
        match self.action {
            Action::Replace => self.replace(labels),
            Action::Lowercase => set(labels, &self.target_label, self.source(labels).to_lowercase()),
            Action::Uppercase => set(labels, &self.target_label, self.source(labels).to_uppercase()),
            Action::HashMod => {
                let hash = md5::last_eight_bytes(self.source(labels).as_bytes());
                set(labels, &self.target_label, (hash % self.modulus.max(1)).to_string());
            }
            Action::LabelMap => {
                let mapped: Vec<(String, String)> = labels
                    .iter()
                    .filter(|(name, _)| self.regex.is_match(name))
                    .map(|(name, value)| {
                        let name = self.regex.regex.replace(name, self.replacement.as_str());
                        (name.into_owned(), value.clone())
                    })
                    .collect();
                mapped.into_iter().for_each(|(name, value)| set(labels, &name, value));
            }
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
            Action::Keep | Action::Drop | Action::KeepEqual | Action::DropEqual => {}
        }
    }

    fn replace(&self, labels: &mut Labels) {
        let source = self.source(labels);
        let Some(groups) = self.regex.regex.captures(&source) else { return };
        let mut target = String::new();
        groups.expand(&self.target_label, &mut target);
        if !self.names.is_label_name(&target) {
            return;
        }
        let mut value = String::new();
        groups.expand(&self.replacement, &mut value);
        set(labels, &target, value);
    }

    fn source(&self, labels: &Labels) -> String {
        match self.source_labels.as_slice() {
            [one] => value(labels, one).to_owned(),
            names => names.iter().map(|name| value(labels, name)).collect::<Vec<_>>().join(&self.separator),
        }
    }

    /// Reads the rules of `key`.
    pub(super) fn read_list(fields: &mut Fields<'_>, key: &str, names: NameScheme) -> Vec<Self> {
        fields.list(key, |node| Self::read(&node, names))
    }

    /// Reads a rule of a list.
    fn read(node: &Node<'_>, names: NameScheme) -> Option<Self> {
        let mut fields = element(node)?;
        let before = Written::of(&mut fields);
        let action = before.action?;
        let rule = Self {
            source_labels: before.source_labels.clone().unwrap_or_default(),
            separator: before.separator.clone().unwrap_or_else(|| ";".to_owned()),
            regex: before.regex.clone().or_else(|| Pattern::new("(.*)").ok())?,
            modulus: before.modulus.unwrap_or_default(),
            target_label: before.target_label.clone().unwrap_or_default(),
            replacement: before.replacement.clone().unwrap_or_else(|| "$1".to_owned()),
            action,
            names,
        };
        for problem in rule.problems(&before) {
            node.mistake(problem);
        }
        for label in rule.source_labels.iter().filter(|label| !names.is_label_name(label)) {
            node.mistake(format!("`{label}` in `source_labels` is no valid name of a label"));
        }
        fields.finish();
        Some(rule)
    }

    /// What the fields that were written have against each other.
    fn problems(&self, written: &Written) -> Vec<String> {
        let name = Action::NAMES.iter().find(|(_, action)| *action == self.action).map_or("", |(n, _)| n);
        let mut problems = Vec::new();
        let target = self.target_label.as_str();
        let writes_target = !matches!(
            self.action,
            Action::Keep | Action::Drop | Action::LabelMap | Action::LabelDrop | Action::LabelKeep
        );
        if writes_target {
            let valid = match self.action {
                Action::Replace if target.contains('$') => {
                    self.names == NameScheme::Utf8 || is_legacy_template(target)
                }
                _ => self.names.is_label_name(target),
            };
            if target.is_empty() {
                problems.push(format!("`{name}` needs a `target_label`"));
            } else if !valid {
                problems.push(format!("`{target}` is no valid `target_label` for `{name}`"));
            }
        }
        if self.action == Action::HashMod && self.modulus == 0 {
            problems.push("`hashmod` needs a `modulus` above zero".to_owned());
        }
        if self.action == Action::LabelMap {
            let valid = match self.names {
                NameScheme::Utf8 => !self.replacement.is_empty(),
                NameScheme::Legacy => is_legacy_template(&self.replacement),
            };
            if !valid {
                problems.push(format!("`{}` is no valid `replacement` for `labelmap`", self.replacement));
            }
        }
        let mut only = |allowed: &str, extra: &[(&str, bool)]| {
            for (key, _) in extra.iter().filter(|(_, set)| *set) {
                problems.push(format!("`{name}` takes {allowed} only, not `{key}`"));
            }
        };
        let (regex, modulus) = (written.regex.is_some(), written.modulus.is_some());
        let separator = written.separator.as_deref().is_some_and(|separator| separator != ";");
        let replacement = written.replacement.as_deref().is_some_and(|replacement| replacement != "$1");
        match self.action {
            Action::Lowercase | Action::Uppercase => {
                only("`source_labels`, `separator` and `target_label`", &[("replacement", replacement)]);
            }
            Action::KeepEqual | Action::DropEqual => only(
                "`source_labels` and `target_label`",
                &[
                    ("regex", regex),
                    ("modulus", modulus),
                    ("separator", separator),
                    ("replacement", replacement),
                ],
            ),
            Action::LabelDrop | Action::LabelKeep => only(
                "`regex`",
                &[
                    ("source_labels", written.source_labels.is_some()),
                    ("target_label", !target.is_empty()),
                    ("modulus", modulus),
                    ("separator", separator),
                    ("replacement", replacement),
                ],
            ),
            _ => {}
        }
        problems
    }
}

/// The fields of a rule as they were written.
struct Written {
    source_labels: Option<Vec<String>>,
    separator: Option<String>,
    regex: Option<Pattern>,
    modulus: Option<u64>,
    target_label: Option<String>,
    replacement: Option<String>,
    /// None where it is none of the known ones.
    action: Option<Action>,
}

impl Written {
    fn of(fields: &mut Fields<'_>) -> Self {
        const ACTIONS: &str = "`replace`, `keep`, `drop`, `keepequal`, `dropequal`, `hashmod`, `labelmap`, \
                               `labeldrop`, `labelkeep`, `lowercase` or `uppercase`";
        let regex = fields.take("regex").and_then(|node| {
            let source = node.text()?;
            Pattern::new(&source)
                .map_err(|error| {
                    let told = error.to_string();
                    let last = told.lines().last().unwrap_or_default();
                    node.mistake(format!("`{source}` is no regular expression: {last}"));
                })
                .ok()
        });
        let action = match fields.take("action") {
            Some(node) => node.parsed(ACTIONS, Action::parse),
            None => Some(Action::Replace),
        };
        Self {
            source_labels: fields.take("source_labels").map(|node| node.texts()),
            separator: fields.text("separator"),
            regex,
            modulus: fields.take("modulus").and_then(|node| node.count()),
            target_label: fields.text("target_label"),
            replacement: fields.text("replacement"),
            action,
        }
    }
}

/// Whether what a template makes can be a legacy name: letters, digits, underscores and references.
fn is_legacy_template(template: &str) -> bool {
    let mut rest = template;
    let mut first = true;
    while let Some(next) = rest.chars().next() {
        let taken = match next {
            '$' => match rest[1..].strip_prefix('{') {
                Some(braced) => braced.find('}').filter(|end| *end > 0).map(|end| end + 3),
                None => {
                    let name = rest[1..].bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_');
                    Some(1 + name.count()).filter(|taken| *taken > 1)
                }
            },
            letter if letter.is_ascii_alphabetic() || letter == '_' => Some(1),
            digit if digit.is_ascii_digit() && !first => Some(1),
            _ => None,
        };
        let Some(taken) = taken else { return false };
        rest = &rest[taken..];
        first = false;
    }
    !first
}

fn value<'l>(labels: &'l Labels, name: &str) -> &'l str {
    labels.get(name).map_or("", String::as_str)
}

fn set(labels: &mut Labels, name: &str, value: String) {
    if value.is_empty() {
        labels.remove(name);
    } else {
        labels.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests;
