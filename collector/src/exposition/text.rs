//! Prometheus' text format and OpenMetrics: lines of series and values between lines that describe them.

use std::collections::HashMap;

use super::created::{Starts, starts};
use super::number::{millis_of, parse_value};
use super::{Exemplar, Kind, ParseError, Point, Sink, Stop, Told, Value};

mod cursor;
mod series;

use cursor::Cursor;
pub(super) use series::{Quoted, TextSeries};

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Forgiving about space, with times in milliseconds.
    Prometheus,
    /// Strict, with exemplars, times in seconds, and an end.
    OpenMetrics,
}

/// Why a line is wrong, or that the sink wants no more.
pub(super) enum Halt {
    Problem(String),
    Stop,
}

impl From<Stop> for Halt {
    fn from(_: Stop) -> Self {
        Self::Stop
    }
}

impl From<&str> for Halt {
    fn from(problem: &str) -> Self {
        Self::Problem(problem.to_owned())
    }
}

/// Reads `text` to its end.
pub(super) fn parse(text: &str, dialect: Dialect, sink: &mut dyn Sink) -> Result<(), ParseError> {
    // Lines with the time of creation follow what they are about.
    let starts = match dialect {
        Dialect::OpenMetrics if text.contains("_created") => starts(text)?,
        _ => Starts::new(),
    };
    walk(text, dialect, &starts, &mut |item| match item {
        Item::Told(family, told) => {
            sink.describe(family, told);
            Ok(())
        }
        Item::Point(series, point) => sink.point(series, point),
    })
}

/// What a line holds.
pub(super) enum Item<'i, 't> {
    Told(&'i str, Told<'i>),
    Point(&'i TextSeries<'i, 't>, Point<'i>),
}

/// Hands the lines of `text` to `take`, one after the other.
pub(super) fn walk(
    text: &str,
    dialect: Dialect,
    starts: &HashMap<String, i64>,
    take: &mut dyn FnMut(Item<'_, '_>) -> Result<(), Stop>,
) -> Result<(), ParseError> {
    let mut cursor = Cursor::new(text);
    let mut walker =
        Walker { dialect, starts, take, kind: Kind::Unknown, pairs: Vec::new(), exemplars: Vec::new() };
    match walker.lines(&mut cursor) {
        Ok(()) | Err(Halt::Stop) => Ok(()),
        Err(Halt::Problem(problem)) => Err(ParseError::Line { line: cursor.line(), problem }),
    }
}

struct Walker<'w, 't> {
    dialect: Dialect,
    starts: &'w Starts,
    take: &'w mut dyn FnMut(Item<'_, '_>) -> Result<(), Stop>,
    /// Of the family that was described last.
    kind: Kind,
    pairs: Vec<(Quoted<'t>, Quoted<'t>)>,
    exemplars: Vec<Exemplar<'t>>,
}

