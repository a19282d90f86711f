//! A table of a snapshot as DataFusion scans it: published files that may match, and the hot rows.
//!
//! Files are left out at planning by the bounds their table keeps; within the rest, Parquet's own row group
//! and page statistics, bloom filters and pushed-down predicates do the work. Filters are inexact: whoever
//! scans without DataFusion's planner filters again.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use weir_storage::{Bound, DataFile, Table, TableSnapshot};

use super::warnings::Warnings;

/// The address under which a session finds the files of the data directory, and nothing else.
pub(super) static STORE: LazyLock<ObjectStoreUrl> = LazyLock::new(|| {
    ObjectStoreUrl::parse("weir://data").unwrap_or_else(|_| ObjectStoreUrl::local_filesystem())
});

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

    /// Those of `files` whose bounds allow a match.
    fn matching(
        &self,
        files: &[DataFile],
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Result<Vec<DataFile>> {
        let Some(predicate) = predicate.filter(|_| !files.is_empty()) else { return Ok(files.to_vec()) };
        let schema = self.schema();
        let pruning =
            PruningPredicateBuilder::new().with_file_schema(Arc::clone(&schema)).build(Arc::clone(predicate));
        let Some(pruning) = pruning else { return Ok(files.to_vec()) };
        let bounds = files.iter().map(|file| Arc::new(statistics(file, &schema))).collect();
        let keep = pruning.prune(&PrunableStatistics::new(bounds, schema))?;
        Ok(files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone()).collect())
    }

    /// The files to read. Of those that should be read and are damaged, the session gets a warning.
    async fn readable(
        &self,
        session: &dyn Session,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Result<Vec<DataFile>> {
        let checked = self.rows.check(self.matching(&self.rows.files, predicate)?).await?;
        let Some(warnings) = Warnings::of(session) else { return Ok(checked.sound) };
        for damaged in self.rows.damaged.iter() {
            if !self.matching(std::slice::from_ref(&damaged.file), predicate)?.is_empty() {
                warnings.damaged(self.table, damaged);
            }
        }
        checked.damaged.iter().for_each(|damaged| warnings.damaged(self.table, damaged));
        Ok(checked.sound)
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        files: &[DataFile],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let mut options = TableParquetOptions::default();
        options.global.pushdown_filters = true;
        options.global.reorder_filters = true;
        options.global.bloom_filter_on_read = true;
        options.global.enable_page_index = true;
        let runtime = state.runtime_env();
        let readers = CachedParquetFileReaderFactory::new(
            runtime.object_store(STORE.clone())?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let mut source = ParquetSource::new(Arc::clone(&schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }

        let mut whole = Statistics::new_unknown(&schema);
        whole.num_rows = Precision::Exact(files.iter().map(|file| file.rows as usize).sum());
        whole.total_byte_size = Precision::Inexact(files.iter().map(|file| file.size as usize).sum());
        let parts = files
            .iter()
            .map(|file| {
                let path = file.path.to_string_lossy().into_owned();
                PartitionedFile::new(path, file.size)
            })
            .collect();
        let groups = FileGroup::new(parts).split_files(state.config().target_partitions());
        let scan = FileScanConfigBuilder::new(STORE.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(whole)
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn scan_hot(
        &self,
        projection: Option<&Vec<usize>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let hot = self.rows.hot.iter().map(|(_, batch)| batch.clone()).collect();
        let Some(predicate) = predicate else {
            let source = MemorySourceConfig::try_new(&[hot], self.schema(), projection.cloned())?;
            return Ok(DataSourceExec::from_data_source(source));
        };
        let source = MemorySourceConfig::try_new(&[hot], self.schema(), None)?;
        let rows = DataSourceExec::from_data_source(source);
        let filtered =
            FilterExecBuilder::new(predicate, rows).apply_projection(projection.cloned())?.build()?;
        Ok(Arc::new(filtered))
    }
}

/// What is known of a file. Text bounds may be cut short, outwards: fit for pruning, not for answering.
fn statistics(file: &DataFile, schema: &SchemaRef) -> Statistics {
    let mut known = Statistics::new_unknown(schema);
    known.num_rows = Precision::Exact(file.rows as usize);
    for (column, (low, high)) in file.bounds.iter() {
        if let Ok(index) = schema.index_of(column) {
            known.column_statistics[index] = ColumnStatistics {
                null_count: Precision::Absent,
                min_value: Precision::Exact(scalar(low)),
                max_value: Precision::Exact(scalar(high)),
                ..ColumnStatistics::new_unknown()
            };
        }
    }
    known
}

fn scalar(bound: &Bound) -> ScalarValue {
    match bound {
        Bound::Long(value) => ScalarValue::Int64(Some(*value)),
        Bound::Micros(value) => ScalarValue::TimestampMicrosecond(Some(*value), Some("UTC".into())),
        Bound::Text(value) => ScalarValue::Utf8(Some(value.clone())),
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
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = DFSchema::try_from(self.schema())?;
        let predicate = conjunction(filters.to_vec())
            .map(|filter| state.create_physical_expr(filter, &schema))
            .transpose()?;
        let files = self.readable(state, predicate.as_ref()).await?;
        if files.is_empty() {
            return self.scan_hot(projection, predicate);
        }
        let published = self.scan_files(state, projection, predicate.clone(), &files)?;
        if self.rows.hot.is_empty() {
            return Ok(published);
        }
        UnionExec::try_new(vec![published, self.scan_hot(projection, predicate)?])
    }
}
