//! Running one SQL text over one session to its bounded answer.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;
use serde::Serialize;
use tokio::time::Instant;

use super::error::SqlError;
use super::warnings::Warnings;
use super::{guard, texts};

/// The rows that answer a question.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// What the reader should know: that rows were cut, say.
    pub warnings: Vec<String>,
    /// What it took.
    pub stats: Stats,
}

/// What a question took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Planning and running, in milliseconds.
    pub elapsed_ms: f64,
    /// Rows in the answer.
    pub rows: usize,
    /// Parquet files opened.
    pub files: usize,
    /// Bytes read from them.
    pub bytes: usize,
}

/// Plans and runs `text`, and keeps at most `rows` rows of what comes out.
pub(super) async fn collect(
    state: SessionState,
    text: String,
    params: Vec<ScalarValue>,
    rows: usize,
) -> Result<Answer, SqlError> {
    let started = Instant::now();
    let plan = physical(&state, &text, params).await.map_err(|error| error.or_at_end_of(&text))?;
    let warnings = Warnings::of(&state).map_or_else(Vec::new, |warnings| warnings.list());
    let schema = texts::plain(&plan.schema());
    let mut answer = Answer { schema, batches: Vec::new(), warnings, stats: Stats::default() };
    let context = Arc::new(TaskContext::from(&state));
    let held = MemoryConsumer::new("answer").register(context.memory_pool());
    let mut stream = execute_stream(Arc::clone(&plan), context)?;
    while let Some(batch) = stream.try_next().await? {
        let room = rows - answer.stats.rows;
        let taken = batch.slice(0, batch.num_rows().min(room));
        let taken = texts::as_typed(&taken, &answer.schema).map_err(DataFusionError::from)?;
        held.try_grow(taken.get_array_memory_size())?;
        answer.stats.rows += taken.num_rows();
        let cut = batch.num_rows() > room;
        if taken.num_rows() > 0 {
            answer.batches.push(taken);
        }
        if cut {
            answer.warnings.push(format!("cut after {rows} rows; add a LIMIT or aggregate"));
            break;
        }
    }
    drop(stream);
    (answer.stats.files, answer.stats.bytes) = read(&plan);
    answer.stats.elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
    Ok(answer)
}

async fn physical(
    state: &SessionState,
    text: &str,
    params: Vec<ScalarValue>,
) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(text, &dialect)?;
    guard::check_reads(&statement)?;
    let mut plan = state.statement_to_plan(statement).await?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)?;
    guard::check_plan(&plan)?;
    if !params.is_empty() {
        plan = plan.with_param_values(ParamValues::from(params))?;
    }
    Ok(state.create_physical_plan(&plan).await?)
}

/// Files opened and bytes read from them, over the whole plan.
fn read(plan: &Arc<dyn ExecutionPlan>) -> (usize, usize) {
    let own = plan.downcast_ref::<DataSourceExec>().map_or((0, 0), |scan| {
        let pieces = scan.data_source().downcast_ref::<FileScanConfig>().map(|scan| &scan.file_groups);
        let pieces = pieces.into_iter().flatten().flat_map(|group| group.iter());
        let files = pieces.map(|piece| piece.path()).collect::<HashSet<_>>().len();
        let bytes = scan.metrics().and_then(|metrics| metrics.sum_by_name("bytes_scanned"));
        (files, bytes.map_or(0, |bytes| bytes.as_usize()))
    });
    plan.children().into_iter().map(read).fold(own, |sum, child| (sum.0 + child.0, sum.1 + child.1))
}
