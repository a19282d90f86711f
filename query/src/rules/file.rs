//! Rule files: groups of recording and alerting rules as they are written, and as they are meant.
//!
//! A file is read whole: every mistake in it is told, with line and path.

use std::collections::BTreeSet;
use std::fmt::Write;

use weir_model::limits::{RULE_GROUPS, RULE_LABELS, RULES};
use weir_storage::Labels;

use super::template::Template;
use super::yaml::{Fields, Mistake, Node, Reader, documents};
use crate::promql::ast::Expr;
use crate::promql::features::Features;
use crate::promql::{duration, parser};

/// Rules that are evaluated one after the other, at one moment.
#[derive(Debug)]
pub struct Group {
    /// Its name, unique in its file.
    pub name: String,
    /// The file it is from.
    pub file: String,
    /// How often it is evaluated, in milliseconds, unless the default says so.
    pub interval_ms: Option<i64>,
    /// How far behind the moment of evaluation its queries look, in milliseconds, unless the default says so.
    pub query_offset_ms: Option<i64>,
    /// Results that a rule may have; 0 for any number.
    pub limit: usize,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// The metric that it records, or the alert.
    pub name: String,
    /// The expression, in its canonical form.
    pub query: String,
    /// The labels that it adds, those of its group included; templates where the rule is an alert.
    pub labels: Labels,
    /// The same, and with them those that it takes away: their values are empty.
    pub changes: Vec<(String, String)>,
    /// What it is.
    pub kind: Kind,
}

/// What a rule does with the result of its expression.
#[derive(Debug)]
pub enum Kind {
    /// It is stored under the rule's name.
    Record,
    /// Each of its samples is an alert.
    Alert(AlertRule),
}

/// What an alerting rule says beside its expression.
#[derive(Debug)]
pub struct AlertRule {
    /// How long a sample must be there before the alert fires, in milliseconds.
    pub for_ms: i64,
    /// How long it goes on firing after the sample has gone, in milliseconds.
    pub keep_firing_for_ms: i64,
    /// What it tells people, as written.
    pub annotations: Labels,
    /// The labels, parsed.
    pub label_templates: Vec<(String, Template)>,
    /// The annotations, parsed.
    pub annotation_templates: Vec<(String, Template)>,
}

impl Rule {
    /// Whether it is an alert.
    pub fn alert(&self) -> Option<&AlertRule> {
        match &self.kind {
            Kind::Alert(alert) => Some(alert),
            Kind::Record => None,
        }
    }

    /// The rule as YAML: two rules are alike where this is.
    pub fn written(&self) -> String {
        let mut out = String::new();
        // Writing to a text cannot fail.
        match &self.kind {
            Kind::Record => {
                let _ = writeln!(out, "record: {}\nexpr: {}", self.name, self.query);
            }
            Kind::Alert(alert) => {
                let _ = writeln!(out, "alert: {}\nexpr: {}", self.name, self.query);
                for (key, ms) in [("for", alert.for_ms), ("keep_firing_for", alert.keep_firing_for_ms)] {
                    if ms > 0 {
                        let _ = writeln!(out, "{key}: {}", duration::show_ms(ms));
                    }
                }
            }
        }
        let annotations = self.alert().map(|alert| &alert.annotations);
        for (key, labels) in [("labels", Some(&self.labels)), ("annotations", annotations)] {
            let Some(labels) = labels.filter(|labels| labels.iter().len() > 0) else { continue };
            let _ = writeln!(out, "{key}:");
            for (name, value) in labels.iter() {
                let _ = writeln!(out, "  {name}: {value}");
            }
        }
        out
    }
}

