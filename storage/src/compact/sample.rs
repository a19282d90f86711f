//! Tail sampling: of a day that is over, traces that are out of the ordinary stay, and a share of the others.
//!
//! A trace is out of the ordinary where one of its spans failed, was slow, or is of a rare operation ([`Sampling`]).
//! All files of the day are asked, so that a trace stays or goes as a whole whichever files its spans are in;
//! one that crosses midnight is judged on either day by what is there. Whether an ordinary trace stays is told by a
//! hash of its id: the same at whatever time it is asked. Spans that stay for the others weigh more
//! (`sample_weight`), so that sums over weights are what they were. A file that was sampled is called so and is not
//! sampled again. `edges`, samples and exemplars are as they were: they have been counted before.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use weir_model::{Sketch, TenantId, limits};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::today;
use crate::delta::Change;
use crate::files::{self, FileName, FileWriter, Kind};
use crate::lock::STAGING;
use crate::sampling::{Sampling, Slow};
use crate::shared::Shared;
use crate::{DataFile, FlushError, Table};

/// The number of `error` among OTLP's statuses.
const ERROR: i32 = 2;
/// The first HTTP status that tells of a server's failure.
const SERVER_ERROR: i64 = 500;
/// Mixed into the hash of trace ids: whoever sampled before by the id itself must not have chosen for us.
const SEED: u64 = 0x7765_6972;

/// A day of one tenant's spans.
struct Job {
    tenant: TenantId,
    root: PathBuf,
    staging: PathBuf,
    epoch: u64,
    sampling: Sampling,
    /// All files of the day.
    all: Vec<DataFile>,
    /// Those that have not been sampled.
    inputs: Vec<DataFile>,
}

/// What a day has come to: each input, and what stays of it if anything does.
type Sampled = Vec<(DataFile, Option<DataFile>)>;

/// Samples every day that is over and has files that were not; returns how many rows went.
pub(crate) async fn sample(shared: &Arc<Shared>) -> Result<u64, FlushError> {
    // In a task of its own: whoever loses interest must not leave a commit half known.
    let task = Arc::clone(shared);
    let sampling = tokio::spawn(async move {
        let _alone = task.compacting.lock().await;
        let mut dropped = 0;
        for job in jobs(&task).await? {
            dropped += sample_day(&task, job).await?;
        }
        Ok(dropped)
    });
    sampling.await.unwrap_or_else(|e| Err(FlushError::Stopped(format!("sampling ended early: {e}"))))
}

async fn jobs(shared: &Shared) -> Result<Vec<Job>, FlushError> {
    let flusher = shared.flusher.lock().await;
    let open = flusher.as_ref().ok_or_else(|| FlushError::Stopped("it is closed".to_owned()))?;
    let today = today(shared);
    let mut jobs = Vec::new();
    for ((tenant, table), log) in &open.logs {
        let sampling = shared.samplings.of(tenant);
        if *table != Table::Spans || !sampling.is_on() {
            continue;
        }
        let is_raw =
            |file: &&DataFile| FileName::of(&file.path).is_some_and(|name| name.kind != Kind::Sampled);
        let over = log.files.iter().filter(|file| file.date < today);
        let days: HashSet<i32> = over.filter(is_raw).map(|file| file.date).collect();
        for day in days {
            let all: Vec<DataFile> = log.files.iter().filter(|file| file.date == day).cloned().collect();
            jobs.push(Job {
                tenant: tenant.clone(),
                root: open.root(tenant, *table),
                staging: open.lock.dir.join(STAGING),
                epoch: open.lock.epoch,
                sampling,
                inputs: all.iter().filter(is_raw).cloned().collect(),
                all,
            });
        }
    }
    Ok(jobs)
}

