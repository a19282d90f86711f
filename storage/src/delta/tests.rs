//! The log of a table: readable JSON, with the position beside the files, through checkpoints and clean-up.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deltalake_core::ObjectStore;
use object_store::path::Path as Location;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde_json::Value;
use weir_model::UnixNanos;

use super::{APP_ID, SyncedStore, TableLog};
use crate::health::Health;
use crate::{Bound, DataFile, Table};

const NOW: UnixNanos = UnixNanos(1_795_000_000_000_000_000);

fn store(dir: &Path) -> Arc<dyn ObjectStore> {
    let staging = dir.join("staging");
    fs::create_dir_all(&staging).unwrap();
    Arc::new(SyncedStore::new(staging, Arc::<Health>::default()))
}

/// A file as a flush up to `through` would have written it.
fn file(root: &Path, through: u64) -> DataFile {
    let micros = 1_795_000_000_123_456 + through as i64;
    let bounds = HashMap::from([
        ("metric", (Bound::Text("a\"ü".into()), Bound::Text("z".into()))),
        ("series_id", (Bound::Long(i64::MIN), Bound::Long(i64::MAX - 1))),
        ("time", (Bound::Micros(-5), Bound::Micros(micros))),
    ]);
    DataFile {
        path: root.join("date=2026-11-18").join(crate::files::FileName::flushed(through, 1)),
        size: 1_000 + through,
        rows: through,
        date: 20_775,
        bounds: Arc::new(bounds),
    }
}

fn entries(root: &Path, version: u64) -> Vec<Value> {
    let text = fs::read_to_string(root.join(format!("_delta_log/{version:020}.json"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn action<'a>(entries: &'a [Value], name: &str) -> &'a Value {
    entries.iter().find_map(|entry| entry.get(name)).unwrap_or_else(|| panic!("no `{name}` in {entries:?}"))
}

fn names(root: &Path, ending: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(root.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths
}

fn same(a: &[DataFile], b: &[DataFile]) {
    let key = |file: &DataFile| (file.path.clone(), file.size, file.rows, file.date);
    assert_eq!(a.iter().map(key).collect::<Vec<_>>(), b.iter().map(key).collect::<Vec<_>>());
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.bounds, b.bounds, "{}", a.path.display());
    }
}

#[tokio::test]
async fn the_log_is_plain_delta_and_carries_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let (root, store) = (dir.path().join("samples"), store(dir.path()));
    assert!(TableLog::load(Table::Samples, &root, &store).await.unwrap().is_none());
    let mut log = TableLog::create(Table::Samples, &root, &store).await.unwrap();
    assert_eq!((log.through, log.files.len()), (0, 0));
    log.append(&[file(&root, 41), file(&root, 42)], 42, NOW).await.unwrap();

    let first = entries(&root, 0);
    let metadata = action(&first, "metaData");
    assert_eq!(metadata["partitionColumns"], serde_json::json!(["date"]));
    assert_eq!(metadata["configuration"]["delta.checkpointInterval"], "100");
    let second = entries(&root, 1);
    let txn = action(&second, "txn");
    assert_eq!((&txn["appId"], &txn["version"]), (&Value::from(APP_ID), &Value::from(42)));
    let add = action(&second, "add");
    assert_eq!(add["path"], format!("date=2026-11-18/{}", crate::files::FileName::flushed(41, 1)));
    assert_eq!(add["partitionValues"]["date"], "2026-11-18");
    assert_eq!(add["modificationTime"], NOW.as_millis());
    assert_eq!(second.iter().filter(|entry| entry.get("add").is_some()).count(), 2);
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);

    let again = TableLog::load(Table::Samples, &root, &store).await.unwrap().unwrap();
    assert_eq!(again.through, 42);
    same(&again.files, &log.files);
    same(&again.files, &[file(&root, 41), file(&root, 42)]);
}

