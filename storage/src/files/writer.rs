//! A Parquet file that is being written: row group after row group, rows coming in sort order.

use std::fs::File;
use std::io;
use std::path::Path;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use crate::blocks::{self, BLOCK_ROWS};
use crate::schema::SortBy;
use crate::stats::{self, Bounds};
use crate::{Table, durable};

/// Rows of a row group; a number of whole blocks.
pub(super) const ROW_GROUP_ROWS: usize = 128 << 10;
/// Rows of a page where no blocks of a file are looked for.
const PAGE_ROWS: usize = 20_000;

/// Rows of a page of samples: the more values share a page, the fewer bytes each takes, and the more are read for one.
const SAMPLES_PAGE_ROWS: usize = 64 << 10;
/// How hard the values of samples are compressed: a tenth smaller than at level 1 for 0.02 µs each.
const VALUES_LEVEL: i32 = 6;

/// Columns of texts that differ from row to row.
const FREE_TEXTS: [&str; 7] =
    ["trace_state", "status_message", "url_path", "url_full", "db_query", "client_address", "body"];

/// A Parquet file that is being written.
pub(crate) struct FileWriter {
    table: Table,
    schema: SchemaRef,
    writer: SerializedFileWriter<Summed>,
    groups: ArrowRowGroupWriterFactory,
    /// The row group that is begun: a writer for each leaf of each column.
    columns: Vec<Vec<ArrowColumnWriter>>,
    /// Rows in that group.
    group_rows: usize,
    filters: Option<blocks::Builder>,
    bounds: Bounds,
    /// Rows in the groups before.
    rows: usize,
}

/// What is known of a file that is written and synced, and has no name yet.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(super) bounds: Bounds,
    pub(super) size: u64,
    pub(super) rows: u64,
    pub(crate) checksum: u32,
}

/// A file whose checksum is known once it is written.
struct Summed {
    file: io::BufWriter<File>,
    checksum: u32,
}

impl io::Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.checksum = crc32c::crc32c_append(self.checksum, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FileWriter {
    /// Begins the file `path`, which about `rows` rows will go to.
    pub(crate) fn create(table: Table, path: &Path, rows: usize) -> Result<Self, ParquetError> {
        let file = Summed { file: io::BufWriter::new(File::create(path)?), checksum: 0 };
        let schema = table.schema();
        let writer = ArrowWriter::try_new(file, SchemaRef::clone(&schema), Some(properties(table, rows)?))?;
        let (writer, groups) = writer.into_serialized_writer()?;
        let filters = blocks::Builder::of(table);
        let bounds = Bounds::new();
        Ok(Self {
            table,
            schema,
            writer,
            groups,
            columns: Vec::new(),
            group_rows: 0,
            filters,
            bounds,
            rows: 0,
        })
    }

    /// Adds rows that come after all before them.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        let mut from = 0;
        while from < rows.num_rows() {
            let part = rows.slice(from, (rows.num_rows() - from).min(ROW_GROUP_ROWS - self.group_rows));
            for (number, column) in part.columns().iter().enumerate() {
                self.add(number, column, self.group_rows)?;
            }
            self.group_rows += part.num_rows();
            from += part.num_rows();
            if self.group_rows == ROW_GROUP_ROWS {
                self.end_group()?;
            }
        }
        Ok(())
    }

    /// Adds a row group, at most [`ROW_GROUP_ROWS`] rows that come after all before them, column by column:
    /// `column` gives the pieces of the column of a number.
    pub(super) fn write_group<P>(&mut self, column: impl Fn(usize) -> P) -> Result<(), ParquetError>
    where
        P: Iterator<Item = Result<ArrayRef, ArrowError>>,
    {
        self.end_group()?;
        let mut rows = 0;
        for number in 0..self.schema.fields().len() {
            rows = 0;
            for piece in column(number) {
                let piece = piece?;
                self.add(number, &piece, rows)?;
                rows += piece.len();
            }
        }
        self.group_rows = rows;
        self.end_group()
    }

    /// Adds to the column of a number what comes behind `before` rows of the group.
    fn add(&mut self, number: usize, column: &ArrayRef, before: usize) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            let mut writers =
                self.groups.create_column_writers(self.writer.flushed_row_groups().len())?.into_iter();
            let leaves = self.schema.fields().iter().map(|field| leaves(field.data_type()));
            self.columns = leaves.map(|leaves| writers.by_ref().take(leaves).collect()).collect();
        }
        let field = self.schema.field(number);
        let name = field.name().as_str();
        if let Some(name) = self.table.stats_columns().iter().find(|of| **of == name) {
            stats::widen(&mut self.bounds, name, column, self.rows + before == 0);
        }
        if let Some(filters) = &mut self.filters {
            filters.add(name, column, before);
        }
        for (writer, leaf) in self.columns[number].iter_mut().zip(compute_leaves(field, column)?) {
            writer.write(&leaf)?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        if self.group_rows > 0 {
            let mut group = self.writer.next_row_group()?;
            for writer in self.columns.drain(..).flatten() {
                writer.close()?.append_to_row_group(&mut group)?;
            }
            group.close()?;
            if let Some(filters) = &mut self.filters {
                filters.end_blocks(self.group_rows);
            }
            self.rows += self.group_rows;
            self.group_rows = 0;
        }
        Ok(())
    }

    /// Ends the file and syncs it.
    pub(crate) fn finish(mut self) -> Result<Finished, ParquetError> {
        self.end_group()?;
        if let Some(filters) = self.filters {
            let start = self.writer.bytes_written();
            for piece in filters.finish() {
                self.writer.write_all(&piece)?;
            }
            let length = self.writer.bytes_written() - start;
            self.writer.append_key_value_metadata(blocks::footer_entry(start, length));
        }
        let Summed { file, checksum } = self.writer.into_inner()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        durable::sync_file(&file)?;
        Ok(Finished { bounds: self.bounds, size: file.metadata()?.len(), rows: self.rows as u64, checksum })
    }
}