async fn sample_day(shared: &Arc<Shared>, job: Job) -> Result<u64, FlushError> {
    let table = Table::Spans;
    let task = Arc::clone(shared);
    let working = tokio::task::spawn_blocking(move || {
        let checked = task.integrity.check(job.all.clone());
        let checked = checked.map_err(|source| FlushError::File { table, source })?;
        let sampled = if checked.damaged.is_empty() { day(&job)? } else { None };
        Ok((job, sampled, checked.damaged.is_empty()))
    });
    let (job, sampled, is_sound) =
        working.await.map_err(|e| FlushError::Encode { table, reason: e.to_string() })??;
    if !is_sound {
        crate::integrity::set_aside(shared).await?; // the day is sampled without them next time
    }
    match sampled {
        Some(sampled) => commit(shared, &job, sampled).await,
        None => Ok(0),
    }
}

/// Puts what stays of a day in the place of what there was, in one commit.
async fn commit(shared: &Shared, job: &Job, sampled: Sampled) -> Result<u64, FlushError> {
    let (inputs, outputs): (Vec<_>, Vec<_>) = sampled.into_iter().unzip();
    let outputs: Vec<DataFile> = outputs.into_iter().flatten().collect();
    let mut flusher = shared.flusher.lock().await;
    let open = flusher.as_mut().ok_or_else(|| FlushError::Stopped("it is closed".to_owned()))?;
    let key = (job.tenant.clone(), Table::Spans);
    if !open.exchange(shared, &key, &inputs, &outputs, Change::Sample).await? {
        return Ok(0);
    }
    drop(flusher);
    let rows = |files: &[DataFile]| files.iter().map(|file| file.rows).sum::<u64>();
    let (before, after) = (rows(&inputs), rows(&outputs));
    shared.metrics.sampled_rows.add(before);
    shared.metrics.sampled_out_rows.add(before - after);
    tracing::info!(tenant = %job.tenant, day = inputs[0].day(), before, after, "the spans of a day were sampled");
    Ok(before - after)
}

/// Samples the inputs of `job`; nothing where the day has too much that is out of the ordinary to tell it apart.
fn day(job: &Job) -> Result<Option<Sampled>, FlushError> {
    let failed = |e| files::failure(Table::Spans, e);
    let Some(operations) = operations(&job.all).map_err(failed)? else {
        tracing::warn!(tenant = %job.tenant, limit = limits::SAMPLED_OPERATIONS, "a day has too many operations to be sampled");
        return Ok(None);
    };
    let Some(wanted) = wanted(&job.all, job.sampling, &operations).map_err(failed)? else {
        tracing::warn!(tenant = %job.tenant, limit = limits::SAMPLED_TRACES, "a day has too many traces out of the ordinary to be sampled");
        return Ok(None);
    };
    let mut sampled: Sampled = Vec::with_capacity(job.inputs.len());
    for input in &job.inputs {
        match sample_file(job, input, &wanted) {
            Ok(output) => sampled.push((input.clone(), output)),
            Err(e) => {
                for (_, output) in sampled {
                    let _ = output.map(|file| fs::remove_file(&file.path)); // a sweep removes it else
                }
                return Err(e);
            }
        }
    }
    Ok(Some(sampled))
}

/// Weights and latencies of one operation's spans.
#[derive(Debug, Default)]
struct Operation {
    spans: f64,
    latency: Sketch,
}

/// What tells one operation from another: service and name, and the two ends of the edge where a proxy said so.
type OperationKey = (String, String, String, String);

/// What the operations of a day are like; nothing where there are too many.
fn operations(all: &[DataFile]) -> Result<Option<HashMap<OperationKey, Operation>>, ParquetError> {
    let mut operations: HashMap<OperationKey, Operation> = HashMap::new();
    for file in all {
        for_each(file, |columns, rows| {
            let operation = operations.entry(columns.operation(rows.start)).or_default();
            for row in rows {
                let weight = columns.weight.value(row);
                operation.spans += weight;
                operation.latency.record_many(columns.seconds(row), weight.round().max(1.0) as u64);
            }
        })?;
        if operations.len() > limits::SAMPLED_OPERATIONS {
            return Ok(None);
        }
    }
    Ok(Some(operations))
}

