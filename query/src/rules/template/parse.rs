//! Pieces as a tree. Names of functions and variables are checked here, as Go does.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use weir_model::limits::TEMPLATE_DEPTH;

use super::functions;
use super::lex::{Fault, Kind, Piece, Token, pieces};
use super::value::Value;

/// The bodies of a template by name; its own is under the empty one.
pub(super) type Bodies = BTreeMap<String, Vec<Node>>;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { at: usize, name: String, data: Option<Pipe> },
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each given what the one before it yields, and the variables that take the last result.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) at: usize,
    pub(super) operands: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) kind: Base,
    /// `.a.b` after it.
    pub(super) fields: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Nil,
    Literal(Value, String),
    Function(String),
    Variable(String),
    Pipe(Box<Pipe>),
}

/// Reads `text`.
pub(super) fn parse(text: &str) -> Result<Bodies, Fault> {
    let pieces = pieces(text)?;
    let mut parser = Parser {
        pieces: pieces.into_iter().peekable(),
        variables: vec!["$".to_owned()],
        bodies: Bodies::new(),
        depth: 0,
        loops: 0,
        end: text.len(),
    };
    let (body, end) = parser.body()?;
    if let Some(end) = end {
        return Err(Fault::new(end.at, format!("unexpected {{{{{}}}}}", end.word())));
    }
    parser.bodies.insert(String::new(), body);
    Ok(parser.bodies)
}

struct Parser {
    pieces: std::iter::Peekable<std::vec::IntoIter<Piece>>,
    /// Those in scope.
    variables: Vec<String>,
    bodies: Bodies,
    depth: usize,
    loops: usize,
    end: usize,
}

/// What ended a body.
struct End {
    at: usize,
    /// The tokens after `else`; nothing for `end`.
    otherwise: Option<Vec<Token>>,
}

impl End {
    fn word(&self) -> &'static str {
        if self.otherwise.is_some() { "else" } else { "end" }
    }
}

