use std::collections::BinaryHeap;

use proptest::prelude::*;

use super::*;
use crate::chance::Chance;

fn plain(max_requests: Option<u32>, reserved: Option<u32>, max_pending: Option<u32>) -> Arc<Limits> {
    let connections = Connections {
        max_requests,
        max_pending,
        reserved_for_high_priority: reserved,
        ..Connections::default()
    };
    Limits::new(&connections, None, Instant::now())
}

fn adaptive(min_limit: u32, max_limit: u32, now: Instant) -> Arc<Limits> {
    let policy = AdaptiveConcurrency { min_limit, max_limit, ..AdaptiveConcurrency::default() };
    Limits::new(&Connections::default(), Some(&policy), now)
}

#[test]
fn requests_of_high_priority_have_room_that_others_have_not() {
    let limits = plain(Some(3), Some(2), None);
    let held: Vec<_> = (0..2).map(|_| limits.admit(Priority::Default).unwrap()).collect();
    assert_eq!(limits.admit(Priority::Default).unwrap_err(), Refused::Reserved);
    let high = limits.admit(Priority::High).unwrap();
    assert_eq!(limits.admit(Priority::High).unwrap_err(), Refused::MaxRequests);
    assert_eq!((limits.in_flight(), limits.refused()), (3, 2));
    drop((held, high));
    assert_eq!(limits.in_flight(), 0);
    limits.admit(Priority::Default).unwrap().end(Instant::now(), Duration::ZERO, true);
    assert_eq!(limits.in_flight(), 0, "an end is a drop too");
    let refusal = Refused::Reserved.refusal(limits.limit(Refused::Reserved));
    assert_eq!((&*refusal.by, refusal.status), ("reserved_for_high_priority", 503));
    assert_eq!(&*refusal.reason, "2 requests are under way already");
}

#[test]
fn without_bounds_everything_is_admitted_and_waits() {
    let limits = plain(None, None, None);
    let held: Vec<_> = (0..10_000).map(|_| limits.admit(Priority::Default).unwrap()).collect();
    let waiting: Vec<_> = (0..10_000).map(|_| limits.wait().unwrap()).collect();
    assert_eq!((held.len(), waiting.len(), limits.refused()), (10_000, 10_000, 0));
}

#[test]
fn so_many_may_wait_for_a_connection() {
    let limits = plain(None, None, Some(1));
    let waiting = limits.wait().unwrap();
    assert_eq!((limits.wait().unwrap_err(), limits.pending()), (Refused::MaxPending, 1));
    drop(waiting);
    assert!(limits.wait().is_ok());
}

#[test]
fn no_more_than_the_bound_are_ever_under_way_whoever_asks() {
    let limits = plain(Some(4), None, None);
    let (most, admitted) = (AtomicU32::new(0), AtomicU32::new(0));
    let under_way = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if let Ok(permit) = limits.admit(Priority::Default) {
                        most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        admitted.fetch_add(1, Ordering::Relaxed);
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 4 && admitted.load(Ordering::Relaxed) > 0);
    assert_eq!(limits.in_flight(), 0);
}

/// What a run of the queue model came to.
#[derive(Debug)]
struct Run {
    /// Means over its second half.
    limit: f64,
    latency_ms: f64,
    /// Requests per second that were served.
    served: f64,
}

/// A server of `workers` that each take 10 ms or so per request and serve in order of arrival, asked by Poisson
/// arrivals at `load` times its capacity. The knee is at `workers` requests under way: more only wait.
fn serve(limits: &Arc<Limits>, now: &mut Instant, workers: usize, load: f64, seconds: f64) -> Run {
    let chance = Chance::new(7, "queue");
    let service_ns = 10_000_000.0;
    let rate_per_ns = load * workers as f64 / service_ns;
    let began = *now;
    let mut free = vec![0_u64; workers];
    // Ends of requests under way, the earliest on top.
    let mut ends: BinaryHeap<(std::cmp::Reverse<u64>, u64)> = BinaryHeap::new();
    let mut permits = std::collections::HashMap::new();
    let (mut at, mut id) = (0.0, 0_u64);
    let (mut limit, mut latency, mut arrivals, mut done) = (0.0, 0.0, 0.0_f64, 0.0_f64);
    let end = seconds * 1e9;
    while at < end {
        at += -(1.0 - chance.f64()).ln() / rate_per_ns;
        let at_ns = at as u64;
        while ends.peek().is_some_and(|(std::cmp::Reverse(end), _)| *end <= at_ns) {
            let (std::cmp::Reverse(end_ns), id) = ends.pop().unwrap();
            let (permit, arrived): (Permit, u64) = permits.remove(&id).unwrap();
            let took = Duration::from_nanos(end_ns - arrived);
            permit.end(began + Duration::from_nanos(end_ns), took, true);
            if at > end / 2.0 {
                (latency, done) = (latency + took.as_secs_f64() * 1e3, done + 1.0);
            }
        }
        if at > end / 2.0 {
            (limit, arrivals) = (limit + f64::from(limits.limit(Refused::Adaptive)), arrivals + 1.0);
        }
        if let Ok(permit) = limits.admit(Priority::Default) {
            let worker = (0..workers).min_by_key(|i| free[*i]).unwrap();
            let takes = service_ns * (0.5 + chance.f64());
            free[worker] = free[worker].max(at_ns) + takes as u64;
            ends.push((std::cmp::Reverse(free[worker]), id));
            permits.insert(id, (permit, at_ns));
            id += 1;
        }
    }
    *now = began + Duration::from_nanos(end as u64);
    Run { limit: limit / arrivals, latency_ms: latency / done, served: done / (seconds / 2.0) }
}

