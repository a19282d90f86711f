//! Filters on a view's columns as filters on the columns of its table, so that files, row groups and
//! pages are left out and the filters of blocks are asked.
//!
//! What comes out keeps every row that the filter keeps and maybe more; the filter itself runs above, unless it
//! was [`exact`].

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Operator, lit};

use std::ops::RangeInclusive;

use arrow::datatypes::{DataType, TimeUnit};
use weir_storage::{Needle, Table};

use super::functions;
use super::views::Kind;

/// `filter` over the stored columns, where that can be said; `kind` tells how a view column is made.
pub(super) fn stored<'a>(filter: &Expr, kind: &impl Fn(&str) -> Option<&'a Kind>) -> Option<Expr> {
    if let Some(exact) = exact(filter, kind) {
        return Some(exact);
    }
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (stored(left, kind), stored(right, kind)) {
                (Some(left), Some(right)) => Some(left.and(right)),
                (left, right) => left.or(right),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some(stored(left, kind)?.or(stored(right, kind)?))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            compared(left, *op, right, kind).or_else(|| compared(right, op.swap()?, left, kind))
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let low = compared(expr, Operator::GtEq, low, kind)?;
            Some(low.and(compared(expr, Operator::LtEq, high, kind)?))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let (mut column, mut values) = (None, Vec::with_capacity(list.len()));
            for item in list {
                let Expr::BinaryExpr(equal) = compared(expr, Operator::Eq, item, kind)? else { return None };
                column = Some(*equal.left);
                values.push(*equal.right);
            }
            Some(column?.in_list(values, false))
        }
        _ => None,
    }
}

/// `filter` over the stored columns where it keeps the same rows: those it is about are stored, are ids or codes that
/// are compared with what one can be, or are values of attributes.
pub(super) fn exact<'a>(filter: &Expr, kind: &impl Fn(&str) -> Option<&'a Kind>) -> Option<Expr> {
    let (mut all, mut any) = (true, false);
    let replaced = filter.clone().transform_down(|expr| {
        if let Some((column, key)) = access(&expr)
            && let Some(Kind::Attributes(scope)) = kind(&column.name)
        {
            any = true;
            return Ok(Transformed::new(scope.value(key), true, TreeNodeRecursion::Jump));
        }
        if let Some(same) = same(&expr, kind) {
            any = true;
            return Ok(Transformed::new(same, true, TreeNodeRecursion::Jump));
        }
        if let Expr::Column(column) = &expr {
            any = true;
            all &= matches!(kind(&column.name), Some(Kind::Stored));
        }
        Ok(Transformed::no(expr))
    });
    replaced.ok().filter(|_| all && any).map(|replaced| replaced.data)
}

/// `expr`, which is about one id or code, over the stored column.
fn same<'a>(expr: &Expr, kind: &impl Fn(&str) -> Option<&'a Kind>) -> Option<Expr> {
    let value = |column: &Expr, value: &Expr| {
        let (Expr::Column(column), Expr::Literal(value, _)) = (column, value) else { return None };
        let text = value.try_as_str()??;
        match kind(&column.name)? {
            // As it would be shown: no other text is equal to an id.
            Kind::Id if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
                Some(lit(ScalarValue::Binary(Some(from_hex(text)?))))
            }
            // Unknown codes are shown as the first.
            Kind::Code(names) => {
                let code = names.iter().position(|name| *name == text).filter(|code| *code > 0)?;
                Some(lit(i32::try_from(code).ok()?))
            }
            _ => None,
        }
    };
    let stored = |column: &Expr| match column {
        Expr::Column(column) => Some(Box::new(stored_column(&column.name))),
        _ => None,
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::NotEq), right }) => {
            let (column, value) =
                value(left, right).map(|of| (left, of)).or_else(|| Some((right, value(right, left)?)))?;
            Some(Expr::BinaryExpr(BinaryExpr::new(stored(column)?, *op, Box::new(value))))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let values = list.iter().map(|item| value(expr, item)).collect::<Option<_>>()?;
            Some(Expr::InList(InList::new(stored(expr)?, values, *negated)))
        }
        _ => None,
    }
}

/// The column and the key of `column['key']`.
fn access(expr: &Expr) -> Option<(&Column, &str)> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == "get_field" => match call.args.as_slice() {
            [Expr::Column(column), Expr::Literal(key, _)] => Some((column, key.try_as_str()??)),
            _ => None,
        },
        _ => None,
    }
}

/// What each row that all of `filters`, which are over stored columns, keep has of what blocks are found by: of each
/// list one at least.
pub(super) fn wanted(filters: &[Expr], table: Table) -> Vec<Vec<Needle>> {
    let mut wanted: Vec<_> = filters.iter().flat_map(|filter| needles(filter, table)).collect();
    if table == Table::Spans {
        let all: Vec<&Expr> = filters.iter().flat_map(split_conjunction).collect();
        let services = all.iter().find_map(|filter| services(filter));
        let longer = all.iter().filter_map(|filter| longer_than(filter)).max();
        if let (Some(services), Some(longer)) = (services, longer) {
            let slow: Option<Vec<_>> = services.iter().map(|service| Needle::slow(service, longer)).collect();
            wanted.extend(slow);
        }
    }
    wanted
}

/// The times (microseconds) of the rows that all of `filters`, which are over stored columns, keep.
pub(super) fn times(filters: &[Expr], table: Table) -> RangeInclusive<i64> {
    let (mut first, mut last) = (i64::MIN, i64::MAX);
    for filter in filters.iter().flat_map(split_conjunction) {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { continue };
        let (op, micros) = match (&**left, &**right) {
            (Expr::Column(column), Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), _), _))
                if column.name == table.time_column() =>
            {
                (*op, *micros)
            }
            _ => continue,
        };
        if matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq) {
            first = first.max(micros);
        }
        if matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq) {
            last = last.min(micros);
        }
    }
    first..=last
}