impl Parser {
    /// The nodes up to an `else`, an `end` or the end of the text.
    fn body(&mut self) -> Result<(Vec<Node>, Option<End>), Fault> {
        self.depth += 1;
        if self.depth > TEMPLATE_DEPTH {
            return Err(Fault::new(self.end, "nested too deeply"));
        }
        let mut nodes = Vec::new();
        let mut end = None;
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let mut tokens = Tokens::new(tokens, self.end);
            let at = tokens.at();
            match tokens.word() {
                Some("end") => {
                    tokens.skip();
                    tokens.finish("end")?;
                    end = Some(End { at, otherwise: None });
                    break;
                }
                Some("else") => {
                    tokens.skip();
                    end = Some(End { at, otherwise: Some(tokens.left()) });
                    break;
                }
                _ => {
                    if let Some(node) = self.action(&mut tokens)? {
                        nodes.push(node);
                    }
                }
            }
        }
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn action(&mut self, tokens: &mut Tokens) -> Result<Option<Node>, Fault> {
        let at = tokens.at();
        let word = tokens.word().unwrap_or_default().to_owned();
        if !matches!(
            word.as_str(),
            "if" | "with" | "range" | "template" | "block" | "define" | "break" | "continue"
        ) {
            return Ok(Some(Node::Action(self.pipe(tokens, "command", false)?)));
        }
        tokens.skip();
        match word.as_str() {
            "if" => Ok(Some(Node::If(self.branch(tokens, "if")?))),
            "with" => Ok(Some(Node::With(self.branch(tokens, "with")?))),
            "range" => Ok(Some(Node::Range(self.branch(tokens, "range")?))),
            "template" => {
                let name = tokens.text("template clause")?;
                let data = match tokens.is_done() {
                    true => None,
                    false => Some(self.pipe(tokens, "template clause", false)?),
                };
                Ok(Some(Node::Template { at, name, data }))
            }
            "block" => {
                let name = tokens.text("block clause")?;
                let data = self.pipe(tokens, "block clause", false)?;
                self.define(at, name.clone())?;
                Ok(Some(Node::Template { at, name, data: Some(data) }))
            }
            "define" => {
                if self.depth > 1 {
                    return Err(Fault::new(at, "unexpected {{define}}"));
                }
                let name = tokens.text("define clause")?;
                tokens.finish("define clause")?;
                self.define(at, name)?;
                Ok(None)
            }
            _ => {
                tokens.finish(&word)?;
                if self.loops == 0 {
                    return Err(Fault::new(at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                Ok(Some(if word == "break" { Node::Break } else { Node::Continue }))
            }
        }
    }

    /// The body of a `define` or a `block`, in which only `$` is known.
    fn define(&mut self, at: usize, name: String) -> Result<(), Fault> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (body, end) = self.body()?;
        match end {
            Some(End { otherwise: None, .. }) => {}
            Some(end) => return Err(Fault::new(end.at, "unexpected {{else}} in define clause")),
            None => return Err(Fault::new(self.end.max(at), "unexpected EOF")),
        }
        self.variables = outer;
        self.loops = loops;
        self.bodies.insert(name, body);
        Ok(())
    }

    /// `if`, `with` or `range`, up to its `end`.
    fn branch(&mut self, tokens: &mut Tokens, word: &str) -> Result<Branch, Fault> {
        let known = self.variables.len();
        let pipe = self.pipe(tokens, word, word == "range")?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.body()?;
        self.loops -= usize::from(word == "range");
        let otherwise = match end {
            None => return Err(Fault::new(self.end, "unexpected EOF")),
            Some(End { otherwise: None, .. }) => Vec::new(),
            Some(End { otherwise: Some(left), at }) => self.otherwise(left, at, word)?,
        };
        self.variables.truncate(known);
        Ok(Branch { pipe, then, otherwise })
    }

    /// What follows an `else`: another condition, which shares the `end`, or a body.
    fn otherwise(&mut self, left: Vec<Token>, at: usize, word: &str) -> Result<Vec<Node>, Fault> {
        let mut tokens = Tokens::new(left, self.end);
        if tokens.word() == Some(word) && word != "range" {
            tokens.skip();
            self.depth += 1;
            if self.depth > TEMPLATE_DEPTH {
                return Err(Fault::new(at, "nested too deeply"));
            }
            let branch = self.branch(&mut tokens, word)?;
            self.depth -= 1;
            return Ok(vec![if word == "if" { Node::If(branch) } else { Node::With(branch) }]);
        }
        tokens.finish("else")?;
        match self.body()? {
            (nodes, Some(End { otherwise: None, .. })) => Ok(nodes),
            (_, Some(end)) => Err(Fault::new(end.at, "expected end; found {{else}}")),
            (_, None) => Err(Fault::new(self.end, "unexpected EOF")),
        }
    }

    /// A pipeline that takes all tokens that are left.
    fn pipe(&mut self, tokens: &mut Tokens, context: &str, range: bool) -> Result<Pipe, Fault> {
        let pipe = self.pipe_within(tokens, context, range)?;
        tokens.finish(context)?;
        Ok(pipe)
    }

    fn pipe_within(&mut self, tokens: &mut Tokens, context: &str, range: bool) -> Result<Pipe, Fault> {
        let at = tokens.at();
        self.depth += 1;
        if self.depth > TEMPLATE_DEPTH {
            return Err(Fault::new(at, "nested too deeply"));
        }
        let (variables, declares) = self.assigned(tokens, range)?;
        let mut commands = vec![self.command(tokens, context)?];
        while tokens.take(&Kind::Pipe) {
            commands.push(self.command(tokens, context)?);
        }
        for command in &commands[1..] {
            if let Some(Operand { kind: Base::Dot | Base::Nil | Base::Literal(..), .. }) =
                command.operands.first()
            {
                let message = format!("non executable command in pipeline stage {}", commands.len());
                return Err(Fault::new(command.at, message));
            }
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipe { at, variables, declares, commands })
    }

    /// `$x :=`, `$x =`, and in a `range` also `$i, $x :=`, if they stand here.
    fn assigned(&mut self, tokens: &mut Tokens, range: bool) -> Result<(Vec<String>, bool), Fault> {
        let kinds: Vec<&Kind> = tokens.ahead(4).collect();
        let (names, operator) = match kinds.as_slice() {
            [Kind::Variable(name), operator @ (Kind::Declare | Kind::Assign), ..] => {
                (vec![name.clone()], *operator)
            }
            [
                Kind::Variable(key),
                Kind::Comma,
                Kind::Variable(value),
                operator @ (Kind::Declare | Kind::Assign),
            ] if range => (vec![key.clone(), value.clone()], *operator),
            _ => return Ok((Vec::new(), false)),
        };
        let declares = *operator == Kind::Declare;
        let at = tokens.at();
        for _ in 0..names.len() * 2 {
            tokens.skip();
        }
        if !declares && let Some(name) = names.iter().find(|name| !self.variables.contains(name)) {
            return Err(Fault::new(at, format!("undefined variable {name:?}")));
        }
        Ok((names, declares))
    }

    fn command(&mut self, tokens: &mut Tokens, context: &str) -> Result<Command, Fault> {
        let at = tokens.at();
        let mut operands = Vec::new();
        while let Some(operand) = self.operand(tokens)? {
            operands.push(operand);
            let ends = matches!(tokens.kind(), None | Some(Kind::Pipe | Kind::Close));
            if !ends && !tokens.spaced() {
                return Err(tokens.unexpected("operand"));
            }
        }
        if operands.is_empty() {
            return Err(match tokens.kind() {
                None | Some(Kind::Pipe | Kind::Close) => {
                    Fault::new(at, format!("missing value for {context}"))
                }
                Some(_) => tokens.unexpected(context),
            });
        }
        Ok(Command { at, operands })
    }

    fn operand(&mut self, tokens: &mut Tokens) -> Result<Option<Operand>, Fault> {
        let at = tokens.at();
        let Some(kind) = tokens.kind().cloned() else { return Ok(None) };
        let mut fields = Vec::new();
        let base = match kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Base::Dot
            }
            Kind::Variable(name) => {
                if !self.variables.contains(&name) {
                    return Err(Fault::new(at, format!("undefined variable {name:?}")));
                }
                Base::Variable(name)
            }
            Kind::Word(word) => match word.as_str() {
                "nil" => Base::Nil,
                "true" | "false" => Base::Literal(Value::Bool(word == "true"), word),
                _ if functions::exists(&word) => Base::Function(word),
                _ => return Err(Fault::new(at, format!("function {word:?} not defined"))),
            },
            Kind::Number(typed) => match number(&typed) {
                Some(value) => Base::Literal(value, typed),
                None => return Err(Fault::new(at, format!("bad number syntax: {typed:?}"))),
            },
            Kind::Text(meaning, typed) => Base::Literal(Value::text(meaning), typed),
            Kind::Char(code, typed) => Base::Literal(Value::Int(code), typed),
            Kind::Open => {
                tokens.skip();
                let pipe = self.pipe_within(tokens, "parenthesized pipeline", false)?;
                if tokens.kind() != Some(&Kind::Close) {
                    return Err(tokens.unexpected("parenthesized pipeline"));
                }
                Base::Pipe(Box::new(pipe))
            }
            Kind::Assign | Kind::Declare | Kind::Pipe | Kind::Close | Kind::Comma => return Ok(None),
        };
        tokens.skip();
        while let (Some(Kind::Field(name)), false) = (tokens.kind().cloned(), tokens.spaced()) {
            if matches!(base, Base::Nil | Base::Literal(..) | Base::Function(_)) {
                return Err(tokens.unexpected("operand"));
            }
            fields.push(name);
            tokens.skip();
        }
        Ok(Some(Operand { at, kind: base, fields }))
    }
}

