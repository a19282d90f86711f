//! Template text as pieces: literal text, and actions as tokens with their places.

use std::iter;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Piece {
    /// Copied as it is; the trim markers of its neighbours have been obeyed.
    Text(String),
    /// What stands between `{{` and `}}`.
    Action(Vec<Token>),
}

/// A token of an action.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Byte offset in the template.
    pub(super) at: usize,
    /// Whether white space stands before it.
    pub(super) spaced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A keyword or the name of a function.
    Word(String),
    /// `.name`
    Field(String),
    Dot,
    /// `$` and the name after it.
    Variable(String),
    /// A number as it was typed.
    Number(String),
    /// A text: what it means, and as it was typed.
    Text(String, String),
    /// A character: its code point, and as it was typed.
    Char(i64, String),
    Assign,
    Declare,
    Pipe,
    Open,
    Close,
    Comma,
}

impl Kind {
    /// As it was typed.
    pub(super) fn typed(&self) -> String {
        match self {
            Self::Word(text) | Self::Variable(text) | Self::Number(text) => text.clone(),
            Self::Field(name) => format!(".{name}"),
            Self::Text(_, typed) | Self::Char(_, typed) => typed.clone(),
            Self::Dot => ".".into(),
            Self::Assign => "=".into(),
            Self::Declare => ":=".into(),
            Self::Pipe => "|".into(),
            Self::Open => "(".into(),
            Self::Close => ")".into(),
            Self::Comma => ",".into(),
        }
    }
}

/// What is wrong with a template, and at which byte.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// White space, as trim markers and tokens know it.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// The pieces of `text`, in order.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, Fault> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while let Some(open) = text[at..].find("{{").map(|found| at + found) {
        let inside = open + 2;
        let trims_before = text[inside..].starts_with("- ")
            || text[inside..].starts_with("-\t")
            || text[inside..].starts_with("-\n")
            || text[inside..].starts_with("-\r");
        literal(&mut out, &text[at..open], trim, trims_before);
        let start = if trims_before { inside + 1 } else { inside };
        let blank = text[start..].len() - text[start..].trim_start_matches(SPACE).len();
        let comment = if trims_before { start + blank } else { start };
        (at, trim) = if text[comment..].starts_with("/*") {
            skip_comment(text, comment)?
        } else {
            let (tokens, end, trims_after) = Lexer { text, at: start }.action(open)?;
            out.push(Piece::Action(tokens));
            (end, trims_after)
        };
    }
    literal(&mut out, &text[at..], trim, false);
    Ok(out)
}

fn literal(out: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start_matches(SPACE) } else { text };
    let text = if trim_end { text.trim_end_matches(SPACE) } else { text };
    if !text.is_empty() {
        out.push(Piece::Text(text.to_owned()));
    }
}

/// Where the text goes on after the comment at `at`, and whether white space is trimmed there.
fn skip_comment(text: &str, at: usize) -> Result<(usize, bool), Fault> {
    let Some(end) = text[at..].find("*/").map(|found| at + found + 2) else {
        return Err(Fault::new(at, "unclosed comment"));
    };
    closing(&text[end..])
        .map(|(len, trims)| (end + len, trims))
        .ok_or_else(|| Fault::new(at, "comment ends before closing delimiter"))
}

