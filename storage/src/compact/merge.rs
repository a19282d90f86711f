//! The merge: a few batches of each file in memory, rows out in sort order, duplicates left out, increments added up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::{self, File};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::{Job, sums};
use crate::files::{self, FileName, FileWriter, Kind};
use crate::{DataFile, FlushError, Table, gather, order};

/// Rows of a file that are in memory at a time.
const BATCH_ROWS: usize = 1024;
/// Rows that are written at a time.
const CHUNK_ROWS: usize = 8 << 10;
/// Rows with one sort key among which duplicates are looked for; what goes on after them is another such group.
const GROUP_ROWS: usize = 8 * CHUNK_ROWS;

/// A merged file, in its place and not yet in the log.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) file: DataFile,
    pub(super) duplicates: u64,
}

/// Merges the inputs of `job`, of which there is at least one, to a file in their folder.
pub(super) fn merge(job: &Job) -> Result<Merged, FlushError> {
    let table = job.table;
    let writes = job.inputs.iter().filter_map(|file| Some(FileName::of(&file.path)?.writes));
    let writes = writes.fold((u64::MAX, 0), |(low, high), (a, b)| (low.min(a), high.max(b)));
    let (date, epoch) = (job.inputs[0].date, job.epoch);
    let is_sampled = FileName::of(&job.inputs[0].path).is_some_and(|name| name.kind == Kind::Sampled);
    let kind = if is_sampled { Kind::Sampled } else { Kind::Merged };
    let staged =
        format!("{}-{date}-compacted-{:020}-{:020}-{epoch}.parquet", table.name(), writes.0, writes.1);
    let staged = job.staging.join(staged);
    let rows = job.inputs.iter().map(|file| file.rows).sum::<u64>();
    let written = write(table, &job.inputs, rows, &staged).map_err(|e| files::failure(table, e));
    let placed = written.and_then(|(finished, duplicates)| {
        let name = FileName { writes, kind, epoch, checksum: finished.checksum };
        let file = files::place(table, &job.root, date, name, &staged, finished)?;
        Ok(Merged { file, duplicates })
    });
    if placed.is_err() {
        let _ = fs::remove_file(&staged); // it may never have been made; the next open empties the folder
    }
    placed
}

fn write(
    table: Table,
    inputs: &[DataFile],
    rows: u64,
    staged: &std::path::Path,
) -> Result<(files::Finished, u64), ParquetError> {
    let mut out = Output {
        table,
        writer: FileWriter::create(table, staged, usize::try_from(rows).unwrap_or(usize::MAX))?,
        held: Vec::new(),
        taken: Vec::new(),
        group: 0,
        key: Vec::new(),
        duplicates: 0,
    };
    let converter = sort_keys(table)?;
    let mut sources = Vec::with_capacity(inputs.len());
    let mut heap = BinaryHeap::new();
    for input in inputs {
        let file = File::open(&input.path)?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(BATCH_ROWS).build()?;
        let mut source = Source { reader, keys: converter.empty_rows(0, 0), row: 0, held: 0 };
        if source.load(table, &converter, &mut out)? {
            heap.push(Reverse((source.key(), sources.len())));
        }
        sources.push(source);
    }
    // Inputs are in the order of the log, so among equal keys what was written later comes later.
    while let Some(Reverse((mut key, at))) = heap.pop() {
        loop {
            let source = &mut sources[at];
            out.take(&key, (source.held, source.row))?;
            source.row += 1;
            if source.row == source.keys.num_rows() && !source.load(table, &converter, &mut out)? {
                break;
            }
            source.key_into(&mut key);
            let is_next = heap.peek().is_none_or(|Reverse((other, of))| (&key, &at) < (other, of));
            if !is_next || out.is_due() {
                heap.push(Reverse((key, at)));
                break;
            }
        }
        if out.is_due() {
            out.flush(&mut sources)?;
        }
    }
    out.end_group()?;
    out.flush(&mut sources)?;
    Ok((out.writer.finish()?, out.duplicates))
}

fn sort_keys(table: Table) -> Result<RowConverter, ArrowError> {
    let columns = order::key_columns(table, &RecordBatch::new_empty(table.schema()))?;
    RowConverter::new(columns.iter().map(|column| SortField::new(column.data_type().clone())).collect())
}

/// The columns of `batch` by these names.
pub(super) fn columns(batch: &RecordBatch, names: &[&str]) -> Result<Vec<ArrayRef>, ArrowError> {
    let missing = |name: &str| ArrowError::SchemaError(format!("no column `{name}`"));
    names.iter().map(|name| batch.column_by_name(name).cloned().ok_or_else(|| missing(name))).collect()
}