/// A constant; whole unless it is typed with a point or an exponent.
fn number(typed: &str) -> Option<Value> {
    let (negative, digits) = match typed.as_bytes().first()? {
        b'-' => (true, &typed[1..]),
        b'+' => (false, &typed[1..]),
        _ => (false, typed),
    };
    let plain = digits.replace('_', "").to_ascii_lowercase();
    let sign = if negative { -1 } else { 1 };
    for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = plain.strip_prefix(prefix) {
            return i64::from_str_radix(digits, radix).ok().map(|whole| Value::Int(sign * whole));
        }
    }
    if plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| b.is_ascii_digit()) {
        return i64::from_str_radix(&plain, 8).ok().map(|whole| Value::Int(sign * whole));
    }
    if plain.bytes().all(|b| b.is_ascii_digit()) {
        return plain.parse::<i64>().ok().map(|whole| Value::Int(sign * whole));
    }
    if !plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    plain.parse::<f64>().ok().map(|number| Value::Float(if negative { -number } else { number }))
}

/// The tokens of one action.
struct Tokens {
    all: Vec<Token>,
    next: usize,
    end: usize,
}

impl Tokens {
    fn new(all: Vec<Token>, end: usize) -> Self {
        Self { all, next: 0, end }
    }

    fn kind(&self) -> Option<&Kind> {
        self.all.get(self.next).map(|token| &token.kind)
    }

