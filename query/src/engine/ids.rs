//! Joins on ids compare the bytes that are stored.
//!
//! A view shows an id as hex. Joined as they are shown, twice the bytes of each row would be made, hashed and carried
//! through the join, and most are dropped behind it. Hex says the same as the bytes it is made of, so that a join on it
//! is one on these; the text is made of what comes out, where anything above reads it.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinSide, Result};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExprRef, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::joins::utils::build_join_schema;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::functions::HEX;

/// The rule. It runs before all others, which tell by what is used then what is read and carried.
#[derive(Debug)]
pub(super) struct JoinStoredIds;

impl PhysicalOptimizerRule for JoinStoredIds {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_up(|plan| {
            let joined = plan.downcast_ref::<HashJoinExec>().map(on_stored).transpose()?.flatten();
            Ok(joined.map_or_else(|| Transformed::no(plan), Transformed::yes))
        });
        Ok(rewritten?.data)
    }

    fn name(&self) -> &'static str {
        "join_stored_ids"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `join` on what is stored, with the columns it had; nothing where no key is hex on both sides.
fn on_stored(join: &HashJoinExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if join.contains_projection() {
        return Ok(None);
    }
    let (mut left, mut right) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let mut on = join.on().to_vec();
    // The columns that are bytes now, and what makes texts of them.
    let mut bytes: Vec<(JoinSide, usize, PhysicalExprRef)> = Vec::new();
    for (key, sides) in on.iter_mut().enumerate() {
        let (Some(l), Some(r)) = (index(&sides.0), index(&sides.1)) else { continue };
        if is_read_elsewhere(join, key, (l, r)) {
            continue;
        }
        let (Some(of_left), Some(of_right)) = (stored(&left, l)?, stored(&right, r)?) else { continue };
        (left, right) = (of_left.0, of_right.0);
        *sides = (column(&left, l), column(&right, r));
        bytes.extend([(JoinSide::Left, l, of_left.1), (JoinSide::Right, r, of_right.1)]);
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let (_, origins) = build_join_schema(&left.schema(), &right.schema(), join.join_type());
    let builder = join.builder().with_new_children(vec![left, right])?.with_on(on);
    let joined = builder.reset_state().recompute_properties().build_exec()?;
    let shown = origins.iter().enumerate().map(|(at, origin)| {
        let column = column(&joined, at);
        let hex = bytes.iter().find(|(side, index, _)| (*side, *index) == (origin.side, origin.index));
        let expr = match hex {
            Some((_, _, hex)) => Arc::clone(hex).with_new_children(vec![column])?,
            None => column,
        };
        Ok(ProjectionExpr { expr, alias: joined.schema().field(at).name().clone() })
    });
    let shown = shown.collect::<Result<Vec<_>>>()?;
    Ok(Some(Arc::new(ProjectionExec::try_new(shown, joined)?)))
}

fn index(expr: &PhysicalExprRef) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

fn column(of: &Arc<dyn ExecutionPlan>, index: usize) -> PhysicalExprRef {
    Arc::new(Column::new(of.schema().field(index).name(), index))
}

fn reads(expr: &PhysicalExprRef, index: usize) -> bool {
    collect_columns(expr).iter().any(|column| column.index() == index)
}

/// Whether anything in the join but its key number `key` reads one of the two columns of that key.
fn is_read_elsewhere(join: &HashJoinExec, key: usize, (left, right): (usize, usize)) -> bool {
    let others = join.on().iter().enumerate().filter(|(other, _)| *other != key);
    let mut keys = others.map(|(_, (l, r))| reads(l, left) || reads(r, right));
    let filtered = join.filter().into_iter().flat_map(|filter| filter.column_indices());
    let mut filtered = filtered.map(|of| {
        (of.side, of.index) == (JoinSide::Left, left) || (of.side, of.index) == (JoinSide::Right, right)
    });
    keys.any(|read| read) || filtered.any(|read| read)
}

/// `plan` with the bytes in the column number `at` of which it makes hex, and that expression; nothing where it makes
/// none there.
fn stored(
    plan: &Arc<dyn ExecutionPlan>,
    at: usize,
) -> Result<Option<(Arc<dyn ExecutionPlan>, PhysicalExprRef)>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let mut exprs = projection.expr().to_vec();
        if let Some(below) = index(&exprs[at].expr) {
            let is_read_again = exprs.iter().enumerate().any(|(n, of)| n != at && reads(&of.expr, below));
            if is_read_again {
                return Ok(None);
            }
            let Some((input, hex)) = stored(projection.input(), below)? else { return Ok(None) };
            return Ok(Some((Arc::new(ProjectionExec::try_new(exprs, input)?), hex)));
        }
        let hex = Arc::clone(&exprs[at].expr);
        let call = hex.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.fun().name() == HEX);
        let Some([id]) = call.map(ScalarFunctionExpr::args) else { return Ok(None) };
        exprs[at].expr = Arc::clone(id);
        let input = Arc::clone(projection.input());
        return Ok(Some((Arc::new(ProjectionExec::try_new(exprs, input)?), hex)));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        if filter.projection().is_some() || reads(filter.predicate(), at) {
            return Ok(None);
        }
        let Some((input, hex)) = stored(filter.input(), at)? else { return Ok(None) };
        let filtered = FilterExecBuilder::from(filter).with_input(input).build()?;
        return Ok(Some((Arc::new(filtered), hex)));
    }
    Ok(None)
}
