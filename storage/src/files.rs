//! Hot rows into Parquet: sorted, one file per UTC day, synced before anything names them.

mod name;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use chrono::{Days, NaiveDate};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

pub(crate) use name::{FileName, Kind};

use crate::blocks::{self, BLOCK_ROWS};
use crate::schema::SortBy;
use crate::stats::{self, Bounds};
use crate::{DataFile, FlushError, Table, durable, gather, order};

/// What the folder of a partition is called, before its day.
const PARTITION: &str = "date=";
/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 128 << 10;
/// Rows of a page where no blocks of a file are looked for.
const PAGE_ROWS: usize = 20_000;
/// Rows that are gathered in sort order at a time.
const CHUNK_ROWS: usize = 8 << 10;

/// Columns of texts that differ from row to row.
const FREE_TEXTS: [&str; 7] =
    ["trace_state", "status_message", "url_path", "url_full", "db_query", "client_address", "body"];

/// Where the files of a flush go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The table's folder.
    pub(crate) root: PathBuf,
    /// The folder for unfinished files.
    pub(crate) staging: PathBuf,
    /// The sequence number up to which rows are flushed.
    pub(crate) through: u64,
    pub(crate) epoch: u64,
}

/// The partition value of a day.
pub(crate) fn date_text(day: i32) -> String {
    let epoch = NaiveDate::default(); // 1970-01-01
    let days = Days::new(u64::from(day.unsigned_abs()));
    let date = if day < 0 { epoch.checked_sub_days(days) } else { epoch.checked_add_days(days) };
    date.unwrap_or(epoch).format("%Y-%m-%d").to_string()
}

/// The day of a partition value.
pub(crate) fn date_of(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// Writes the rows of `batches` to `target`.
pub(crate) fn write(
    table: Table,
    batches: &[RecordBatch],
    target: &Target,
) -> Result<Vec<DataFile>, FlushError> {
    let encode = |e: ArrowError| FlushError::Encode { table, reason: e.to_string() };
    let mut files: Vec<DataFile> = Vec::new();
    for (day, order) in order::by_day(table, batches).map_err(encode)? {
        match write_day(table, batches, day, &order, target) {
            Ok(file) => files.push(file),
            Err(e) => {
                for file in files {
                    let _ = fs::remove_file(&file.path); // as far as the disk lets us; the next open removes it
                }
                return Err(e);
            }
        }
    }
    Ok(files)
}

fn write_day(
    table: Table,
    batches: &[RecordBatch],
    day: i32,
    order: &[(usize, usize)],
    target: &Target,
) -> Result<DataFile, FlushError> {
    let Target { root, staging, through, epoch } = target;
    let staged = staging.join(format!("{}-{day}-wal-{through:020}-{epoch}.parquet", table.name()));
    let file = write_file(table, batches, order, &staged).map_err(|e| failure(table, e));
    let placed = file.and_then(|finished| {
        let (writes, checksum) = ((*through, *through), finished.checksum);
        let name = FileName { writes, kind: Kind::Flushed, epoch: *epoch, checksum };
        place(table, root, day, name, &staged, finished)
    });
    if placed.is_err() {
        let _ = fs::remove_file(&staged); // it may never have been made; the next open empties the folder
    }
    placed
}

/// Gives a finished file its name in the partition of `day`.
pub(crate) fn place(
    table: Table,
    root: &Path,
    day: i32,
    name: FileName,
    staged: &Path,
    Finished { bounds, size, rows, .. }: Finished,
) -> Result<DataFile, FlushError> {
    let dir = root.join(format!("{PARTITION}{}", date_text(day)));
    let path = dir.join(name.to_string());
    durable::create_dir(&dir)
        .and_then(|()| durable::rename(staged, &path))
        .map_err(|source| FlushError::File { table, source })?;
    Ok(DataFile { path, size, rows, date: day, bounds: Arc::new(bounds) })
}

/// The folders of the partitions in `root`.
pub(crate) fn partitions(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut partitions = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| day_in(name.to_str()?)).is_some() && path.is_dir() {
            partitions.push(path);
        }
    }
    Ok(partitions)
}