/// The services that spans are of which `filter` keeps.
fn services(filter: &Expr) -> Option<Vec<&str>> {
    let is_service = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == "service");
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (&**left, &**right) {
            (column, Expr::Literal(text, _)) | (Expr::Literal(text, _), column) if is_service(column) => {
                Some(vec![text.try_as_str()??])
            }
            _ => None,
        },
        Expr::InList(InList { expr, list, negated: false }) if is_service(expr) => {
            let texts = list.iter().map(|item| match item {
                Expr::Literal(text, _) => text.try_as_str()?,
                _ => None,
            });
            texts.collect()
        }
        _ => None,
    }
}

/// How long spans took at least which `filter` keeps.
fn longer_than(filter: &Expr) -> Option<i64> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    match (&**left, op, &**right) {
        (Expr::Column(column), Operator::Gt | Operator::GtEq, Expr::Literal(least, _))
        | (Expr::Literal(least, _), Operator::Lt | Operator::LtEq, Expr::Column(column))
            if column.name == "duration_ns" =>
        {
            match least {
                ScalarValue::Int64(least) => *least,
                _ => None,
            }
        }
        _ => None,
    }
}

/// What each row that `filter`, which is over stored columns, keeps has of the needle columns of `table`: of each
/// list one value at least.
fn needles(filter: &Expr, table: Table) -> Vec<Vec<Needle>> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            [needles(left, table), needles(right, table)].concat()
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            match (needles(left, table).into_iter().next(), needles(right, table).into_iter().next()) {
                (Some(left), Some(right)) => vec![[left, right].concat()],
                _ => Vec::new(),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            equals(left, right, table).or_else(|| equals(right, left, table)).into_iter().collect()
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let any: Option<Vec<_>> = list.iter().map(|item| equals(expr, item, table)).collect();
            any.map(|any| any.concat()).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What a row has in which `expr` is `value`: one of these, if that can be told.
fn equals(expr: &Expr, value: &Expr, table: Table) -> Option<Vec<Needle>> {
    let Expr::Literal(value, _) = value else { return None };
    let listed = |column: &Expr| match column {
        Expr::Column(column) => table.needle_columns().iter().find(|name| **name == column.name).copied(),
        _ => None,
    };
    let Some((key, columns)) = functions::as_attribute(expr) else {
        let column = listed(expr)?;
        return match value {
            ScalarValue::Binary(Some(bytes)) => Some(vec![Needle::value(column, bytes)]),
            text => Some(vec![Needle::value(column, text.try_as_str()??.as_bytes())]),
        };
    };
    let text = value.try_as_str()??;
    let long = text.parse::<i64>().ok().filter(|long| long.to_string() == text);
    let mut any = Vec::new();
    for expr in columns {
        let column = listed(expr)?;
        match column.strip_prefix("attributes_") {
            None => any.push(Needle::value(column, text.as_bytes())),
            Some("str") => any.push(Needle::text(column, key, text)),
            Some("long") => any.extend(long.map(|long| Needle::long(column, key, long))),
            Some("bool") if !["true", "false"].contains(&text) => {}
            Some("double") if text.parse::<f64>().is_err() => {}
            Some(_) => any.push(Needle::key(column, key)),
        }
    }
    Some(any)
}

/// `column op value`, where `column` is made from stored ones.
fn compared<'a>(
    column: &Expr,
    op: Operator,
    value: &Expr,
    kind: &impl Fn(&str) -> Option<&'a Kind>,
) -> Option<Expr> {
    let Expr::Literal(value, _) = value else { return None };
    let Expr::Column(column) = uncast(column) else { return None };
    let name = column.name.as_str();
    let code = |value: &str, names: &[&str]| names.iter().position(|name| *name == value);
    match kind(name)? {
        Kind::Moment => moment(name, op, value),
        Kind::Id if op == Operator::Eq => {
            let bytes = from_hex(value.try_as_str()??)?;
            Some(stored_column(name).eq(lit(ScalarValue::Binary(Some(bytes)))))
        }
        Kind::Code(names) if op == Operator::Eq => {
            let code = i32::try_from(code(value.try_as_str()??, names)?).ok()?;
            Some(stored_column(name).eq(lit(code)))
        }
        _ => None,
    }
}

/// A column by its exact name.
pub(super) fn stored_column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// What a cast that changes no moment was put around.
fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr: inner, field })
            if matches!(
                field.data_type(),
                DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Utf8 | DataType::Utf8View
            ) =>
        {
            inner
        }
        other => other,
    }
}

/// The stored column counts whole microseconds, rounded down: bounds are rounded outwards.
fn moment(name: &str, op: Operator, value: &ScalarValue) -> Option<Expr> {
    let nanos = match value {
        ScalarValue::TimestampNanosecond(Some(nanos), _) => i128::from(*nanos),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => i128::from(*micros) * 1_000,
        ScalarValue::TimestampMillisecond(Some(millis), _) => i128::from(*millis) * 1_000_000,
        ScalarValue::TimestampSecond(Some(seconds), _) => i128::from(*seconds) * 1_000_000_000,
        _ => return None,
    };
    let micros = i64::try_from(nanos.div_euclid(1_000)).ok()?;
    let bound = lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
    let column = stored_column(name);
    match op {
        Operator::Gt | Operator::GtEq => Some(column.gt_eq(bound)),
        Operator::Lt | Operator::LtEq => Some(column.lt_eq(bound)),
        Operator::Eq => Some(column.eq(bound)),
        _ => None,
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks_exact(2).map(byte).collect()
}
