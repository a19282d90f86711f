//! DataFusion sessions: configured once, given the tables of one snapshot per query, and unable to reach
//! anything but the files of that snapshot.

use std::num::NonZeroUsize;
use std::sync::Arc;

use chrono::DateTime;
use datafusion::common::{ScalarValue, config_err};
use datafusion::error::Result;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use url::Url;
use weir_model::{Clock, limits};
use weir_storage::Snapshot;

use super::catalog::SnapshotCatalogs;
use super::error::SqlError;
use super::ids::JoinStoredIds;
use super::warnings::Warnings;
use super::{EngineOptions, functions, provider};

/// Functions that make much out of little, outside the memory bound; nothing here needs them.
const UNBOUNDED: &[&str] = &[
    "array_repeat",
    "array_resize",
    "gen_series",
    "generate_series",
    "list_repeat",
    "list_resize",
    "lpad",
    "range",
    "repeat",
    "rpad",
];

/// Partitions of a plan for each thread: the tables of a join are that much smaller, and nearer to the processor.
const PARTITIONS: usize = 2;

/// The only store there is: the files that a snapshot names.
#[derive(Debug)]
struct OnlyData(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for OnlyData {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if url.as_str().starts_with(provider::STORE.as_str()) {
            return Ok(Arc::clone(&self.0));
        }
        config_err!("queries read the data directory only, not `{url}`")
    }
}

/// The state that every session starts from.
pub(super) fn base(options: &EngineOptions) -> Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_target_partitions(options.threads.max(1) * PARTITIONS)
        .with_information_schema(true)
        .with_default_catalog_and_schema("weir", "public")
        .with_create_default_catalog_and_schema(false);
    let settings = config.options_mut();
    settings.sql_parser.collect_spans = true;
    settings.sql_parser.map_string_types_to_utf8view = false;
    settings.execution.time_zone = Some("UTC".into());
    settings.execution.enable_recursive_ctes = false;
    // Or the map of attributes would be made for rows that a filter then drops.
    settings.optimizer.enable_leaf_expression_pushdown = false;
    settings.optimizer.repartition_file_scans = false; // tables give files in pieces
    // A row group of ids is looked up in the other side one by one, which costs more than joining it.
    settings.optimizer.enable_join_dynamic_filter_pushdown = false;
    settings.execution.parquet.pushdown_filters = true;
    settings.execution.parquet.reorder_filters = true;

    let top = NonZeroUsize::MIN.saturating_add(2);
    let memory = TrackConsumersPool::new(GreedyMemoryPool::new(options.memory_bytes), top);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(memory))
        .with_metadata_cache_limit(limits::FILE_METADATA_BYTES)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .with_object_store_registry(Arc::new(OnlyData(Arc::new(LocalFileSystem::new()))))
        .build_arc()?;
    let mut rules = PhysicalOptimizer::new().rules;
    rules.insert(0, Arc::new(JoinStoredIds));
    let mut state = SessionStateBuilder::new()
        .with_default_features()
        .with_physical_optimizer_rules(rules)
        .with_config(config)
        .with_runtime_env(runtime)
        .build();
    let registry: &mut dyn datafusion::execution::FunctionRegistry = &mut state;
    for name in UNBOUNDED {
        registry.deregister_udf(name)?;
    }
    functions::register(registry)?;
    for name in ["generate_series", "range"] {
        state.deregister_udtf(name)?;
    }
    Ok(state)
}

/// A session state of its own, with `now()` fixed and no warnings yet.
pub(super) fn fresh(base: &SessionState, clock: &Clock) -> SessionState {
    let now = DateTime::from_timestamp_nanos(clock.now().0.min(i64::MAX as u64) as i64);
    let config = base.config().clone().with_extension(Arc::new(Warnings::default()));
    let mut state = SessionStateBuilder::new_from_existing(base.clone()).with_config(config).build();
    let props = state.execution_props().clone().with_query_execution_start_time(now);
    *state.execution_props_mut() = props;
    state
}

/// … that sees `snapshot`.
pub(super) fn over(base: &SessionState, clock: &Clock, snapshot: Snapshot) -> SessionState {
    let mut state = fresh(base, clock);
    let inner = state.clone();
    state.register_catalog_list(Arc::new(SnapshotCatalogs::new(snapshot, inner)));
    state
}

/// JSON values as the parameters `$1`, `$2`, …
pub(super) fn params(values: &[serde_json::Value]) -> Result<Vec<ScalarValue>, SqlError> {
    let scalar = |(index, value): (usize, &serde_json::Value)| match value {
        serde_json::Value::Null => Ok(ScalarValue::Null),
        serde_json::Value::Bool(value) => Ok(ScalarValue::Boolean(Some(*value))),
        serde_json::Value::String(value) => Ok(ScalarValue::Utf8(Some(value.clone()))),
        serde_json::Value::Number(number) => Ok(match number.as_i64() {
            Some(long) => ScalarValue::Int64(Some(long)),
            None => ScalarValue::Float64(number.as_f64()),
        }),
        _ => Err(SqlError::new("bad_parameter", format!("parameter ${} is an array or object", index + 1))
            .with_hint("a parameter is null, a boolean, a number or a text")),
    };
    values.iter().enumerate().map(scalar).collect()
}
