use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn registration(instance: &str, service: &str) -> Registration {
    Registration {
        instance: instance.into(),
        service: service.into(),
        address: format!("127.0.0.1:{}", instance.len()),
        protocol: "http".into(),
        ..Registration::default()
    }
}

fn instances(registry: &Registry, service: &str, now: Instant) -> Option<Vec<String>> {
    let view = registry.view(service, now)?;
    Some(view.endpoints.into_iter().map(|endpoint| endpoint.instance).collect())
}

#[tokio::test]
async fn an_endpoint_that_stays_away_is_removed_after_the_grace() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    registry.register(1, &registration("a-1", "a"), start).unwrap();
    let before_grace_ends = start + limits::REGISTRATION_GRACE - Duration::from_millis(1);
    registry.expire(before_grace_ends);
    assert_eq!(instances(&registry, "a", before_grace_ends), Some(vec!["a-1".into()]));
    let after = start + limits::REGISTRATION_GRACE;
    registry.expire(after);
    assert_eq!(instances(&registry, "a", after), Some(vec![]));
}

#[tokio::test]
async fn renewals_keep_an_endpoint_and_a_withdrawal_removes_it_at_once() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    registry.register(1, &registration("a-1", "a"), start).unwrap();
    for tick in 1..=20 {
        let now = start + limits::REGISTRATION_RENEW * tick;
        assert!(registry.renew(1, "a-1", now));
        registry.expire(now);
        assert_eq!(instances(&registry, "a", now).unwrap().len(), 1);
    }
    let now = start + limits::REGISTRATION_RENEW * 20;
    registry.withdraw(1, "a-1", now);
    assert_eq!(instances(&registry, "a", now), Some(vec![]));
}

#[tokio::test]
async fn the_latest_stream_owns_an_instance() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    registry.register(2, &registration("a-1", "a"), start).unwrap();
    registry.register(1, &registration("a-1", "a"), start).unwrap();
    registry.withdraw(1, "a-1", start);
    assert!(!registry.renew(1, "a-1", start));
    assert_eq!(instances(&registry, "a", start).unwrap().len(), 1);
    assert!(registry.renew(2, "a-1", start));
}

#[tokio::test]
async fn a_restarted_registry_waits_before_it_speaks() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 2);
    assert_eq!(instances(&registry, "a", start), None, "nobody has had time to register");
    registry.register(1, &registration("a-1", "a"), start).unwrap();
    let second = start + Duration::from_secs(1);
    assert_eq!(instances(&registry, "a", second), None);
    registry.register(2, &registration("a-2", "a"), second).unwrap();
    let settled = second + limits::REGISTRATION_SETTLE;
    assert_eq!(instances(&registry, "a", settled).unwrap().len(), 2);
    assert_eq!(instances(&registry, "b", settled), None);
    assert_eq!(instances(&registry, "b", start + limits::REGISTRATION_GRACE), Some(vec![]));
}

#[tokio::test]
async fn a_client_without_a_listener_is_no_endpoint() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    let client = Registration { address: String::new(), ..registration("web-1", "web") };
    registry.register(1, &client, start).unwrap();
    assert_eq!(registry.len(), 1);
    assert!(registry.services().is_empty());
}

#[tokio::test]
async fn where_an_endpoint_is_and_what_it_takes_is_told_as_registered() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    let told = |registry: &Registry| registry.view("a", start).unwrap().endpoints.remove(0);
    registry.register(1, &registration("a-1", "a"), start).unwrap();
    assert_eq!(told(&registry).weight, None);
    let placed = Registration {
        region: "eu".into(),
        namespace: "shop".into(),
        weight: Some(0),
        priority: 2,
        ..registration("a-1", "a")
    };
    let before = registry.index("a");
    registry.register(1, &placed, start).unwrap();
    assert!(registry.index("a") > before, "another weight is news");
    let told = told(&registry);
    assert_eq!((&*told.region, &*told.namespace, told.weight, told.priority), ("eu", "shop", Some(0), 2));
}

fn announced(instance: &str) -> Endpoint {
    Endpoint { instance: instance.into(), address: "10.0.0.1:80".into(), ..Endpoint::default() }
}

#[tokio::test]
async fn an_endpoint_that_was_announced_stays_until_it_is_retracted() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    registry.announce("a", announced("a-1"), start);
    let later = start + limits::REGISTRATION_EXPIRY * 100;
    registry.expire(later);
    assert_eq!(instances(&registry, "a", later), Some(vec!["a-1".into()]));
    let index = registry.index("a");
    registry.announce("a", announced("a-1"), later);
    assert_eq!(registry.index("a"), index, "nothing is new");
    registry.retract("a", "a-1", later);
    assert_eq!(registry.view("a", later), Some(View { version: 0, endpoints: vec![] }));
    assert!(registry.index("a") > index);
}