/// Hashes of the traces that are out of the ordinary; nothing where there are too many.
fn wanted(
    all: &[DataFile],
    sampling: Sampling,
    operations: &HashMap<OperationKey, Operation>,
) -> Result<Option<HashSet<u64>>, ParquetError> {
    let slow_from = |operation: &Operation| match sampling.slow {
        Slow::From(least) => least.as_secs_f64(),
        // The end of the bucket that the quantile is in: what is beyond it is slower for certain.
        Slow::Quantile(quantile) if quantile < 1.0 => {
            let of_quantile = operation.latency.quantile(quantile).unwrap_or(f64::INFINITY);
            if of_quantile > 0.0 {
                Sketch::upper_bound(Sketch::index_of(of_quantile)).next_up()
            } else {
                f64::MIN_POSITIVE
            }
        }
        Slow::Quantile(_) => f64::INFINITY,
    };
    let limits: HashMap<&OperationKey, (bool, f64)> = operations
        .iter()
        .map(|(key, operation)| (key, (operation.spans < sampling.rare as f64, slow_from(operation))))
        .collect();
    let mut wanted = HashSet::new();
    for file in all {
        for_each(file, |columns, rows| {
            let (is_rare, slow_from) =
                limits.get(&columns.operation(rows.start)).copied().unwrap_or((true, 0.0));
            for row in rows {
                if is_rare || columns.seconds(row) >= slow_from || columns.is_failed(row) {
                    wanted.insert(hash(columns.trace.value(row)));
                }
            }
        })?;
        if wanted.len() > limits::SAMPLED_TRACES {
            return Ok(None);
        }
    }
    Ok(Some(wanted))
}

fn hash(trace: &[u8]) -> u64 {
    xxh3_64_with_seed(trace, SEED)
}

/// Writes what stays of `input` beside it.
fn sample_file(job: &Job, input: &DataFile, wanted: &HashSet<u64>) -> Result<Option<DataFile>, FlushError> {
    let table = Table::Spans;
    let (date, epoch) = (input.date, job.epoch);
    let Some(FileName { writes, .. }) = FileName::of(&input.path) else { return Ok(Some(input.clone())) };
    let staged = format!("{}-{date}-sampled-{:020}-{:020}-{epoch}.parquet", table.name(), writes.0, writes.1);
    let staged = job.staging.join(staged);
    let written = write(input, job.sampling.rate, wanted, &staged).map_err(|e| files::failure(table, e));
    let placed = written.and_then(|finished| {
        let Some(finished) = finished else { return Ok(None) };
        let name = FileName { writes, kind: Kind::Sampled, epoch, checksum: finished.checksum };
        files::place(table, &job.root, date, name, &staged, finished).map(Some)
    });
    if !matches!(placed, Ok(Some(_))) {
        let _ = fs::remove_file(&staged); // it may never have been made; the next open empties the folder
    }
    placed
}

fn write(
    input: &DataFile,
    rate: f64,
    wanted: &HashSet<u64>,
    staged: &Path,
) -> Result<Option<files::Finished>, ParquetError> {
    let rows = usize::try_from(input.rows).unwrap_or(usize::MAX);
    let mut writer = FileWriter::create(Table::Spans, staged, rows)?;
    let mut kept = 0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(&input.path)?)?.build()? {
        let batch = thinned(&batch?, rate, wanted)?;
        if batch.num_rows() > 0 {
            kept += batch.num_rows();
            writer.write(&batch)?;
        }
    }
    if kept == 0 { Ok(None) } else { writer.finish().map(Some) }
}

