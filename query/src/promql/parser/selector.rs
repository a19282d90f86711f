//! Selectors and what may follow an expression: `{…}`, `[…]`, `offset`, `@`.

use weir_storage::{LabelMatcher, MatchOp};

use super::Parser;
use crate::promql::ast::{At, BinaryOp, Expr, Extent, Length, Selector, Shift, Span, Subquery, Type};
use crate::promql::error::Error;
use crate::promql::lexer::Token;

/// Largest magnitude of a time in milliseconds that `@` accepts: sums with it cannot overflow.
const FARTHEST_MS: f64 = 1e15;

impl Parser<'_> {
    /// `name{a="b"}`, the name read already.
    pub(super) fn selector(&mut self, name: Option<(String, Span)>) -> Result<Expr, Error> {
        let selector = self.any_selector(name)?;
        if selector.matchers.iter().all(|matcher| matcher.matches("")) {
            let message = "vector selector must contain at least one non-empty matcher";
            return Err(self.error(selector.span, message));
        }
        Ok(Expr::Selector(Box::new(selector)))
    }

    /// A selector that may select everything.
    pub(super) fn any_selector(&mut self, name: Option<(String, Span)>) -> Result<Selector, Error> {
        let start = name.as_ref().map_or(self.span(), |(_, span)| *span);
        let mut matchers = Vec::new();
        let named = name.is_some();
        if let Some((name, span)) = name {
            matchers.push(self.matcher(span, "__name__", MatchOp::Equal, &name)?);
        }
        if self.peek() == &Token::Sign("{") {
            self.matchers(&mut matchers)?;
        }
        let span = start.to(self.last_span());
        let names = matchers.iter().filter(|m| m.name == "__name__" && m.op == MatchOp::Equal).count();
        if names > 1 && matchers[0].name == "__name__" {
            let message = format!("metric name must not be set twice: {:?}", matchers[0].value);
            return Err(self.error(span, message));
        }
        let (shift, extent) = (Shift::default(), Extent::Plain);
        Ok(Selector { matchers, named, range: None, shift, extent, span })
    }

    fn matcher(&self, span: Span, name: &str, op: MatchOp, value: &str) -> Result<LabelMatcher, Error> {
        LabelMatcher::new(name, op, value).map_err(|error| {
            let reason = error.to_string();
            let last = reason.lines().last().unwrap_or_default().trim().to_owned();
            self.error(span, format_args!("invalid regular expression `{value}`: {last}"))
        })
    }

    fn matchers(&mut self, matchers: &mut Vec<LabelMatcher>) -> Result<(), Error> {
        let context = "label matching";
        self.expect("{", context)?;
        while !self.eat("}") {
            let (token, span) = self.advance();
            let (name, quoted) = match token {
                Token::Word(name) if !name.contains(':') => (name, false),
                Token::Text(name) => (name, true),
                Token::Number(value) if value.is_infinite() => ("inf".to_owned(), false),
                Token::Number(value) if value.is_nan() => ("nan".to_owned(), false),
                other => {
                    let message = format!(
                        "unexpected {} in {context}, expected identifier or \"}}\"",
                        other.describe()
                    );
                    return Err(self.error(span, message));
                }
            };
            let op = match self.peek() {
                Token::Sign("=") => MatchOp::Equal,
                Token::Sign("!=") => MatchOp::NotEqual,
                Token::Sign("=~") => MatchOp::Regex,
                Token::Sign("!~") => MatchOp::NotRegex,
                // A lone quoted name is the metric.
                Token::Sign("," | "}") if quoted => {
                    if matchers.iter().any(|m| m.name == "__name__" && m.op == MatchOp::Equal) {
                        return Err(
                            self.error(span, format_args!("metric name must not be set twice: {name:?}"))
                        );
                    }
                    let matcher = self.matcher(span, "__name__", MatchOp::Equal, &name)?;
                    matchers.insert(0, matcher);
                    self.separator(context)?;
                    continue;
                }
                _ => return Err(self.unexpected(context, "label matching operator")),
            };
            self.advance();
            let Token::Text(value) = self.peek().clone() else {
                return Err(self.unexpected(context, "string"));
            };
            let (_, end) = self.advance();
            matchers.push(self.matcher(span.to(end), &name, op, &value)?);
            self.separator(context)?;
        }
        Ok(())
    }

    /// A comma, unless the closing brace follows.
    fn separator(&mut self, context: &str) -> Result<(), Error> {
        if self.peek() != &Token::Sign("}") {
            self.expect(",", context)?;
        }
        Ok(())
    }

    /// Everything that may follow `expr` and belongs to it.
    pub(super) fn suffixes(&mut self, mut expr: Expr) -> Result<Expr, Error> {
        let mut levels = 0;
        loop {
            expr = match self.peek() {
                Token::Sign("[") => {
                    levels += 1;
                    // Each subquery is a level of the tree.
                    if self.depth + levels > weir_model::limits::PROMQL_DEPTH {
                        return Err(self.error(self.span(), "too many subqueries in a row"));
                    }
                    self.bracket(expr)?
                }
                Token::Sign("@") => self.at(expr)?,
                _ if self.at_word("offset") => self.offset(expr)?,
                _ if self.at_word("anchored") => self.extent(expr, Extent::Anchored)?,
                _ if self.at_word("smoothed") => self.extent(expr, Extent::Smoothed)?,
                _ => return Ok(expr),
            };
        }
    }

    /// `[5m]` or `[1h:5m]`.
    fn bracket(&mut self, expr: Expr) -> Result<Expr, Error> {
        let open = self.span();
        self.advance();
        let range = self.length_sum(0)?;
        self.positive(&range, open)?;
        let step = if self.eat(":") {
            match self.peek() {
                Token::Sign("]") => Some(None),
                _ => {
                    let step = self.length_sum(0)?;
                    self.positive(&step, open)?;
                    Some(Some(step))
                }
            }
        } else {
            None
        };
        let end = self.expect("]", if step.is_some() { "subquery selector" } else { "range selector" })?;
        let span = expr.span().to(end);
        match (step, expr) {
            (Some(step), operand) => {
                if operand.kind() != Type::Vector {
                    let message = format!(
                        "subquery is only allowed on instant vector, got {} instead",
                        operand.kind().name()
                    );
                    return Err(self.error(operand.span(), message));
                }
                let shift = Shift::default();
                Ok(Expr::Subquery(Box::new(Subquery { operand, range, step, shift, span })))
            }
            (None, Expr::Selector(mut selector)) if selector.range.is_none() => {
                if selector.shift != Shift::default() {
                    let message = "no offset or @ modifiers allowed before range";
                    return Err(self.error(span, message));
                }
                selector.range = Some(range);
                selector.span = span;
                Ok(Expr::Selector(selector))
            }
            (None, _) => Err(self.error(span, "ranges only allowed for vector selectors")),
        }
    }

    /// Refuses a literal length that is not positive.
    fn positive(&self, length: &Length, span: Span) -> Result<(), Error> {
        if length.is_computed() {
            return self.experimental(self.features.durations, span, "arithmetic in durations");
        }
        match length.to_ms(1.0, 1.0) {
            Some(1..) => Ok(()),
            Some(_) => Err(self.error(span, "duration must be greater than 0")),
            None => Err(self.error(span, "duration out of range")),
        }
    }

    fn extent(&mut self, expr: Expr, extent: Extent) -> Result<Expr, Error> {
        let place = self.span();
        self.experimental(self.features.extended_ranges, place, "anchored or smoothed")?;
        self.advance();
        match expr {
            Expr::Selector(mut selector) if selector.extent == Extent::Plain => {
                selector.extent = extent;
                selector.span = selector.span.to(place);
                Ok(Expr::Selector(selector))
            }
            _ => Err(self.error(place, "anchored and smoothed can only follow a vector selector, once")),
        }
    }

    fn offset(&mut self, mut expr: Expr) -> Result<Expr, Error> {
        let place = self.span();
        self.advance();
        let offset = self.signed_length()?;
        if offset.is_computed() {
            self.experimental(self.features.durations, place, "arithmetic in durations")?;
        } else if offset.to_ms(1.0, 1.0).is_none() {
            return Err(self.error(place, "duration out of range"));
        }
        let end = self.last_span();
        let Some((shift, span)) = shift_of(&mut expr) else {
            let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(self.error(place, message));
        };
        if shift.offset.is_some() {
            return Err(Error::parse(self.text, place, "offset may not be set multiple times"));
        }
        shift.offset = Some(offset);
        *span = span.to(end);
        Ok(expr)
    }

    fn at(&mut self, mut expr: Expr) -> Result<Expr, Error> {
        let place = self.span();
        self.advance();
        let named = self.ahead(1) == &Token::Sign("(");
        let at = if named && (self.at_word("start") || self.at_word("end")) {
            let at = if self.at_word("start") { At::Start } else { At::End };
            self.advance();
            self.expect("(", "@ modifier")?;
            self.expect(")", "@ modifier")?;
            at
        } else {
            let ms = (self.signed_number()? * 1000.0).round();
            if ms.is_nan() || ms.abs() > FARTHEST_MS {
                return Err(self.error(place, "timestamp out of bounds for @ modifier"));
            }
            At::Time(ms as i64)
        };
        let end = self.last_span();
        let Some((shift, span)) = shift_of(&mut expr) else {
            let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
            return Err(self.error(place, message));
        };
        if shift.at.is_some() {
            return Err(Error::parse(self.text, place, "@ <timestamp> may not be set multiple times"));
        }
        shift.at = Some(at);
        *span = span.to(end);
        Ok(expr)
    }

    /// A sum, product or power of lengths.
    fn length_sum(&mut self, least: u8) -> Result<Length, Error> {
        self.nested(|parser| {
            let mut left = parser.operand_length()?;
            let mut chain = 0;
            while let Some(op) = parser.operator().filter(|op| {
                matches!(
                    op,
                    BinaryOp::Add
                        | BinaryOp::Sub
                        | BinaryOp::Mul
                        | BinaryOp::Div
                        | BinaryOp::Mod
                        | BinaryOp::Pow
                ) && op.precedence() >= least
            }) {
                chain += 1;
                if parser.depth + chain > weir_model::limits::PROMQL_DEPTH {
                    return Err(parser.error(parser.span(), "too many operators in a duration"));
                }
                parser.advance();
                let right = parser.length_sum(op.precedence() + u8::from(op != BinaryOp::Pow))?;
                left = Length::Binary(op, Box::new(left), Box::new(right));
            }
            Ok(left)
        })
    }

    /// A length with an optional sign, which binds more loosely than `^`.
    fn operand_length(&mut self) -> Result<Length, Error> {
        if self.eat("-") {
            return Ok(match self.length_sum(BinaryOp::Pow.precedence())? {
                Length::Ms(ms) => Length::Ms(-ms),
                Length::Number(value) => Length::Number(-value),
                other => Length::Negate(Box::new(other)),
            });
        }
        if self.eat("+") { self.length_sum(BinaryOp::Pow.precedence()) } else { self.length() }
    }

    /// A length with an optional sign, as `offset` takes it without parentheses.
    fn signed_length(&mut self) -> Result<Length, Error> {
        self.nested(|parser| {
            if parser.eat("-") {
                return Ok(match parser.signed_length()? {
                    Length::Ms(ms) => Length::Ms(-ms),
                    Length::Number(value) => Length::Number(-value),
                    other => Length::Negate(Box::new(other)),
                });
            }
            if parser.eat("+") {
                return parser.signed_length();
            }
            parser.length()
        })
    }

    fn length(&mut self) -> Result<Length, Error> {
        let context = "duration";
        match self.peek().clone() {
            Token::Duration(ms) => {
                self.advance();
                Ok(Length::Ms(ms))
            }
            Token::Number(value) if value.is_finite() => {
                self.advance();
                Ok(Length::Number(value))
            }
            Token::Sign("(") => {
                self.advance();
                let inner = self.length_sum(0)?;
                self.expect(")", context)?;
                Ok(Length::Paren(Box::new(inner)))
            }
            Token::Word(word) if self.ahead(1) == &Token::Sign("(") => {
                let word = word.to_ascii_lowercase();
                if !matches!(word.as_str(), "step" | "range" | "min_of" | "max_of") {
                    return Err(self.unexpected(context, "a duration"));
                }
                self.advance();
                self.expect("(", context)?;
                let length = match word.as_str() {
                    "step" => Length::Step,
                    "range" => Length::Range,
                    _ => {
                        let a = Box::new(self.length_sum(0)?);
                        self.expect(",", context)?;
                        let b = Box::new(self.length_sum(0)?);
                        if word == "min_of" { Length::MinOf(a, b) } else { Length::MaxOf(a, b) }
                    }
                };
                self.expect(")", context)?;
                Ok(length)
            }
            _ => Err(self.unexpected(context, "a duration")),
        }
    }
}

/// What `offset` and `@` change, and the place to extend, if `expr` takes them.
fn shift_of(expr: &mut Expr) -> Option<(&mut Shift, &mut Span)> {
    match expr {
        Expr::Selector(selector) => Some((&mut selector.shift, &mut selector.span)),
        Expr::Subquery(subquery) => Some((&mut subquery.shift, &mut subquery.span)),
        _ => None,
    }
}
