//! Footers of files as queries want them, decoded once.
//!
//! DataFusion's opener asks for a footer without the page indexes, which its cache then keeps, and decodes these at each
//! query again: a fifth of what it takes to find a trace. Here a footer is kept with its page indexes, and what it says
//! of Arrow's types is what maps of attributes are read as (see [`texts`]).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetMetaData, DefaultParquetFileReaderFactory,
};
use datafusion::error::Result;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use datafusion::parquet::errors;
use datafusion::parquet::file::metadata::{
    FileMetaData, KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder,
};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use object_store::{ObjectMeta, ObjectStore};
use weir_storage::Table;

use super::texts;

/// Makes readers of the files of one table.
#[derive(Debug)]
pub(super) struct WholeFooters {
    table: Table,
    files: DefaultParquetFileReaderFactory,
    cache: Arc<FileMetadataCache>,
}

impl WholeFooters {
    pub(super) fn new(table: Table, store: Arc<dyn ObjectStore>, cache: Arc<FileMetadataCache>) -> Self {
        Self { table, files: DefaultParquetFileReaderFactory::new(store), cache }
    }
}

impl ParquetFileReaderFactory for WholeFooters {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let object = file.object_meta.clone();
        let file = self.files.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(Reader { table: self.table, object, file, cache: Arc::clone(&self.cache) }))
    }
}

struct Reader {
    table: Table,
    object: ObjectMeta,
    file: Box<dyn AsyncFileReader + Send>,
    cache: Arc<FileMetadataCache>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, errors::Result<Bytes>> {
        self.file.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, errors::Result<Vec<Bytes>>> {
        self.file.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, errors::Result<Arc<ParquetMetaData>>> {
        Box::pin(async move {
            let cached = self.cache.get(&self.object.location);
            let cached = cached.filter(|entry| entry.is_valid_for(&self.object));
            if let Some(entry) = &cached
                && let Some(footer) = entry.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()
            {
                return Ok(Arc::clone(footer.parquet_metadata()));
            }
            let whole = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
            let footer = Arc::unwrap_or_clone(self.file.get_metadata(Some(&whole)).await?);
            let footer = Arc::new(with_views(self.table, footer));
            let entry = Arc::new(CachedParquetMetaData::new(Arc::clone(&footer)));
            self.cache.put(&self.object.location, CachedFileMetadataEntry::new(self.object.clone(), entry));
            Ok(footer)
        })
    }
}

/// `footer` with maps of attributes as views; as it is where it has other columns than `table`.
fn with_views(table: Table, footer: ParquetMetaData) -> ParquetMetaData {
    let schema = texts::with_viewed_maps(table);
    let file = footer.file_metadata();
    let columns = file.schema_descr().root_schema().get_fields();
    if !columns.iter().map(|column| column.name()).eq(schema.fields().iter().map(|field| field.name())) {
        return footer;
    }
    let others = file.key_value_metadata().into_iter().flatten();
    let mut entries: Vec<KeyValue> =
        others.filter(|entry| entry.key != ARROW_SCHEMA_META_KEY).cloned().collect();
    entries.push(KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(&schema)));
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        Some(entries),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let mut old = footer.into_builder();
    ParquetMetaDataBuilder::new(file)
        .set_row_groups(old.take_row_groups())
        .set_column_index(old.take_column_index())
        .set_offset_index(old.take_offset_index())
        .build()
}