    fn ahead(&self, count: usize) -> impl Iterator<Item = &Kind> {
        self.all.iter().skip(self.next).take(count).map(|token| &token.kind)
    }

    fn word(&self) -> Option<&str> {
        match self.kind() {
            Some(Kind::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn spaced(&self) -> bool {
        self.all.get(self.next).is_some_and(|token| token.spaced)
    }

    /// The place of the next token, or of the last.
    fn at(&self) -> usize {
        self.all.get(self.next).or(self.all.last()).map_or(self.end, |token| token.at)
    }

    fn skip(&mut self) {
        self.next += 1;
    }

    fn take(&mut self, kind: &Kind) -> bool {
        let stands = self.kind() == Some(kind);
        self.next += usize::from(stands);
        stands
    }

    fn is_done(&self) -> bool {
        self.next >= self.all.len()
    }

    fn left(mut self) -> Vec<Token> {
        self.all.split_off(self.next.min(self.all.len()))
    }

    fn text(&mut self, context: &str) -> Result<String, Fault> {
        match self.kind().cloned() {
            Some(Kind::Text(text, _)) => {
                self.skip();
                Ok(text)
            }
            _ => Err(self.unexpected(context)),
        }
    }

    fn finish(&self, context: &str) -> Result<(), Fault> {
        if self.is_done() { Ok(()) } else { Err(self.unexpected(context)) }
    }

    fn unexpected(&self, context: &str) -> Fault {
        let typed =
            self.kind().map_or_else(|| "end of action".to_owned(), |kind| format!("<{}>", kind.typed()));
        Fault::new(self.at(), format!("unexpected {typed} in {context}"))
    }
}

impl Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let operator = if self.declares { ":=" } else { "=" };
            write!(f, "{} {operator} ", self.variables.join(", "))?;
        }
        let commands: Vec<String> = self.commands.iter().map(Command::to_string).collect();
        f.write_str(&commands.join(" | "))
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operands: Vec<String> = self.operands.iter().map(Operand::to_string).collect();
        f.write_str(&operands.join(" "))
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Base::Dot if self.fields.is_empty() => f.write_str(".")?,
            Base::Dot => {}
            Base::Nil => f.write_str("nil")?,
            Base::Literal(_, typed) => f.write_str(typed)?,
            Base::Function(name) | Base::Variable(name) => f.write_str(name)?,
            Base::Pipe(pipe) => write!(f, "({pipe})")?,
        }
        self.fields.iter().try_for_each(|field| write!(f, ".{field}"))
    }
}
