//! An instant query run in other ways that must not change its result.

use super::parse::Eval;
use super::{Mismatch, Target, compare, steps};
use crate::promql::ast::{At, Expr, Selector};
use crate::promql::plan::TimeRange;
use crate::promql::value::{Output, Sample};

/// Functions whose result depends on the moment of evaluation even where every selector is pinned.
const TIMELY: &[&str] = &[
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deriv",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "start_timestamp",
    "year",
    "start",
    "end",
];

/// With `@ time` on every selector, at other moments.
pub(super) async fn pinned(eval: &Eval, time: i64, expr: &Expr, target: &Target<'_>) -> Result<(), Mismatch> {
    if eval.expect.matrix.is_some() || eval.expect.text.is_some() || calls(expr, TIMELY) {
        return Ok(());
    }
    let mut expr = expr.clone();
    pin(&mut expr, time);
    let moments = match time {
        0 => vec![-1000, 0, 1000],
        time => vec![-10 * time, 0, time / 5, time, 10 * time],
    };
    for moment in moments {
        let how = format!("with `@` at {moment} ms");
        let answer = target.evaluate(&expr, TimeRange::Instant(moment)).await;
        let answer = answer.map_err(|e| Mismatch::new("a result", e.to_string()).when(&how))?;
        compare::annotations(eval, &answer.annotations).map_err(|m| m.when(&how))?;
        compare::output(eval, &answer.output).map_err(|m| m.when(&how))?;
    }
    Ok(())
}

/// As a range query, the middle step of which is the moment asked for.
pub(super) async fn as_range(
    eval: &Eval,
    time: i64,
    expr: &Expr,
    target: &Target<'_>,
) -> Result<(), Mismatch> {
    let expect = &eval.expect;
    if expect.ordered || expect.matrix.is_some() || expect.text.is_some() || uses_range(&eval.query) {
        return Ok(());
    }
    let grid = steps(time - 60_000, time + 60_000, 60_000);
    let how = "as a range query";
    let answer = target.evaluate(expr, TimeRange::Steps(grid)).await;
    let answer = answer.map_err(|e| Mismatch::new("a result", e.to_string()).when(how))?;
    let Output::Matrix(all) = answer.output else { return Ok(()) };
    let middle = |points: Vec<(i64, Sample)>| points.into_iter().find(|(t, _)| *t == time).map(|(_, s)| s);
    let found: Vec<_> = all.into_iter().filter_map(|s| Some((s.labels, middle(s.points)?))).collect();
    if let Some(wanted) = eval.results.scalar {
        let scalar = found.first().and_then(|(_, sample)| sample.float()).unwrap_or(f64::NAN);
        let output = Output::Scalar(time, scalar);
        let _ = wanted;
        return compare::output(eval, &output).map_err(|m| m.when(how));
    }
    compare::vector(&eval.results.series, &found, false).map_err(|m| m.when(how))
}

fn uses_range(query: &str) -> bool {
    let query = query.to_ascii_lowercase();
    ["start()", "end()", "range()", "step()"].iter().any(|call| query.contains(call))
}

/// Whether a function in `names` is called anywhere.
fn calls(expr: &Expr, names: &[&str]) -> bool {
    match expr {
        Expr::Number(..) | Expr::Seconds(..) | Expr::Text(..) | Expr::Selector(_) => false,
        Expr::Paren(inner, _) | Expr::Unary { operand: inner, .. } => calls(inner, names),
        Expr::Binary(binary) => calls(&binary.left, names) || calls(&binary.right, names),
        Expr::Aggregate(a) => {
            calls(&a.operand, names) || a.parameter.as_ref().is_some_and(|p| calls(p, names))
        }
        Expr::Call(call) => {
            names.contains(&call.function.name) || call.args.iter().any(|arg| calls(arg, names))
        }
        Expr::Subquery(subquery) => calls(&subquery.operand, names),
    }
}

/// Puts `@ time` on selectors and subqueries that have none; what is inside a subquery follows it.
fn pin(expr: &mut Expr, time: i64) {
    match expr {
        Expr::Number(..) | Expr::Seconds(..) | Expr::Text(..) => {}
        Expr::Paren(inner, _) | Expr::Unary { operand: inner, .. } => pin(inner, time),
        Expr::Binary(binary) => {
            pin(&mut binary.left, time);
            pin(&mut binary.right, time);
        }
        Expr::Aggregate(aggregate) => {
            pin(&mut aggregate.operand, time);
            if let Some(parameter) = &mut aggregate.parameter {
                pin(parameter, time);
            }
        }
        Expr::Call(call) => call.args.iter_mut().for_each(|arg| pin(arg, time)),
        Expr::Selector(selector) => pin_selector(selector, time),
        Expr::Subquery(subquery) => {
            subquery.shift.at.get_or_insert(At::Time(time));
        }
    }
}

fn pin_selector(selector: &mut Selector, time: i64) {
    selector.shift.at.get_or_insert(At::Time(time));
}