#[tokio::test]
async fn a_folder_without_commits_is_no_table_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (root, store) = (dir.path().join("samples"), store(dir.path()));
    fs::create_dir_all(root.join("_delta_log")).unwrap();
    assert!(TableLog::load(Table::Samples, &root, &store).await.unwrap().is_none());
    TableLog::create(Table::Samples, &root, &store).await.unwrap();
    assert!(TableLog::load(Table::Samples, &root, &store).await.unwrap().is_some());
}

#[tokio::test]
async fn a_log_that_others_moved_on_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, store) = (dir.path().join("samples"), store(dir.path()));
    let mut log = TableLog::create(Table::Samples, &root, &store).await.unwrap();
    let mut stale = TableLog::load(Table::Samples, &root, &store).await.unwrap().unwrap();
    log.append(&[file(&root, 1)], 1, NOW).await.unwrap();
    // Two flushers of one table would commit the same rows: the second conflicts instead.
    assert!(stale.append(&[file(&root, 1)], 1, NOW).await.is_err());
    let mut fresh = TableLog::load(Table::Samples, &root, &store).await.unwrap().unwrap();
    assert_eq!(fresh.through, 1);
    fresh.append(&[file(&root, 2)], 2, NOW).await.unwrap();
    let again = TableLog::load(Table::Samples, &root, &store).await.unwrap().unwrap();
    same(&again.files, &[file(&root, 1), file(&root, 2)]);
}

#[tokio::test]
async fn files_and_position_survive_checkpoints_and_the_cleaning_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (root, store) = (dir.path().join("samples"), store(dir.path()));
    let mut log = TableLog::create(Table::Samples, &root, &store).await.unwrap();
    let commits = |n: u64| (n..n + 100).map(|through| (through, file(&root, through)));
    for (through, file) in commits(1) {
        log.append(&[file], through, NOW).await.unwrap();
    }
    assert_eq!(names(&root, ".checkpoint.parquet").len(), 1);
    assert!(root.join("_delta_log/_last_checkpoint").exists());
    let again = TableLog::load(Table::Samples, &root, &store).await.unwrap().unwrap();
    assert_eq!(again.through, 100);
    let expected: Vec<_> = commits(1).map(|(_, file)| file).collect();
    same(&again.files, &expected);

    // Two days on, what the first checkpoint holds needs no commits any more.
    let past = SystemTime::now() - Duration::from_secs(2 * 86_400);
    for path in names(&root, ".json").into_iter().chain(names(&root, ".checkpoint.parquet")) {
        fs::File::options().write(true).open(path).unwrap().set_modified(past).unwrap();
    }
    let mut log = again;
    for (through, file) in commits(101) {
        log.append(&[file], through, NOW).await.unwrap();
    }
    let commits_left = names(&root, ".json");
    assert!(commits_left.len() < 202, "{} commits are kept", commits_left.len());
    assert!(!root.join("_delta_log/00000000000000000000.json").exists());
    let again = TableLog::load(Table::Samples, &root, &store).await.unwrap().unwrap();
    assert_eq!(again.through, 200);
    let expected: Vec<_> = (1..=200).map(|through| file(&root, through)).collect();
    same(&again.files, &expected);
}

#[tokio::test]
async fn objects_are_created_once_replaced_whole_and_leave_nothing_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let path = dir.path().canonicalize().unwrap().join("a/new/folder/object");
    let at = Location::from_absolute_path(&path).unwrap();
    let put = |text: &'static str, mode| store.put_opts(&at, PutPayload::from(text), PutOptions::from(mode));
    put("one", PutMode::Create).await.unwrap();
    assert!(matches!(put("two", PutMode::Create).await, Err(Error::AlreadyExists { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    put("three", PutMode::Overwrite).await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "three");

    let mut upload = store.put_multipart(&at).await.unwrap();
    let parts = [upload.put_part("four,".into()), upload.put_part("five".into())];
    for part in parts.into_iter().rev() {
        part.await.unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "three", "an upload is not seen before it is whole");
    upload.complete().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "four,five");
    let mut upload = store.put_multipart(&at).await.unwrap();
    upload.put_part("six".into()).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "four,five");
    assert_eq!(fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
}
