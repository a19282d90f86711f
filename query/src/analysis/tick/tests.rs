//! Points become seconds and increments, whatever they look like.

use proptest::prelude::*;

use super::*;

fn series(class: &'static str, probe: &'static str) -> SeriesKey {
    let labels = [
        ("client", "cart"),
        ("server", "payments"),
        ("endpoint", "payments-2"),
        ("protocol", "http"),
        ("class", class),
        ("reporter", "source"),
        ("probe", probe),
    ];
    SeriesKey::from_labels(|name| labels.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)).unwrap()
}

fn point(seconds: f64, counts: &[i64]) -> Point<'_> {
    Point {
        time: UnixNanos((seconds * 1e9) as u64),
        count: counts.iter().sum(),
        sum: 0.5,
        zero: 0,
        scale: 4,
        offset: -64,
        counts,
    }
}

const LAG: Duration = Duration::from_secs(2);

fn at(seconds: f64) -> UnixNanos {
    UnixNanos((seconds * 1e9) as u64)
}

#[test]
fn a_second_closes_two_seconds_after_its_end() {
    let mut builder = TickBuilder::default();
    builder.observe(&series("ok", "false"), &point(101.0, &[3]), at(101.0)); // (100, 101]
    builder.observe(&series("error", "true"), &point(101.0, &[2]), at(101.0));
    assert!(builder.close(at(102.9), LAG).is_empty());
    let ticks = builder.close(at(103.0), LAG);
    assert_eq!(ticks.len(), 1);
    assert_eq!((ticks[0].second, ticks[0].now), (100, at(103.0)));
    let cell = ticks[0].cells.values().next().unwrap();
    assert_eq!((cell.traffic.ok, cell.probes.errors), (3, 2));
    assert!(builder.close(at(103.5), LAG).is_empty());
}

#[test]
fn increments_that_are_put_back_come_again_with_what_has_come_since() {
    let mut builder = TickBuilder::default();
    builder.observe(&series("ok", "false"), &point(101.0, &[3]), at(101.0));
    let first = builder.take_increments();
    builder.observe(&series("error", "true"), &point(102.0, &[2]), at(102.0));
    builder.put_back(first);
    let again = builder.take_increments();
    assert_eq!(again.len(), 1);
    let add = &again[0].add;
    assert_eq!((add.calls, add.errors, add.probes, add.latency.count()), (5, 2, 2, 5));
    assert!(builder.take_increments().is_empty());
}

#[test]
fn late_rows_count_in_the_graph_and_in_no_tick() {
    let mut builder = TickBuilder::default();
    builder.observe(&series("ok", "false"), &point(101.0, &[1]), at(101.0));
    builder.close(at(110.0), LAG);
    builder.observe(&series("ok", "false"), &point(102.0, &[5]), at(110.0));
    assert_eq!(builder.dropped().late, 1);
    let ticks = builder.close(at(112.0), LAG);
    assert!(ticks.iter().all(|tick| tick.cells.is_empty()));
    let calls: u64 = builder.take_increments().iter().map(|i| i.add.calls).sum();
    assert_eq!(calls, 6);
    assert!(builder.take_increments().is_empty());
}

#[test]
fn increments_fall_into_ten_seconds_and_refused_calls_stand_apart() {
    let mut builder = TickBuilder::default();
    for (class, probe, seconds) in [
        ("ok", "false", 100.5),
        ("client_error", "false", 101.0),
        ("error", "true", 110.0), // ends with the bucket
        ("refused", "false", 110.0),
        ("ok", "false", 110.1),
    ] {
        builder.observe(&series(class, probe), &point(seconds, &[1]), at(111.0));
    }
    let increments = builder.take_increments();
    let add = |i: usize| &increments[i].add;
    assert_eq!(increments.iter().map(|i| i.time).collect::<Vec<_>>(), [at(100.0), at(110.0)]);
    assert_eq!(
        (add(0).calls, add(0).errors, add(0).client_errors, add(0).refused, add(0).probes),
        (3, 1, 1, 1, 1)
    );
    assert_eq!(add(0).latency.count(), 3);
    assert_eq!(add(1).calls, 1);
}

#[test]
fn buckets_of_other_scales_are_folded_or_centred() {
    assert_eq!(rescale(-7, 4), -7);
    assert_eq!(rescale(31, 5), 15);
    assert_eq!(rescale(-1, 5), -1);
    assert_eq!(rescale(0, 3), 1);
    assert_eq!(rescale(1, 0), 24);
    assert_eq!(rescale(i64::MAX, -53), i32::MAX);
}

#[test]
fn quiet_seconds_are_handed_out_and_a_long_silence_is_jumped_over() {
    let mut builder = TickBuilder::default();
    builder.observe(&series("ok", "false"), &point(101.0, &[1]), at(101.0));
    assert_eq!(
        builder.close(at(110.0), LAG).iter().map(|t| t.second).collect::<Vec<_>>(),
        (100..108).collect::<Vec<_>>()
    );
    let ticks = builder.close(at(10_000.0), LAG);
    assert_eq!(ticks.len() as u64, QUIET_SECONDS);
    assert_eq!(ticks.last().unwrap().second, 9_997);
}

proptest! {
    #[test]
    fn any_point_is_taken_without_panic(
        time in any::<u64>(), now in any::<u64>(), count in any::<i64>(), sum in any::<f64>(), zero in any::<i64>(),
        scale in any::<i32>(), offset in any::<i32>(), counts in prop::collection::vec(any::<i64>(), 0..20),
    ) {
        let mut builder = TickBuilder::default();
        let point = Point { time: UnixNanos(time), count, sum, zero, scale, offset, counts: &counts };
        builder.observe(&series("ok", "false"), &point, UnixNanos(now));
        prop_assert!(builder.close(UnixNanos(now), LAG).len() as u64 <= QUIET_SECONDS);
        builder.close(UnixNanos(now.saturating_add(9_000_000_000)), LAG);
        prop_assert_eq!(builder.take_increments().len(), 1);
    }

    #[test]
    fn labels_are_taken_or_refused(class in ".{0,12}", reporter in ".{0,12}", client in ".{0,5}") {
        let key = SeriesKey::from_labels(|name| match name {
            "class" => Some(class.as_str()),
            "reporter" => Some(reporter.as_str()),
            "client" => Some(client.as_str()),
            _ => None,
        });
        prop_assert!(key.is_none());
    }
}