/// The day that the name of a partition's folder says.
pub(crate) fn day_in(folder: &str) -> Option<i32> {
    date_of(folder.strip_prefix(PARTITION)?)
}

/// All Parquet files in the partitions of the table's folder `root`, named in its log or not.
pub(crate) fn all_of(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for partition in partitions(root)? {
        for file in fs::read_dir(&partition)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Removes files in the table's folder `root` that a flush wrote and did not commit: the log has committed
/// `through`, and the rows behind it are still in the write-ahead log. No flush of the table may be running.
pub(crate) fn remove_leftovers(root: &Path, through: u64) -> io::Result<()> {
    for path in all_of(root)? {
        if FileName::of(&path).is_some_and(|name| name.kind == Kind::Flushed && name.writes.1 > through) {
            tracing::info!(file = %path.display(), "a file that was never committed is removed");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Writes the rows in `order` to `path` and syncs it.
fn write_file(
    table: Table,
    batches: &[RecordBatch],
    order: &[(usize, usize)],
    path: &Path,
) -> Result<Finished, ParquetError> {
    let mut writer = FileWriter::create(table, path, order.len())?;
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    for chunk in order.chunks(CHUNK_ROWS) {
        writer.write(&gather::rows(table, &batches, chunk)?)?;
    }
    writer.finish()
}

/// A Parquet file that is being written, rows coming in sort order.
pub(crate) struct FileWriter {
    table: Table,
    writer: ArrowWriter<Summed>,
    filters: Option<blocks::Builder>,
    bounds: Bounds,
    rows: u64,
}

/// What is known of a file that is written and synced, and has no name yet.
#[derive(Debug)]
pub(crate) struct Finished {
    bounds: Bounds,
    size: u64,
    rows: u64,
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
        let writer = ArrowWriter::try_new(file, table.schema(), Some(properties(table, rows)?))?;
        let filters = blocks::Builder::of(table);
        Ok(Self { table, writer, filters, bounds: Bounds::new(), rows: 0 })
    }

    /// Adds rows that come after all before them.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        stats::widen(self.table, &mut self.bounds, rows, self.rows == 0);
        self.rows += rows.num_rows() as u64;
        if let Some(filters) = &mut self.filters {
            filters.add(rows);
        }
        self.writer.write(rows)
    }

    /// Ends the file and syncs it.
    pub(crate) fn finish(mut self) -> Result<Finished, ParquetError> {
        if let Some(filters) = self.filters {
            let filters = filters.finish();
            self.writer.flush()?;
            let start = self.writer.bytes_written();
            self.writer.write_all(&filters)?;
            self.writer.append_key_value_metadata(blocks::footer_entry(start, filters.len()));
        }
        let Summed { file, checksum } = self.writer.into_inner()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        durable::sync_file(&file)?;
        Ok(Finished { bounds: self.bounds, size: file.metadata()?.len(), rows: self.rows, checksum })
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
            // Neighbouring samples of a series share their upper bytes: 1.3 bytes a value instead of 2.4.
            DataType::Float64 if field.name() == "value" => {
                properties = properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::BYTE_STREAM_SPLIT);
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

/// Rows of a page: pages are what is read of a block.
fn page_rows(table: Table) -> usize {
    if table.needle_columns().is_empty() { PAGE_ROWS } else { BLOCK_ROWS }
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
fn sorting_columns(table: Table, schema: &Schema) -> Vec<SortingColumn> {
    let leaf_of = |name: &str| {
        let before = schema.fields().iter().take_while(|field| field.name() != name);
        before.map(|field| leaves(field.data_type())).sum::<i32>()
    };
    let column = |by: &SortBy| match by {
        SortBy::Value(name) => {
            Some(SortingColumn { column_idx: leaf_of(name), descending: false, nulls_first: true })
        }
        SortBy::Stretch(_) => None,
    };
    table.sort_order().iter().map_while(column).collect()
}

fn leaves(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(element) | DataType::Map(element, _) => leaves(element.data_type()),
        _ => 1,
    }
}

pub(crate) fn failure(table: Table, e: ParquetError) -> FlushError {
    match e {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => FlushError::File { table, source: *source },
            Err(other) => FlushError::Encode { table, reason: other.to_string() },
        },
        other => FlushError::Encode { table, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
