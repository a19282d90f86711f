//! Filters on a view's columns as filters on the columns of its table, so that files, row groups and
//! pages are left out and bloom filters are asked.
//!
//! What comes out keeps every row that the filter keeps and maybe more; the filter itself runs above.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Operator, lit};

use super::views::Kind;
use arrow::datatypes::{DataType, TimeUnit};

/// `filter` over the stored columns, where that can be said; `kind` tells how a view column is made.
pub(super) fn stored<'a>(filter: &Expr, kind: &impl Fn(&str) -> Option<&'a Kind>) -> Option<Expr> {
    let plain = |column: &Column| matches!(kind(&column.name), Some(Kind::Stored));
    let columns = filter.column_refs();
    if !columns.is_empty() && columns.into_iter().all(plain) {
        return Some(filter.clone());
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
            let mut any: Option<Expr> = None;
            for item in list {
                let one = compared(expr, Operator::Eq, item, kind)?;
                any = Some(any.map_or(one.clone(), |all| all.or(one)));
            }
            any
        }
        _ => None,
    }
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
            if matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Utf8) =>
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