/// The groups of the file called `file`, whose content is `text`; or all of its mistakes.
pub fn parse(file: &str, text: &str, features: Features) -> Result<Vec<Group>, Vec<Mistake>> {
    let documents = documents(file, text).map_err(|mistake| vec![mistake])?;
    let mut reader = Reader::new(file, text);
    let mut groups: Vec<Group> = Vec::new();
    let mut names = BTreeSet::new();
    let mut rules = 0;
    for document in &documents {
        let top = reader.fields(&Reader::root(document), &["groups"]);
        let Some(node) = top.get("groups").cloned() else { continue };
        for node in reader.items(&node) {
            let group = group(&mut reader, file, &node, features);
            if group.name.is_empty() {
                reader.wrong(&node, "Groupname must not be empty");
            } else if !names.insert(group.name.clone()) {
                let problem = format!("groupname: {:?} is repeated in the same file", group.name);
                reader.wrong(&node, problem);
            }
            rules += group.rules.len();
            if groups.len() >= RULE_GROUPS || rules > RULES {
                reader.wrong(&node, format!("a file holds at most {RULE_GROUPS} groups and {RULES} rules"));
                return Err(reader.mistakes);
            }
            groups.push(group);
        }
    }
    if reader.mistakes.is_empty() { Ok(groups) } else { Err(reader.mistakes) }
}

fn group<'a>(reader: &mut Reader<'a>, file: &str, node: &Node<'a>, features: Features) -> Group {
    const KNOWN: [&str; 6] = ["name", "interval", "query_offset", "limit", "labels", "rules"];
    let fields = reader.fields(node, &KNOWN);
    let name = reader.text_of(&fields, "name");
    let labels = checked_labels(reader, &fields);
    let mut rules = Vec::new();
    if let Some(node) = fields.get("rules").cloned() {
        for (at, node) in reader.items(&node).into_iter().enumerate() {
            let place = Place { group: &name, number: at + 1, features };
            rules.extend(rule(reader, &node, &labels, &place));
        }
    }
    let interval_ms = reader.duration_ms(&fields, "interval").filter(|ms| *ms > 0);
    let query_offset_ms = reader.duration_ms(&fields, "query_offset");
    let limit = reader.value(&fields, "limit", "a number of results, 0 for any", |text| text.parse().ok());
    Group { name, file: file.to_owned(), interval_ms, query_offset_ms, limit: limit.unwrap_or(0), rules }
}

/// The labels of a group or of a rule, each checked.
fn checked_labels<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>) -> Vec<(String, String)> {
    let texts = reader.texts(fields, "labels");
    for (name, _, node) in &texts {
        if name.is_empty() || name == "__name__" {
            reader.wrong(node, format!("invalid label name: {name}"));
        }
    }
    if texts.len() > RULE_LABELS
        && let Some((_, _, node)) = texts.first()
    {
        reader.wrong(node, format!("there are {} labels, at most {RULE_LABELS} are allowed", texts.len()));
    }
    texts.into_iter().map(|(name, value, _)| (name, value)).collect()
}

/// Which rule is being read.
struct Place<'a> {
    group: &'a str,
    number: usize,
    features: Features,
}