#[tokio::test]
async fn an_instance_that_registered_itself_hides_the_one_announced_under_its_name() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    registry.announce("a", announced("a-1"), start);
    registry.register(1, &registration("a-1", "a"), start).unwrap();
    let address = |registry: &Registry| registry.view("a", start).unwrap().endpoints[0].address.clone();
    assert_eq!(address(&registry), "127.0.0.1:3");
    registry.withdraw(1, "a-1", start);
    assert_eq!(address(&registry), "10.0.0.1:80");
}

#[tokio::test]
async fn numbers_only_rise_even_when_a_service_is_forgotten_and_over_restarts() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    registry.register(1, &registration("a-1", "a"), start).unwrap();
    registry.withdraw(1, "a-1", start);
    let (gone, other) = (registry.index("a"), registry.index("never"));
    registry.expire(start + limits::REGISTRATION_GRACE);
    assert!(registry.services.is_empty());
    assert_eq!(registry.index("a"), gone, "who waits for a change of it is not woken");
    assert!(registry.index("never") >= other);
    registry.register(2, &registration("a-1", "a"), start).unwrap();
    assert!(registry.index("a") > gone);
    assert_eq!(registry.list_index(), registry.index("a"));
    assert!(Registry::new(start, 2).index("a") > registry.last_index());
}

#[tokio::test]
async fn bad_registrations_are_refused_with_a_reason() {
    let start = Instant::now();
    let mut registry = Registry::new(start, 1);
    let long = "x".repeat(limits::REGISTRATION_TEXT_BYTES + 1);
    let cases = [
        (registration("", "a"), "registration has no `instance`"),
        (registration("a-1", ""), "registration has no `service`"),
        (registration(&long, "a"), "registration's `instance` is longer than 256 bytes"),
        (
            Registration {
                upstreams: vec!["u".into(); limits::REGISTRATION_UPSTREAMS + 1],
                ..registration("a-1", "a")
            },
            "registration has more than 1024 `upstreams`",
        ),
        (
            Registration { weight: Some(65_536), ..registration("a-1", "a") },
            "registration's `weight` is above 65535",
        ),
        (
            Registration { priority: 65_536, ..registration("a-1", "a") },
            "registration's `priority` is above 65535",
        ),
    ];
    for (registration, expected) in cases {
        assert_eq!(registry.register(1, &registration, start).unwrap_err().to_string(), expected);
    }
    for number in 0..limits::REGISTRY_ENDPOINTS {
        registry.register(1, &registration(&format!("a-{number}"), "a"), start).unwrap();
    }
    assert_eq!(registry.register(1, &registration("one-more", "a"), start), Err(BadRegistration::Full));
    assert_eq!(registry.register(1, &registration("a-0", "a"), start), Ok(()));
}

#[derive(Debug, Clone)]
enum Step {
    Register(u64, usize, usize),
    Renew(u64, usize),
    Withdraw(u64, usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..4, 0_usize..4, 0_usize..3).prop_map(|(s, i, v)| Step::Register(s, i, v)),
        (0_u64..4, 0_usize..4).prop_map(|(s, i)| Step::Renew(s, i)),
        (0_u64..4, 0_usize..4).prop_map(|(s, i)| Step::Withdraw(s, i)),
        (0_u64..15).prop_map(Step::Wait),
    ]
}

proptest! {
    /// The registry against a model that keeps (owner, service, last renewal) per instance and looks
    /// through all of it each time.
    #[test]
    fn behaves_as_its_model(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let start = runtime.block_on(async { Instant::now() });
        let mut now = start;
        let mut registry = Registry::new(start, 1);
        let mut model: BTreeMap<String, (u64, String, Instant)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Register(stream, instance, service) => {
                    let (instance, service) = (format!("i{instance}"), format!("s{service}"));
                    registry.register(stream, &registration(&instance, &service), now).unwrap();
                    if model.get(&instance).is_none_or(|(owner, ..)| *owner <= stream) {
                        model.insert(instance, (stream, service, now));
                    }
                }
                Step::Renew(stream, instance) => {
                    let instance = format!("i{instance}");
                    registry.renew(stream, &instance, now);
                    if let Some(entry) = model.get_mut(&instance).filter(|entry| entry.0 == stream) {
                        entry.2 = now;
                    }
                }
                Step::Withdraw(stream, instance) => {
                    let instance = format!("i{instance}");
                    registry.withdraw(stream, &instance, now);
                    if model.get(&instance).is_some_and(|entry| entry.0 == stream) {
                        model.remove(&instance);
                    }
                }
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    registry.expire(now);
                    if now.duration_since(start) >= limits::REGISTRATION_GRACE {
                        model.retain(|_, entry| now.duration_since(entry.2) < limits::REGISTRATION_EXPIRY);
                    }
                }
            }
            for service in ["s0", "s1", "s2"] {
                let expected: Vec<String> =
                    model.iter().filter(|(_, e)| e.1 == service).map(|(i, _)| i.clone()).collect();
                prop_assert_eq!(instances(&registry, service, now), Some(expected));
            }
        }
    }
}
