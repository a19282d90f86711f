//! A stored table with the columns of its view: the pruning scan below, the view's expressions above, and
//! only those that are asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use weir_storage::TableSnapshot;

use super::StoredView;
use crate::engine::{SnapshotTable, filters};

/// The rows of a view of a stored table.
#[derive(Debug)]
pub(in crate::engine) struct RowView {
    view: &'static StoredView,
    table: SnapshotTable,
}

impl RowView {
    pub(super) fn new(view: &'static StoredView, rows: TableSnapshot) -> Self {
        Self { view, table: SnapshotTable::viewed(view.table, rows) }
    }
}

#[async_trait]
impl TableProvider for RowView {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.view.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let kind = |name: &str| self.view.kind(name);
        // Above, a filter on attributes would need the whole map, and one on ids their texts.
        let support = |filter: &&Expr| match filters::exact(filter, &kind) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let kind = |name: &str| self.view.kind(name);
        let below: Vec<Expr> = filters.iter().filter_map(|filter| filters::stored(filter, &kind)).collect();
        let all = || (0..self.view.columns.len()).collect();
        let wanted: Vec<usize> = projection.map_or_else(all, Clone::clone);

        let stored = self.table.schema();
        let names = wanted.iter().flat_map(|index| self.view.columns[*index].expr.column_refs());
        let needed: BTreeSet<usize> =
            names.map(|column| stored.index_of(&column.name)).collect::<Result<_, _>>()?;
        let needed: Vec<usize> = needed.into_iter().collect();
        let rows = self.table.scan(state, Some(&needed), &below, limit).await?;

        let read = DFSchema::try_from(rows.schema())?;
        let made = wanted.iter().map(|index| {
            let column = &self.view.columns[*index];
            let expr = state.create_physical_expr(column.expr.clone(), &read)?;
            Ok(ProjectionExpr { expr, alias: column.name.clone() })
        });
        let made = made.collect::<Result<Vec<_>>>()?;
        if made.is_empty() {
            return Ok(rows);
        }
        Ok(Arc::new(ProjectionExec::try_new(made, rows)?))
    }
}
