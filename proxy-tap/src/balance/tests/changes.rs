//! What an upstream does with a change of its endpoints or its rules.

use super::*;
use crate::upstream::Upstream;

fn upstream(told: Vec<policy::Endpoint>) -> Arc<Upstream> {
    let upstream = Upstream::alone("payments", told);
    upstream.balance_by(Rules { balancer: Balancer::RoundRobin, ..Rules::default() });
    upstream
}

fn spread(upstream: &Upstream, n: usize) -> Vec<usize> {
    let (chance, all) = (Chance::new(3, "t"), upstream.endpoints());
    let mut counts = vec![0; all.len()];
    for _ in 0..n {
        let pick = upstream.pick("", &Ask::default(), &chance, Instant::now()).unwrap();
        counts[all.iter().position(|endpoint| Arc::ptr_eq(endpoint, &pick.endpoint)).unwrap()] += 1;
    }
    counts
}

#[test]
fn an_endpoint_that_changes_its_weight_is_the_same() {
    let upstream = upstream(weighing(&[1, 1, 1]));
    let before = upstream.endpoints().to_vec();
    assert_eq!(spread(&upstream, 300), [100, 100, 100]);
    upstream.set(weighing(&[1, 2]));
    let after = upstream.endpoints().to_vec();
    assert!(after.len() == 2 && after.iter().zip(&before).all(|(after, before)| Arc::ptr_eq(after, before)));
    assert_eq!(spread(&upstream, 300), [100, 200]);
    let moved = policy::Endpoint { address: "127.0.0.1:1".into(), ..told(0) };
    upstream.set(vec![moved]);
    assert!(!Arc::ptr_eq(&upstream.endpoints()[0], &before[0]), "another address is another process");
    upstream.set(Vec::new());
    assert!(upstream.pick("", &Ask::default(), &Chance::new(1, ""), Instant::now()).is_none());
}

#[test]
fn new_rules_take_effect_at_once() {
    let far = |i, priority| policy::Endpoint { priority, ..told(i) };
    let upstream = upstream(vec![far(0, 0), far(1, 0), far(2, 1)]);
    assert_eq!(spread(&upstream, 100), [50, 50, 0]);
    let subset = Subset { name: "none".into(), labels: [("a".into(), "b".into())].into(), balancer: None };
    upstream.balance_by(Rules { subsets: vec![subset], ..Rules::default() });
    let chance = Chance::new(1, "");
    assert!(upstream.pick("none", &Ask::default(), &chance, Instant::now()).is_none(), "it has nobody");
    let labelled = policy::Endpoint { labels: [("a".into(), "b".into())].into(), ..told(7) };
    upstream.set(vec![told(0), labelled]);
    let pick = upstream.pick("none", &Ask::default(), &chance, Instant::now()).unwrap();
    assert_eq!(&*pick.endpoint.party.instance, "e7");
}

#[test]
fn a_name_stands_for_one_endpoint_and_ten_thousand_are_taken() {
    let mut told: Vec<_> = (0..limits::PROXY_ENDPOINTS + 5).map(told).collect();
    told.insert(1, told[0].clone());
    let upstream = upstream(told);
    assert_eq!(upstream.endpoints().len(), limits::PROXY_ENDPOINTS);
    assert_eq!(&*upstream.endpoints()[1].party.instance, "e1");
}

#[test]
fn an_ejected_endpoint_is_probed_by_the_schedule_of_its_breaker() {
    let upstream = upstream(weighing(&[1, 1, 1]));
    let bad = Arc::clone(&upstream.endpoints()[0]);
    (0..100).for_each(|_| upstream.result(&bad, failed()));
    assert!(bad.gate.share() <= 0.0, "its breaker is open");
    assert_eq!(spread(&upstream, 200)[0], 0);
    let (chance, later) = (Chance::new(1, ""), Instant::now() + Duration::from_secs(60));
    let probes = (0..10).filter(|_| upstream.pick("", &Ask::default(), &chance, later).unwrap().probe);
    assert_eq!(probes.count(), 1, "one of ten requests at that time");
}

fn failed() -> crate::breaker::Outcome {
    let kind = crate::breaker::Kind::Reset;
    crate::breaker::Outcome { ok: false, latency: Duration::from_millis(1), probe: false, kind }
}

/// The breakers are of the endpoints that there are, and no others.
fn assert_agrees(upstream: &Upstream) {
    let mut names: Vec<_> = upstream.endpoints().iter().map(|e| Arc::clone(&e.party.instance)).collect();
    names.sort();
    let views = upstream.breaker_views(Instant::now());
    assert_eq!(views.iter().filter_map(|view| view.endpoint.clone()).collect::<Vec<_>>(), names);
}

#[test]
fn failures_are_heard_of_while_endpoints_change() {
    let stays = |from| (0..20).chain(from..from + 500).map(told).collect::<Vec<_>>();
    let upstream = upstream(stays(20));
    let bad = Arc::clone(&upstream.endpoints()[0]);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..20).for_each(|n| upstream.set(stays(20 + 50 * n))));
        scope.spawn(|| (0..2_000).for_each(|_| upstream.result(&bad, failed())));
    });
    assert!(
        Arc::ptr_eq(&bad, &upstream.endpoints()[0]) && bad.gate.share() <= 0.0,
        "it stayed and is ejected"
    );
    assert_agrees(&upstream);
}

#[test]
fn changes_at_once_take_turns_and_leave_one_of_them_whole() {
    let upstream = upstream(Vec::new());
    let of = |n: usize| (100 * n..100 * n + 300).map(told).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let upstream = &upstream;
            scope.spawn(move || (0..10).for_each(|n| upstream.set(of(4 * n + thread))));
        }
    });
    assert_agrees(&upstream);
    let first = upstream.endpoints()[0].party.instance[1..].parse::<usize>().unwrap();
    assert!(first >= 3_600, "the last of each thread is one of 36 to 39, and {first} is of none");
    assert_eq!(upstream.endpoints().len(), 300);
    assert_eq!(spread(&upstream, 600).iter().sum::<usize>(), 600);
}

#[test]
fn a_process_that_takes_a_name_over_begins_anew() {
    let upstream = upstream(weighing(&[1, 1, 1]));
    let bad = Arc::clone(&upstream.endpoints()[0]);
    (0..20).for_each(|_| upstream.result(&bad, failed()));
    assert!(bad.gate.share() <= 0.0);
    let moved = policy::Endpoint { address: "127.0.0.1:1".into(), ..told(0) };
    upstream.set(vec![moved, told(1), told(2)]);
    assert_agrees(&upstream);
    assert!(upstream.endpoints()[0].gate.share() >= 1.0);
    assert_eq!(spread(&upstream, 300), [100, 100, 100]);
}