fn rule<'a>(
    reader: &mut Reader<'a>,
    node: &Node<'a>,
    shared: &[(String, String)],
    place: &Place<'_>,
) -> Option<Rule> {
    const KNOWN: [&str; 7] = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
    let before = reader.mistakes.len();
    let fields = reader.fields(node, &KNOWN);
    let (record, alert) = (reader.text_of(&fields, "record"), reader.text_of(&fields, "alert"));
    let name = if alert.is_empty() { &record } else { &alert };
    let here = format!("group {:?}, rule {}, {name:?}", place.group, place.number);
    match (record.is_empty(), alert.is_empty()) {
        (false, false) => reader.wrong(node, format!("{here}: only one of 'record' and 'alert' must be set")),
        (true, true) => reader.wrong(node, format!("{here}: one of 'record' or 'alert' must be set")),
        _ => {}
    }
    let expr = expression(reader, &fields, node, &here, place.features);
    let for_ms = reader.duration_ms(&fields, "for").unwrap_or(0);
    let keep_firing_for_ms = reader.duration_ms(&fields, "keep_firing_for").unwrap_or(0);
    if !record.is_empty() {
        let times = [("for", for_ms), ("keep_firing_for", keep_firing_for_ms)];
        check_record(reader, &fields, (&record, times), &here);
    }
    let own = checked_labels(reader, &fields);
    let annotations = reader.texts(&fields, "annotations");
    for (name, _, node) in annotations.iter().filter(|(name, ..)| name.is_empty()) {
        reader.wrong(node, format!("{here}: invalid annotation name: {name}"));
    }
    let mut templates = |texts: Vec<(String, String, Option<Node<'a>>)>, what: &str| {
        let mut out = Vec::new();
        for (name, text, at) in texts {
            match Template::parse(&alert, &text) {
                Ok(template) => out.push((name, template)),
                Err(problem) => {
                    reader.wrong(at.as_ref().unwrap_or(node), format!("{here}: {what} {name:?}: {problem}"));
                }
            }
        }
        out
    };
    // Of a label that both name the rule's own value counts.
    let others = shared.iter().filter(|(name, _)| !own.iter().any(|(own, _)| own == name));
    let changes: Vec<(String, String)> = others.chain(&own).cloned().collect();
    let labels = Labels::new(changes.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let kind = if alert.is_empty() {
        Kind::Record
    } else {
        let owned = changes.iter().map(|(name, text)| (name.clone(), text.clone(), None));
        let label_templates = templates(owned.collect(), "label");
        let texts =
            annotations.iter().map(|(name, text, node)| (name.clone(), text.clone(), Some(node.clone())));
        let annotation_templates = templates(texts.collect(), "annotation");
        let annotations = Labels::new(annotations.into_iter().map(|(name, text, _)| (name, text)));
        Kind::Alert(AlertRule {
            for_ms,
            keep_firing_for_ms,
            annotations,
            label_templates,
            annotation_templates,
        })
    };
    let query = expr?.to_string();
    let name = if alert.is_empty() { record } else { alert };
    (reader.mistakes.len() == before).then_some(Rule { name, query, labels, changes, kind })
}

fn expression<'a>(
    reader: &mut Reader<'a>,
    fields: &Fields<'a>,
    rule: &Node<'a>,
    here: &str,
    features: Features,
) -> Option<Expr> {
    let text = reader.text_of(fields, "expr");
    let node = fields.get("expr").unwrap_or(rule);
    if text.is_empty() {
        reader.wrong(node, format!("{here}: field 'expr' must be set in rule"));
        return None;
    }
    match parser::parse(&text, features) {
        Ok(expr) => Some(expr),
        Err(error) => {
            reader.wrong(node, format!("{here}: could not parse expression: {error}"));
            None
        }
    }
}

fn check_record<'a>(
    reader: &mut Reader<'a>,
    fields: &Fields<'a>,
    (record, times): (&str, [(&str, i64); 2]),
    here: &str,
) {
    for (key, _) in times.into_iter().filter(|(_, ms)| *ms != 0) {
        if let Some(node) = fields.get(key) {
            reader.wrong(node, format!("{here}: invalid field '{key}' in recording rule"));
        }
    }
    if let Some(node) = fields.get("annotations").cloned() {
        reader.wrong(&node, format!("{here}: invalid field 'annotations' in recording rule"));
    }
    if record.contains(['{', '}'])
        && let Some(node) = fields.get("record").cloned()
    {
        let problem = "braces present in the recording rule name; should it be in expr?";
        reader.wrong(&node, format!("{here}: {problem}: {record}"));
    }
}

/// Rules that record the same series, or are the same alert with the same labels: each but the first of its kind,
/// with how it is called and its labels.
pub fn duplicates<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Vec<(&'a str, &'a Labels)> {
    let mut seen = BTreeSet::new();
    let rules = groups.into_iter().flat_map(|group| &group.rules);
    let again = rules.filter(|rule| !seen.insert((rule.alert().is_some(), rule.name.as_str(), &rule.labels)));
    again.map(|rule| (rule.name.as_str(), &rule.labels)).collect()
}

#[cfg(test)]
mod tests;
