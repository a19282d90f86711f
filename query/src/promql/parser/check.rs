//! Types: what each place of an expression may hold.

use crate::promql::ast::{Aggregate, Binary, Call, Expr, Extent, Group, Type};
use crate::promql::error::Error;

/// Fails with a position where an expression has the wrong type.
pub(super) fn check(text: &str, expr: &Expr) -> Result<(), Error> {
    match expr {
        Expr::Number(..) | Expr::Seconds(..) | Expr::Text(..) | Expr::Selector(_) => Ok(()),
        Expr::Paren(inner, _) => check(text, inner),
        Expr::Unary { operand, .. } => {
            check(text, operand)?;
            match operand.kind() {
                Type::Scalar | Type::Vector => Ok(()),
                other => {
                    let message = format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                        other.name()
                    );
                    Err(Error::parse(text, expr.span(), message))
                }
            }
        }
        Expr::Binary(binary) => check_binary(text, binary),
        Expr::Aggregate(aggregate) => check_aggregate(text, aggregate),
        Expr::Call(call) => check_call(text, call),
        Expr::Subquery(subquery) => check(text, &subquery.operand),
    }
}

fn expect(text: &str, expr: &Expr, wanted: Type, context: &str) -> Result<(), Error> {
    check(text, expr)?;
    if expr.kind() == wanted {
        return Ok(());
    }
    let message = format!("expected type {} in {context}, got {}", wanted.name(), expr.kind().name());
    Err(Error::parse(text, expr.span(), message))
}

fn check_binary(text: &str, binary: &Binary) -> Result<(), Error> {
    for side in [&binary.left, &binary.right] {
        check(text, side)?;
        if !matches!(side.kind(), Type::Scalar | Type::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(Error::parse(text, side.span(), message));
        }
    }
    let scalars = [&binary.left, &binary.right].iter().filter(|side| side.kind() == Type::Scalar).count();
    let span = binary.left.span().to(binary.right.span());
    let fail = |message: &str| Err(Error::parse(text, span, message));
    if binary.op.is_set() && scalars > 0 {
        let message = format!("set operator {:?} not allowed in binary scalar expression", binary.op.name());
        return fail(&message);
    }
    if binary.op.compares() && scalars == 2 && !binary.bool_result {
        return fail("comparisons between scalars must use BOOL modifier");
    }
    if scalars > 0 {
        if !binary.matching.labels.is_empty() || binary.matching.group != Group::OneToOne {
            return fail("vector matching only allowed between instant vectors");
        }
        if binary.matching.fill_left.is_some() || binary.matching.fill_right.is_some() {
            return fail("filling in missing series only allowed between instant vectors");
        }
    }
    Ok(())
}

fn check_aggregate(text: &str, aggregate: &Aggregate) -> Result<(), Error> {
    expect(text, &aggregate.operand, Type::Vector, "aggregation expression")?;
    match (&aggregate.parameter, aggregate.op.parameter()) {
        (Some(parameter), Some(kind)) => expect(text, parameter, kind, "aggregation parameter"),
        _ => Ok(()),
    }
}

fn check_call(text: &str, call: &Call) -> Result<(), Error> {
    let (name, count) = (call.function.name, call.args.len());
    let (least, most) = call.function.arity();
    let wanted = match () {
        () if least == most && count != least => Some(format!("{least} argument(s)")),
        () if count < least => Some(format!("at least {least} argument(s)")),
        () if count > most => Some(format!("at most {most} argument(s)")),
        () => None,
    };
    if let Some(wanted) = wanted {
        let message = format!("expected {wanted} in call to {name:?}, got {count}");
        return Err(Error::parse(text, call.span, message));
    }
    for (at, arg) in call.args.iter().enumerate() {
        expect(text, arg, call.function.arg(at), &format!("call to function {name:?}"))?;
        check_extent(text, call, arg)?;
    }
    if name == "info" && call.args.get(1).is_some_and(|arg| !matches!(arg, Expr::Selector(_))) {
        return Err(Error::parse(
            text,
            call.span,
            "expected label selectors only in second argument of info",
        ));
    }
    Ok(())
}

/// `anchored` and `smoothed` make sense for few functions only.
fn check_extent(text: &str, call: &Call, arg: &Expr) -> Result<(), Error> {
    let (word, fitting): (_, &[&str]) = match arg.inner() {
        Expr::Selector(selector) if selector.range.is_some() => match selector.extent {
            Extent::Plain => return Ok(()),
            Extent::Anchored => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
            Extent::Smoothed => ("smoothed", &["delta", "increase", "rate"]),
        },
        _ => return Ok(()),
    };
    if fitting.contains(&call.function.name) {
        return Ok(());
    }
    let message = format!(
        "{word} modifier can only be used with: {} - not with {}",
        fitting.join(", "),
        call.function.name
    );
    Err(Error::execution(message).at(text, call.span))
}