#[test]
fn under_overload_the_limit_settles_near_the_knee_of_a_queue() {
    for workers in [16, 40] {
        let mut now = Instant::now();
        let limits = adaptive(5, 1_000, now);
        let usual = serve(&limits, &mut now, workers, 0.7, 20.0);
        let overload = serve(&limits, &mut now, workers, 3.0, 20.0);
        let (knee, capacity) = (workers as f64, workers as f64 * 100.0);
        assert!((0.8 * knee..3.0 * knee).contains(&overload.limit), "{workers}: {usual:?} {overload:?}");
        assert!(overload.served > 0.9 * capacity, "{workers}: {usual:?} {overload:?}");
        assert!(overload.latency_ms < 3.0 * usual.latency_ms, "{workers}: {usual:?} {overload:?}");
    }
}

#[test]
fn without_a_limit_the_same_overload_only_waits() {
    let mut now = Instant::now();
    let overload = serve(&plain(None, None, None), &mut now, 16, 3.0, 20.0);
    assert!(overload.latency_ms > 1_000.0, "{overload:?}");
}

#[test]
fn a_slower_server_gets_less_at_once_and_more_again_when_it_recovers() {
    let mut now = Instant::now();
    let limits = adaptive(2, 1_000, now);
    serve(&limits, &mut now, 40, 1.5, 20.0);
    let before = limits.limit(Refused::Adaptive);
    // A quarter of the workers are left for the same arrivals.
    serve(&limits, &mut now, 10, 6.0, 10.0);
    let worse = limits.limit(Refused::Adaptive);
    serve(&limits, &mut now, 40, 1.5, 20.0);
    let after = limits.limit(Refused::Adaptive);
    assert!(f64::from(worse) < 0.6 * f64::from(before), "{before} {worse}");
    assert!(f64::from(after) > 1.5 * f64::from(worse), "{worse} {after}");
}

#[test]
fn what_is_not_used_does_not_grow() {
    let mut now = Instant::now();
    let limits = adaptive(5, 1_000, now);
    serve(&limits, &mut now, 100, 0.02, 30.0);
    assert_eq!(limits.limit(Refused::Adaptive), 20);
}

#[test]
fn fast_failures_make_no_room_and_slow_ones_take_it() {
    let mut now = Instant::now();
    let policy = AdaptiveConcurrency { min_limit: 5, ..AdaptiveConcurrency::default() };
    let gradient = Gradient::new(&policy, now);
    let mut window = |latency_ms, ok| {
        for _ in 0..20 {
            now += Duration::from_millis(10);
            gradient.sample(now, Duration::from_millis(latency_ms), ok, gradient.limit());
        }
        gradient.limit()
    };
    let usual = (0..20).map(|_| window(10, true)).last().unwrap();
    assert!(usual > 20, "{usual}");
    let broken = (0..20).map(|_| window(1, false)).last().unwrap();
    assert_eq!(broken, usual);
    let stuck = (0..20).map(|_| window(500, false)).last().unwrap();
    assert!(stuck < usual / 2, "{usual} {stuck}");
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds_whatever_is_measured(
        min in 0..200_u32, max in 0..200_u32, tolerance in prop_oneof![Just(f64::NAN), 0.0..10.0_f64],
        samples in prop::collection::vec((0..3_000_u64, any::<u64>(), any::<bool>(), any::<u32>()), 0..200),
    ) {
        let mut now = Instant::now();
        let policy = AdaptiveConcurrency { min_limit: min, max_limit: max, tolerance };
        let gradient = Gradient::new(&policy, now);
        let (least, most) = (min.max(1), max.max(min).max(1));
        for (wait_ms, latency_ns, ok, in_flight) in samples {
            now += Duration::from_millis(wait_ms);
            gradient.sample(now, Duration::from_nanos(latency_ns), ok, in_flight);
            prop_assert!((least..=most).contains(&gradient.limit()), "{}", gradient.limit());
        }
    }

    #[test]
    fn whatever_is_admitted_is_within_the_bounds_and_is_given_back(
        max in prop::option::of(1..8_u32), reserved in prop::option::of(0..8_u32),
        steps in prop::collection::vec((any::<bool>(), any::<bool>()), 0..100),
    ) {
        let limits = plain(max, reserved, None);
        let mut held = vec![];
        for (enters, high) in steps {
            let before = held.len() as u32;
            let priority = if high { Priority::High } else { Priority::Default };
            if enters {
                let bound = if high { max } else { max.into_iter().chain(reserved).min() };
                let admitted = limits.admit(priority);
                prop_assert_eq!(admitted.is_ok(), bound.is_none_or(|bound| before < bound));
                held.extend(admitted);
            } else {
                held.pop();
            }
            prop_assert_eq!(limits.in_flight(), held.len() as u32);
        }
        held.clear();
        prop_assert_eq!(limits.in_flight(), 0);
    }
}
