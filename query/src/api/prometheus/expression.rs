//! Expressions as text laid out anew, and as a tree that a program can walk: `format_query`, `parse_query`.

use axum::extract;
use axum::response::Response;
use serde_json::{Value, json};
use weir_storage::{LabelMatcher, MatchOp};

use super::answer::Remarks;
use super::error::ApiError;
use super::params::Params;
use super::{State, success};
use crate::promql::ast::{
    Aggregate, At, Binary, Call, Expr, Extent, Group, Length, Selector, Shift, Subquery, Type,
};
use crate::promql::{number, parser};

/// The expression `query`, laid out.
pub(super) async fn format(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let expr = expression(&state, &params)?;
    Ok(success(&json!(expr.pretty()), &Remarks::default()))
}

/// The expression `query` as a tree.
pub(super) async fn parse(
    extract::State(state): extract::State<State>,
    params: Params,
) -> Result<Response, ApiError> {
    let expr = expression(&state, &params)?;
    Ok(success(&tree(&expr), &Remarks::default()))
}

fn expression(state: &State, params: &Params) -> Result<Expr, ApiError> {
    let query = params.get("query").unwrap_or_default();
    Ok(parser::parse(query, state.prometheus.options.features)?)
}

/// The tree as Prometheus' own pages read it.
pub(crate) fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number(value, _) | Expr::Seconds(value, _) => {
            json!({"type": "numberLiteral", "val": number::show(*value)})
        }
        Expr::Text(text, _) => json!({"type": "stringLiteral", "val": text}),
        Expr::Paren(inner, _) => json!({"type": "parenExpr", "expr": tree(inner)}),
        Expr::Unary { negate, operand, .. } => {
            json!({"type": "unaryExpr", "op": if *negate { "-" } else { "+" }, "expr": tree(operand)})
        }
        Expr::Binary(binary) => of_binary(binary),
        Expr::Aggregate(aggregate) => of_aggregate(aggregate),
        Expr::Call(call) => of_call(call),
        Expr::Selector(selector) => of_selector(selector),
        Expr::Subquery(subquery) => of_subquery(subquery),
    }
}

fn of_binary(binary: &Binary) -> Value {
    let vectors = [&binary.left, &binary.right].iter().all(|side| side.kind() == Type::Vector);
    let matching = &binary.matching;
    let card = match matching.group {
        _ if binary.op.is_set() => "many-to-many",
        Group::OneToOne => "one-to-one",
        Group::Left => "many-to-one",
        Group::Right => "one-to-many",
    };
    let matching = vectors.then(|| {
        json!({
            "card": card,
            "labels": matching.labels,
            "on": matching.on,
            "include": matching.include,
            "fillValues": {"lhs": filled(matching.fill_left), "rhs": filled(matching.fill_right)},
        })
    });
    json!({
        "type": "binaryExpr",
        "op": binary.op.name(),
        "lhs": tree(&binary.left),
        "rhs": tree(&binary.right),
        "matching": matching,
        "bool": binary.bool_result,
    })
}

/// A number where JSON has one for it, as text otherwise.
fn filled(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |value| {
        serde_json::Number::from_f64(value).map_or_else(|| json!(number::show(value)), Value::Number)
    })
}

fn of_aggregate(aggregate: &Aggregate) -> Value {
    json!({
        "type": "aggregation",
        "op": aggregate.op.name(),
        "expr": tree(&aggregate.operand),
        "param": aggregate.parameter.as_ref().map(tree),
        "grouping": aggregate.grouping.labels,
        "without": aggregate.grouping.without,
    })
}

fn of_call(call: &Call) -> Value {
    let function = call.function;
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": function.args.iter().map(|kind| type_name(*kind)).collect::<Vec<_>>(),
            "variadic": function.optional,
            "returnType": type_name(function.result),
        },
        "args": call.args.iter().map(tree).collect::<Vec<_>>(),
    })
}

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Scalar => "scalar",
        Type::String => "string",
        Type::Vector => "vector",
        Type::Matrix => "matrix",
    }
}

fn of_selector(selector: &Selector) -> Value {
    let (name, matchers) = match selector.matchers.split_first() {
        // The name that stands before the braces is the last condition.
        Some((name, rest)) if selector.named => (name.value.as_str(), rest.iter().chain([name]).collect()),
        _ => ("", selector.matchers.iter().collect::<Vec<_>>()),
    };
    let mut node = json!({
        "type": if selector.range.is_some() { "matrixSelector" } else { "vectorSelector" },
        "name": name,
        "matchers": matchers.into_iter().map(condition).collect::<Vec<_>>(),
        "offset": offset(&selector.shift),
        "timestamp": timestamp(&selector.shift),
        "startOrEnd": start_or_end(&selector.shift),
        "anchored": selector.extent == Extent::Anchored,
        "smoothed": selector.extent == Extent::Smoothed,
    });
    if let Some(range) = &selector.range {
        node["range"] = json!(ms(range));
    }
    node
}

fn condition(matcher: &LabelMatcher) -> Value {
    let op = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    json!({"name": matcher.name, "value": matcher.value, "type": op})
}

fn of_subquery(subquery: &Subquery) -> Value {
    json!({
        "type": "subquery",
        "expr": tree(&subquery.operand),
        "range": ms(&subquery.range),
        "step": subquery.step.as_ref().map_or(0, ms),
        "offset": offset(&subquery.shift),
        "timestamp": timestamp(&subquery.shift),
        "startOrEnd": start_or_end(&subquery.shift),
    })
}

/// Milliseconds; 0 for what is computed when the query runs, as in Prometheus.
fn ms(length: &Length) -> i64 {
    if length.is_computed() { 0 } else { length.to_ms(0.0, 0.0).unwrap_or_default() }
}

fn offset(shift: &Shift) -> i64 {
    shift.offset.as_ref().map_or(0, ms)
}

fn timestamp(shift: &Shift) -> Option<i64> {
    match shift.at {
        Some(At::Time(ms)) => Some(ms),
        _ => None,
    }
}

fn start_or_end(shift: &Shift) -> Option<&'static str> {
    match shift.at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::Features;

    #[test]
    fn trees_have_the_nodes_that_prometheus_has() {
        let texts = [
            r#"up{job="a",env!~"b|c"}"#,
            r#"{"http.requests"}[5m] @ 12.5 offset -1m"#,
            r#"sum by (job) (rate(x[5m])) / on (job) group_left (owner) info"#,
            r#"topk(3, a) > bool 1"#,
            r#"a and ignoring (b) c"#,
            r#"label_join(a, "d", ",", "e", "f") + fill_left (0) b"#,
            r#"-(max_over_time(a[1h:5m] @ end()))"#,
            r#"rate(a[step() * 2] smoothed @ start()) + NaN"#,
        ];
        let trees: Vec<Value> = texts
            .iter()
            .map(|text| tree(&parser::parse(text, Features::ALL).unwrap_or_else(|e| panic!("{text}: {e}"))))
            .collect();
        insta::assert_json_snapshot!(trees);
    }
}
