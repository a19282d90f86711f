//! A table of a snapshot as DataFusion scans it: published files that may match, and the hot rows.
//!
//! Files are left out at planning by the bounds their table keeps, and blocks of rows by the filters of each file;
//! within the rest, Parquet's own row group and page statistics and pushed-down predicates do the
//! work. Filters are applied, those on maps and lists behind the reader.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use weir_storage::{BlockFilters, Bound, DataFile, Table, TableSnapshot};

use super::footers::WholeFooters;
use super::warnings::Warnings;
use super::{filters, texts};

/// The address under which a session finds the files of the data directory, and nothing else.
pub(super) static STORE: LazyLock<ObjectStoreUrl> = LazyLock::new(|| {
    ObjectStoreUrl::parse("weir://data").unwrap_or_else(|_| ObjectStoreUrl::local_filesystem())
});

/// Rows of a file that are read by one thread: some row groups, so that all threads have something to do as long as there
/// is something.
const PIECE_ROWS: usize = 512 << 10;

/// One table of a snapshot.
#[derive(Debug)]
pub struct SnapshotTable {
    table: Table,
    rows: TableSnapshot,
    schema: SchemaRef,
}

impl SnapshotTable {
    /// The rows of `table` that `rows` holds.
    pub fn new(table: Table, rows: TableSnapshot) -> Self {
        Self { table, rows, schema: table.schema() }
    }

