//! Loaded series as the rows that a collector would have stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int16Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray, new_null_array,
};
use arrow::error::ArrowError;
use weir_model::TenantId;
use weir_storage::{Labels, Table, WriteBatch};

use super::points::Loaded;

const DAY_MS: i64 = 86_400_000;

/// The rows of `samples` and `series` that hold the floats of `all`. Native histograms are left out: rows of
/// `histograms` hold whole counts only, and no reset hints.
pub(super) fn rows(tenant: TenantId, all: &[(Labels, Vec<Loaded>)]) -> Result<WriteBatch, ArrowError> {
    let floats = all.iter().map(|(labels, loaded)| {
        let floats = loaded
            .iter()
            .filter_map(|p| Some(Float { time: p.time, start: p.start, value: p.sample.float()? }));
        (labels, floats.collect())
    });
    let floats: Vec<(&Labels, Vec<Float>)> = floats.collect();
    let days = all.iter().flat_map(|(labels, loaded)| {
        let days: BTreeSet<i64> =
            loaded.iter().filter(|p| p.sample.is_present()).map(|p| p.time.div_euclid(DAY_MS)).collect();
        days.into_iter().map(move |day| (labels, day * DAY_MS))
    });
    let days: Vec<(&Labels, i64)> = days.collect();
    Ok(WriteBatch {
        tenant,
        parts: vec![(Table::Series, series(&days)?), (Table::Samples, samples(&floats)?)],
    })
}

struct Float {
    time: i64,
    value: f64,
    start: i64,
}

/// Milliseconds as the column of a moment, and its remainder.
fn moment(ms: impl Iterator<Item = i64>) -> (ArrayRef, ArrayRef) {
    let micros: Vec<i64> = ms.map(|ms| ms * 1000).collect();
    let nanos = Int16Array::from(vec![0; micros.len()]);
    (Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")), Arc::new(nanos))
}

fn series(rows: &[(&Labels, i64)]) -> Result<RecordBatch, ArrowError> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for (labels, _) in rows {
        for (name, value) in labels.iter() {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true)?;
    }
    let (time, time_nanos) = moment(rows.iter().map(|(_, time)| *time));
    let columns: [(&str, ArrayRef); 5] = [
        ("metric", Arc::new(StringArray::from_iter_values(rows.iter().map(|(labels, _)| labels.metric())))),
        (
            "series_id",
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(labels, _)| labels.id().to_column()))),
        ),
        ("time", time),
        ("time_nanos", time_nanos),
        ("labels", Arc::new(maps.finish())),
    ];
    batch(Table::Series, rows.len(), &columns)
}

fn samples(all: &[(&Labels, Vec<Float>)]) -> Result<RecordBatch, ArrowError> {
    // A list: columns are made from iterators that know their length.
    let each = all.iter().flat_map(|(labels, floats)| floats.iter().map(move |float| (*labels, float)));
    let each: Vec<(&Labels, &Float)> = each.collect();
    let (time, time_nanos) = moment(each.iter().map(|(_, float)| float.time));
    let starts = each.iter().map(|(_, float)| (float.start != 0).then_some(float.start * 1000));
    let starts = TimestampMicrosecondArray::from_iter(starts).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 6] = [
        ("metric", Arc::new(StringArray::from_iter_values(each.iter().map(|(labels, _)| labels.metric())))),
        (
            "series_id",
            Arc::new(Int64Array::from_iter_values(each.iter().map(|(labels, _)| labels.id().to_column()))),
        ),
        ("time", time),
        ("time_nanos", time_nanos),
        ("start_time", Arc::new(starts)),
        ("value", Arc::new(Float64Array::from_iter_values(each.iter().map(|(_, float)| float.value)))),
    ];
    let rows = each.len();
    batch(Table::Samples, rows, &columns)
}

/// A batch of `table`; columns that are not given are null.
fn batch(table: Table, rows: usize, columns: &[(&str, ArrayRef)]) -> Result<RecordBatch, ArrowError> {
    let schema = table.schema();
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let given = columns.iter().find(|(name, _)| name == field.name());
        given.map_or_else(|| new_null_array(field.data_type(), rows), |(_, column)| Arc::clone(column))
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(Arc::clone(&schema), columns)
}
