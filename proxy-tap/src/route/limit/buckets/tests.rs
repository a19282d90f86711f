use super::*;

#[test]
fn any_number_of_keys_takes_bounded_memory_and_those_in_use_are_kept() {
    let buckets = Buckets::new(Instant::now());
    let rule = buckets.rule("rule");
    let key = |n: u32| buckets.key(rule, [HeaderValue::from(n)].iter(), "");
    let busy = key(u32::MAX);
    for n in 0..300_000 {
        buckets.with(key(n), |full| *full = 1);
        if n % 100 == 0 {
            buckets.with(busy, |full| *full += 1);
        }
    }
    let kept = buckets.kept();
    assert!((limits::RATE_LIMIT_KEYS / 2..=limits::RATE_LIMIT_KEYS).contains(&kept), "{kept}");
    assert_eq!(buckets.with(busy, |full| *full), 3_000);
    assert_eq!(buckets.with(key(0), |full| *full), 0);
    assert_eq!(buckets.with(key(299_999), |full| *full), 1);
}

#[test]
fn keys_tell_rules_callers_and_values_apart() {
    let buckets = Buckets::new(Instant::now());
    let of = |rule: &str, values: &[&str], source| {
        let values: Vec<_> = values.iter().map(|value| HeaderValue::from_str(value).unwrap()).collect();
        buckets.key(buckets.rule(rule), values.iter(), source)
    };
    let keys = [
        of("a", &[], ""),
        of("b", &[], ""),
        of("a", &["x"], ""),
        of("a", &[], "x"),
        of("a", &["x", "y"], ""),
        of("a", &["xy"], ""),
        of("a", &["x,y"], ""),
    ];
    assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), keys.len());
    assert_eq!(of("a", &["x"], "s"), of("a", &["x"], "s"));
}

#[test]
fn buckets_of_rules_that_are_gone_are_forgotten() {
    let buckets = Buckets::new(Instant::now());
    let kept = buckets.single("kept");
    for n in 0..10_000 {
        drop(buckets.single(&n.to_string()));
    }
    assert!(buckets.singles.lock().unwrap().len() < 100);
    assert!(Arc::ptr_eq(&kept, &buckets.single("kept")));
}
