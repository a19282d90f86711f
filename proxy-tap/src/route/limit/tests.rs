use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{Asked, listed, service};
use super::super::{Route, Routes};
use super::*;

fn compile(routes: Value, buckets: &Arc<Buckets>) -> Routes {
    Routes::compile(&service(routes), buckets).unwrap()
}

fn route(limits: Value, buckets: &Arc<Buckets>) -> Arc<Route> {
    let routes = compile(json!([{ "rate_limit": limits }]), buckets);
    Arc::clone(routes.find(&Asked::get("/").view()).unwrap().route)
}

/// How many of `n` requests at once may pass.
fn passing(route: &Route, asked: &Asked, now: Instant, n: usize) -> usize {
    let view = asked.view();
    (0..n).filter(|_| matches!(route.admit(&view, now), Verdict::Allowed(_))).count()
}

#[test]
fn a_burst_passes_and_then_the_rate() {
    let now = Instant::now();
    let buckets = Buckets::new(now);
    let asked = Asked::get("/");
    let route = route(json!([{ "requests": 10, "per": "1s", "burst": 3 }]), &buckets);
    assert_eq!(passing(&route, &asked, now, 10), 3);
    assert_eq!(passing(&route, &asked, now + Duration::from_millis(99), 10), 0);
    assert_eq!(passing(&route, &asked, now + Duration::from_millis(100), 10), 1);
    assert_eq!(passing(&route, &asked, now + Duration::from_secs(100), 10), 3);
    // A clock that another thread read earlier takes nothing away.
    assert_eq!(passing(&route, &asked, now, 10), 0);
}

#[test]
fn a_refusal_says_when_to_come_back_and_an_answer_what_is_left() {
    let now = Instant::now();
    let route = route(json!([{ "requests": 2, "per": "3s", "headers": true }]), &Buckets::new(now));
    let asked = Asked::get("/");
    let told = |verdict: Verdict| {
        let mut headers = HeaderMap::new();
        match verdict {
            Verdict::Allowed(standing) => standing.unwrap().tell(&mut headers),
            Verdict::Refused(standing) => standing.tell(&mut headers),
        }
        listed(&headers).iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let left = |remaining: u32, reset: u32| {
        let lines = [("limit", 2), ("remaining", remaining), ("reset", reset)];
        lines.map(|(name, value)| format!("x-ratelimit-{name}: {value}"))
    };
    assert_eq!(told(route.admit(&asked.view(), now)), left(1, 2));
    assert_eq!(told(route.admit(&asked.view(), now)), left(0, 3));
    let refused = told(route.admit(&asked.view(), now + Duration::from_millis(300)));
    assert_eq!(refused[0], "retry-after: 2");
    assert_eq!(refused[1..], left(0, 3));
}

#[test]
fn a_request_that_one_limit_refuses_takes_nothing_from_the_others() {
    let now = Instant::now();
    let limits = json!([{ "requests": 5, "per": "1h" }, { "requests": 5, "per": "1h", "by_source": true },
                        { "requests": 1, "per": "1s" }]);
    let route = route(limits, &Buckets::new(now));
    let asked = Asked::get("/");
    for second in 0..5 {
        assert_eq!(passing(&route, &asked, now + Duration::from_secs(second), 10), 1, "{second}");
    }
    assert_eq!(passing(&route, &asked, now + Duration::from_secs(5), 10), 0);
}

#[test]
fn each_caller_and_each_value_of_a_header_has_its_own_bucket() {
    let now = Instant::now();
    let limits = json!([{ "requests": 2, "per": "1m", "header": "X-User", "by_source": true }]);
    let route = route(limits, &Buckets::new(now));
    let user = |user: &str| Asked::get("/").header("x-user", user);
    for asked in [user("a"), user("b"), user("a").header("x-user", "b"), user("a").from("other")] {
        assert_eq!(passing(&route, &asked, now, 5), 2);
        assert_eq!(passing(&route, &asked, now, 5), 0);
    }
    // Who leaves the header out is limited too.
    assert_eq!(passing(&route, &Asked::get("/"), now, 5), 2);
}

#[test]
fn buckets_survive_a_reload_while_their_rule_stays() {
    let now = Instant::now();
    let buckets = Buckets::new(now);
    let limits =
        |n: u32| json!([{ "requests": n, "per": "1m" }, { "requests": n, "per": "1m", "header": "x" }]);
    let asked = Asked::get("/a");
    let mut policies = Vec::new();
    for (routes, expected) in [
        (json!([{ "match": [{ "path": { "exact": "/a" } }], "rate_limit": limits(3) }]), 3),
        (json!([{ "match": [{ "path": { "exact": "/a" } }], "rate_limit": limits(3) }]), 0),
        // Another route before it, and another timeout, change nothing about its limits.
        (
            json!([{ "match": [{ "path": { "exact": "/b" } }] },
                   { "match": [{ "path": { "exact": "/a" } }], "rate_limit": limits(3), "timeout": "1s" }]),
            0,
        ),
        (json!([{ "match": [{ "path": { "exact": "/a" } }], "rate_limit": limits(4) }]), 4),
        (json!([{ "match": [{ "path": { "prefix": "/a" } }], "rate_limit": limits(4) }]), 4),
    ] {
        let compiled = compile(routes, &buckets);
        let route = Arc::clone(compiled.find(&asked.view()).unwrap().route);
        assert_eq!(passing(&route, &asked, now, 10), expected);
        // The old policy goes when the new one is there.
        policies = vec![compiled];
    }
    assert_eq!(policies.len(), 1);
}

#[test]
fn threads_together_get_the_burst_and_no_more() {
    let now = Instant::now();
    let limits =
        json!([{ "requests": 1_000, "per": "1h" }, { "requests": 1_000, "per": "1h", "by_source": true }]);
    let route = route(limits, &Buckets::new(now));
    let passed: usize = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| passing(&route, &Asked::get("/"), now, 500)));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1_000);
}

