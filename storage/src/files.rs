//! Hot rows into Parquet: sorted, one file per UTC day, synced before anything names them.

mod name;
mod writer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use chrono::{Days, NaiveDate};
use parquet::errors::ParquetError;

pub(crate) use name::{FileName, Kind};
use writer::ROW_GROUP_ROWS;
pub(crate) use writer::{FileWriter, Finished};

use crate::gather::Slices;
use crate::{DataFile, FlushError, Table, durable, gather, order};

/// What the folder of a partition is called, before its day.
const PARTITION: &str = "date=";
/// Rows that are gathered in sort order at a time.
const CHUNK_ROWS: usize = 8 << 10;

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

/// Writes the rows in `order` to `path` and syncs it: of each row group one column after the other, so that what is
/// gathered from all over the batches is a column at a time, which the processor's caches hold.
fn write_file(
    table: Table,
    batches: &[RecordBatch],
    order: &[(usize, usize)],
    path: &Path,
) -> Result<Finished, ParquetError> {
    let mut writer = FileWriter::create(table, path, order.len())?;
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    for group in order.chunks(ROW_GROUP_ROWS) {
        let chunks: Vec<Slices> = group.chunks(CHUNK_ROWS).map(Slices::of).collect();
        writer.write_group(|number| gather::column(table, &batches, number, &chunks))?;
    }
    writer.finish()
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
