//! Tokens to a checked expression: precedence climbing, one token of look-ahead.

mod check;
mod clause;
mod selector;
#[cfg(test)]
mod tests;

use weir_model::limits::{PROMQL_DEPTH, QUERY_BYTES};
use weir_storage::LabelMatcher;

use super::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Call, Expr, Span};
use super::error::Error;
use super::features::Features;
use super::functions;
use super::lexer::{Token, lex};

/// The expression that `text` spells, types checked. Experimental syntax is an error unless `features` has it.
pub fn parse(text: &str, features: Features) -> Result<Expr, Error> {
    if text.len() > QUERY_BYTES {
        let message = format!("query has {} bytes, at most {QUERY_BYTES} are allowed", text.len());
        return Err(Error::bad_data(message));
    }
    let mut parser = Parser { text, tokens: lex(text)?, at: 0, depth: 0, features };
    if parser.peek() == &Token::End {
        return Err(Error::parse(text, Span::default(), "no expression found in input"));
    }
    let expr = parser.expression(0)?;
    if parser.peek() != &Token::End {
        return Err(parser.unexpected("", ""));
    }
    check::check(text, &expr)?;
    Ok(expr)
}

/// The conditions of the series selector that `text` is: a metric name, braces or both, and nothing else.
pub fn parse_selector(text: &str) -> Result<Vec<LabelMatcher>, Error> {
    if text.len() > QUERY_BYTES {
        let message = format!("selector has {} bytes, at most {QUERY_BYTES} are allowed", text.len());
        return Err(Error::bad_data(message));
    }
    let mut parser = Parser { text, tokens: lex(text)?, at: 0, depth: 0, features: Features::NONE };
    let name = match parser.peek().clone() {
        Token::Word(name) => Some((name, parser.advance().1)),
        Token::Sign("{") => None,
        _ => return Err(parser.unexpected("", "a selector")),
    };
    let selector = parser.any_selector(name)?;
    if parser.peek() != &Token::End {
        return Err(parser.unexpected("", ""));
    }
    Ok(selector.matchers)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    features: Features,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.ahead(0)
    }

    fn ahead(&self, by: usize) -> &Token {
        self.tokens.get(self.at + by).map_or(&Token::End, |(token, _)| token)
    }

    /// The place of the next token.
    fn span(&self) -> Span {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(Span::default(), |(_, span)| *span)
    }

    /// The place of the token read last.
    fn last_span(&self) -> Span {
        self.tokens.get(self.at.saturating_sub(1)).map_or(Span::default(), |(_, span)| *span)
    }

    fn advance(&mut self) -> (Token, Span) {
        let next = self.tokens.get(self.at).cloned().unwrap_or((Token::End, self.span()));
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        next
    }

    /// Whether the next token is `sign`; if so it is read.
    fn eat(&mut self, sign: &'static str) -> bool {
        let found = self.peek() == &Token::Sign(sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &'static str, context: &str) -> Result<Span, Error> {
        let span = self.span();
        if self.eat(sign) { Ok(span) } else { Err(self.unexpected(context, &format!("{sign:?}"))) }
    }

    /// Whether the next token is the word `keyword`, whatever its case.
    fn at_word(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn eat_word(&mut self, keyword: &str) -> bool {
        let found = self.at_word(keyword);
        if found {
            self.advance();
        }
        found
    }

    fn unexpected(&self, context: &str, expected: &str) -> Error {
        let mut message = format!("unexpected {}", self.peek().describe());
        if !context.is_empty() {
            message.push_str(&format!(" in {context}"));
        }
        if !expected.is_empty() {
            message.push_str(&format!(", expected {expected}"));
        }
        self.error(self.span(), message)
    }

    fn error(&self, span: Span, message: impl std::fmt::Display) -> Error {
        Error::parse(self.text, span, message)
    }

    /// Refuses what an experimental feature would allow unless that is `enabled`.
    fn experimental(&self, enabled: bool, span: Span, what: &str) -> Result<(), Error> {
        if enabled {
            return Ok(());
        }
        Err(self.error(span, format_args!("{what} is experimental and not enabled")))
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= PROMQL_DEPTH {
            let message = format!("expression is nested deeper than {PROMQL_DEPTH} levels");
            return Err(self.error(self.span(), message));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// An expression of operators that bind at least as tightly as `least`.
    fn expression(&mut self, least: u8) -> Result<Expr, Error> {
        self.nested(|parser| {
            let mut left = parser.unary()?;
            let mut chain = 0;
            while let Some(op) = parser.operator().filter(|op| op.precedence() >= least) {
                chain += 1;
                // A flat chain makes a deep tree.
                if parser.depth + chain > PROMQL_DEPTH {
                    let message = format!("expression has more than {PROMQL_DEPTH} operators in a row");
                    return Err(parser.error(parser.span(), message));
                }
                left = parser.binary(left, op)?;
            }
            Ok(left)
        })
    }

    /// The binary operator that stands next.
    fn operator(&self) -> Option<BinaryOp> {
        let name = match self.peek() {
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return None,
        };
        BinaryOp::ALL.into_iter().find(|(_, spelling)| *spelling == name).map(|(op, _)| op)
    }

    fn binary(&mut self, left: Expr, op: BinaryOp) -> Result<Expr, Error> {
        self.advance();
        let bool_place = self.span();
        let bool_result = self.eat_word("bool");
        if bool_result && !op.compares() {
            return Err(self.error(bool_place, "bool modifier can only be used on comparison operators"));
        }
        let matching = self.matching(op)?;
        // `^` binds to the right.
        let least = op.precedence() + u8::from(op != BinaryOp::Pow);
        let right = self.expression(least)?;
        Ok(Expr::Binary(Box::new(Binary { op, left, right, bool_result, matching })))
    }

    fn unary(&mut self) -> Result<Expr, Error> {
        let start = self.span();
        let negate = match self.peek() {
            Token::Sign("-") => true,
            Token::Sign("+") => false,
            _ => {
                let primary = self.primary()?;
                return self.suffixes(primary);
            }
        };
        self.advance();
        // A sign binds more loosely than `^` and more tightly than `*`.
        let operand = Box::new(self.expression(BinaryOp::Pow.precedence())?);
        let span = start.to(operand.span());
        Ok(match *operand {
            Expr::Number(value, _) => Expr::Number(if negate { -value } else { value }, span),
            Expr::Seconds(value, _) => Expr::Seconds(if negate { -value } else { value }, span),
            _ => Expr::Unary { negate, operand, span },
        })
    }

    fn primary(&mut self) -> Result<Expr, Error> {
        let span = self.span();
        match self.peek().clone() {
            Token::Number(value) => {
                self.advance();
                Ok(Expr::Number(value, span))
            }
            Token::Duration(ms) => {
                self.advance();
                Ok(Expr::Seconds(ms as f64 / 1000.0, span))
            }
            Token::Text(text) => {
                self.advance();
                Ok(Expr::Text(text, span))
            }
            Token::Sign("(") => {
                self.advance();
                let inner = self.expression(0)?;
                let end = self.expect(")", "expression in parentheses")?;
                Ok(Expr::Paren(Box::new(inner), span.to(end)))
            }
            Token::Sign("{") => self.selector(None),
            Token::Word(word) => self.word(word),
            _ => Err(self.unexpected("", "an expression")),
        }
    }

    /// An aggregation, a call or a selector: whatever `word` begins here.
    fn word(&mut self, word: String) -> Result<Expr, Error> {
        let followed = match self.ahead(1) {
            Token::Sign("(") => true,
            Token::Word(next) => next.eq_ignore_ascii_case("by") || next.eq_ignore_ascii_case("without"),
            _ => false,
        };
        match AggregateOp::of(&word) {
            Some(op) if followed => self.aggregate(op),
            _ if self.ahead(1) == &Token::Sign("(") => self.call(&word),
            _ => {
                let (_, span) = self.advance();
                self.selector(Some((word, span)))
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp) -> Result<Expr, Error> {
        let (_, start) = self.advance();
        if matches!(op, AggregateOp::Limitk | AggregateOp::LimitRatio) {
            self.experimental(self.features.functions, start, op.name())?;
        }
        let before = self.grouping()?;
        self.expect("(", "aggregation")?;
        let mut args = self.arguments("aggregation")?;
        let grouping = match before {
            Some(grouping) => grouping,
            None => self.grouping()?.unwrap_or_default(),
        };
        let span = start.to(self.last_span());
        let wanted = 1 + usize::from(op.parameter().is_some());
        let (Some(operand), true) = (args.pop(), args.len() + 1 == wanted) else {
            let message =
                format!("wrong number of arguments for aggregate expression provided, expected {wanted}");
            return Err(self.error(span, message));
        };
        Ok(Expr::Aggregate(Box::new(Aggregate { op, operand, parameter: args.pop(), grouping, span })))
    }

    fn call(&mut self, name: &str) -> Result<Expr, Error> {
        let (_, start) = self.advance();
        let Some(function) = functions::find(name) else {
            return Err(self.error(start, format_args!("unknown function with name {name:?}")));
        };
        if function.experimental && !self.features.functions {
            return Err(self.error(start, format_args!("function {name:?} is not enabled")));
        }
        self.expect("(", "function call")?;
        let args = if name == "info" { self.info_arguments()? } else { self.arguments("function call")? };
        Ok(Expr::Call(Call { function, args, span: start.to(self.last_span()) }))
    }

    /// Those of `info`, the second of which is only a selector, and may be one of everything.
    fn info_arguments(&mut self) -> Result<Vec<Expr>, Error> {
        let context = "function call";
        if self.peek() == &Token::Sign(")") {
            return self.arguments(context);
        }
        let mut args = vec![self.expression(0)?];
        if self.peek() == &Token::Sign(",") && self.ahead(1) == &Token::Sign("{") {
            self.advance();
            args.push(Expr::Selector(Box::new(self.any_selector(None)?)));
        }
        if self.eat(",") {
            args.extend(self.arguments(context)?);
        } else {
            self.expect(")", context)?;
        }
        Ok(args)
    }

    /// Arguments up to and with the closing parenthesis.
    fn arguments(&mut self, context: &str) -> Result<Vec<Expr>, Error> {
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expression(0)?);
            if self.eat(")") {
                return Ok(args);
            }
            self.expect(",", context)?;
        }
    }
}
