//! Text to tokens, each with its place.

use super::ast::Span;
use super::error::Error;
use super::{duration, number};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name, keywords included: what a word means depends on where it stands.
    Word(String),
    Number(f64),
    /// Milliseconds.
    Duration(i64),
    Text(String),
    /// An operator or bracket.
    Sign(&'static str),
    End,
}

impl Token {
    /// How errors call it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("identifier {word:?}"),
            Self::Number(value) => format!("number {:?}", number::show(*value)),
            Self::Duration(ms) => format!("duration {:?}", duration::show_ms(*ms)),
            Self::Text(text) => format!("string {text:?}"),
            Self::Sign(sign) => format!("{sign:?}"),
            Self::End => "end of input".to_owned(),
        }
    }
}

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: [&str; 28] = [
    "</", ">/", "==", "!=", "=~", "!~", "<=", ">=", "(", ")", "{", "}", "[", "]", ",", "=", "<", ">", "+",
    "-", "*", "/", "%", "^", "@", ":", ";", "!",
];

/// The tokens of `text`; the last one is [`Token::End`].
pub(super) fn lex(text: &str) -> Result<Vec<(Token, Span)>, Error> {
    let mut lexer = Lexer { text, at: 0, brackets: 0 };
    let mut tokens = Vec::new();
    loop {
        let (token, span) = lexer.next()?;
        let done = token == Token::End;
        tokens.push((token, span));
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Depth of `[`: inside, a colon separates range and step instead of belonging to a name.
    brackets: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<(Token, Span), Error> {
        self.skip();
        let start = self.at;
        let rest = &self.text[start..];
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, Span { start, end: start }));
        };
        let token = match first {
            '"' | '\'' | '`' => self.string(first)?,
            '0'..='9' => self.number()?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            'a'..='z' | 'A'..='Z' | '_' => self.word(),
            ':' if self.brackets == 0 => self.word(),
            _ => self.sign(first)?,
        };
        Ok((token, Span { start, end: self.at }))
    }

    /// Skips white space and comments.
    fn skip(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            self.at += blank;
            if !self.text[self.at..].starts_with('#') {
                return;
            }
            let rest = &self.text[self.at..];
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn error(&self, start: usize, message: impl std::fmt::Display) -> Error {
        Error::parse(self.text, Span { start, end: self.at.max(start) }, message)
    }

    fn sign(&mut self, first: char) -> Result<Token, Error> {
        let rest = &self.text[self.at..];
        let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) else {
            return Err(self.error(self.at, format_args!("unexpected character: {first:?}")));
        };
        self.at += sign.len();
        match sign {
            "[" => self.brackets += 1,
            "]" => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        Ok(Token::Sign(sign))
    }

    fn word(&mut self) -> Token {
        let colons = self.brackets == 0;
        let rest = &self.text[self.at..];
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && colons);
        let len = rest.find(|c| !part(c)).unwrap_or(rest.len());
        let word = &rest[..len];
        self.at += len;
        match word.to_ascii_lowercase().as_str() {
            "inf" => Token::Number(f64::INFINITY),
            "nan" => Token::Number(f64::NAN),
            _ => Token::Word(word.to_owned()),
        }
    }

    fn number(&mut self) -> Result<Token, Error> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start;
        while let Some(&b) = bytes.get(end) {
            let exponent = (b == b'+' || b == b'-')
                && matches!(bytes[end - 1], b'e' | b'E')
                && end > start
                && !self.text[start..end].to_ascii_lowercase().starts_with("0x");
            if !(b.is_ascii_alphanumeric() || b == b'.' || b == b'_' || exponent) {
                break;
            }
            end += 1;
        }
        self.at = end;
        let literal = &self.text[start..end];
        if let Some(ms) = duration::read_ms(literal).filter(|_| !literal.bytes().all(|b| b.is_ascii_digit()))
        {
            return Ok(Token::Duration(ms));
        }
        let value = number::read(literal);
        value
            .map(Token::Number)
            .ok_or_else(|| self.error(start, format_args!("bad number or duration syntax: {literal:?}")))
    }

    fn string(&mut self, quote: char) -> Result<Token, Error> {
        let start = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(c) = rest.chars().next() else {
                return Err(self.error(start, "unterminated quoted string"));
            };
            self.at += c.len_utf8();
            if c == quote {
                let text =
                    String::from_utf8(bytes).map_err(|_| self.error(start, "string is not valid UTF-8"))?;
                return Ok(Token::Text(text));
            }
            match c {
                '\n' if quote != '`' => return Err(self.error(start, "unterminated quoted string")),
                '\\' if quote != '`' => self.escape(start, &mut bytes)?,
                _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self, start: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let rest = &self.text[self.at..];
        let Some(c) = rest.chars().next() else {
            return Err(self.error(start, "escape sequence not terminated"));
        };
        self.at += c.len_utf8();
        let simple = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' => c as u8,
            'x' => self.digits(start, 2, 16)? as u8,
            '0'..='7' => {
                self.at -= 1;
                let value = self.digits(start, 3, 8)?;
                u8::try_from(value).map_err(|_| self.error(start, "octal escape out of range"))?
            }
            'u' | 'U' => {
                let value = self.digits(start, if c == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(value)
                    .ok_or_else(|| self.error(start, "escape sequence is an invalid Unicode code point"))?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error(start, format_args!("unknown escape sequence {c:?}"))),
        };
        out.push(simple);
        Ok(())
    }

    fn digits(&mut self, start: usize, count: usize, radix: u32) -> Result<u32, Error> {
        let digits = self.text.get(self.at..self.at + count);
        let value = digits
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|d| u32::from_str_radix(d, radix).ok())
            .ok_or_else(|| self.error(start, "illegal character in escape sequence"))?;
        self.at += count;
        Ok(value)
    }
}
