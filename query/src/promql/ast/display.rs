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
            Self::Seconds(seconds, _) => {
                let sign = if seconds.is_sign_negative() { "-" } else { "" };
                write!(f, "{sign}{}", duration::show_ms((seconds.abs() * 1000.0).round() as i64))
            }
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
        if self.on || !self.labels.is_empty() || self.group != Group::OneToOne {
            write!(f, " {} ({})", if self.on { "on" } else { "ignoring" }, names(&self.labels))?;
        }
        match self.group {
            Group::OneToOne => {}
            Group::Left => write!(f, " group_left ({})", names(&self.include))?,
            Group::Right => write!(f, " group_right ({})", names(&self.include))?,
        }
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
                write!(f, " fill ({})", number::show(left))
            }
            (left, right) => {
                [("fill_left", left), ("fill_right", right)].into_iter().try_for_each(|(word, value)| {
                    match value {
                        Some(value) => write!(f, " {word} ({})", number::show(value)),
                        None => Ok(()),
                    }
                })
            }
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        match &self.parameter {
            Some(parameter) => write!(f, "({parameter}, {})", self.operand),
            None => write!(f, "({})", self.operand),
        }
    }
}

impl Aggregate {
    /// What stands before the parenthesis.
    pub(super) fn head(&self) -> String {
        let (op, labels) = (self.op.name(), names(&self.grouping.labels));
        match self.grouping.without {
            true => format!("{op} without ({labels}) "),
            false if !labels.is_empty() => format!("{op} by ({labels}) "),
            false => op.to_owned(),
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
        let (name, rest) = match self.matchers.split_first() {
            Some((name, rest)) if self.named => (Some(name), rest),
            _ => (None, self.matchers.as_slice()),
        };
        if let Some(name) = name {
            f.write_str(&name.value)?;
        }
        if !rest.is_empty() || name.is_none() {
            let mut conditions: Vec<String> = rest.iter().map(condition).collect();
            conditions.sort();
            write!(f, "{{{}}}", conditions.join(","))?;
        }
        let extent = match self.extent {
            Extent::Plain => "",
            Extent::Anchored => " anchored",
            Extent::Smoothed => " smoothed",
        };
        match &self.range {
            Some(range) => {
                write!(f, "[{}]{extent}{}{}", Plain(range), self.shift.fixed(), self.shift.moved())
            }
            None => write!(f, "{}{extent}{}", self.shift.fixed(), self.shift.moved()),
        }
    }
}

fn condition(matcher: &LabelMatcher) -> String {
    let op = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    format!("{}{op}{}", names(std::slice::from_ref(&matcher.name)), Quoted(&matcher.value))
}

impl Display for Subquery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.operand, self.suffix())
    }
}

impl Subquery {
    /// What stands after the operand.
    pub(super) fn suffix(&self) -> String {
        let step = self.step.as_ref().map(|step| Plain(step).to_string()).unwrap_or_default();
        format!("[{}:{step}]{}{}", Plain(&self.range), self.shift.fixed(), self.shift.moved())
    }
}

impl Shift {
    fn fixed(&self) -> String {
        match self.at {
            None => String::new(),
            Some(At::Time(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                format!(" @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
            }
            Some(At::Start) => " @ start()".to_owned(),
            Some(At::End) => " @ end()".to_owned(),
        }
    }

    fn moved(&self) -> String {
        match &self.offset {
            // One that is written out as nothing is none.
            Some(offset) if offset.is_computed() || offset.to_ms(0.0, 0.0) != Some(0) => {
                format!(" offset {}", Plain(offset))
            }
            _ => String::new(),
        }
    }
}

/// A length that stands alone: a number there is one of seconds.
struct Plain<'a>(&'a Length);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.to_ms(0.0, 0.0) {
            Some(ms) if !self.0.is_computed() => f.write_str(&duration::show_ms(ms)),
            _ => self.0.fmt(f),
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

/// `text` in double quotes, with the escapes of Go: everything that is not printable is escaped.
fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\x07' => f.write_str("\\a")?,
            '\x08' => f.write_str("\\b")?,
            '\x0c' => f.write_str("\\f")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\x0b' => f.write_str("\\v")?,
            c if is_printable(c) => f.write_char(c)?,
            c if (c as u32) < 0x80 => write!(f, "\\x{:02x}", c as u32)?,
            c if (c as u32) < 0x1_0000 => write!(f, "\\u{:04x}", c as u32)?,
            c => write!(f, "\\U{:08x}", c as u32)?,
        }
    }
    f.write_char('"')
}

/// Whether a reader sees `c`: no control, format or private character, and no space but the common one.
fn is_printable(c: char) -> bool {
    let hidden = matches!(c as u32,
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f
        | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe | 0xffff | 0xe_0000..);
    c == ' ' || !(hidden || c.is_control() || c.is_whitespace())
}

/// `text` as a literal of the language.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        quoted(f, self.0)
    }
}