/// The length of the `}}` or ` -}}` that `text` begins with, and whether it trims.
fn closing(text: &str) -> Option<(usize, bool)> {
    if text.starts_with("}}") {
        return Some((2, false));
    }
    let rest = text.trim_start_matches(SPACE);
    let blank = text.len() - rest.len();
    (blank > 0 && rest.starts_with("-}}")).then_some((blank + 3, true))
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// The tokens up to the delimiter that closes the action opened at `open`, the place after it, and whether
    /// it trims.
    fn action(mut self, open: usize) -> Result<(Vec<Token>, usize, bool), Fault> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut depth = 0_usize;
        loop {
            if let Some((len, trims)) = closing(self.rest()) {
                if depth > 0 {
                    return Err(Fault::new(self.at, "unclosed left paren"));
                }
                return Ok((tokens, self.at + len, trims));
            }
            let blank = self.rest().len() - self.rest().trim_start_matches(SPACE).len();
            if blank > 0 {
                self.at += blank;
                // What closes an action may stand right here.
                if closing(self.rest()).is_some() {
                    continue;
                }
            }
            let at = self.at;
            let Some(c) = self.rest().chars().next() else {
                return Err(Fault::new(open, "unclosed action"));
            };
            let kind = self.token(c)?;
            match kind {
                Kind::Open => depth += 1,
                Kind::Close if depth == 0 => return Err(Fault::new(at, "unexpected right paren")),
                Kind::Close => depth -= 1,
                _ => {}
            }
            tokens.push(Token { kind, at, spaced: blank > 0 });
        }
    }

    fn token(&mut self, c: char) -> Result<Kind, Fault> {
        let two = self.rest().starts_with(":=");
        match c {
            ':' if two => Ok(self.symbol(2, Kind::Declare)),
            '=' => Ok(self.symbol(1, Kind::Assign)),
            '|' => Ok(self.symbol(1, Kind::Pipe)),
            '(' => Ok(self.symbol(1, Kind::Open)),
            ')' => Ok(self.symbol(1, Kind::Close)),
            ',' => Ok(self.symbol(1, Kind::Comma)),
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => self.character(),
            '$' => {
                let name = self.name_after(1);
                self.at += 1 + name.len();
                Ok(Kind::Variable(format!("${name}")))
            }
            '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let name = self.name_after(1);
                self.at += 1 + name.len();
                Ok(if name.is_empty() { Kind::Dot } else { Kind::Field(name) })
            }
            '+' | '-' | '.' | '0'..='9' => self.number(),
            c if is_word(c) => {
                let name = self.name_after(0);
                self.at += name.len();
                Ok(Kind::Word(name))
            }
            c => {
                let shown = if c.is_ascii_graphic() {
                    format!("U+{:04X} {c:?}", c as u32)
                } else {
                    format!("U+{:04X}", c as u32)
                };
                Err(Fault::new(self.at, format!("unrecognized character in action: {shown}")))
            }
        }
    }

    fn symbol(&mut self, len: usize, kind: Kind) -> Kind {
        self.at += len;
        kind
    }

    /// The letters, digits and underscores that stand `skip` bytes on.
    fn name_after(&self, skip: usize) -> String {
        self.rest()[skip..].chars().take_while(|c| is_word(*c)).collect()
    }

    fn number(&mut self) -> Result<Kind, Fault> {
        let mut before = ' ';
        let typed: String = self
            .rest()
            .chars()
            .enumerate()
            .take_while(|(at, c)| {
                let sign = matches!(c, '+' | '-') && (*at == 0 || matches!(before, 'e' | 'E' | 'p' | 'P'));
                let part = sign || c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
                before = *c;
                part
            })
            .map(|(_, c)| c)
            .collect();
        self.at += typed.len();
        Ok(Kind::Number(typed))
    }

    fn quoted(&mut self) -> Result<Kind, Fault> {
        let start = self.at;
        let mut meaning = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        let end = loop {
            match chars.next() {
                None | Some((_, '\n')) => return Err(Fault::new(start, "unterminated quoted string")),
                Some((at, '"')) => break at + 1,
                Some((at, '\\')) => {
                    let c = escape(&mut chars.by_ref().map(|(_, c)| c), '"')
                        .ok_or_else(|| Fault::new(start + at, "invalid syntax"))?;
                    meaning.push(c);
                }
                Some((_, c)) => meaning.push(c),
            }
        };
        let typed = self.rest()[..end].to_owned();
        self.at += end;
        Ok(Kind::Text(meaning, typed))
    }

    fn raw(&mut self) -> Result<Kind, Fault> {
        let Some(len) = self.rest()[1..].find('`') else {
            return Err(Fault::new(self.at, "unterminated raw quoted string"));
        };
        let meaning = self.rest()[1..=len].to_owned();
        let typed = self.rest()[..len + 2].to_owned();
        self.at += len + 2;
        Ok(Kind::Text(meaning.replace('\r', ""), typed))
    }

    fn character(&mut self) -> Result<Kind, Fault> {
        let start = self.at;
        let fault = || Fault::new(start, "unterminated character constant");
        let mut chars = self.rest()[1..].chars();
        let c = match chars.next().ok_or_else(fault)? {
            '\\' => escape(&mut chars, '\'').ok_or_else(fault)?,
            '\'' | '\n' => return Err(fault()),
            c => c,
        };
        if chars.next() != Some('\'') {
            return Err(fault());
        }
        let left = chars.as_str().len();
        let typed = self.rest()[..self.rest().len() - left].to_owned();
        self.at += typed.len();
        Ok(Kind::Char(i64::from(u32::from(c)), typed))
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The character that an escape after the backslash stands for; bytes above ASCII are read as code points.
fn escape(chars: &mut impl Iterator<Item = char>, quote: char) -> Option<char> {
    let digits = |text: String, len: usize, radix: u32| {
        let whole = text.chars().count() == len;
        u32::from_str_radix(&text, radix).ok().filter(|_| whole).and_then(char::from_u32)
    };
    let c = chars.next()?;
    match c {
        'a' => Some('\x07'),
        'b' => Some('\x08'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        '\\' => Some('\\'),
        'x' => digits(chars.take(2).collect(), 2, 16),
        'u' => digits(chars.take(4).collect(), 4, 16),
        'U' => digits(chars.take(8).collect(), 8, 16),
        '0'..='7' => digits(iter::once(c).chain(chars.take(2)).collect(), 3, 8),
        c if c == quote => Some(c),
        _ => None,
    }
}
