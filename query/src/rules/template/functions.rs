//! The functions that templates may call: Go's own, and those that Prometheus adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::limits::TEMPLATE_TEXT_BYTES;

use super::exec::{Run, Stop};
use super::format::{general, printf};
use super::humanize;
use super::text;
use super::time;
use super::value::Value;
use super::{builtin, time::nanos};
use crate::promql::{Sample, duration};

type Call = fn(&Run<'_>, &[Value]) -> Result<Value, Stop>;

/// Name, fewest arguments, most arguments, and what is done.
type Entry = (&'static str, usize, usize, Call);

/// As many arguments as one likes.
const ANY: usize = usize::MAX;

/// Every function but `and` and `or`, which do not evaluate all of their arguments. In order of their names.
const FUNCTIONS: [Entry; 48] = [
    ("args", 0, ANY, |_, args| Ok(numbered(args))),
    ("call", 1, ANY, |_, args| {
        fail(format!("non-function {} of type {}", args[0].show(), args[0].type_name()))
    }),
    ("eq", 1, ANY, |_, args| Ok(builtin::eq(args)?)),
    ("externalURL", 0, 0, |run, _| Ok(Value::text(run.context.external_url))),
    ("first", 1, 1, |_, args| first(&args[0])),
    ("ge", 2, 2, |_, args| Ok(builtin::compare("ge", args)?)),
    ("graphLink", 1, 1, |_, args| Ok(Value::text(text::graph_link(text_of(&args[0])?, 0)))),
    ("gt", 2, 2, |_, args| Ok(builtin::compare("gt", args)?)),
    ("html", 0, ANY, |_, args| Ok(Value::text(text::html(&print(args))))),
    ("humanize", 1, 1, |_, args| Ok(Value::text(humanize::decimal(number(&args[0])?)))),
    ("humanize1024", 1, 1, |_, args| Ok(Value::text(humanize::binary(number(&args[0])?)))),
    ("humanizeDuration", 1, 1, |_, args| Ok(Value::text(humanize::length(number(&args[0])?)))),
    ("humanizePercentage", 1, 1, |_, args| {
        Ok(Value::text(format!("{}%", general(number(&args[0])? * 100.0, Some(4)))))
    }),
    ("humanizeTimestamp", 1, 1, |_, args| Ok(Value::text(humanize::moment(number(&args[0])?)?))),
    ("index", 1, ANY, |_, args| Ok(builtin::index(args)?)),
    ("js", 0, ANY, |_, args| Ok(Value::text(text::js(&print(args))))),
    ("jsonUnmarshal", 1, 1, |_, args| from_json(text_of(&args[0])?)),
    ("label", 2, 2, |_, args| {
        Ok(Value::text(sample(&args[1])?.0.get(text_of(&args[0])?).unwrap_or_default()))
    }),
    ("le", 2, 2, |_, args| Ok(builtin::compare("le", args)?)),
    ("len", 1, 1, |_, args| Ok(builtin::len(&args[0])?)),
    ("lt", 2, 2, |_, args| Ok(builtin::compare("lt", args)?)),
    ("match", 2, 2, |_, args| Ok(Value::Bool(pattern(text_of(&args[0])?)?.is_match(text_of(&args[1])?)))),
    ("ne", 2, 2, |_, args| Ok(builtin::ne(args)?)),
    ("not", 1, 1, |_, args| Ok(Value::Bool(!args[0].is_true()))),
    ("now", 0, 0, |run, _| Ok(Value::Float(run.context.now_ms as f64 / 1000.0))),
    ("parseDuration", 1, 1, |_, args| Ok(Value::Float(milliseconds(text_of(&args[0])?)? as f64 / 1000.0))),
    ("parseDurationTime", 1, 1, |_, args| {
        Ok(Value::Length(milliseconds(text_of(&args[0])?)?.saturating_mul(1_000_000)))
    }),
    ("pathPrefix", 0, 0, |run, _| Ok(Value::text(text::path(run.context.external_url)))),
    ("print", 0, ANY, |_, args| Ok(Value::text(print(args)))),
    ("printf", 1, ANY, |_, args| Ok(Value::text(printf(text_of(&args[0])?, &args[1..])))),
    ("println", 0, ANY, |_, args| Ok(Value::text(builtin::println(args)))),
    ("query", 1, 1, |run, args| run.query(text_of(&args[0])?)),
    ("reReplaceAll", 3, 3, |_, args| replaced(args)),
    ("safeHtml", 1, 1, |_, args| Ok(Value::text(text_of(&args[0])?))),
    ("slice", 1, 4, |_, args| Ok(builtin::slice(args)?)),
    ("sortByLabel", 2, 2, |_, args| sorted(args)),
    ("stripDomain", 1, 1, |_, args| Ok(Value::text(text::strip_domain(text_of(&args[0])?)))),
    ("stripPort", 1, 1, |_, args| Ok(Value::text(text::strip_port(text_of(&args[0])?)))),
    ("strvalue", 1, 1, |_, args| Ok(Value::text(sample(&args[0])?.0.get("__value__").unwrap_or_default()))),
    ("tableLink", 1, 1, |_, args| Ok(Value::text(text::graph_link(text_of(&args[0])?, 1)))),
    ("title", 1, 1, |_, args| Ok(Value::text(text::title(text_of(&args[0])?)))),
    ("toDuration", 1, 1, |_, args| Ok(Value::Length(nanos(number(&args[0])?, "duration")?))),
    ("toLower", 1, 1, |_, args| Ok(Value::text(text_of(&args[0])?.to_lowercase()))),
    ("toTime", 1, 1, |_, args| {
        Ok(Value::Time(humanize::to_milliseconds(nanos(number(&args[0])?, "nanoseconds timestamp")?)))
    }),
    ("toUpper", 1, 1, |_, args| Ok(Value::text(text_of(&args[0])?.to_uppercase()))),
    ("urlQueryEscape", 1, 1, |_, args| Ok(Value::text(text::query_escape(text_of(&args[0])?)))),
    ("urlquery", 0, ANY, |_, args| Ok(Value::text(text::query_escape(&print(args))))),
    ("value", 1, 1, |_, args| Ok(Value::from(&sample(&args[0])?.1))),
];

/// Whether a function has this name.
pub(super) fn exists(name: &str) -> bool {
    matches!(name, "and" | "or") || find(name).is_some()
}

fn find(name: &str) -> Option<&'static Entry> {
    FUNCTIONS.binary_search_by_key(&name, |entry| entry.0).ok().map(|at| &FUNCTIONS[at])
}

/// Calls the function `name`.
pub(super) fn call(run: &Run<'_>, name: &str, args: &[Value]) -> Result<Value, Stop> {
    let Some((_, fewest, most, call)) = find(name) else {
        return fail(format!("{name:?} is not a defined function"));
    };
    if !(*fewest..=*most).contains(&args.len()) {
        let want = if *most == ANY { format!("at least {fewest}") } else { fewest.to_string() };
        return Err(Stop::Plain(format!("wrong number of args for {name}: want {want} got {}", args.len())));
    }
    call(run, args)
}

fn fail<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(message.into()))
}