    /// The same with texts as views.
    pub(super) fn viewed(table: Table, rows: TableSnapshot) -> Self {
        Self { table, rows, schema: texts::viewed(table) }
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

    /// The parts of `files` that may match.
    async fn parts(&self, files: Vec<DataFile>, filters: &[Expr]) -> Result<Vec<Part>> {
        let wanted = filters::wanted(filters, self.table);
        if wanted.is_empty() {
            return Ok(files.into_iter().map(|file| Part { file, rows: None }).collect());
        }
        let times = filters::times(filters, self.table);
        let of_files = self.rows.block_filters(self.table, &files).await?;
        let part = |(file, blocks): (DataFile, Option<Arc<BlockFilters>>)| {
            let Some(blocks) = blocks else { return Some(Part { file, rows: None }) };
            let whole = 0..usize::try_from(file.rows).unwrap_or(usize::MAX);
            let rows = blocks.rows(&wanted, &times).iter().filter_map(|rows| common(rows, &whole)).collect();
            Some(Part { file, rows: Some(rows) })
        };
        Ok(files.into_iter().zip(of_files).filter_map(part).collect())
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        parts: Vec<Part>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let mut options = TableParquetOptions::default();
        options.global.pushdown_filters = true;
        options.global.reorder_filters = true;
        options.global.bloom_filter_on_read = false; // the filters of blocks have said more already
        // A few blocks that have been found are looked into sooner than compared with what pages and row groups say.
        let is_found = parts.iter().all(|part| part.rows.is_some());
        let is_pruned = !is_found || parts.iter().map(Part::rows).sum::<usize>() > PIECE_ROWS;
        options.global.pruning = is_pruned;
        options.global.enable_page_index = is_pruned;
        let runtime = state.runtime_env();
        let store = runtime.object_store(STORE.clone())?;
        let readers = WholeFooters::new(self.table, store, runtime.cache_manager.get_file_metadata_cache());
        let mut source = ParquetSource::new(Arc::clone(&schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }

        let mut known = Statistics::new_unknown(&schema);
        let rows = parts.iter().map(Part::rows).sum();
        let is_whole = parts.iter().all(|part| part.rows.is_none());
        known.num_rows = if is_whole { Precision::Exact(rows) } else { Precision::Inexact(rows) };
        known.total_byte_size = Precision::Inexact(parts.iter().map(|part| part.file.size as usize).sum());
        let pieces = parts.iter().flat_map(Part::pieces).collect();
        let groups = FileGroup::new(pieces).split_files(state.config().target_partitions());
        let scan = FileScanConfigBuilder::new(STORE.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(known)
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    /// Whether a filter is about a map or a list, which Parquet's reader does not look into.
    fn reads_nested(&self, filter: &Expr) -> bool {
        let is_nested = |column: &Column| {
            self.schema.field_with_name(&column.name).is_ok_and(|field| field.data_type().is_nested())
        };
        filter.column_refs().into_iter().any(is_nested)
    }

    fn scan_hot(
        &self,
        projection: Option<&Vec<usize>>,
        predicate: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let mut read: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let wanted: Vec<usize> = (0..read.len()).collect();
        if let Some(predicate) = &predicate {
            read.extend(others(predicate, &read));
        }
        let schema = Arc::new(self.schema.project(&read)?);
        let typed = |(_, batch): &(u64, RecordBatch)| texts::as_typed(&batch.project(&read)?, &schema);
        let hot = self.rows.hot.iter().map(typed).collect::<Result<_, ArrowError>>()?;
        let source = MemorySourceConfig::try_new(&[hot], Arc::clone(&schema), None)?;
        let rows = DataSourceExec::from_data_source(source);
        let Some(predicate) = predicate else { return Ok(rows) };
        let predicate = reassign_expr_columns(predicate, &schema)?;
        Ok(Arc::new(FilterExecBuilder::new(predicate, rows).apply_projection(Some(wanted))?.build()?))
    }
}

/// A file, or some ranges of its rows.
struct Part {
    file: DataFile,
    rows: Option<Vec<Range<usize>>>,
}

impl Part {
    fn rows(&self) -> usize {
        self.rows.as_ref().map_or(self.file.rows as usize, |rows| rows.iter().map(Range::len).sum())
    }

    /// It in pieces, each of which one thread reads: the next that is free.
    fn pieces(&self) -> Vec<PartitionedFile> {
        let file = PartitionedFile::new(self.file.path.to_string_lossy(), self.file.size);
        let end = usize::try_from(self.file.rows).unwrap_or(usize::MAX);
        if self.rows.is_none() && end <= PIECE_ROWS {
            return vec![file];
        }
        let piece = |start: usize| {
            let piece = start..end.min(start + PIECE_ROWS);
            let rows: Vec<Range<usize>> = match &self.rows {
                None => vec![piece],
                Some(rows) => rows.iter().filter_map(|rows| common(rows, &piece)).collect(),
            };
            let selection = RowSelection::from_consecutive_ranges(rows.into_iter(), end);
            selection.selects_any().then(|| file.clone().with_extension(ParquetRowSelection::new(selection)))
        };
        (0..end).step_by(PIECE_ROWS).filter_map(piece).collect()
    }
}

fn common(a: &Range<usize>, b: &Range<usize>) -> Option<Range<usize>> {
    let both = a.start.max(b.start)..a.end.min(b.end);
    (!both.is_empty()).then_some(both)
}

/// The columns that `filter` reads and that are not among `read`.
fn others(filter: &Arc<dyn PhysicalExpr>, read: &[usize]) -> BTreeSet<usize> {
    let filtered = collect_columns(filter).into_iter().map(|column| column.index());
    filtered.filter(|index| !read.contains(index)).collect()
}

/// What is known of a file. Text bounds may be cut short, outwards: fit for pruning, not for answering.
fn statistics(file: &DataFile, schema: &SchemaRef) -> Statistics {
    let mut known = Statistics::new_unknown(schema);
    known.num_rows = Precision::Exact(file.rows as usize);
    for (column, (low, high)) in file.bounds.iter() {
        if let Ok(index) = schema.index_of(column) {
            known.column_statistics[index] = ColumnStatistics {
                null_count: Precision::Absent,
                min_value: Precision::Exact(scalar(low, schema.field(index).data_type())),
                max_value: Precision::Exact(scalar(high, schema.field(index).data_type())),
                ..ColumnStatistics::new_unknown()
            };
        }
    }
    known
}

/// `bound` as a value of a column of `data_type`.
fn scalar(bound: &Bound, data_type: &DataType) -> ScalarValue {
    match bound {
        Bound::Long(value) => ScalarValue::Int64(Some(*value)),
        Bound::Micros(value) => ScalarValue::TimestampMicrosecond(Some(*value), Some("UTC".into())),
        Bound::Text(value) if *data_type == DataType::Utf8View => ScalarValue::Utf8View(Some(value.clone())),
        Bound::Text(value) => ScalarValue::Utf8(Some(value.clone())),
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
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
        let physical = |filters: Vec<Expr>| {
            conjunction(filters).map(|all| state.create_physical_expr(all, &schema)).transpose()
        };
        let (on_nested, plain) = filters.iter().cloned().partition(|filter| self.reads_nested(filter));
        let (on_nested, plain) = (physical(on_nested)?, physical(plain)?);
        let files = self.readable(state, plain.as_ref()).await?;
        let mut parts = self.parts(files, filters).await?;
        parts.retain(|part| part.rows() > 0);
        let predicate = physical(filters.to_vec())?;
        if parts.is_empty() {
            return self.scan_hot(projection, predicate);
        }
        let published = match on_nested {
            None => self.scan_files(state, projection, plain, parts)?,
            Some(on_nested) => {
                // Parquet's reader cannot tell: it gives the columns that are filtered by as well.
                let all = || (0..schema.fields().len()).collect();
                let mut read: Vec<usize> = projection.cloned().unwrap_or_else(all);
                let wanted: Vec<usize> = (0..read.len()).collect();
                read.extend(others(&on_nested, &read));
                let rows = self.scan_files(state, Some(&read), plain, parts)?;
                let on_nested = reassign_expr_columns(on_nested, &rows.schema())?;
                let filtered = FilterExecBuilder::new(on_nested, rows);
                Arc::new(filtered.apply_projection(Some(wanted))?.build()?)
            }
        };
        if self.rows.hot.is_empty() {
            return Ok(published);
        }
        UnionExec::try_new(vec![published, self.scan_hot(projection, predicate)?])
    }
}
