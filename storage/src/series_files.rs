//! Samples of given series out of files, without a scan.
//!
//! Rows of `samples` and `histograms` stand series by series, in order of time. What a row group is once decoded to is
//! kept for a while: where each series is in it, and of `samples` the times and values. A series is then a slice.

use std::fs::File;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::record_batch::RecordBatch;
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::statistics::Statistics;
use weir_model::limits;

use crate::files::FileName;
use crate::recent::{Reads, Recent};
use crate::{DataFile, TableSnapshot};

/// Which samples are wanted: those of some series with `after < time <= until`.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The series, ascending.
    pub ids: &'a [i64],
    /// Their metric names lie within.
    pub metrics: RangeInclusive<&'a str>,
    /// Unix milliseconds.
    pub after: i64,
    /// Unix milliseconds.
    pub until: i64,
}

/// Consecutive samples of a series, in order of time; those of one time in the order in which they were written.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// Unix milliseconds that `offsets` count from.
    pub base: i64,
    /// The time of each sample.
    pub offsets: &'a [u32],
    /// The value of each.
    pub values: &'a [f64],
    /// When the count behind each began, in Unix milliseconds, 0 where unknown; empty where none is known.
    pub starts: &'a [i64],
}

/// Files of `samples` or `histograms` that can be asked for series.
#[derive(Debug, Clone)]
pub struct SeriesFiles {
    files: Vec<Arc<SeriesFile>>,
    reads: Arc<Reads>,
}

impl TableSnapshot {
    /// Opens `files`, which are sound, to be asked for series.
    pub async fn series_files(&self, files: Vec<DataFile>) -> io::Result<SeriesFiles> {
        let reads = Arc::clone(&self.reads);
        let known: Vec<_> = files.iter().map_while(|file| reads.decoded.files.known(&file.path)).collect();
        if known.len() == files.len() {
            return Ok(SeriesFiles::new(known, reads));
        }
        let open = move || {
            let files = files.iter().map(|file| reads.decoded.open(file)).collect::<Result<_, _>>()?;
            Ok(SeriesFiles::new(files, reads))
        };
        tokio::task::spawn_blocking(open).await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }
}

