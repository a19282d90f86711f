//! What there is no room for: folded, dropped or given up, and counted each time.

use futures::FutureExt;

use super::super::outbox::Outbox;
use super::*;

#[test]
fn label_sets_beyond_the_bound_are_folded_into_one_and_counted() {
    let tap = tap();
    let sets = limits::PROXY_METRIC_SETS;
    for i in 0..sets + 3 {
        let facts = Facts { server: party(&format!("s{i}"), "e", ""), ..facts() };
        tap.call(&facts, TOOK);
        tap.edge(EdgeKey { client: &party(&format!("c{i}"), "", ""), ..edge_key(&facts) }, TOOK);
    }
    // One that has its set keeps counting in it.
    tap.call(&Facts { server: party("s0", "e", ""), ..facts() }, TOOK);
    assert_eq!(tap.dropped.list()[3], ("sets_full", 6));
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    let overflow: Vec<_> = sent
        .requests()
        .iter()
        .filter(|point| texts(&point.attributes)["destination_service"] == "overflow")
        .map(count)
        .collect();
    assert_eq!((overflow, sent.requests().len()), (vec![3], sets + 1));
    let clients = |point: &&ExponentialHistogramDataPoint| texts(&point.attributes)["client"] == "overflow";
    let folded: u64 = sent.edge_points().iter().filter(clients).map(|point| point.count).sum();
    assert_eq!(folded, 3);
}

#[test]
fn records_beyond_the_queue_are_dropped_and_counted_and_the_call_still_counts() {
    let tap = tap();
    let facts = facts();
    let fit = limits::PROXY_TELEMETRY_QUEUE / 2;
    (0..fit + 5).for_each(|_| tap.call(&facts, TOOK));
    assert_eq!(tap.waiting(), (limits::PROXY_TELEMETRY_QUEUE as u64, 0));
    assert_eq!(tap.dropped.list()[0], ("queue_full", 10));
    tap.collect(START, true);
    let sent = Sent::of(&tap);
    assert_eq!((sent.spans.len(), sent.logs.len()), (fit, fit));
    assert_eq!(count(&sent.requests()[0]), fit as i64 + 5);
    assert_eq!(tap.waiting(), (0, 0));
}

#[test]
fn without_a_collector_nothing_is_kept_but_the_counts_of_the_metrics_page() {
    let tap = Tap::new(party("cart", "cart-1", ""), Clock::new(|| START), false);
    (0..3).for_each(|_| tap.call(&facts(), TOOK));
    tap.edge(edge_key(&facts()), TOOK);
    assert_eq!(tap.waiting(), (0, 0));
    assert!(tap.take_edges(START).is_none());
    let families = tap.metric_families();
    let family = |name: &str| families.iter().find(|family| family.name == name).unwrap();
    let [requests] = &family("istio_requests_total").samples[..] else { panic!("{families:?}") };
    assert!(requests.labels.contains("destination_service=\"payments\""), "{requests:?}");
    assert!((requests.value - 3.0).abs() < f64::EPSILON);
    let mut last = 0.0;
    for sample in family("istio_request_bytes").samples.iter().filter(|sample| sample.suffix == "_bucket") {
        assert!(sample.value >= last, "{sample:?}: buckets are cumulative");
        last = sample.value;
    }
    assert!((last - 3.0).abs() < f64::EPSILON);
}

fn batch(records: u64) -> Batch {
    Batch { signal: Signal::Logs, parts: Vec::new(), records }
}

#[test]
fn the_outbox_gives_up_its_oldest_and_never_grows_beyond_its_bound() {
    let outbox = Outbox::default();
    for i in 0..limits::PROXY_OUTBOX as u64 {
        assert_eq!(outbox.push(batch(i + 1)), 0);
    }
    assert_eq!(outbox.push(batch(100)), 1, "the oldest had one record");
    assert_eq!(outbox.put_back(batch(7)), 7, "what could not be sent is older than all that wait");
    assert_eq!(outbox.len(), limits::PROXY_OUTBOX);
    assert_eq!(outbox.try_next().unwrap().records, 2);
    assert_eq!(outbox.put_back(batch(2)), 0);
    assert_eq!(outbox.try_next().unwrap().records, 2, "it is the first again");
}

#[test]
fn batches_that_a_collector_never_takes_are_counted_record_by_record() {
    let tap = tap();
    let facts = facts();
    for second in 1..=20 {
        (0..2).for_each(|_| tap.call(&facts, TOOK));
        tap.collect(UnixNanos(START.0 + second * SECOND), false);
    }
    // Spans and logs: 40 batches of two records, of which the oldest 8 went.
    assert_eq!(tap.waiting(), (0, limits::PROXY_OUTBOX));
    assert_eq!(tap.dropped.list()[1], ("collector_slow", 2 * (40 - limits::PROXY_OUTBOX as u64)));
    assert_eq!(Sent::of(&tap).records, 2 * limits::PROXY_OUTBOX as u64);
}

#[test]
fn many_records_wake_the_exporter_before_the_second_is_over() {
    let tap = tap();
    let early = || tap.early.notified().now_or_never().is_some();
    (0..EARLY / 2 - 1).for_each(|_| tap.call(&facts(), TOOK));
    assert!(!early(), "too early");
    tap.call(&facts(), TOOK);
    assert!(early());
}
