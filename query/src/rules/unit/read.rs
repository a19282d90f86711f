//! Files of tests as they are written.

use chrono::DateTime;
use weir_storage::{Labels, MatchOp};

use super::{AlertTest, ExprTest, TestFile, TestGroup, repeated};
use crate::promql::ast::Expr;
use crate::promql::features::Features;
use crate::promql::{Sample, number, parser, script};
use crate::rules::yaml::{Fields, Mistake, Node, Reader, documents};

/// Reads the file of tests called `file`, whose content is `text`; or tells all of its mistakes.
pub fn parse(file: &str, text: &str) -> Result<TestFile, Vec<Mistake>> {
    let documents = documents(file, text).map_err(|mistake| vec![mistake])?;
    let mut reader = Reader::new(file, text);
    let mut tests = TestFile { interval_ms: MINUTE_MS, ..TestFile::default() };
    if let Some(document) = documents.first() {
        whole(&mut reader, &Reader::root(document), &mut tests);
    }
    if reader.mistakes.is_empty() { Ok(tests) } else { Err(reader.mistakes) }
}

const MINUTE_MS: i64 = 60_000;

fn whole<'a>(reader: &mut Reader<'a>, node: &Node<'a>, tests: &mut TestFile) {
    const KNOWN: [&str; 5] =
        ["rule_files", "evaluation_interval", "group_eval_order", "fuzzy_compare", "tests"];
    let fields = reader.fields(node, &KNOWN);
    tests.rule_files = texts(reader, &fields, "rule_files");
    tests.order = texts(reader, &fields, "group_eval_order");
    if let (Some(name), Some(node)) = (repeated(&tests.order), fields.get("group_eval_order")) {
        reader.wrong(node, format!("group name repeated in evaluation order: {name}"));
    }
    if let Some(ms) = reader.duration_ms(&fields, "evaluation_interval").filter(|ms| *ms > 0) {
        tests.interval_ms = ms;
    }
    tests.fuzzy = flag(reader, &fields, "fuzzy_compare");
    if let Some(node) = fields.get("tests").cloned() {
        let default_ms = tests.interval_ms;
        tests.groups = reader.items(&node).iter().map(|node| group(reader, node, default_ms)).collect();
    }
}

fn texts<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>, name: &str) -> Vec<String> {
    let Some(node) = fields.get(name).cloned() else { return Vec::new() };
    reader.items(&node).iter().filter_map(|node| reader.text(node)).collect()
}

fn flag<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>, name: &str) -> bool {
    reader.value(fields, name, "true or false", |text| text.parse().ok()).unwrap_or(false)
}

fn group<'a>(reader: &mut Reader<'a>, node: &Node<'a>, default_ms: i64) -> TestGroup {
    const KNOWN: [&str; 8] = [
        "name",
        "interval",
        "input_series",
        "alert_rule_test",
        "promql_expr_test",
        "external_labels",
        "external_url",
        "start_timestamp",
    ];
    let fields = reader.fields(node, &KNOWN);
    let mut tests = TestGroup {
        name: reader.text_of(&fields, "name"),
        interval_ms: reader.duration_ms(&fields, "interval").filter(|ms| *ms > 0).unwrap_or(default_ms),
        start_ms: reader
            .value(&fields, "start_timestamp", "Unix seconds from 0 on or an RFC 3339 timestamp", start_ms)
            .unwrap_or(0),
        external_labels: labels(reader, &fields, "external_labels"),
        external_url: reader.text_of(&fields, "external_url"),
        ..TestGroup::default()
    };
    for node in items(reader, &fields, "input_series") {
        tests.series.extend(series(reader, &node));
    }
    for node in items(reader, &fields, "alert_rule_test") {
        tests.alerts.extend(alert_test(reader, &node));
    }
    for node in items(reader, &fields, "promql_expr_test") {
        tests.exprs.extend(expr_test(reader, &node));
    }
    tests
}

fn items<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>, name: &str) -> Vec<Node<'a>> {
    match fields.get(name).cloned() {
        Some(node) => reader.items(&node),
        None => Vec::new(),
    }
}

fn labels<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>, name: &str) -> Labels {
    Labels::new(reader.texts(fields, name).into_iter().map(|(name, value, _)| (name, value)))
}

