//! What the door lets in.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use weir_model::TenantId;

use super::{Acked, MICROS, WriteBatch, check};
use crate::tests::{batch, one, open, samples, seen, spans, times};
use crate::{Table, WriteError};

fn refusal(table: Table, rows: &RecordBatch) -> String {
    match check(table, rows) {
        Err(WriteError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_of_another_shape_are_refused_by_name() {
    assert_eq!(
        refusal(Table::Spans, &samples(0..1)),
        "rows of `spans` have column `metric` where `trace_id` should be"
    );
    let part = samples(0..1).project(&[0, 1]).unwrap();
    assert_eq!(refusal(Table::Samples, &part), "rows of `samples` have 2 columns instead of 8");
    let mut fields: Vec<Field> =
        Table::Samples.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields[6] = Field::new("value", DataType::Int64, false);
    let mut columns = samples(0..1).columns().to_vec();
    columns[6] = Arc::new(Int64Array::from(vec![1]));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    assert_eq!(
        refusal(Table::Samples, &rows),
        "rows of `samples` have column `value` where `value` should be"
    );
    for table in Table::ALL {
        check(table, &batch(table, 2, &[])).unwrap();
    }
}

#[test]
fn only_moments_that_a_partition_can_be_named_after_are_let_in() {
    for (micros, fits) in [
        (MICROS.start, true),
        (MICROS.end - 1, true),
        (MICROS.start - 1, false),
        (MICROS.end, false),
        (i64::MIN, false),
        (i64::MAX, false),
    ] {
        let rows = batch(Table::Samples, 2, &[("time", times(vec![0, micros]))]);
        assert_eq!(check(Table::Samples, &rows).is_ok(), fits, "{micros}");
    }
}

#[tokio::test]
async fn the_first_and_the_last_moment_are_stored_and_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let rows = batch(Table::Samples, 2, &[("time", times(vec![MICROS.start, MICROS.end - 1]))]);
    storage.writer().write(one(Table::Samples, rows)).await.unwrap();
    storage.flush().await.unwrap();
    drop(storage);
    let storage = open(dir.path()).await;
    let view = storage.snapshot(&TenantId::default()).table(Table::Samples);
    let mut dates: Vec<_> = view.files.iter().map(|file| file.date).collect();
    dates.sort_unstable();
    assert_eq!(dates, [-719_162, 2_932_896]);
}

#[tokio::test]
async fn a_write_of_nothing_takes_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let writer = storage.writer();
    let first = writer.write(one(Table::Samples, samples(0..1))).await.unwrap();
    assert_eq!(writer.write(WriteBatch::default()).await.unwrap(), first);
    assert_eq!(writer.write(one(Table::Spans, spans(0..0))).await.unwrap(), first);
    let next = writer.write(one(Table::Samples, samples(1..2))).await.unwrap();
    assert_eq!(next, Acked { seq: first.seq + 1 });
    storage.flush().await.unwrap();
    storage.flush().await.unwrap();
    assert!(storage.snapshot(&TenantId::default()).table(Table::Spans).files.is_empty());
}

#[tokio::test]
async fn a_refused_part_refuses_the_whole_write() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let parts = vec![(Table::Samples, samples(0..1)), (Table::Spans, samples(0..1))];
    let refused = storage.writer().write(WriteBatch { tenant: TenantId::default(), parts }).await;
    assert!(matches!(refused, Err(WriteError::Refused(_))));
    assert!(seen(&storage).is_empty());
}

#[tokio::test]
async fn tenants_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    let other = TenantId::new("other").unwrap();
    storage.writer().write(one(Table::Samples, samples(0..5))).await.unwrap();
    let batch = WriteBatch { tenant: other.clone(), ..one(Table::Samples, samples(5..7)) };
    storage.writer().write(batch).await.unwrap();
    let rows_of_other = |storage: &crate::Storage| {
        crate::tests::values(&crate::tests::rows_of(&storage.snapshot(&other), Table::Samples))
    };
    assert_eq!((seen(&storage).len(), rows_of_other(&storage)), (5, vec![5, 6]));
    storage.flush().await.unwrap();
    drop(storage);
    let storage = open(dir.path()).await;
    assert_eq!((seen(&storage).len(), rows_of_other(&storage)), (5, vec![5, 6]));
    let nobody = storage.snapshot(&TenantId::new("nobody").unwrap());
    assert!(nobody.table(Table::Samples).files.is_empty());
}