/// A file and the place in it.
struct Source {
    reader: ParquetRecordBatchReader,
    keys: Rows,
    row: usize,
    /// Which of the held batches its rows are in.
    held: usize,
}

impl Source {
    /// Goes on to the next batch; false at the end of the file.
    fn load(
        &mut self,
        table: Table,
        converter: &RowConverter,
        out: &mut Output,
    ) -> Result<bool, ParquetError> {
        for batch in self.reader.by_ref() {
            let other = || ParquetError::General("a file has other columns than its table".to_owned());
            let batch = table.fitted(batch?).ok_or_else(other)?;
            if batch.num_rows() == 0 {
                continue;
            }
            self.keys = converter.convert_columns(&order::key_columns(table, &batch)?)?;
            self.row = 0;
            self.held = out.held.len();
            out.held.push(batch);
            return Ok(true);
        }
        self.keys.clear();
        self.row = 0;
        Ok(false)
    }

    fn key(&self) -> Vec<u8> {
        self.keys.row(self.row).as_ref().to_vec()
    }

    fn key_into(&self, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.keys.row(self.row).as_ref());
    }
}

/// Rows on their way into the file.
struct Output {
    table: Table,
    writer: FileWriter,
    /// Batches that taken rows are in.
    held: Vec<RecordBatch>,
    /// Rows in order: (held batch, row).
    taken: Vec<(usize, usize)>,
    /// Where in `taken` the rows with the last key begin.
    group: usize,
    key: Vec<u8>,
    duplicates: u64,
}

impl Output {
    fn take(&mut self, key: &[u8], row: (usize, usize)) -> Result<(), ArrowError> {
        if self.key.as_slice() != key || self.taken.len() - self.group >= GROUP_ROWS {
            self.end_group()?;
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        self.taken.push(row);
        Ok(())
    }

    /// Leaves out all but the last of those rows with one key that have one identity.
    fn end_group(&mut self) -> Result<(), ArrowError> {
        let identity = self.table.identity_columns();
        let rows = &self.taken[self.group..];
        if rows.len() > 1 && !identity.is_empty() {
            let mut fields = Vec::with_capacity(identity.len());
            let mut gathered = Vec::with_capacity(identity.len());
            for name in identity {
                let of_batches: Vec<_> =
                    self.held.iter().map(|batch| columns(batch, &[*name])).collect::<Result<_, _>>()?;
                let of_batches: Vec<_> = of_batches.iter().map(|columns| columns[0].as_ref()).collect();
                let column = interleave(&of_batches, rows)?;
                fields.push(SortField::new(column.data_type().clone()));
                gathered.push(column);
            }
            let ids = RowConverter::new(fields)?.convert_columns(&gathered)?;
            let last: HashMap<&[u8], usize> =
                ids.iter().enumerate().map(|(at, id)| (id.data(), at)).collect();
            if last.len() < rows.len() {
                self.duplicates += (rows.len() - last.len()) as u64;
                let mut kept: Vec<usize> = last.into_values().collect();
                kept.sort_unstable();
                let kept: Vec<_> = kept.into_iter().map(|at| rows[at]).collect();
                self.taken.truncate(self.group);
                self.taken.extend(kept);
            }
        }
        self.group = self.taken.len();
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.group >= CHUNK_ROWS
    }

    /// Writes the rows of complete groups and lets go of batches that nothing is taken from any more.
    fn flush(&mut self, sources: &mut [Source]) -> Result<(), ParquetError> {
        let held: Vec<&RecordBatch> = self.held.iter().collect();
        let complete = &self.taken[..self.group];
        if self.table.adds_up() {
            self.writer.write(&sums::by_bucket(&gather::rows(self.table, &held, complete)?)?)?;
        } else {
            for chunk in complete.chunks(CHUNK_ROWS) {
                self.writer.write(&gather::rows(self.table, &held, chunk)?)?;
            }
        }
        self.taken.drain(..self.group);
        self.group = 0;
        let mut places = vec![None; self.held.len()];
        let mut kept = Vec::new();
        let mut keep = |at: usize| {
            *places[at].get_or_insert_with(|| {
                kept.push(self.held[at].clone());
                kept.len() - 1
            })
        };
        for source in sources.iter_mut().filter(|source| source.row < source.keys.num_rows()) {
            source.held = keep(source.held);
        }
        for (batch, _) in &mut self.taken {
            *batch = keep(*batch);
        }
        self.held = kept;
        Ok(())
    }
}
