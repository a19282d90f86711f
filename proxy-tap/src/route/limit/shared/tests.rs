use super::*;

const SECOND: u64 = 1_000_000_000;

/// So many requests in a second, and at once.
fn whole(requests: u32) -> Shape {
    Shape::new(&weir_model::policy::route::RateLimit { requests, ..Default::default() })
}

fn numbered(n: u32) -> Key {
    key("rule", [HeaderValue::from(n)].iter(), "")
}

/// How many of `n` requests at once may pass.
fn passing(shared: &Shared, key: &Key, limit: Shape, now: u64, n: usize) -> usize {
    (0..n).filter(|_| shared.take(key, limit, now).is_ok()).count()
}

#[test]
fn names_tell_rules_callers_and_values_apart() {
    let of = |rule: &str, values: &[&'static str], source| {
        let values: Vec<_> = values.iter().map(|value| HeaderValue::from_static(value)).collect();
        key(rule, values.iter(), source)
    };
    let keys = [
        of("a", &[], ""),
        of("b", &[], ""),
        of("a", &["x"], ""),
        of("a", &[], "x"),
        of("a", &["x", "y"], ""),
        of("a", &["xy"], ""),
        of("ax", &[], ""),
    ];
    assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), keys.len());
    assert_eq!(of("a", &["x"], "s"), of("a", &["x"], "s"));
}

#[test]
fn another_part_gives_no_request_that_was_not_there() {
    let (shared, key, limit) = (Shared::default(), numbered(1), whole(100));
    let lease = Duration::from_secs(1_000);
    assert_eq!(passing(&shared, &key, limit, 0, 30), 30);
    shared.grant(&key, 50.0, lease, 0);
    assert_eq!(passing(&shared, &key, limit, 0, 100), 50, "as much as there is room for");
    shared.grant(&key, 100.0, lease, 0);
    shared.grant(&key, 10.0, lease, 0);
    shared.grant(&key, 100.0, lease, 0);
    assert_eq!(passing(&shared, &key, limit, 0, 100), 0);
    shared.grant(&key, 20.0, lease, 0);
    assert_eq!(passing(&shared, &key, limit, SECOND / 2, 100), 10);
    // More than there is cannot be granted.
    shared.grant(&key, 1e9, lease, SECOND / 2);
    assert_eq!(passing(&shared, &key, limit, 10 * SECOND, 200), 100);
    // A part so small that it never fills.
    shared.grant(&key, f64::MIN_POSITIVE, lease, 10 * SECOND);
    assert_eq!(passing(&shared, &key, limit, 100 * SECOND, 5), 0);
}

#[test]
fn what_came_is_reported_once() {
    let (shared, limit) = (Shared::default(), whole(2));
    passing(&shared, &numbered(1), limit, 0, 5);
    passing(&shared, &numbered(2), limit, 0, 1);
    let mut came = shared.report(0);
    came.sort_by_key(|came| came.count);
    let expected = [(numbered(2), 1), (numbered(1), 5)];
    assert_eq!(came.iter().map(|came| (came.key, came.count)).collect::<Vec<_>>(), expected);
    assert_eq!((came[0].requests, came[0].per), (2, Duration::from_secs(1)));
    assert_eq!(shared.report(0), []);
}

#[test]
fn news_waits_for_whoever_tells_it() {
    use futures::FutureExt;
    let shared = Shared::default();
    assert_eq!(shared.news().now_or_never(), None);
    passing(&shared, &numbered(1), whole(2), 0, 5);
    assert_eq!(shared.news().now_or_never(), Some(()));
    assert_eq!(shared.news().now_or_never(), None);
    shared.report(0);
    passing(&shared, &numbered(1), whole(2), 0, 1);
    assert_eq!(shared.news().now_or_never(), Some(()));
}

#[test]
fn idle_buckets_are_forgotten_and_of_too_many_the_longest_unused() {
    let (shared, limit) = (Shared::default(), whole(100));
    passing(&shared, &numbered(1), limit, 0, 1);
    shared.report(IDLE_NS - 1);
    assert_eq!(shared.kept(), 1);
    shared.report(IDLE_NS);
    assert_eq!((shared.kept(), shared.dropped()), (0, 0));
    let busy = numbered(u32::MAX);
    let mut passed = 0;
    for n in 0..100_000 {
        passing(&shared, &numbered(n), limit, IDLE_NS, 1);
        if n % 100 == 0 {
            passed += passing(&shared, &busy, limit, IDLE_NS, 1);
        }
    }
    assert_eq!(passed, 100, "its bucket was kept all the time");
    let most = limits::RATE_LIMIT_SHARED_KEYS;
    assert!((most / 3..=most).contains(&shared.kept()), "{}", shared.kept());
    assert_eq!(shared.dropped() as usize, 100_001 - shared.kept());
}