/// Seconds, or a timestamp, as milliseconds; not before 1970.
fn start_ms(text: &str) -> Option<i64> {
    let ms = match text.parse::<f64>() {
        Ok(seconds) => (seconds.abs() < 1e12).then_some((seconds * 1000.0) as i64)?,
        Err(_) => DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis(),
    };
    Some(ms).filter(|ms| *ms >= 0)
}

fn series<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<(Labels, Vec<Sample>)> {
    let fields = reader.fields(node, &["series", "values"]);
    let (series, values) = (reader.text_of(&fields, "series"), reader.text_of(&fields, "values"));
    let found = script::series(&format!("{series} {values}"));
    if found.is_none() {
        let problem =
            "expected a series like `up{job=\"a\"}` and values like `1 2+3x4 _ stale {{sum:1 count:2}}`";
        reader.wrong(node, format!("{problem}, found `{series}` and `{values}`"));
    }
    found
}

fn alert_test<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<AlertTest> {
    let fields = reader.fields(node, &["eval_time", "alertname", "exp_alerts"]);
    let at_ms = reader.duration_ms(&fields, "eval_time").unwrap_or(0);
    let name = reader.text_of(&fields, "alertname");
    if name.is_empty() {
        reader.wrong(node, "an item under alert_rule_test misses required attribute alertname");
        return None;
    }
    let mut expected = Vec::new();
    for node in items(reader, &fields, "exp_alerts") {
        let fields = reader.fields(&node, &["exp_labels", "exp_annotations"]);
        let own = labels(reader, &fields, "exp_labels");
        let own = Labels::new(own.iter().chain([("alertname", name.as_str())]));
        expected.push((own, labels(reader, &fields, "exp_annotations")));
    }
    Some(AlertTest { at_ms, name, expected })
}

fn expr_test<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<ExprTest> {
    let fields = reader.fields(node, &["expr", "eval_time", "exp_samples"]);
    let expr = reader.text_of(&fields, "expr");
    let at_ms = reader.duration_ms(&fields, "eval_time").unwrap_or(0);
    let mut expected = Vec::new();
    for node in items(reader, &fields, "exp_samples") {
        let fields = reader.fields(&node, &["labels", "value", "histogram"]);
        let text = reader.text_of(&fields, "labels");
        let Some(labels) = metric(&text) else {
            reader.wrong(&node, format!("expected labels like `up{{job=\"a\"}}`, found `{text}`"));
            continue;
        };
        let histogram = reader.text_of(&fields, "histogram");
        let sample = if histogram.is_empty() {
            Sample::Float(reader.value(&fields, "value", "a number", yaml_number).unwrap_or(0.0))
        } else {
            match script::series(&format!("{{}} {histogram}")).map(|(_, points)| points).as_deref() {
                Some([sample @ Sample::Histogram(_)]) => sample.clone(),
                _ => {
                    reader.wrong(
                        &node,
                        format!("expected one histogram like `{{{{sum:1 count:2}}}}`, found `{histogram}`"),
                    );
                    continue;
                }
            }
        };
        expected.push((labels, sample));
    }
    if expr.is_empty() {
        reader.wrong(node, "a test under promql_expr_test needs an expr");
        return None;
    }
    Some(ExprTest { at_ms, expr, expected })
}

/// A number as YAML writes it, `.nan` and `.inf` among them, or as PromQL does.
fn yaml_number(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        ".nan" => Some(f64::NAN),
        ".inf" | "+.inf" => Some(f64::INFINITY),
        "-.inf" => Some(f64::NEG_INFINITY),
        _ => number::read(text),
    }
}

/// The labels that `text` spells; `{}` are none.
fn metric(text: &str) -> Option<Labels> {
    if text.chars().all(|c| c == '{' || c == '}' || c.is_whitespace()) {
        return Some(Labels::default());
    }
    match parser::parse(text, Features::NONE).ok()? {
        Expr::Selector(selector) if selector.matchers.iter().all(|m| m.op == MatchOp::Equal) => {
            Some(Labels::new(selector.matchers.iter().map(|m| (m.name.as_str(), m.value.as_str()))))
        }
        _ => None,
    }
}
