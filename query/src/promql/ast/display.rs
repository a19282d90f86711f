//! Expressions as text that parses back to the same tree.

use std::fmt::{self, Display, Formatter, Write};

use weir_storage::{LabelMatcher, MatchOp};

use super::{
    Aggregate, At, Binary, BinaryOp, Call, Expr, Extent, Group, Length, Matching, Selector, Shift, Subquery,
};
use crate::promql::{duration, number};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value, _) => f.write_str(&number::show(*value)),
            Self::Text(text, _) => quoted(f, text),
            Self::Paren(inner, _) => write!(f, "({inner})"),
            Self::Unary { negate, operand, .. } => write!(f, "{}{operand}", if *negate { "-" } else { "+" }),
            Self::Binary(binary) => binary.fmt(f),
            Self::Aggregate(aggregate) => aggregate.fmt(f),
            Self::Call(call) => call.fmt(f),
            Self::Selector(selector) => selector.fmt(f),
            Self::Subquery(subquery) => subquery.fmt(f),
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.left, self.op.name())?;
        if self.bool_result {
            f.write_str(" bool")?;
        }
        write!(f, "{} {}", self.matching, self.right)
    }
}

impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.written {
            write!(f, " {} ({})", if self.on { "on" } else { "ignoring" }, names(&self.labels))?;
        }
        match self.group {
            Group::OneToOne => {}
            Group::Left => write!(f, " group_left ({})", names(&self.include))?,
            Group::Right => write!(f, " group_right ({})", names(&self.include))?,
        }
        for (word, value) in [("fill_left", self.fill_left), ("fill_right", self.fill_right)] {
            if let Some(value) = value {
                write!(f, " {word} ({})", number::show(value))?;
            }
        }
        Ok(())
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())?;
        if self.grouping.without {
            write!(f, " without ({}) ", names(&self.grouping.labels))?;
        } else if !self.grouping.labels.is_empty() {
            write!(f, " by ({}) ", names(&self.grouping.labels))?;
        }
        match &self.parameter {
            Some(parameter) => write!(f, "({parameter}, {})", self.operand),
            None => write!(f, "({})", self.operand),
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name)?;
        for (i, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
        }
        f.write_char(')')
    }
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |m: &LabelMatcher| m.name == "__name__" && m.op == MatchOp::Equal && is_metric(&m.value);
        let name = self.matchers.iter().position(plain);
        if let Some(name) = name {
            f.write_str(&self.matchers[name].value)?;
        }
        let rest: Vec<_> = self.matchers.iter().enumerate().filter(|(i, _)| Some(*i) != name).collect();
        if !rest.is_empty() || name.is_none() {
            f.write_char('{')?;
            for (i, (_, matcher)) in rest.into_iter().enumerate() {
                if i > 0 {
                    f.write_char(',')?;
                }
                write_matcher(f, matcher)?;
            }
            f.write_char('}')?;
        }
        if let Some(range) = &self.range {
            write!(f, "[{range}]")?;
        }
        match self.extent {
            Extent::Plain => {}
            Extent::Anchored => f.write_str(" anchored")?,
            Extent::Smoothed => f.write_str(" smoothed")?,
        }
        self.shift.fmt(f)
    }
}

fn write_matcher(f: &mut Formatter<'_>, matcher: &LabelMatcher) -> fmt::Result {
    let op = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    write!(f, "{}{op}", names(std::slice::from_ref(&matcher.name)))?;
    quoted(f, &matcher.value)
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}:", self.operand, self.range)?;
        if let Some(step) = &self.step {
            step.fmt(f)?;
        }
        write!(f, "]{}", self.shift)
    }
}

impl Display for Shift {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.at {
            None => {}
            Some(At::Time(ms)) => write!(f, " @ {}", number::show(ms as f64 / 1000.0))?,
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
        }
        match &self.offset {
            None => Ok(()),
            Some(offset) => write!(f, " offset {offset}"),
        }
    }
}

impl Display for Length {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ms(ms) => f.write_str(&duration::show_ms(*ms)),
            Self::Number(value) => f.write_str(&number::show(*value)),
            Self::Step => f.write_str("step()"),
            Self::Range => f.write_str("range()"),
            Self::Negate(inner) => write!(f, "-{inner}"),
            Self::Paren(inner) => write!(f, "({inner})"),
            Self::Binary(op, a, b) => write!(f, "{a} {} {b}", op.name()),
            Self::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            Self::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
        }
    }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Label names, quoted where they are not plain.
fn names(labels: &[String]) -> String {
    let one = |name: &String| if is_label(name) { name.clone() } else { format!("{}", Quoted(name)) };
    labels.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Whether `name` is a label name that needs no quotes.
pub(crate) fn is_label(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.bytes().next().is_some_and(first) && name.bytes().all(|b| first(b) || b.is_ascii_digit())
}

/// Whether `name` is a metric name that needs no quotes, and no word with a meaning of its own.
fn is_metric(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    let special = matches!(name.to_ascii_lowercase().as_str(), "inf" | "nan");
    name.bytes().next().is_some_and(first) && name.bytes().all(|b| first(b) || b.is_ascii_digit()) && !special
}

/// `text` in double quotes, with the escapes the parser knows.
fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        quoted(f, self.0)
    }
}