fn properties(table: Table, rows: usize) -> Result<WriterProperties, ParquetError> {
    let schema = table.schema();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(page_rows(table))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_sorting_columns(Some(sorting_columns(table, &schema)).filter(|columns| !columns.is_empty()));
    for field in schema.fields() {
        let path = ColumnPath::from(field.name().as_str());
        match field.data_type() {
            DataType::Map(..) | DataType::List(_) | DataType::Struct(_) => continue,
            // Rising numbers: differences are smaller than a dictionary.
            DataType::Timestamp(..) => {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            // Neighbouring samples of a series share their upper bytes: 1.1 bytes a value instead of 2.4.
            DataType::Float64 if field.name() == "value" => {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::BYTE_STREAM_SPLIT)
                    .set_column_compression(
                        path.clone(),
                        Compression::ZSTD(ZstdLevel::try_new(VALUES_LEVEL)?),
                    );
            }
            // No two are the same, and most are far smaller than eight bytes.
            DataType::Int64 if field.name() == "duration_ns" => {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            // Ids hardly repeat; a dictionary would only be built to be given up.
            DataType::Binary => properties = properties.set_column_dictionary_enabled(path.clone(), false),
            _ => {}
        }
        properties = properties.set_column_statistics_enabled(path, statistics_of(table, field));
    }
    if schema.field_with_name("trace_id").is_ok() {
        let distinct = rows.clamp(1, ROW_GROUP_ROWS) as u64;
        properties = properties
            .set_column_bloom_filter_enabled("trace_id".into(), true)
            .set_column_bloom_filter_max_ndv("trace_id".into(), distinct);
    }
    Ok(properties.build())
}

/// Rows of a page.
fn page_rows(table: Table) -> usize {
    match table {
        Table::Samples => SAMPLES_PAGE_ROWS,
        _ if table.needle_columns().is_empty() => PAGE_ROWS,
        _ => BLOCK_ROWS, // pages are what is read of a block
    }
}

/// What is kept of a column's smallest and largest values: they cost a comparison per value, and tell something
/// where rows are sorted by the column or by what it depends on.
fn statistics_of(table: Table, field: &Field) -> EnabledStatistics {
    let name = field.name().as_str();
    let is_free_text = FREE_TEXTS.contains(&name);
    match field.data_type() {
        _ if table.sort_order().iter().any(|by| by.column() == name) => EnabledStatistics::Page,
        DataType::Binary => EnabledStatistics::None,
        DataType::Utf8 if is_free_text => EnabledStatistics::None,
        DataType::Utf8 => EnabledStatistics::Chunk,
        _ => EnabledStatistics::Page,
    }
}

/// The columns that rows are sorted by, as Parquet numbers them: by leaf. Those behind a stretch it cannot say.
pub(super) fn sorting_columns(table: Table, schema: &Schema) -> Vec<SortingColumn> {
    let leaf_of = |name: &str| {
        let before = schema.fields().iter().take_while(|field| field.name() != name);
        before.map(|field| leaves(field.data_type())).sum::<usize>() as i32
    };
    let column = |by: &SortBy| match by {
        SortBy::Value(name) => {
            Some(SortingColumn { column_idx: leaf_of(name), descending: false, nulls_first: true })
        }
        SortBy::Stretch(_) => None,
    };
    table.sort_order().iter().map_while(column).collect()
}

fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(element) | DataType::Map(element, _) => leaves(element.data_type()),
        _ => 1,
    }
}