#[test]
fn a_shared_limit_holds_here_whole_until_a_part_of_it_is_granted() {
    let now = Instant::now();
    let limits = json!([
        { "requests": 8, "per": "8s", "global": true, "headers": true },
        { "requests": 100, "per": "1m", "global": true, "header": "x-user", "by_source": true },
        { "requests": 100, "per": "1m" },
    ]);
    let (buckets, elsewhere) = (Buckets::new(now), Buckets::new(now));
    let (one, other) = (route(limits.clone(), &buckets), route(limits, &elsewhere));
    let asked = Asked::get("/").header("x-user", "ann");
    assert_eq!(passing(&one, &asked, now, 10), 8);
    assert_eq!(passing(&other, &asked, now, 1), 1);
    let came = buckets.report(now);
    let counts: Vec<u32> = came.iter().map(|came| came.count).collect();
    assert!(counts == [10, 8] || counts == [8, 10], "{came:?}");
    let elsewhere = elsewhere.report(now);
    assert!(came.iter().all(|came| elsewhere.iter().any(|other| other.key == came.key)), "{elsewhere:?}");
    let single = came.iter().find(|came| came.requests == 8).unwrap();
    assert_eq!((single.per, single.count), (Duration::from_secs(8), 10));
    // A quarter: one in four seconds.
    buckets.grant(&single.key, 0.25, Duration::from_secs(20), now);
    let after = |seconds: u64| now + Duration::from_secs(seconds);
    assert_eq!(passing(&one, &asked, after(3), 10), 0);
    assert_eq!(passing(&one, &asked, after(4), 10), 1);
    let Verdict::Refused(standing) = one.admit(&asked.view(), after(5)) else { panic!("it is empty") };
    assert_eq!((standing.limit, standing.retry_after), (2, Duration::from_secs(3)));
    assert_eq!(passing(&one, &asked, after(12), 10), 2, "a quarter of the burst");
    // The lease is over, and nobody renewed it.
    assert_eq!(passing(&one, &asked, after(20), 10), 2, "what it held");
    assert_eq!(passing(&one, &asked, after(21), 10), 1, "the whole rate");
    assert_eq!(buckets.shared().counts()[0], ("admitted", 14));
}

#[test]
fn what_a_shared_limit_refuses_takes_nothing_from_others() {
    let now = Instant::now();
    let limits = json!([
        { "requests": 5, "per": "1h" },
        { "requests": 5, "per": "1h", "global": true },
        { "requests": 1, "per": "1s", "global": true, "by_source": true },
    ]);
    let route = route(limits, &Buckets::new(now));
    let asked = Asked::get("/");
    for second in 0..5 {
        assert_eq!(passing(&route, &asked, now + Duration::from_secs(second), 10), 1, "{second}");
    }
    assert_eq!(passing(&route, &asked, now + Duration::from_secs(5), 10), 0);
}

proptest! {
    #[test]
    fn a_bucket_is_a_bucket_of_tokens(
        requests in 1_u32..1_000,
        per_ms in 1_u64..100_000,
        burst in prop::option::of(1_u32..50),
        steps in prop::collection::vec((0_u64..3_000_000_000, 1_usize..5), 1..60),
    ) {
        let rule = RateLimit { requests, burst, per: weir_model::policy::Length::millis(per_ms), ..RateLimit::default() };
        let shape = Shape::new(&rule);
        // The model counts tokens, in nanoseconds that one takes to come.
        let (token, most) = (shape.interval, shape.interval * u64::from(burst.unwrap_or(requests)));
        prop_assert!(token * u64::from(requests) <= per_ms * 1_000_000);
        let (mut level, mut now, mut full) = (most, 5, 0);
        for (elapsed, takes) in steps {
            now += elapsed;
            level = (level + elapsed).min(most);
            for _ in 0..takes {
                let taken = shape.take(full, now);
                prop_assert_eq!(taken.is_some(), level >= token);
                if let Some(next) = taken {
                    full = next;
                    level -= token;
                }
                let standing = shape.standing(full, now);
                prop_assert_eq!(u64::from(standing.remaining), level / token);
                prop_assert_eq!(standing.reset.as_nanos() as u64, most - level);
                prop_assert_eq!(standing.retry_after.as_nanos() as u64, token.saturating_sub(level));
            }
        }
    }
}
