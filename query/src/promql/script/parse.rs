//! The lines of a script as commands.

use std::fmt;

use regex::Regex;
use weir_storage::{Labels, MatchOp};

use super::points::{self, Loaded};
use super::{ScriptError, steps};
use crate::promql::ast::Expr;
use crate::promql::plan::TimeRange;
use crate::promql::value::{Grid, Sample};
use crate::promql::{Features, duration, number, parser};

#[derive(Debug)]
pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

#[derive(Debug)]
pub(super) struct Load {
    pub(super) with_custom_buckets: bool,
    pub(super) series: Vec<(Labels, Vec<Loaded>)>,
}

#[derive(Debug)]
pub(super) struct Eval {
    pub(super) line: usize,
    pub(super) query: String,
    pub(super) time: TimeRange,
    pub(super) expect: Expect,
    pub(super) results: Results,
}

#[derive(Debug, Default)]
pub(super) struct Expect {
    pub(super) fail: Option<Pattern>,
    pub(super) warnings: Vec<Pattern>,
    pub(super) infos: Vec<Pattern>,
    pub(super) no_warnings: bool,
    pub(super) no_infos: bool,
    pub(super) ordered: bool,
    pub(super) text: Option<String>,
    pub(super) matrix: Option<Grid>,
}

/// The result lines: series with a point per step, or a number.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) series: Vec<(Labels, Vec<Sample>)>,
    pub(super) scalar: Option<f64>,
}

/// What a message must be like.
#[derive(Debug)]
pub(super) enum Pattern {
    Any,
    Exactly(String),
    Like(Regex),
}

impl Pattern {
    pub(super) fn matches(&self, message: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(text) => text == message,
            Self::Like(regex) => regex.is_match(message),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("of any kind"),
            Self::Exactly(text) => write!(f, "`{text}`"),
            Self::Like(regex) => write!(f, "like `{regex}`"),
        }
    }
}

/// A line with its number.
type Line<'a> = (usize, &'a str);

pub(super) fn parse(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines: Vec<Line<'_>> = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        // A comment ends what stands before it just as an empty line does.
        .map(|(at, line)| (at, if line.starts_with('#') { "" } else { line }))
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while let Some(&head) = lines.get(at) {
        at += 1;
        if head.1.is_empty() {
            continue;
        }
        let body = lines[at..].iter().take_while(|(_, line)| !line.is_empty() && !is_command(line)).count();
        let word = head.1.split_whitespace().next().unwrap_or_default();
        let body = &lines[at..at + body];
        at += body.len();
        commands.push(match word {
            "clear" => Command::Clear,
            "load" | "load_with_nhcb" => Command::Load(load(head, body)?),
            _ if word.starts_with("eval") => Command::Eval(Box::new(eval(head, body)?)),
            _ => return fail(head.0, format!("unknown command `{word}`")),
        });
    }
    Ok(commands)
}

fn fail<T>(line: usize, message: impl Into<String>) -> Result<T, ScriptError> {
    Err(ScriptError { line, message: message.into() })
}

fn is_command(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default();
    matches!(
        word,
        "clear"
            | "load"
            | "load_with_nhcb"
            | "eval"
            | "eval_fail"
            | "eval_warn"
            | "eval_info"
            | "eval_ordered"
    )
}

fn load((line, head): Line<'_>, body: &[Line<'_>]) -> Result<Load, ScriptError> {
    let mut words = head.split_whitespace();
    let with_custom_buckets = words.next() == Some("load_with_nhcb");
    let Some(step) = words.next().and_then(time) else { return fail(line, "expected `load STEP`") };
    let mut series = Vec::new();
    let mut starts: Option<Vec<Option<i64>>> = None;
    for (line, text) in body {
        let (labels, rest) = split_series(text).ok_or_else(|| bad_series(*line))?;
        if let Some(offsets) = rest.strip_prefix("@st") {
            let offsets = points::starts(offsets);
            starts = Some(offsets.ok_or_else(|| bad_points(*line))?);
            continue;
        }
        let samples = points::points(rest).ok_or_else(|| bad_points(*line))?;
        let starts = starts.take().unwrap_or_default();
        let loaded = samples.into_iter().enumerate().filter(|(_, sample)| sample.is_present());
        let loaded = loaded.map(|(at, sample)| {
            let time = at as i64 * step;
            let start = starts.get(at).copied().flatten().map_or(0, |offset| time + offset);
            Loaded { time, sample, start }
        });
        series.push((labels, loaded.collect()));
    }
    Ok(Load { with_custom_buckets, series })
}

fn bad_series(line: usize) -> ScriptError {
    ScriptError { line, message: "expected a series like `name{label=\"value\"}`".to_owned() }
}

fn bad_points(line: usize) -> ScriptError {
    ScriptError { line, message: "expected points like `1 2+3x4 _ stale {{sum:1 count:2}}`".to_owned() }
}

/// A duration or a number of seconds, in milliseconds.
fn time(text: &str) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let ms = duration::read_ms(rest).or_else(|| Some((number::read(rest)? * 1000.0) as i64))?;
    Some(sign * ms)
}

