//! Findings that an earlier run left open: it can no longer close them, so this one does.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int16Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{cast, concat_batches};
use arrow::error::ArrowError;
use weir_model::{Clock, TenantId, UnixNanos, limits};
use weir_storage::{Storage, Table};

use crate::analysis::FindingState;
use crate::engine::{Answer, Engine, EngineError, EngineOptions, SqlError, SqlQuery};

/// How many days back findings are looked for.
const DAYS: u32 = 30;
/// Memory for the question.
const MEMORY_BYTES: usize = 256 << 20;
/// Why they are over, for a person.
const REASON: &str = "the analysis was restarted and judges anew";

/// Why earlier findings stay as they are.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestartError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error("cannot make rows of `findings`: {0}")]
    Rows(#[from] ArrowError),
}

/// A row of `findings` that resolves each finding which a run before `epoch` left open.
pub(super) async fn resolved(
    storage: &Storage,
    tenant: &TenantId,
    clock: &Clock,
) -> Result<RecordBatch, RestartError> {
    let options = EngineOptions {
        threads: 1,
        queries: 1,
        memory_bytes: MEMORY_BYTES,
        rows: limits::LIVE_EVENTS,
        ..EngineOptions::new(clock.clone())
    };
    let engine = Engine::new(storage.clone(), options)?;
    let text = format!(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY time DESC) AS place \
         FROM findings WHERE time >= now() - INTERVAL '{DAYS}' DAY) \
         WHERE place = 1 AND state <> 'resolved' AND id NOT LIKE 'f-{}-%' ORDER BY id",
        storage.epoch()
    );
    let answer = engine.sql(tenant, &SqlQuery::new(text)).await?;
    Ok(as_resolved(&answer, clock.now())?)
}

/// The answer's rows as rows of `findings` that say that they are over.
fn as_resolved(answer: &Answer, now: UnixNanos) -> Result<RecordBatch, ArrowError> {
    let open = concat_batches(&answer.schema, &answer.batches)?;
    let rows = open.num_rows();
    let (micros, nanos) = now.to_columns();
    let repeated = |text: &str| Arc::new(StringArray::from(vec![text; rows])) as ArrayRef;
    let schema = Table::Findings.schema();
    let columns = schema.fields().iter().map(|field| {
        Ok(match field.name().as_str() {
            "time" => {
                Arc::new(TimestampMicrosecondArray::from(vec![micros; rows]).with_timezone("UTC")) as ArrayRef
            }
            "time_nanos" => Arc::new(Int16Array::from(vec![nanos; rows])),
            "state" => repeated(FindingState::Resolved.name()),
            "message" => repeated(REASON),
            name => match open.column_by_name(name) {
                Some(column) => cast(column, field.data_type())?,
                None => new_null_array(field.data_type(), rows),
            },
        })
    });
    let columns = columns.collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_new(schema, columns)
}
