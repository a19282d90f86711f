//! Templates expanded.

use std::fmt::Display;
use std::sync::Arc;

use weir_model::limits::{TEMPLATE_CALLS, TEMPLATE_STEPS, TEMPLATE_TEXT_BYTES};

use super::functions;
use super::parse::{Base, Bodies, Branch, Command, Node, Operand, Pipe};
use super::value::Value;
use super::{Answers, Context};

/// Why an expansion ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// A function failed.
    Failed(String),
    /// Something else is wrong where the template is now.
    Plain(String),
    /// The same, with its place.
    Placed(String),
    /// The result of this query must be known.
    Needs(String),
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// How the next node is reached.
enum Flow {
    On,
    Break,
    Continue,
}

/// An expansion under way.
pub(super) struct Run<'a> {
    name: &'a str,
    text: &'a str,
    bodies: &'a Bodies,
    pub(super) context: &'a Context<'a>,
    answers: &'a Answers,
    variables: Vec<(&'a str, Value)>,
    out: String,
    /// What is being evaluated: a byte offset and the source of it.
    at: (usize, &'a dyn Display),
    steps: usize,
    calls: usize,
}

/// Expands the body of `bodies`.
pub(super) fn expand(
    (name, text): (&str, &str),
    bodies: &Bodies,
    data: Value,
    context: &Context<'_>,
    answers: &Answers,
) -> Result<String, Stop> {
    let mut run = Run {
        name,
        text,
        bodies,
        context,
        answers,
        variables: vec![("$", data.clone())],
        out: String::new(),
        at: (0, &""),
        steps: 0,
        calls: 0,
    };
    if let Some(body) = bodies.get("") {
        run.nodes(body, &data)?;
    }
    Ok(run.out)
}

impl<'a> Run<'a> {
    /// What the query `text` yields, if that is known.
    pub(super) fn query(&self, text: &str) -> Result<Value, Stop> {
        match self.answers.get(text) {
            Some(Ok(rows)) => Ok(Value::Result(Arc::from(rows.as_slice()))),
            Some(Err(problem)) => Err(Stop::Failed(problem.clone())),
            None => Err(Stop::Needs(text.to_owned())),
        }
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Value) -> Result<Flow, Stop> {
        self.deeper()?;
        let flow = self.each(nodes, dot);
        self.calls -= 1;
        flow
    }

    /// Goes into a body or a pipeline.
    fn deeper(&mut self) -> Result<(), Stop> {
        self.calls += 1;
        if self.calls > TEMPLATE_CALLS {
            return Err(self.plain("exceeded maximum template depth"));
        }
        Ok(())
    }

    fn each(&mut self, nodes: &'a [Node], dot: &Value) -> Result<Flow, Stop> {
        for node in nodes {
            self.steps += 1;
            if self.steps > TEMPLATE_STEPS {
                return Err(self.plain("the template takes too many steps"));
            }
            match node {
                Node::Text(text) => self.put(text)?,
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.put(&value.print())?;
                    }
                }
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
                Node::If(branch) | Node::With(branch) => {
                    let known = self.variables.len();
                    let value = self.pipe(&branch.pipe, dot)?;
                    let with = matches!(node, Node::With(_));
                    let flow = match value.is_true() {
                        true => self.nodes(&branch.then, if with { &value } else { dot })?,
                        false => self.nodes(&branch.otherwise, dot)?,
                    };
                    self.variables.truncate(known);
                    if !matches!(flow, Flow::On) {
                        return Ok(flow);
                    }
                }
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Template { at, name, data } => self.template(*at, name, data.as_ref(), dot)?,
            }
        }
        Ok(Flow::On)
    }

    fn put(&mut self, text: &str) -> Result<(), Stop> {
        if self.out.len() + text.len() > TEMPLATE_TEXT_BYTES {
            return Err(self.plain("the result is too long"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value) -> Result<(), Stop> {
        let known = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let elements = match &value {
            Value::Int(count) if *count > TEMPLATE_STEPS as i64 => {
                return Err(self.plain("the template takes too many steps"));
            }
            Value::Int(count) => (0..*count).map(|at| (Value::Int(at), Value::Int(at))).collect(),
            value => value.elements().ok_or_else(|| {
                self.at = (branch.pipe.at, &branch.pipe);
                self.plain(format!("range can't iterate over {}", value.show()))
            })?,
        };
        if elements.is_empty() {
            self.nodes(&branch.otherwise, dot)?;
        }
        for (index, element) in elements {
            let inner = self.variables.len();
            match branch.pipe.variables.as_slice() {
                [] => {}
                [one] => self.assign(one, element.clone(), branch.pipe.declares),
                [key, value, ..] => {
                    self.assign(key, index, branch.pipe.declares);
                    self.assign(value, element.clone(), branch.pipe.declares);
                }
            }
            let flow = self.nodes(&branch.then, &element)?;
            self.variables.truncate(inner);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn template(
        &mut self,
        at: usize,
        name: &'a str,
        data: Option<&'a Pipe>,
        dot: &Value,
    ) -> Result<(), Stop> {
        let data = data.map(|pipe| self.pipe(pipe, dot)).transpose()?.unwrap_or(Value::Nil);
        let Some(body) = self.bodies.get(name) else {
            return Err(Stop::Placed(self.placed(at, &format!("template {name:?} not defined"), None)));
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$", data.clone())]);
        self.nodes(body, &data)?;
        self.variables = outer;
        Ok(())
    }

    fn assign(&mut self, name: &'a str, value: Value, declares: bool) {
        if declares {
            self.variables.push((name, value));
        } else if let Some(known) = self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            known.1 = value;
        }
    }

    fn pipe(&mut self, pipe: &'a Pipe, dot: &Value) -> Result<Value, Stop> {
        self.deeper()?;
        self.at = (pipe.at, pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value, dot)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            self.assign(name, value.clone(), pipe.declares);
        }
        self.calls -= 1;
        Ok(value)
    }

    /// A command, given as its last argument what the one before it yielded.
    fn command(&mut self, command: &'a Command, last: Option<Value>, dot: &Value) -> Result<Value, Stop> {
        let Some((first, rest)) = command.operands.split_first() else { return Ok(Value::Nil) };
        let Base::Function(name) = &first.kind else {
            let method = !first.fields.is_empty();
            if !method && (!rest.is_empty() || last.is_some()) {
                self.at = (command.at, command);
                return Err(self.plain(format!("can't give argument to non-function {first}")));
            }
            let args = self.arguments(rest, last, dot)?;
            return self.operand(first, dot, &args);
        };
        self.at = (first.at, first);
        if matches!(name.as_str(), "and" | "or") {
            return self.either(name, command, rest, last, dot);
        }
        let args = self.arguments(rest, last, dot)?;
        let result = functions::call(self, name, &args);
        if let Err(Stop::Failed(_)) = result {
            self.at = (command.at, command);
        }
        result.map_err(|stop| self.called(name, stop))
    }

    /// A failure of the function `name`, placed.
    fn called(&self, name: &str, stop: Stop) -> Stop {
        match stop {
            Stop::Failed(message) => self.plain(format!("error calling {name}: {message}")),
            Stop::Plain(message) => self.plain(message),
            other => other,
        }
    }

    /// `and` and `or`: the first argument that decides, or the last.
    fn either(
        &mut self,
        name: &str,
        command: &'a Command,
        rest: &'a [Operand],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value, Stop> {
        let mut value = None;
        for operand in rest {
            let found = self.operand(operand, dot, &[])?;
            if found.is_true() == (name == "or") {
                return Ok(found);
            }
            value = Some(found);
        }
        self.at = (command.at, command);
        last.or(value)
            .ok_or_else(|| self.plain(format!("wrong number of args for {name}: want at least 1 got 0")))
    }

    fn arguments(
        &mut self,
        rest: &'a [Operand],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Vec<Value>, Stop> {
        let mut args = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            args.push(self.operand(operand, dot, &[])?);
        }
        args.extend(last);
        Ok(args)
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Value, args: &[Value]) -> Result<Value, Stop> {
        self.at = (operand.at, operand);
        let mut value = match &operand.kind {
            Base::Dot => dot.clone(),
            Base::Nil => Value::Nil,
            Base::Literal(value, _) => value.clone(),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map_or(Value::Nil, |(_, value)| value.clone())
            }
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
            Base::Function(name) => {
                functions::call(self, name, &[]).map_err(|stop| self.called(name, stop))?
            }
        };
        for (at, name) in operand.fields.iter().enumerate() {
            // Arguments are for the last one.
            let args = if at + 1 == operand.fields.len() { args } else { &[] };
            value = self.field(&value, name, args)?;
        }
        Ok(value)
    }

    fn field(&mut self, value: &Value, name: &str, args: &[Value]) -> Result<Value, Stop> {
        if let Some(result) = functions::method(value, name, args) {
            return result.map_err(|problem| self.plain(format!("error calling {name}: {problem}")));
        }
        match value.field(name) {
            Some(_) if !args.is_empty() => {
                Err(self.plain(format!("{name} is not a method but has arguments")))
            }
            Some(found) => Ok(found),
            None if matches!(value, Value::Nil) => {
                Err(self.plain(format!("nil data; no entry for key {name:?}")))
            }
            None => Err(self.plain(format!("can't evaluate field {name} in type {}", value.type_name()))),
        }
    }

    /// A failure where the template is now.
    fn plain(&self, message: impl AsRef<str>) -> Stop {
        let (at, source) = self.at;
        Stop::Placed(self.placed(at, message.as_ref(), Some(&source.to_string())))
    }

    /// `template: name:1:21: executing "name" at <first>: message`
    fn placed(&self, at: usize, message: &str, source: Option<&str>) -> String {
        let place = super::place(self.name, self.text, at);
        let name = self.name;
        match source {
            Some(source) => {
                let mut short: String = source.chars().take(SOURCE).collect();
                if short.len() < source.len() {
                    short.push_str("...");
                }
                format!("template: {place}: executing {name:?} at <{short}>: {message}")
            }
            None => format!("template: {place}: executing {name:?} at <{{{{template}}}}>: {message}"),
        }
    }
}

/// Characters of the source that a message shows.
const SOURCE: usize = 20;