fn eval((line, head): Line<'_>, body: &[Line<'_>]) -> Result<Eval, ScriptError> {
    let usage = || ScriptError {
        line,
        message: "expected `eval instant at TIME QUERY` or `eval range from A to B step S QUERY`".to_owned(),
    };
    let mut rest = head;
    let mut word = || {
        let (word, after) = rest.trim_start().split_once(char::is_whitespace)?;
        rest = after.trim_start();
        Some(word)
    };
    let mut expect = Expect::default();
    match word().ok_or_else(usage)? {
        "eval" => {}
        "eval_fail" => expect.fail = Some(Pattern::Any),
        "eval_warn" => expect.warnings.push(Pattern::Any),
        "eval_info" => expect.infos.push(Pattern::Any),
        "eval_ordered" => expect.ordered = true,
        _ => return Err(usage()),
    }
    let time = match word().ok_or_else(usage)? {
        "instant" => {
            let (Some("at"), Some(at)) = (word(), word().and_then(time)) else { return Err(usage()) };
            TimeRange::Instant(at)
        }
        "range" => TimeRange::Steps(range(&mut word).ok_or_else(usage)?),
        _ => return Err(usage()),
    };
    let query = rest.to_owned();
    let mut results = Results::default();
    for (line, text) in body {
        if let Some(expected) = text.strip_prefix("expect ") {
            expectation(*line, expected.trim(), &mut expect)?;
        } else if let Some(message) = text.strip_prefix("expected_fail_message") {
            expect.fail = Some(Pattern::Exactly(message.trim().to_owned()));
        } else if let Some(pattern) = text.strip_prefix("expected_fail_regexp") {
            expect.fail = Some(like(*line, pattern)?);
        } else {
            result(*line, text, &mut results)?;
        }
    }
    Ok(Eval { line, query, time, expect, results })
}

/// `from A to B step S`
fn range<'a>(word: &mut impl FnMut() -> Option<&'a str>) -> Option<Grid> {
    let mut after = |name: &str| (word()? == name).then(|| word().and_then(time)).flatten();
    Some(steps(after("from")?, after("to")?, after("step")?))
}

fn like(line: usize, pattern: &str) -> Result<Pattern, ScriptError> {
    match Regex::new(pattern.trim()) {
        Ok(regex) => Ok(Pattern::Like(regex)),
        Err(error) => fail(line, error.to_string()),
    }
}

fn expectation(line: usize, text: &str, expect: &mut Expect) -> Result<(), ScriptError> {
    let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let pattern = || match (rest.strip_prefix("msg:"), rest.strip_prefix("regex:")) {
        (Some(message), _) => Ok(Pattern::Exactly(message.trim().to_owned())),
        (_, Some(pattern)) => like(line, pattern),
        _ => Ok(Pattern::Any),
    };
    match kind {
        "fail" => expect.fail = Some(pattern()?),
        "warn" => expect.warnings.push(pattern()?),
        "info" => expect.infos.push(pattern()?),
        "no_warn" => expect.no_warnings = true,
        "no_info" => expect.no_infos = true,
        "ordered" => expect.ordered = true,
        "string" => match parser::parse(rest, Features::ALL) {
            Ok(Expr::Text(text, _)) => expect.text = Some(text),
            _ => return fail(line, "expected a quoted string"),
        },
        "range" => {
            let mut words = rest.split_whitespace();
            let vector = words.next() == Some("vector");
            match range(&mut || words.next()).filter(|_| vector) {
                Some(grid) => expect.matrix = Some(grid),
                None => return fail(line, "expected `range vector from A to B step S`"),
            }
        }
        _ => return fail(line, format!("unknown expectation `{kind}`")),
    }
    Ok(())
}

fn result(line: usize, text: &str, results: &mut Results) -> Result<(), ScriptError> {
    if let Some(value) = number::read(text) {
        results.scalar = Some(value);
        return Ok(());
    }
    let (labels, rest) = split_series(text).ok_or_else(|| bad_series(line))?;
    let samples = points::points(rest).ok_or_else(|| bad_points(line))?;
    results.series.push((labels, samples));
    Ok(())
}

/// The labels that a line begins with, and what follows them.
pub(super) fn split_series(text: &str) -> Option<(Labels, &str)> {
    let name =
        text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let after = text[name..].trim_start();
    let end = if after.starts_with('{') && !after.starts_with("{{") {
        text.len() - after.len() + closing_brace(after)?
    } else {
        name
    };
    let (series, rest) = text.split_at(end);
    let labels = if series.chars().all(|c| c == '{' || c == '}' || c.is_whitespace()) {
        (!series.is_empty()).then(Labels::default)?
    } else {
        labels_of(series)?
    };
    Some((labels, rest))
}

/// The index after the brace that closes the one at the start.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '}' => return Some(at + 1),
            None => {}
        }
    }
    None
}

fn labels_of(series: &str) -> Option<Labels> {
    match parser::parse(series, Features::ALL).ok()? {
        Expr::Selector(selector) if selector.matchers.iter().all(|m| m.op == MatchOp::Equal) => {
            Some(Labels::new(selector.matchers.iter().map(|m| (m.name.as_str(), m.value.as_str()))))
        }
        _ => None,
    }
}
