//! Bounds: true of the rows, and the same after a trip through the Delta log.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use proptest::prelude::*;

use super::{BOUND_TEXT_BYTES, Bounds, from_delta, to_delta, widen};
use crate::tests::{batch, times};
use crate::{Bound, Table};

fn spans(rows: &[(&str, i64, i64)]) -> arrow::record_batch::RecordBatch {
    batch(
        Table::Spans,
        rows.len(),
        &[
            ("service", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
            ("start_time", times(rows.iter().map(|row| row.1).collect())),
            ("duration_ns", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)))),
        ],
    )
}

fn bounds_of(chunks: &[&[(&str, i64, i64)]]) -> Bounds {
    let mut bounds = Bounds::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let rows = spans(chunk);
        for name in Table::Spans.stats_columns() {
            widen(&mut bounds, name, rows.column_by_name(name).unwrap(), index == 0);
        }
    }
    bounds
}

fn text(text: &str) -> Bound {
    Bound::Text(text.to_owned())
}

#[test]
fn bounds_hold_every_row_of_every_chunk() {
    let bounds = bounds_of(&[&[("m", -5, i64::MAX), ("b", 3, 0)], &[("z", -6, i64::MIN)], &[("c", 0, 1)]]);
    assert_eq!(bounds["service"], (text("b"), text("z")));
    assert_eq!(bounds["start_time"], (Bound::Micros(-6), Bound::Micros(3)));
    assert_eq!(bounds["duration_ns"], (Bound::Long(i64::MIN), Bound::Long(i64::MAX)));
}

#[test]
fn a_text_too_long_for_a_bound_leaves_the_file_without_one() {
    let (fits, long) = ("x".repeat(BOUND_TEXT_BYTES), "x".repeat(BOUND_TEXT_BYTES + 1));
    assert_eq!(bounds_of(&[&[(&fits, 0, 0)]])["service"], (text(&fits), text(&fits)));
    let short: &[(&str, i64, i64)] = &[("a", 0, 0)];
    let with_long: &[(&str, i64, i64)] = &[("a", 0, 0), (&long, 0, 0)];
    for chunks in
        [vec![with_long], vec![with_long, short], vec![short, with_long], vec![short, with_long, short]]
    {
        let bounds = bounds_of(&chunks);
        assert!(!bounds.contains_key("service"), "{bounds:?}");
        assert!(bounds.contains_key("start_time"));
        let (rows, again) = from_delta(Table::Spans, &to_delta(Table::Spans, 3, &bounds));
        assert_eq!((rows, &*again), (Some(3), &bounds));
    }
}

#[test]
fn what_delta_reads_is_plain() {
    let bounds = bounds_of(&[&[("a\"\u{0}ü", -1, 5), ("b", 1_795_000_000_123_456, 7)]]);
    let stats: serde_json::Value = serde_json::from_str(&to_delta(Table::Spans, 2, &bounds)).unwrap();
    assert_eq!(
        stats,
        serde_json::json!({
            "numRecords": 2,
            "minValues":
                { "service": "a\"\u{0}ü", "start_time": "1969-12-31T23:59:59.999999Z", "duration_ns": 5 },
            "maxValues": { "service": "b", "start_time": "2026-11-18T11:06:40.123456Z", "duration_ns": 7 },
            "nullCount": { "service": 0, "start_time": 0, "duration_ns": 0 },
        })
    );
}

#[test]
fn stats_that_cannot_be_read_are_missing() {
    for stats in ["", "{", "[]", "{\"numRecords\":-1}", "{\"numRecords\":\"3\"}"] {
        let (rows, bounds) = from_delta(Table::Spans, stats);
        assert_eq!((rows, bounds.len()), (None, 0), "{stats}");
    }
    let half =
        r#"{"numRecords":3,"minValues":{"service":"a","duration_ns":1.5},"maxValues":{"duration_ns":2}}"#;
    let (rows, bounds) = from_delta(Table::Spans, half);
    assert_eq!((rows, bounds.len()), (Some(3), 0));
}

proptest! {
    #[test]
    fn bounds_come_back_from_the_log(
        rows in prop::collection::vec((".{0,12}", -62_135_596_800_000_000..253_402_300_800_000_000i64, any::<i64>()), 1..20),
    ) {
        let rows: Vec<_> = rows.iter().map(|(service, start, ns)| (service.as_str(), *start, *ns)).collect();
        let bounds = bounds_of(&[&rows]);
        prop_assert_eq!(bounds.len(), 3);
        for (service, start, ns) in &rows {
            let holds = |name, value: Bound| bounds[name].0 <= value && value <= bounds[name].1;
            prop_assert!(holds("service", text(service)));
            prop_assert!(holds("start_time", Bound::Micros(*start)));
            prop_assert!(holds("duration_ns", Bound::Long(*ns)));
        }
        let (count, again) = from_delta(Table::Spans, &to_delta(Table::Spans, rows.len() as u64, &bounds));
        prop_assert_eq!((count, &*again), (Some(rows.len() as u64), &bounds));
    }
}