fn text_of(value: &Value) -> Result<&str, Stop> {
    match value {
        Value::Text(text) => Ok(text),
        other => {
            Err(Stop::Plain(format!("wrong type for value; expected string; got {}", other.type_name())))
        }
    }
}

/// A number, or a text that is one.
fn number(value: &Value) -> Result<f64, Stop> {
    match value {
        Value::Float(number) => Ok(*number),
        Value::Int(whole) => Ok(*whole as f64),
        Value::Length(nanos) => Ok(*nanos as f64 / 1e9),
        Value::Text(text) => parsed(text)
            .ok_or_else(|| Stop::Failed(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))),
        other => fail(format!("can't convert {} to float", other.type_name())),
    }
}

fn parsed(text: &str) -> Option<f64> {
    let fits = !text.is_empty() && !text.contains(char::is_whitespace);
    text.parse().ok().filter(|_| fits)
}

fn sample(value: &Value) -> Result<&(weir_storage::Labels, Sample), Stop> {
    match value {
        Value::Sample(row) => Ok(row),
        other => {
            let got = other.type_name();
            Err(Stop::Plain(format!("wrong type for value; expected *template.sample; got {got}")))
        }
    }
}

fn first(value: &Value) -> Result<Value, Stop> {
    match value {
        Value::Result(rows) => match rows.first() {
            Some(row) => Ok(Value::Sample(Arc::new(row.clone()))),
            None => fail("first() called on vector with no elements"),
        },
        other => {
            let got = other.type_name();
            Err(Stop::Plain(format!("wrong type for value; expected template.queryResult; got {got}")))
        }
    }
}

fn sorted(args: &[Value]) -> Result<Value, Stop> {
    let label = text_of(&args[0])?;
    match &args[1] {
        Value::Result(rows) => {
            let mut rows = rows.to_vec();
            rows.sort_by(|a, b| a.0.get(label).unwrap_or_default().cmp(b.0.get(label).unwrap_or_default()));
            Ok(Value::Result(rows.into()))
        }
        other => {
            let got = other.type_name();
            Err(Stop::Plain(format!("wrong type for value; expected template.queryResult; got {got}")))
        }
    }
}

fn numbered(args: &[Value]) -> Value {
    let pairs = args.iter().enumerate().map(|(at, value)| (format!("arg{at}"), value.clone()));
    Value::Map(Arc::new(pairs.collect::<BTreeMap<_, _>>()))
}

fn pattern(text: &str) -> Result<regex::Regex, Stop> {
    regex::Regex::new(text).map_err(|_| Stop::Failed(format!("error parsing regexp: `{text}`")))
}

fn replaced(args: &[Value]) -> Result<Value, Stop> {
    let (from, to, text) = (pattern(text_of(&args[0])?)?, text_of(&args[1])?, text_of(&args[2])?);
    let mut out = String::new();
    let mut last = 0;
    for found in from.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&text[last..whole.start()]);
        found.expand(to, &mut out);
        last = whole.end();
        if out.len() > TEMPLATE_TEXT_BYTES {
            return fail("the result is too long");
        }
    }
    out.push_str(&text[last..]);
    Ok(Value::text(out))
}

fn print(args: &[Value]) -> String {
    builtin::print(args)
}

fn milliseconds(text: &str) -> Result<i64, Stop> {
    duration::read_ms(text).ok_or_else(|| Stop::Failed(format!("not a valid duration string: {text:?}")))
}

fn from_json(text: &str) -> Result<Value, Stop> {
    fn value(json: serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Nil,
            serde_json::Value::Bool(bool) => Value::Bool(bool),
            serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Value::text(text),
            serde_json::Value::Array(all) => Value::List(all.into_iter().map(value).collect()),
            serde_json::Value::Object(all) => {
                Value::Map(Arc::new(all.into_iter().map(|(key, json)| (key, value(json))).collect()))
            }
        }
    }
    serde_json::from_str(text).map(value).map_err(|error| Stop::Failed(error.to_string()))
}

/// The method `name` of a value; nothing where it has none.
pub(super) fn method(value: &Value, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    match value {
        Value::Time(nanos) => time::method(*nanos, name, args),
        Value::Length(nanos) => time::length_method(*nanos, name).map(Ok),
        Value::Histogram(histogram) if name == "String" => Some(Ok(Value::text(histogram.to_string()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_in_order_of_their_names() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
