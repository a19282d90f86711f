//! A table of a snapshot as DataFusion scans it: published files that may match, and the hot rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use weir_storage::{Table, TableSnapshot};

/// One table of a snapshot.
#[derive(Debug)]
pub struct SnapshotTable {
    table: Table,
    rows: TableSnapshot,
}

impl SnapshotTable {
    /// The rows of `table` that `rows` holds.
    pub fn new(table: Table, rows: TableSnapshot) -> Self {
        Self { table, rows }
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let hot = self.rows.hot.iter().map(|(_, batch)| batch.clone()).collect();
        let source = MemorySourceConfig::try_new(&[hot], self.schema(), projection.cloned())?;
        Ok(DataSourceExec::from_data_source(source))
    }
}
