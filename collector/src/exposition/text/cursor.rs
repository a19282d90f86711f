//! A place in a text, and the words of expositions from there.

use super::Halt;
use super::series::Quoted;

/// A label as it was written; its name is missing where a quoted text stands alone.
type Pair<'t> = (Option<Quoted<'t>>, Quoted<'t>);

/// A place in a text.
#[derive(Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    /// Where the line begins that is being read.
    line: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0, line: 0 }
    }

    pub(super) fn begin_line(&mut self) {
        self.line = self.at;
    }

    /// The number of the line that is being read.
    pub(super) fn line(&self) -> usize {
        1 + self.text.as_bytes()[..self.line].iter().filter(|byte| **byte == b'\n').count()
    }

    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over a byte that is a character.
    #[inline]
    pub(super) fn bump(&mut self) {
        self.at += 1;
    }

    pub(super) fn take_prefix(&mut self, prefix: &str) -> bool {
        let there = self.rest().starts_with(prefix);
        if there {
            self.at += prefix.len();
        }
        there
    }

    /// Passes over what `matches`, and gives it.
    #[inline]
    fn take_while(&mut self, matches: impl Fn(u8) -> bool) -> &'t str {
        let from = self.at;
        let rest = &self.text.as_bytes()[from..];
        self.at += rest.iter().position(|byte| !matches(*byte)).unwrap_or(rest.len());
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// Passes over spaces and tabs, and says how many.
    #[inline]
    pub(super) fn skip_space(&mut self) -> usize {
        self.take_while(|byte| matches!(byte, b' ' | b'\t')).len()
    }

    /// What comes before the next space or the end of the line.
    #[inline]
    pub(super) fn word(&mut self) -> &'t str {
        self.take_while(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
    }

    pub(super) fn at_line_end(&self) -> bool {
        let rest = self.rest();
        rest.is_empty() || rest.starts_with('\n') || rest.starts_with("\r\n")
    }

    pub(super) fn end_line(&mut self) -> Result<(), Halt> {
        if self.peek() == Some(b'\r') {
            self.bump();
        }
        match self.peek() {
            None => Ok(()),
            Some(b'\n') => {
                self.bump();
                Ok(())
            }
            Some(_) => Err(Halt::Problem(format!("expected the end of the line, found `{}`", self.word()))),
        }
    }

    /// What is left of the line; goes on in the next one.
    pub(super) fn rest_of_line(&mut self) -> &'t str {
        let line = self.take_while(|byte| byte != b'\n');
        if self.peek().is_some() {
            self.bump();
        }
        line
    }

    /// The name of a family, in quotes or not.
    pub(super) fn family_name(&mut self) -> Result<Quoted<'t>, Halt> {
        if self.peek() == Some(b'"') {
            return self.quoted();
        }
        match self.word() {
            "" => Err("expected the name of a metric".into()),
            name => Ok(Quoted::new(name, false)),
        }
    }

    /// A series: what was written, its name where it has one, and its labels in `pairs`.
    pub(super) fn series(
        &mut self,
        pairs: &mut Vec<(Quoted<'t>, Quoted<'t>)>,
    ) -> Result<(&'t str, Option<Quoted<'t>>), Halt> {
        let from = self.at;
        let bare = self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'));
        if bare.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            return Err("a name begins with a digit".into());
        }
        let mut name = (!bare.is_empty()).then(|| Quoted::new(bare, false));
        let named_end = self.at;
        self.skip_space();
        if self.peek() == Some(b'{') {
            let mut problem = None;
            self.each_in_braces(|label, value| match label {
                Some(label) => pairs.push((label, value)),
                None if name.is_none() => name = Some(value),
                None => problem = Some("the name of a metric is there twice"),
            })?;
            if let Some(problem) = problem {
                return Err(problem.into());
            }
        } else {
            self.at = named_end;
        }
        let raw = self.text.get(from..self.at).unwrap_or_default();
        if raw.is_empty() {
            return Err(Halt::Problem(format!("expected the name of a metric, found `{}`", self.word())));
        }
        Ok((raw, name))
    }

    /// Labels in braces.
    pub(super) fn braces(&mut self, pairs: &mut Vec<Pair<'t>>) -> Result<(), Halt> {
        if self.peek() != Some(b'{') {
            return Err("expected labels in braces".into());
        }
        self.each_in_braces(|name, value| pairs.push((name, value)))
    }

    fn each_in_braces(&mut self, mut each: impl FnMut(Option<Quoted<'t>>, Quoted<'t>)) -> Result<(), Halt> {
        self.bump();
        loop {
            self.skip_space();
            let name = match self.peek() {
                Some(b'}') => {
                    self.bump();
                    return Ok(());
                }
                Some(b'"') => self.quoted()?,
                _ => {
                    let name = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                    if name.as_bytes().first().is_none_or(u8::is_ascii_digit) {
                        return Err("expected the name of a label or `}`".into());
                    }
                    Quoted::new(name, false)
                }
            };
            self.skip_space();
            if self.peek() == Some(b'=') {
                self.bump();
                self.skip_space();
                let value = self.quoted()?;
                each(Some(name), value);
            } else if name.was_quoted() {
                each(None, name);
            } else {
                return Err("expected `=` behind the name of a label".into());
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.bump(),
                Some(b'}') => {}
                _ => return Err("expected `,` or `}` behind a label".into()),
            }
        }
    }

    /// A text in quotes, in which a backslash escapes the next character.
    fn quoted(&mut self) -> Result<Quoted<'t>, Halt> {
        if self.peek() != Some(b'"') {
            return Err("expected a text in quotes".into());
        }
        let from = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        let mut at = from;
        loop {
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(_) => at += 1,
                None => return Err("a text in quotes does not end".into()),
            }
        }
        self.at = at + 1;
        Ok(Quoted::in_quotes(self.text.get(from..at).unwrap_or_default(), escaped))
    }
}
