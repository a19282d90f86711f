//! The Delta log of one table: which files there are, and up to which write the log has been flushed.
//!
//! One committer a table, held by whoever flushes. Each commit goes on from the state that the last one
//! returned, because the same application id on an older state conflicts even with itself. The flushed
//! position travels in the commit itself (`txn` with the application id [`APP_ID`]), so files and position
//! cannot disagree.

mod store;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{
    Action, Add, DataType, PrimitiveType, Remove, StructField, StructType, Transaction,
};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableBuilder, DeltaTableError, ObjectStore};
use url::Url;
use weir_model::{UnixNanos, limits};

use crate::{DataFile, Table, files, stats};

pub(crate) use store::SyncedStore;

/// Under which name the position in the write-ahead log is kept.
pub(crate) const APP_ID: &str = "weir-wal";

/// Commits between checkpoints.
const CHECKPOINT_INTERVAL: &str = "100";
/// How long commits behind a checkpoint are kept: time travel of a day.
const LOG_RETENTION: &str = "interval 1 days";

/// What putting files in the place of others does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// They are the same.
    Merge,
    /// They are gone.
    Drop,
    /// Some are gone, others weigh more.
    Sample,
}

/// The open log of one table.
pub(crate) struct TableLog {
    table: Table,
    root: PathBuf,
    log_store: LogStoreRef,
    state: DeltaTableState,
    /// The write up to which rows are in files.
    pub(crate) through: u64,
    /// The files of the current version.
    pub(crate) files: Arc<[DataFile]>,
}

impl TableLog {
    /// The log in the folder `root`, or `None` where none has been begun.
    pub(crate) async fn load(
        table: Table,
        root: &Path,
        store: &Arc<dyn ObjectStore>,
    ) -> DeltaResult<Option<Self>> {
        let mut delta = builder(root, store)?.build()?;
        if !root.join("_delta_log").is_dir() || !delta.verify_deltatable_existence().await? {
            return Ok(None);
        }
        delta.load().await?;
        let delta = with_all_columns(table, delta).await?;
        Self::of(table, root, &delta).await.map(Some)
    }

    /// Begins a log in the folder `root`.
    pub(crate) async fn create(table: Table, root: &Path, store: &Arc<dyn ObjectStore>) -> DeltaResult<Self> {
        Self::begin(table, &table.schema(), root, store).await
    }

    /// Begins a log of rows with the columns of `schema`.
    pub(crate) async fn begin(
        table: Table,
        schema: &Schema,
        root: &Path,
        store: &Arc<dyn ObjectStore>,
    ) -> DeltaResult<Self> {
        let schema: StructType = schema.try_into_kernel()?;
        let date = StructField::new("date", DataType::Primitive(PrimitiveType::Date), false);
        let columns: Vec<StructField> = schema.fields().cloned().chain([date]).collect();
        let delta = builder(root, store)?
            .build()?
            .create()
            .with_table_name(table.name())
            .with_columns(columns)
            .with_partition_columns(["date"])
            .with_configuration([
                ("delta.checkpointInterval", Some(CHECKPOINT_INTERVAL)),
                ("delta.logRetentionDuration", Some(LOG_RETENTION)),
                ("delta.dataSkippingStatsColumns", Some(table.stats_columns().join(",").as_str())),
            ])
            .await?;
        Self::of(table, root, &delta).await
    }

    async fn of(table: Table, root: &Path, delta: &DeltaTable) -> DeltaResult<Self> {
        let log_store = delta.log_store();
        let state = delta.snapshot()?.clone();
        let through = state.transaction_version(log_store.as_ref(), APP_ID).await?.unwrap_or(0);
        let through = u64::try_from(through).unwrap_or(0);
        let files = files_of(table, root, &state)?.into();
        Ok(Self { table, root: root.to_owned(), log_store, state, through, files })
    }

