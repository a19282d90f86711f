//! Go's own functions: comparisons, parts of lists and texts, printing.

use std::cmp::Ordering;

use super::value::Value;

/// Why two values cannot be compared.
const KINDS: &str = "incompatible types for comparison";

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Time(a), Value::Time(b)) => Ok(a == b),
        _ => match order(a, b) {
            Ok(order) => Ok(order == Some(Ordering::Equal)),
            Err(problem) => Err(problem),
        },
    }
}

/// How two values of one basic kind are ordered; NaN is in no order.
fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Int(a) | Value::Length(a), Value::Int(b) | Value::Length(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (
            Value::Int(_) | Value::Length(_) | Value::Float(_) | Value::Text(_) | Value::Bool(_),
            Value::Int(_) | Value::Length(_) | Value::Float(_) | Value::Text(_) | Value::Bool(_),
        ) => Err(KINDS.to_owned()),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

/// Whether the first is equal to any of the others.
pub(super) fn eq(args: &[Value]) -> Result<Value, String> {
    let Some((first, others)) = args.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Err("missing argument for comparison".to_owned());
    };
    for other in others {
        if same(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

pub(super) fn ne(args: &[Value]) -> Result<Value, String> {
    same(&args[0], &args[1]).map(|same| Value::Bool(!same))
}

pub(super) fn compare(name: &str, args: &[Value]) -> Result<Value, String> {
    if matches!(args[0], Value::Bool(_)) || matches!(args[1], Value::Bool(_)) {
        return Err("invalid type for comparison".to_owned());
    }
    let order = order(&args[0], &args[1])?;
    Ok(Value::Bool(match name {
        "lt" => order == Some(Ordering::Less),
        "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "gt" => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }))
}

pub(super) fn len(value: &Value) -> Result<Value, String> {
    let len = match value {
        Value::Text(text) => text.len(),
        other => match other.elements() {
            Some(elements) if !matches!(other, Value::Nil) => elements.len(),
            _ => return Err(format!("len of type {}", other.type_name())),
        },
    };
    Ok(Value::Int(len as i64))
}

/// The element under each index in turn.
pub(super) fn index(args: &[Value]) -> Result<Value, String> {
    let mut value = args[0].clone();
    for index in &args[1..] {
        value = match (&value, index) {
            (Value::Labels(_) | Value::Map(_), Value::Text(key)) => value.field(key).unwrap_or(Value::Nil),
            (Value::Labels(_) | Value::Map(_), other) => {
                return Err(format!("value has type {}; should be string", other.type_name()));
            }
            (Value::Text(text), Value::Int(at)) => {
                let byte = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
                Value::Int(i64::from(*byte.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            (Value::List(_) | Value::Result(_), Value::Int(at)) => {
                let elements = value.elements().unwrap_or_default();
                let element = usize::try_from(*at).ok().and_then(|at| elements.get(at));
                element.ok_or_else(|| format!("index out of range: {at}"))?.1.clone()
            }
            (Value::List(_) | Value::Result(_) | Value::Text(_), other) => {
                return Err(format!("cannot index slice/array with type {}", other.type_name()));
            }
            (Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

/// From one index up to another.
pub(super) fn slice(args: &[Value]) -> Result<Value, String> {
    let len = match len(&args[0]) {
        Ok(Value::Int(len)) if matches!(args[0], Value::Text(_) | Value::List(_) | Value::Result(_)) => {
            len as usize
        }
        _ => return Err(format!("can't slice item of type {}", args[0].type_name())),
    };
    let bound = |at: usize, default: usize| match args.get(at) {
        None => Ok(default),
        Some(Value::Int(index)) => usize::try_from(*index)
            .ok()
            .filter(|index| *index <= len)
            .ok_or_else(|| format!("index out of range: {index}")),
        Some(other) => Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    let (from, to) = (bound(1, 0)?, bound(2, len)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match &args[0] {
        Value::Text(text) => Value::text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        Value::List(list) => Value::List(list[from..to].into()),
        Value::Result(rows) => Value::Result(rows[from..to].into()),
        _ => Value::Nil,
    })
}

/// All of them, with spaces between those of which neither is a text.
pub(super) fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in args.iter().enumerate() {
        let text = |value: &Value| matches!(value, Value::Text(_));
        if at > 0 && !text(value) && !text(&args[at - 1]) {
            out.push(' ');
        }
        out.push_str(&value.show());
    }
    out
}

/// All of them with spaces between, and the end of a line.
pub(super) fn println(args: &[Value]) -> String {
    let all: Vec<String> = args.iter().map(Value::show).collect();
    format!("{}\n", all.join(" "))
}