/// The rows of `batch` that stay, with their weights.
fn thinned(batch: &RecordBatch, rate: f64, wanted: &HashSet<u64>) -> Result<RecordBatch, ArrowError> {
    let columns = Columns::of(batch)?;
    // Hashes are spread evenly over 64 bits.
    let bound = (rate * u64::MAX as f64) as u64;
    let mut stays = Vec::with_capacity(batch.num_rows());
    let mut weights = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let hash = hash(columns.trace.value(row));
        let is_wanted = wanted.contains(&hash);
        stays.push(is_wanted || hash <= bound);
        weights.push(if is_wanted { columns.weight.value(row) } else { columns.weight.value(row) / rate });
    }
    let weights: ArrayRef = Arc::new(Float64Array::from(weights));
    let mut all = batch.columns().to_vec();
    all[batch.schema_ref().index_of("sample_weight")?] = weights;
    filter_record_batch(&RecordBatch::try_new(batch.schema(), all)?, &BooleanArray::from(stays))
}

/// The columns that decide.
const DECIDING: [&str; 9] = [
    "trace_id",
    "service",
    "name",
    "duration_ns",
    "status",
    "http_status",
    "client",
    "server",
    "sample_weight",
];

/// Goes through the deciding columns of a file, by rows of one operation that follow each other.
fn for_each(file: &DataFile, mut visit: impl FnMut(&Columns<'_>, Range<usize>)) -> Result<(), ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&file.path)?)?;
    let columns = ProjectionMask::columns(builder.parquet_schema(), DECIDING);
    for batch in builder.with_projection(columns).build()? {
        let batch = batch?;
        let columns = Columns::of(&batch)?;
        let mut start = 0;
        for end in 1..=batch.num_rows() {
            if end == batch.num_rows() || !columns.are_alike(start, end) {
                visit(&columns, start..end);
                start = end;
            }
        }
    }
    Ok(())
}

struct Columns<'a> {
    trace: &'a BinaryArray,
    service: &'a StringArray,
    name: &'a StringArray,
    client: &'a StringArray,
    server: &'a StringArray,
    duration: &'a Int64Array,
    status: &'a Int32Array,
    http_status: &'a Int64Array,
    weight: &'a Float64Array,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let missing = |name: &str| ArrowError::SchemaError(format!("no column `{name}` of its type"));
        let text = |name: &str| {
            batch.column_by_name(name).and_then(|column| column.as_string_opt()).ok_or_else(|| missing(name))
        };
        let long = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.ok_or_else(|| missing(name))
        };
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        Ok(Self {
            trace: column("trace_id")?.as_binary_opt().ok_or_else(|| missing("trace_id"))?,
            service: text("service")?,
            name: text("name")?,
            client: text("client")?,
            server: text("server")?,
            duration: long("duration_ns")?,
            status: column("status")?.as_primitive_opt::<Int32Type>().ok_or_else(|| missing("status"))?,
            http_status: long("http_status")?,
            weight: column("sample_weight")?
                .as_primitive_opt::<Float64Type>()
                .ok_or_else(|| missing("sample_weight"))?,
        })
    }

    fn operation(&self, row: usize) -> OperationKey {
        let [service, name, client, server] = self.parts(row).map(str::to_owned);
        (service, name, client, server)
    }

    /// Whether two rows are of one operation.
    fn are_alike(&self, a: usize, b: usize) -> bool {
        self.parts(a) == self.parts(b)
    }

    fn parts(&self, row: usize) -> [&str; 4] {
        let of = |column: &'a StringArray| if column.is_null(row) { "" } else { column.value(row) };
        [self.service, self.name, self.client, self.server].map(of)
    }

    fn seconds(&self, row: usize) -> f64 {
        self.duration.value(row) as f64 / 1e9
    }

    fn is_failed(&self, row: usize) -> bool {
        let is_refused = self.http_status.is_valid(row) && self.http_status.value(row) >= SERVER_ERROR;
        self.status.value(row) == ERROR || is_refused
    }
}

#[cfg(test)]
mod tests;
