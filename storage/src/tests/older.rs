//! A directory from before a table got further columns.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use deltalake_core::ObjectStore;
use parquet::arrow::ArrowWriter;
use weir_model::{TenantId, UnixNanos};

use super::{NOON, batch, one, open, rows_of, times};
use crate::delta::{SyncedStore, TableLog};
use crate::files::{FileName, Kind};
use crate::health::Health;
use crate::{Bound, DataFile, Table};

/// Columns of `histograms` in the first version.
const COLUMNS: usize = 20;

#[tokio::test]
async fn histograms_without_float_counts_are_read_merged_and_joined_by_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await.unwrap();

    let root = dir.path().join("default/histograms");
    let staging = dir.path().join(".staging");
    fs::create_dir_all(root.join("date=2026-11-18")).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(SyncedStore::new(staging, Arc::<Health>::default()));
    let columns: Vec<usize> = (0..COLUMNS).collect();
    let schema = Table::Histograms.schema().project(&columns).unwrap();
    let mut log = TableLog::begin(Table::Histograms, &schema, &root, &store).await.unwrap();
    for number in 1..=7 {
        let count = number as i64;
        let rows = batch(
            Table::Histograms,
            1,
            &[
                ("metric", Arc::new(StringArray::from(vec!["x"]))),
                ("time", times(vec![NOON + count])),
                ("count", Arc::new(Int64Array::from(vec![count]))),
            ],
        );
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, Arc::new(schema.clone()), None).unwrap();
        writer.write(&rows.project(&columns).unwrap()).unwrap();
        writer.close().unwrap();
        let checksum = crc32c::crc32c(&bytes);
        let name = FileName { writes: (number, number), kind: Kind::Flushed, epoch: 1, checksum };
        let path = root.join("date=2026-11-18").join(name.to_string());
        fs::write(&path, &bytes).unwrap();
        let bounds = HashMap::from([("metric", (Bound::Text("x".into()), Bound::Text("x".into())))]);
        let size = bytes.len() as u64;
        let file = DataFile { path, size, rows: 1, date: 20_775, bounds: Arc::new(bounds) };
        log.append(&[file], number, UnixNanos(NOON as u64 * 1000)).await.unwrap();
    }

    let storage = open(dir.path()).await;
    let rows = batch(
        Table::Histograms,
        1,
        &[
            ("metric", Arc::new(StringArray::from(vec!["x"]))),
            ("time", times(vec![NOON])),
            ("count_float", Arc::new(Float64Array::from(vec![0.5]))),
        ],
    );
    storage.writer().write(one(Table::Histograms, rows)).await.unwrap();
    storage.flush().await.unwrap();
    storage.compact().await.unwrap(); // if the background has not done so already
    storage.close().await.unwrap();

    let storage = open(dir.path()).await;
    let rows = rows_of(&storage.snapshot(&TenantId::default()), Table::Histograms);
    assert_eq!(rows.len(), 1, "one file");
    let counts = rows[0].column_by_name("count").unwrap().as_primitive::<Int64Type>();
    assert_eq!(counts.values().to_vec(), [0, 1, 2, 3, 4, 5, 6, 7], "in order of time");
    let floats = rows[0].column_by_name("count_float").unwrap().as_primitive::<Float64Type>();
    assert_eq!((floats.value(0), floats.null_count()), (0.5, 7));
    // Others see the columns, too.
    let log = fs::read_dir(root.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    let text: String = log.filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert_eq!(text.matches("ADD COLUMN").count(), 1, "{text}");
    storage.close().await.unwrap();
}