    /// Commits `new` files and that all writes up to `through` are in files now.
    ///
    /// An error does not tell whether the commit happened: load the log again to know.
    pub(crate) async fn append(&mut self, new: &[DataFile], through: u64, now: UnixNanos) -> DeltaResult<()> {
        let mut actions = Vec::with_capacity(new.len());
        for file in new {
            actions.push(Action::Add(self.add(file, now)?));
        }
        let version = i64::try_from(through).map_err(|e| DeltaTableError::generic(e.to_string()))?;
        let properties =
            CommitProperties::default().with_create_checkpoint(true).with_application_transaction(
                Transaction::new_with_last_update(APP_ID, version, Some(now.as_millis())),
            );
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec!["date".to_owned()]),
            predicate: None,
        };
        let before = self.state.version();
        let commit = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(&self.state), Arc::clone(&self.log_store), operation)
            .await?;
        self.state = commit.snapshot();
        self.through = through;
        self.files = if commit.version() == before + 1 {
            self.files.iter().chain(new).cloned().collect()
        } else {
            // Somebody else committed in between: theirs count too.
            files_of(self.table, &self.root, &self.state)?.into()
        };
        Ok(())
    }

    /// Commits that `new` files are in the place of `old` ones.
    ///
    /// An error does not tell whether the commit happened: load the log again to know.
    pub(crate) async fn replace(
        &mut self,
        old: &[DataFile],
        new: &[DataFile],
        change: Change,
        now: UnixNanos,
    ) -> DeltaResult<()> {
        let data_change = change != Change::Merge;
        let mut actions = Vec::with_capacity(old.len() + new.len());
        for file in old {
            let Add { path, partition_values, size, .. } = self.add(file, now)?;
            actions.push(Action::Remove(Remove {
                path,
                data_change,
                deletion_timestamp: Some(now.as_millis()),
                extended_file_metadata: Some(true),
                partition_values: Some(partition_values),
                size: Some(size),
                ..Default::default()
            }));
        }
        for file in new {
            actions.push(Action::Add(Add { data_change, ..self.add(file, now)? }));
        }
        let operation = match change {
            Change::Merge => {
                DeltaOperation::Optimize { predicate: None, target_size: limits::COMPACTED_FILE_BYTES as i64 }
            }
            Change::Drop => DeltaOperation::Delete { predicate: None },
            Change::Sample => DeltaOperation::Update { predicate: None },
        };
        let commit = CommitBuilder::from(CommitProperties::default().with_create_checkpoint(true))
            .with_actions(actions)
            .build(Some(&self.state), Arc::clone(&self.log_store), operation)
            .await?;
        self.state = commit.snapshot();
        self.files = files_of(self.table, &self.root, &self.state)?.into();
        Ok(())
    }

    fn add(&self, file: &DataFile, now: UnixNanos) -> DeltaResult<Add> {
        let path = file.path.strip_prefix(&self.root).map_err(|e| DeltaTableError::generic(e.to_string()))?;
        let date = files::date_text(file.date);
        Ok(Add {
            path: path.to_string_lossy().into_owned(),
            partition_values: HashMap::from([("date".to_owned(), Some(date))]),
            size: i64::try_from(file.size).map_err(|e| DeltaTableError::generic(e.to_string()))?,
            modification_time: now.as_millis(),
            data_change: true,
            stats: Some(stats::to_delta(self.table, file.rows, &file.bounds)),
            ..Default::default()
        })
    }
}

/// The table with the columns that have been added since its log was begun: older files have no value there.
async fn with_all_columns(table: Table, delta: DeltaTable) -> DeltaResult<DeltaTable> {
    let schema: StructType = table.schema().as_ref().try_into_kernel()?;
    let there = delta.snapshot()?.schema();
    let added: Vec<StructField> =
        schema.fields().filter(|field| there.field(field.name()).is_none()).cloned().collect();
    if added.is_empty() {
        return Ok(delta);
    }
    delta.add_columns().with_fields(added).await
}

fn builder(root: &Path, store: &Arc<dyn ObjectStore>) -> DeltaResult<DeltaTableBuilder> {
    let url = Url::from_directory_path(root)
        .map_err(|()| DeltaTableError::generic(format!("`{}` is no absolute path", root.display())))?;
    Ok(DeltaTableBuilder::from_url(url.clone())?.with_storage_backend(Arc::clone(store), url))
}

/// The files of a version of the log.
fn files_of(table: Table, root: &Path, state: &DeltaTableState) -> DeltaResult<Vec<DataFile>> {
    let mut files = Vec::with_capacity(state.log_data().num_files());
    for view in state.log_data().iter() {
        let path = root.join(view.path().as_ref());
        let missing = |what: &str| {
            DeltaTableError::generic(format!("the log tells no {what} of the file `{}`", path.display()))
        };
        let partition = view.partition_values_map();
        let date = partition.get("date").and_then(Option::as_deref).and_then(files::date_of);
        let (rows, bounds) = stats::from_delta(table, &view.stats().unwrap_or_default());
        files.push(DataFile {
            size: u64::try_from(view.size()).map_err(|_| missing("size"))?,
            rows: rows.ok_or_else(|| missing("number of rows"))?,
            date: date.ok_or_else(|| missing("date"))?,
            bounds,
            path,
        });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests;
