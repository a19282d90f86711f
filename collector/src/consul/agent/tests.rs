use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::written;
use super::*;

/// Registers what `body` says.
fn register(agent: &mut Agent, body: &Value, replace: bool, now: Instant) -> Result<(), Refused> {
    let peer = IpAddr::from([127, 0, 0, 1]);
    let body = body.to_string();
    let (definition, checks) = written::service(body.as_bytes(), peer).unwrap();
    agent.register(definition, checks, replace, body.len(), now)
}

fn ttl(id: &str, name: &str) -> Value {
    json!({ "ID": id, "Name": name, "Port": 80, "Check": { "TTL": "10s" } })
}

/// Whether proxies are told of `id` by the news, or nothing where there are none of it.
fn told(agent: &mut Agent, id: &str) -> Option<bool> {
    agent.news().iter().rfind(|news| news.instance == id).map(|news| news.endpoint.is_some())
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_instance_is_told_of_while_its_worst_check_is_not_critical() {
    let now = Instant::now();
    let mut agent = Agent::default();
    let two = json!({ "ID": "a-1", "Name": "a", "Port": 80, "Checks": [{ "TTL": "10s" }, { "TTL": "10s" }] });
    register(&mut agent, &two, false, now).unwrap();
    assert_eq!(told(&mut agent, "a-1"), Some(false));
    agent.report("service:a-1:1", Status::Passing, String::new(), now).unwrap();
    assert_eq!(told(&mut agent, "a-1"), Some(false));
    agent.report("service:a-1:2", Status::Warning, String::new(), now).unwrap();
    assert_eq!(told(&mut agent, "a-1"), Some(true), "a warning takes nothing out");
    agent.report("service:a-1:2", Status::Warning, "still".into(), now).unwrap();
    assert_eq!(told(&mut agent, "a-1"), None, "another output is no news");
    agent.report("service:a-1:1", Status::Critical, String::new(), now).unwrap();
    assert_eq!(told(&mut agent, "a-1"), Some(false));
    agent.deregister_check("service:a-1:1").unwrap();
    assert_eq!(told(&mut agent, "a-1"), Some(true));
}

#[tokio::test]
async fn a_check_that_nobody_reports_turns_critical_and_says_what_it_said_last() {
    let start = Instant::now();
    let mut agent = Agent::default();
    register(&mut agent, &ttl("a-1", "a"), false, start).unwrap();
    agent.report("service:a-1", Status::Passing, "fine".into(), start + 5 * SECOND).unwrap();
    agent.expire(start + 14 * SECOND);
    assert_eq!(agent.checks().next().unwrap().status, Status::Passing);
    agent.news();
    agent.expire(start + 15 * SECOND);
    assert_eq!(told(&mut agent, "a-1"), Some(false));
    let check = agent.checks().next().unwrap();
    assert_eq!(check.output, "TTL expired (last output before timeout follows): fine");
    agent.expire(start + 60 * SECOND);
    assert_eq!(agent.news(), [], "it lapses once");
}

#[tokio::test]
async fn what_is_critical_for_as_long_as_it_may_be_is_deregistered() {
    let start = Instant::now();
    let mut agent = Agent::default();
    let body = json!({ "Name": "a", "Port": 80,
        "Check": { "TTL": "10s", "DeregisterCriticalServiceAfter": "2m", "Status": "passing" } });
    register(&mut agent, &body, false, start).unwrap();
    agent.expire(start + 10 * SECOND);
    agent.expire(start + 129 * SECOND);
    assert_eq!(agent.services().count(), 1);
    agent.news();
    agent.expire(start + 130 * SECOND);
    assert_eq!((agent.services().count(), agent.checks().count(), agent.bytes), (0, 0, 0));
    let gone = News { service: "a".into(), instance: "a".into(), endpoint: None, listed: true };
    assert_eq!(agent.news(), [gone]);
}

#[tokio::test]
async fn registering_again_keeps_the_status_and_may_replace_checks() {
    let now = Instant::now();
    let mut agent = Agent::default();
    register(&mut agent, &ttl("a-1", "a"), false, now).unwrap();
    agent.report("service:a-1", Status::Passing, "fine".into(), now).unwrap();
    register(&mut agent, &ttl("a-1", "a"), false, now).unwrap();
    assert_eq!(agent.checks().next().unwrap().status, Status::Passing);

    let extra = json!({ "Name": "extra", "ServiceID": "a-1", "TTL": "1s" }).to_string();
    agent.register_check(written::check(extra.as_bytes()).unwrap(), extra.len(), now).unwrap();
    register(&mut agent, &ttl("a-1", "a"), false, now).unwrap();
    assert_eq!(agent.checks().count(), 2);
    register(&mut agent, &ttl("a-1", "a"), true, now).unwrap();
    assert_eq!(agent.checks().count(), 1);

    agent.news();
    register(&mut agent, &ttl("a-1", "b"), false, now).unwrap();
    let news: Vec<_> = agent.news().into_iter().map(|news| (news.service, news.endpoint.is_some())).collect();
    assert_eq!(news, [("a".to_owned(), false), ("b".to_owned(), true)]);
    assert_eq!(agent.instances("a").count(), 0);
}

#[tokio::test]
async fn checks_are_due_in_turn_and_an_old_result_counts_for_nothing() {
    let start = Instant::now();
    let mut agent = Agent::default();
    let body = |interval: &str| json!({ "Name": "a", "Port": 80, "Check": { "TCP": "127.0.0.1:1", "Interval": interval } });
    register(&mut agent, &body("5s"), false, start).unwrap();
    let first = agent.due(start, 10).remove(0);
    assert!(agent.due(start + 60 * SECOND, 10).is_empty(), "it is running");
    agent.found(&first, Status::Passing, "yes".into(), start + SECOND);
    assert_eq!(told(&mut agent, "a"), Some(true));
    assert!(agent.due(start + 5 * SECOND, 10).is_empty());
    assert!(agent.due(start + 6 * SECOND, 0).is_empty(), "there is no room");
    let second = agent.due(start + 6 * SECOND, 10).remove(0);
    register(&mut agent, &body("9s"), false, start).unwrap();
    agent.news();
    agent.found(&second, Status::Critical, "no".into(), start + 7 * SECOND);
    assert_eq!(told(&mut agent, "a"), None);
}

#[tokio::test]
async fn it_takes_as_many_results_in_a_row_as_the_check_says() {
    let start = Instant::now();
    let mut agent = Agent::default();
    let body = json!({ "Name": "a", "Check": { "TCP": "127.0.0.1:1", "Interval": "1s", "SuccessBeforePassing": 2,
        "FailuresBeforeWarning": 2, "FailuresBeforeCritical": 3 } });
    register(&mut agent, &body, false, start).unwrap();
    use Status::{Critical, Passing, Warning};
    let results = [Passing, Passing, Critical, Critical, Passing, Critical, Critical, Critical];
    let statuses = [Critical, Passing, Passing, Warning, Warning, Warning, Warning, Critical];
    for (step, (result, status)) in results.into_iter().zip(statuses).enumerate() {
        let now = start + 2 * SECOND * step as u32;
        let due = agent.due(now, 1).remove(0);
        agent.found(&due, result, String::new(), now);
        assert_eq!(agent.checks().next().unwrap().status, status, "step {step}");
    }
}

#[tokio::test]
async fn what_is_restored_is_as_it_was() {
    let start = Instant::now();
    let mut agent = Agent::default();
    for id in ["a-1", "a-2"] {
        register(&mut agent, &ttl(id, "a"), false, start).unwrap();
    }
    agent.report("service:a-1", Status::Passing, "fine".into(), start).unwrap();
    let probed = json!({ "Name": "b", "Port": 1,
        "Check": { "TCP": "127.0.0.1:1", "Interval": "10s", "Status": "passing" } });
    register(&mut agent, &probed, false, start).unwrap();
    let saved = agent.saved();
    let written = serde_json::to_vec(&saved).unwrap();
    let read: Saved = serde_json::from_slice(&written).unwrap();
    assert_eq!(read, saved);

    let later = start + 1_000 * SECOND;
    let mut restored = Agent::restored(read, later, || 0.5);
    assert_eq!(restored.saved(), saved);
    assert_eq!(restored.bytes, agent.bytes);
    let told: Vec<_> = restored
        .news()
        .into_iter()
        .map(|news| (news.instance, news.endpoint.is_some(), news.listed))
        .collect();
    let expected = [("a-1", true, true), ("a-2", false, true), ("b", true, true)];
    assert_eq!(told, expected.map(|(id, endpoint, listed)| (id.to_owned(), endpoint, listed)));
    assert!(restored.due(later + 4 * SECOND, 10).is_empty());
    assert_eq!(restored.due(later + 5 * SECOND, 10).len(), 1);
    restored.expire(later + 9 * SECOND);
    assert!(restored.news().is_empty(), "who reports has the time of a new registration");
}

#[tokio::test]
async fn there_is_an_end_to_what_is_taken() {
    let now = Instant::now();
    let mut agent = Agent::default();
    for number in 0..limits::AGENT_SERVICES {
        register(&mut agent, &json!({ "ID": format!("a-{number}"), "Name": "a" }), false, now).unwrap();
    }
    let full = register(&mut agent, &json!({ "Name": "b" }), false, now);
    assert_eq!(full.unwrap_err().to_string(), "there is no room for more: 10000 services are the most");
    register(&mut agent, &json!({ "ID": "a-7", "Name": "b" }), false, now).unwrap();

    let mut agent = Agent::default();
    let (definition, _) = written::service(b"{\"Name\": \"a\"}", IpAddr::from([127, 0, 0, 1])).unwrap();
    let taken = agent.register(definition.clone(), vec![], false, limits::AGENT_BYTES, now);
    taken.unwrap();
    let other = ServiceDefinition { id: "other".into(), ..definition };
    assert!(matches!(agent.register(other, vec![], false, 1, now), Err(Refused::Full { .. })));
}

#[test]
fn proxies_are_told_of_what_they_can_use() {
    let of = |body: Value| {
        let read = written::service(body.to_string().as_bytes(), IpAddr::from([10, 0, 0, 9])).unwrap();
        endpoint_of(&read.0, Status::Passing)
    };
    let full = of(json!({ "ID": "a-1", "Name": "a", "Address": "2001:db8::1", "Port": 80,
        "Meta": { "version": "v2", "zone": "z", "protocol": "grpc", "team": "x" } }))
    .unwrap();
    assert_eq!(full.address, "[2001:db8::1]:80");
    assert_eq!((full.version.as_str(), full.zone.as_str(), full.protocol.as_str()), ("v2", "z", "grpc"));
    assert_eq!(full.labels["team"], "x");
    let plain = of(json!({ "Name": "a", "Port": 80, "Meta": { "protocol": "smoke signals" } })).unwrap();
    assert_eq!((plain.address.as_str(), plain.protocol.as_str()), ("10.0.0.9:80", "http"));
    assert_eq!(of(json!({ "Name": "a" })), None, "there is no port");
    assert_eq!(of(json!({ "ID": "a;b", "Name": "a", "Port": 80 })), None);
    let placed = of(json!({ "Name": "a", "Port": 80, "Locality": { "Region": "eu", "Zone": "eu-1" },
        "Meta": { "region": "us", "namespace": "shop" } }))
    .unwrap();
    assert_eq!((&*placed.region, &*placed.zone, &*placed.namespace), ("eu", "eu-1", "shop"));
}

#[tokio::test]
async fn an_instance_weighs_what_its_health_says() {
    let now = Instant::now();
    let mut agent = Agent::default();
    let body = json!({ "ID": "a", "Name": "a", "Port": 80, "Weights": { "Passing": 7, "Warning": 0 },
        "Check": { "TTL": "5s", "Status": "passing" } });
    register(&mut agent, &body, false, now).unwrap();
    let mut weights = vec![];
    for status in [Status::Passing, Status::Warning, Status::Critical, Status::Passing] {
        agent.report("service:a", status, String::new(), now).unwrap();
        weights
            .extend(agent.news().into_iter().map(|news| news.endpoint.and_then(|endpoint| endpoint.weight)));
    }
    assert_eq!(weights, [Some(7), Some(0), None, Some(7)]);
}

#[derive(Debug, Clone)]
enum Step {
    Register(usize, usize, bool),
    Check(usize, usize),
    Report(usize, Status),
    Deregister(usize),
    DeregisterCheck(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![Just(Status::Passing), Just(Status::Warning), Just(Status::Critical)];
    prop_oneof![
        (0_usize..4, 0_usize..3, any::<bool>()).prop_map(|(i, s, r)| Step::Register(i, s, r)),
        (0_usize..4, 0_usize..4).prop_map(|(c, i)| Step::Check(c, i)),
        (0_usize..8, status).prop_map(|(c, s)| Step::Report(c, s)),
        (0_usize..4).prop_map(Step::Deregister),
        (0_usize..8).prop_map(Step::DeregisterCheck),
        (0_u64..15).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens, the mesh knows from the news exactly those instances that are not critical, and nothing of
    /// what has gone is held.
    #[test]
    fn the_mesh_knows_what_is_not_critical(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut now = runtime.block_on(async { Instant::now() });
        let mut agent = Agent::default();
        let mut mesh: BTreeSet<(String, String)> = BTreeSet::new();
        for step in steps {
            let id = |number: usize| match number {
                0..4 => format!("service:i{number}"),
                _ => format!("c{}", number - 4),
            };
            match step {
                Step::Register(instance, service, replace) => {
                    let body = ttl(&format!("i{instance}"), &format!("s{service}"));
                    register(&mut agent, &body, replace, now).unwrap();
                }
                Step::Check(check, instance) => {
                    let body = json!({ "ID": format!("c{check}"), "Name": "c", "TTL": "5s",
                        "ServiceID": format!("i{instance}") }).to_string();
                    let _ = agent.register_check(written::check(body.as_bytes()).unwrap(), body.len(), now);
                }
                Step::Report(check, status) => drop(agent.report(&id(check), status, String::new(), now)),
                Step::Deregister(instance) => drop(agent.deregister(&format!("i{instance}"))),
                Step::DeregisterCheck(check) => drop(agent.deregister_check(&id(check))),
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    agent.expire(now);
                }
            }
            for News { service, instance, endpoint, .. } in agent.news() {
                match endpoint {
                    Some(_) => mesh.insert((service, instance)),
                    None => mesh.remove(&(service, instance)),
                };
            }
            let well: BTreeSet<_> = agent
                .services()
                .filter(|service| agent.status(service) != Status::Critical)
                .map(|service| (service.definition.name.clone(), service.definition.id.clone()))
                .collect();
            prop_assert_eq!(&mesh, &well);
            let listed: usize = agent.services().map(|service| agent.checks_of(service).count()).sum();
            prop_assert_eq!(listed, agent.checks().count());
            let bytes: usize = agent.services().map(|service| service.bytes).sum::<usize>()
                + agent.checks().map(|check| check.bytes).sum::<usize>();
            prop_assert_eq!(bytes, agent.bytes);
        }
    }
}