impl<'t> Walker<'_, 't> {
    fn lines(&mut self, cursor: &mut Cursor<'t>) -> Result<(), Halt> {
        loop {
            cursor.begin_line();
            if self.dialect == Dialect::Prometheus {
                cursor.skip_space();
            }
            match cursor.peek() {
                None if self.dialect == Dialect::OpenMetrics => {
                    return Err("ends without `# EOF`".into());
                }
                None => return Ok(()),
                Some(b'\n') if self.dialect == Dialect::Prometheus => cursor.bump(),
                Some(b'\r') if self.dialect == Dialect::Prometheus && cursor.at_line_end() => {
                    cursor.end_line()?
                }
                Some(b'\n') => return Err("an empty line".into()),
                Some(b'#') => {
                    let ended = match self.dialect {
                        Dialect::Prometheus => self.comment(cursor)?,
                        Dialect::OpenMetrics => self.description(cursor)?,
                    };
                    if ended {
                        return Ok(());
                    }
                }
                Some(_) => self.sample(cursor)?,
            }
        }
    }

    /// A comment, of which those that describe are read and others are not.
    fn comment(&mut self, cursor: &mut Cursor<'t>) -> Result<bool, Halt> {
        cursor.bump();
        let spaced = cursor.skip_space() > 0;
        let word = cursor.word();
        if !spaced || !matches!(word, "HELP" | "TYPE") || cursor.skip_space() == 0 {
            cursor.rest_of_line();
            return Ok(false);
        }
        let family = cursor.family_name()?;
        cursor.skip_space();
        let rest = cursor.rest_of_line();
        self.describe(word, &family.text(), rest.trim_end_matches('\r'))?;
        Ok(false)
    }

    /// A comment of OpenMetrics, which all describe; true at the end of the exposition.
    fn description(&mut self, cursor: &mut Cursor<'t>) -> Result<bool, Halt> {
        if let Some(rest) = cursor.rest().strip_prefix("# EOF") {
            return match rest {
                "" | "\n" => Ok(true),
                _ => Err("something follows `# EOF`".into()),
            };
        }
        if !cursor.take_prefix("# ") {
            return Err("expected `# HELP`, `# TYPE`, `# UNIT` or `# EOF`".into());
        }
        let word = cursor.word();
        if !matches!(word, "HELP" | "TYPE" | "UNIT") || !cursor.take_prefix(" ") {
            return Err("expected `# HELP`, `# TYPE`, `# UNIT` or `# EOF`".into());
        }
        let family = cursor.family_name()?;
        if !cursor.take_prefix(" ") && !cursor.at_line_end() {
            return Err("expected a space behind the name".into());
        }
        let rest = cursor.rest_of_line();
        self.describe(word, &family.text(), rest)?;
        Ok(false)
    }

    fn describe(&mut self, word: &str, family: &str, rest: &str) -> Result<(), Halt> {
        let told = match word {
            "TYPE" => {
                let name = rest.trim();
                self.kind = Kind::parse(name)
                    .ok_or_else(|| Halt::Problem(format!("`{name}` is no type of a metric")))?;
                Told::Kind(self.kind)
            }
            "UNIT" => {
                let suffixed = family.strip_suffix(rest).is_some_and(|name| name.ends_with('_'));
                if !rest.is_empty() && !suffixed {
                    return Err(Halt::Problem(format!("the unit `{rest}` is no suffix of `{family}`")));
                }
                Told::Unit(rest)
            }
            _ => {
                let help = Quoted::new(rest, rest.contains('\\')).text();
                return (self.take)(Item::Told(family, Told::Help(&help))).map_err(Halt::from);
            }
        };
        (self.take)(Item::Told(family, told)).map_err(Halt::from)
    }

    fn sample(&mut self, cursor: &mut Cursor<'t>) -> Result<(), Halt> {
        self.pairs.clear();
        self.exemplars.clear();
        let (raw, name) = cursor.series(&mut self.pairs)?;
        let spaces = cursor.skip_space();
        if spaces == 0 && !raw.ends_with('}') {
            return Err("expected a value behind the series".into());
        }
        let word = cursor.word();
        let value = parse_value(word).ok_or_else(|| Halt::Problem(format!("`{word}` is no value")))?;
        let time = self.time(cursor)?;
        if self.dialect == Dialect::OpenMetrics && cursor.take_prefix(" # ") {
            self.exemplar(cursor)?;
        }
        cursor.skip_space();
        cursor.end_line()?;
        let series = TextSeries { raw, name, pairs: &self.pairs, kind: self.kind };
        let start = if self.starts.is_empty() { None } else { series.start(self.starts) };
        let point = Point { value: Value::Float(value), time, start, exemplars: &self.exemplars };
        (self.take)(Item::Point(&series, point)).map_err(Halt::from)
    }

    fn time(&self, cursor: &mut Cursor<'t>) -> Result<Option<i64>, Halt> {
        if self.dialect == Dialect::OpenMetrics && cursor.rest().starts_with(" # ") {
            return Ok(None);
        }
        cursor.skip_space();
        if cursor.at_line_end() {
            return Ok(None);
        }
        let word = cursor.word();
        let time = match self.dialect {
            Dialect::Prometheus => word.parse().ok(),
            Dialect::OpenMetrics => word.parse::<f64>().ok().and_then(millis_of),
        };
        time.map(Some).ok_or_else(|| Halt::Problem(format!("`{word}` is no time")))
    }

    fn exemplar(&mut self, cursor: &mut Cursor<'t>) -> Result<(), Halt> {
        let mut pairs = Vec::new();
        cursor.braces(&mut pairs)?;
        if !cursor.take_prefix(" ") {
            return Err("expected a value behind the labels of an exemplar".into());
        }
        let word = cursor.word();
        let value =
            parse_value(word).ok_or_else(|| Halt::Problem(format!("`{word}` is no value of an exemplar")))?;
        let mut time = None;
        if cursor.take_prefix(" ") && !cursor.at_line_end() {
            let word = cursor.word();
            time = word.parse::<f64>().ok().and_then(millis_of);
            if time.is_none() {
                return Err(Halt::Problem(format!("`{word}` is no time of an exemplar")));
            }
        }
        let labels = pairs.into_iter().filter_map(|(name, value)| Some((name?.text(), value.text())));
        self.exemplars.push(Exemplar { labels: labels.collect(), value, time });
        Ok(())
    }
}