impl SeriesFiles {
    fn new(mut files: Vec<Arc<SeriesFile>>, reads: Arc<Reads>) -> Self {
        files.sort_by_key(|file| file.written);
        Self { files, reads }
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Gives `each` all stretches of the wanted samples, and where the series of each is among the ids. Those of one
    /// series come in the order in which files were written. Blocks.
    pub fn samples<E: From<io::Error>>(
        &self,
        wanted: &Wanted<'_>,
        mut each: impl FnMut(usize, Stretch<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.find(wanted, |file, group, found| {
            let points = self.reads.decoded.points(file, group).map_err(io::Error::from)?;
            for (at, rows) in found {
                let rows = points.within(rows, wanted);
                if !rows.is_empty() {
                    each(at, points.stretch(rows))?;
                }
            }
            Ok(())
        })
    }

    /// Whether any of the wanted series has a row, at whatever time. Blocks.
    pub fn has_any(&self, wanted: &Wanted<'_>) -> io::Result<bool> {
        let mut any = false;
        self.find::<io::Error>(wanted, |_, _, _| {
            any = true;
            Ok(())
        })?;
        Ok(any)
    }

    /// Gives `each` the rows of the wanted series, with `columns`; those at other times may be among them. Blocks.
    pub fn rows<E: From<io::Error>>(
        &self,
        wanted: &Wanted<'_>,
        columns: &[&str],
        mut each: impl FnMut(&RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        self.find(wanted, |file, group, found| {
            let mut rows: Vec<Range<usize>> =
                found.into_iter().map(|(_, rows)| rows.start as usize..rows.end as usize).collect();
            rows.sort_unstable_by_key(|rows| rows.start);
            for batch in file.rows(group, rows, columns).map_err(io::Error::from)? {
                each(&batch.map_err(io::Error::other)?)?;
            }
            Ok(())
        })
    }

    /// Gives `each` the row groups that hold wanted series: for each where it is among the ids, and its rows.
    fn find<E: From<io::Error>>(
        &self,
        wanted: &Wanted<'_>,
        mut each: impl FnMut(&Arc<SeriesFile>, usize, Vec<(usize, Range<u32>)>) -> Result<(), E>,
    ) -> Result<(), E> {
        for file in &self.files {
            for (group, bounds) in file.groups.iter().enumerate() {
                let ids = bounds.ids_within(wanted);
                if ids.is_empty() {
                    continue;
                }
                let found =
                    self.reads.decoded.runs(file, group).map_err(io::Error::from)?.find(wanted.ids, ids);
                if !found.is_empty() {
                    each(file, group, found)?;
                }
            }
        }
        Ok(())
    }
}

/// What was decoded lately.
#[derive(Debug)]
pub(crate) struct Decoded {
    files: Recent<PathBuf, Arc<SeriesFile>>,
    runs: Recent<(u64, usize), Arc<Runs>>,
    points: Recent<(u64, usize), Arc<Points>>,
    opened: AtomicU64,
}

impl Default for Decoded {
    fn default() -> Self {
        Self {
            files: Recent::new(limits::SERIES_FOOTER_BYTES),
            runs: Recent::new(limits::SERIES_RUN_BYTES),
            points: Recent::new(limits::DECODED_SAMPLE_BYTES),
            opened: AtomicU64::new(0),
        }
    }
}

impl Decoded {
    fn open(&self, file: &DataFile) -> Result<Arc<SeriesFile>, ParquetError> {
        self.files.get(&file.path, || {
            let opened = SeriesFile::open(file.path.clone(), self.opened.fetch_add(1, Ordering::Relaxed))?;
            let bytes = opened.footer.memory_size();
            Ok((Arc::new(opened), bytes))
        })
    }

    fn runs(&self, file: &SeriesFile, group: usize) -> Result<Arc<Runs>, ParquetError> {
        self.runs.get(&(file.number, group), || {
            let runs = Runs::of(&file.numbers::<Int64Type>(group, file.columns.id)?.values);
            let bytes = size_of_val(&*runs.0);
            Ok((Arc::new(runs), bytes))
        })
    }

    fn points(&self, file: &SeriesFile, group: usize) -> Result<Arc<Points>, ParquetError> {
        self.points.get(&(file.number, group), || {
            let points = Points::read(file, group)?;
            let bytes =
                size_of_val(&*points.offsets) + size_of_val(&*points.values) + size_of_val(&*points.starts);
            Ok((Arc::new(points), bytes))
        })
    }

    /// Forgets a file that is in no table any more; what was decoded of it goes when it is too old.
    pub(crate) fn forget(&self, file: &DataFile) {
        self.files.forget(&file.path);
    }
}

/// An open file.
#[derive(Debug)]
struct SeriesFile {
    /// Tells it from all others.
    number: u64,
    /// The last write that is in it.
    written: u64,
    path: PathBuf,
    footer: Arc<ParquetMetaData>,
    columns: Columns,
    groups: Vec<GroupBounds>,
}

/// Where the columns are among the leaves.
#[derive(Debug)]
struct Columns {
    id: usize,
    time: usize,
    start: usize,
    /// Of `samples`.
    value: Option<usize>,
}

/// What may be in a row group.
#[derive(Debug)]
struct GroupBounds {
    ids: RangeInclusive<i64>,
    /// Unix milliseconds.
    times: RangeInclusive<i64>,
    metrics: Option<(String, String)>,
}

impl GroupBounds {
    fn of(group: &RowGroupMetaData, columns: &Columns, metric: Option<usize>, per_ms: i64) -> Self {
        let numbers = |leaf: usize| match group.column(leaf).statistics() {
            Some(Statistics::Int64(of)) => of.min_opt().zip(of.max_opt()).map(|(low, high)| (*low, *high)),
            _ => None,
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let metrics = metric.and_then(|leaf| group.column(leaf).statistics()).and_then(|of| {
            Some((text(of.min_bytes_opt()?)?, text(of.max_bytes_opt()?)?)) // cut short they are bounds still
        });
        let times = numbers(columns.time).map(|(low, high)| low.div_euclid(per_ms)..=high.div_euclid(per_ms));
        Self {
            ids: numbers(columns.id).map_or(i64::MIN..=i64::MAX, |(low, high)| low..=high),
            times: times.unwrap_or(i64::MIN..=i64::MAX),
            metrics,
        }
    }

    /// Which of the wanted ids the group may hold.
    fn ids_within(&self, wanted: &Wanted<'_>) -> Range<usize> {
        let in_time = *self.times.start() <= wanted.until && *self.times.end() > wanted.after;
        let has_metric = self.metrics.as_ref().is_none_or(|(low, high)| {
            low.as_str() <= *wanted.metrics.end() && high.as_str() >= *wanted.metrics.start()
        });
        if !in_time || !has_metric {
            return 0..0;
        }
        let first = wanted.ids.partition_point(|id| id < self.ids.start());
        first..first + wanted.ids[first..].partition_point(|id| id <= self.ids.end())
    }
}

impl SeriesFile {
    fn open(path: PathBuf, number: u64) -> Result<Self, ParquetError> {
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
        let footer = reader.parse_and_finish(&File::open(&path)?)?;
        let leaves = footer.file_metadata().schema_descr().columns();
        let leaf = |name: &str| leaves.iter().position(|leaf| leaf.path().parts() == [name]);
        let needed = |name: &str| {
            leaf(name).ok_or_else(|| ParquetError::General(format!("{} has no `{name}`", path.display())))
        };
        let columns = Columns {
            id: needed("series_id")?,
            time: needed("time")?,
            start: needed("start_time")?,
            value: leaf("value"),
        };
        let per_ms = units_per_ms(&footer, columns.time);
        let bounds = |group| GroupBounds::of(group, &columns, leaf("metric"), per_ms);
        let groups = footer.row_groups().iter().map(bounds).collect();
        let written = FileName::of(&path).map_or(0, |name| name.writes.1);
        Ok(Self { number, written, path, footer: Arc::new(footer), columns, groups })
    }

    /// A column of numbers in a row group.
    fn numbers<T: DataType>(&self, group: usize, leaf: usize) -> Result<Column<T::T>, ParquetError> {
        let group = self.footer.row_group(group);
        let rows = usize::try_from(group.num_rows()).unwrap_or_default();
        let (start, length) = group.column(leaf).byte_range();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        File::open(&self.path)?.read_exact_at(&mut bytes, start)?;
        let chunk = Arc::new(Chunk { start, bytes: bytes.into() });
        let pages = SerializedPageReader::new(chunk, group.column(leaf), rows, None)?;
        let descriptor = group.column(leaf).column_descr_ptr();
        let optional = descriptor.max_def_level() > 0;
        let mut reader = ColumnReaderImpl::<T>::new(descriptor, Box::new(pages));
        let mut values = Vec::with_capacity(rows);
        let mut levels = Vec::new();
        let mut read = 0;
        while read < rows {
            let defined = optional.then_some(&mut levels);
            let (records, _, _) = reader.read_records(rows - read, defined, None, &mut values)?;
            if records == 0 {
                return Err(ParquetError::General(format!("{} ends early", self.path.display())));
            }
            read += records;
        }
        let some = optional && values.len() < rows;
        Ok(Column { values, levels: some.then_some(levels) })
    }

    fn rows(
        &self,
        group: usize,
        rows: Vec<Range<usize>>,
        columns: &[&str],
    ) -> Result<impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>>, ParquetError> {
        let footer = ArrowReaderMetadata::try_new(Arc::clone(&self.footer), ArrowReaderOptions::new())?;
        let total = usize::try_from(self.footer.row_group(group).num_rows()).unwrap_or_default();
        let mask = ProjectionMask::columns(footer.parquet_schema(), columns.iter().copied());
        ParquetRecordBatchReaderBuilder::new_with_metadata(File::open(&self.path)?, footer)
            .with_row_groups(vec![group])
            .with_row_selection(RowSelection::from_consecutive_ranges(rows.into_iter(), total))
            .with_projection(mask)
            .build()
    }
}

/// The values of a column.
struct Column<T> {
    values: Vec<T>,
    /// 1 for each row that has one, 0 for each other, where not all have.
    levels: Option<Vec<i16>>,
}

/// How many units of a column of moments are a millisecond.
fn units_per_ms(footer: &ParquetMetaData, leaf: usize) -> i64 {
    let column = footer.file_metadata().schema_descr().column(leaf);
    match column.logical_type_ref() {
        Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::NANOS => 1_000_000,
        Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::MILLIS => 1,
        _ => 1000,
    }
}

/// The bytes of a column of a row group, addressed as in the file.
struct Chunk {
    start: u64,
    bytes: Bytes,
}

impl Chunk {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let at = at.filter(|at| *at <= self.bytes.len());
        at.map(|at| self.bytes.slice(at..))
            .ok_or_else(|| ParquetError::General(format!("byte {start} is not of this column")))
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Chunk {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::General(format!("{length} bytes from {start} are not of this column")));
        }
        Ok(bytes.slice(..length))
    }
}

/// Where each series is within a row group, by id.
#[derive(Debug)]
struct Runs(Box<[(i64, Range<u32>)]>);

impl Runs {
    fn of(ids: &[i64]) -> Self {
        let mut runs = Vec::new();
        let mut first = 0;
        for of_one in ids.chunk_by(|a, b| a == b) {
            let end = first + of_one.len() as u32; // a row group of Parquet has fewer rows than 2^31
            runs.push((of_one[0], first..end));
            first = end;
        }
        runs.sort_by_key(|(id, _)| *id); // stable
        Self(runs.into())
    }

    /// The rows of those of `ids` that are within `range`, and where each is among them.
    fn find(&self, ids: &[i64], range: Range<usize>) -> Vec<(usize, Range<u32>)> {
        let mut found = Vec::new();
        let mut rest = &self.0[..];
        for at in range {
            let id = ids[at];
            rest = &rest[before(rest, id)..];
            let same = rest.iter().take_while(|(other, _)| *other == id);
            found.extend(same.map(|(_, rows)| (at, rows.clone())));
        }
        found
    }
}

/// How many of `runs` are of smaller ids than `id`; it is looked for at the beginning first.
fn before(runs: &[(i64, Range<u32>)], id: i64) -> usize {
    let mut reach = 1;
    while reach < runs.len() && runs[reach].0 < id {
        reach *= 2;
    }
    let from = reach / 2;
    from + runs[from..runs.len().min(reach + 1)].partition_point(|(other, _)| *other < id)
}

/// The samples of a row group.
#[derive(Debug)]
struct Points {
    /// Unix milliseconds.
    base: i64,
    offsets: Vec<u32>,
    values: Vec<f64>,
    /// Empty where no row has one.
    starts: Vec<i64>,
}

impl Points {
    fn read(file: &SeriesFile, group: usize) -> Result<Self, ParquetError> {
        let wrong = |what: &str| ParquetError::General(format!("{}: {what}", file.path.display()));
        let value = file.columns.value.ok_or_else(|| wrong("there is no `value`"))?;
        let Column { values: times, levels: None } = file.numbers::<Int64Type>(group, file.columns.time)?
        else {
            return Err(wrong("a row has no `time`"));
        };
        let Column { values, levels: None } = file.numbers::<DoubleType>(group, value)? else {
            return Err(wrong("a row has no `value`"));
        };
        let per_ms = units_per_ms(&file.footer, file.columns.time);
        let (base, offsets) =
            offsets(&times, per_ms).ok_or_else(|| wrong("the times of a row group lie too far apart"))?;
        Ok(Self { base, offsets, values, starts: Self::starts(file, group)? })
    }

    fn starts(file: &SeriesFile, group: usize) -> Result<Vec<i64>, ParquetError> {
        let column = file.footer.row_group(group).column(file.columns.start);
        let nulls = column.statistics().and_then(Statistics::null_count_opt);
        if nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(column.num_values())) {
            return Ok(Vec::new());
        }
        let per_ms = units_per_ms(&file.footer, file.columns.start);
        let Column { values: starts, levels } = file.numbers::<Int64Type>(group, file.columns.start)?;
        if starts.is_empty() {
            return Ok(starts);
        }
        let mut starts = starts.into_iter().map(|start| start.div_euclid(per_ms));
        Ok(match levels {
            None => starts.collect(),
            Some(levels) => levels
                .into_iter()
                .map(|level| if level > 0 { starts.next().unwrap_or_default() } else { 0 })
                .collect(),
        })
    }

    /// Those of `rows`, which are of one series, that are wanted.
    fn within(&self, rows: Range<u32>, wanted: &Wanted<'_>) -> Range<usize> {
        let (first, end) = (rows.start as usize, rows.end as usize);
        let offsets = &self.offsets[first..end];
        let upto = |time: i64| {
            let offset = time.saturating_sub(self.base);
            match u32::try_from(offset) {
                Ok(offset) => offsets.partition_point(|other| *other <= offset),
                Err(_) if offset < 0 => 0,
                Err(_) => offsets.len(),
            }
        };
        first + upto(wanted.after)..first + upto(wanted.until)
    }

    fn stretch(&self, rows: Range<usize>) -> Stretch<'_> {
        Stretch {
            base: self.base,
            offsets: &self.offsets[rows.clone()],
            values: &self.values[rows.clone()],
            starts: self.starts.get(rows).unwrap_or_default(),
        }
    }
}

/// The first millisecond of `times`, which are so many units each, and how much later each is.
fn offsets(times: &[i64], per_ms: i64) -> Option<(i64, Vec<u32>)> {
    let (first, last) = (times.iter().min()?, times.iter().max()?);
    let base = first.div_euclid(per_ms);
    u32::try_from(last.div_euclid(per_ms) - base).ok()?;
    let start = base * per_ms;
    // Division by a number known beforehand is a multiplication.
    let offsets = match per_ms {
        1000 => times.iter().map(|time| ((time - start) as u64 / 1000) as u32).collect(),
        _ => times.iter().map(|time| ((time - start) / per_ms) as u32).collect(),
    };
    Some((base, offsets))
}

#[cfg(test)]
mod tests;
