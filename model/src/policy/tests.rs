use super::destination::{HashKey, ProxyProtocol};
use super::route::{RetryOn, TextMatch};
use super::*;

fn from_json(json: serde_json::Value) -> Policy {
    serde_json::from_value(json).unwrap()
}

#[test]
fn what_is_written_is_what_is_meant() {
    let policy = from_json(serde_json::json!({ "service": [{
        "host": "search",
        "resolve": { "dns": "search.example.com:80" },
        "route": [{
            "name": "beta",
            "match": [{ "path": { "prefix": "/find" }, "headers": { "x-beta": { "present": true } } }],
            "to": [{ "subset": "v2", "weight": 9 }, { "host": "other" }],
            "timeout": "1.5s",
            "retries": { "on": ["5xx", "connect-failure", "retriable-4xx"], "attempts": 3 },
            "fault": { "delay": { "fixed": "10ms", "percent": 0.5 } },
        }],
        "destination": {
            "balancer": { "maglev": { "key": { "header": "x-user" } } },
            "subset": [{ "name": "v2", "labels": { "version": "2" } }],
            "proxy_protocol": "v2",
        },
    }] }));
    assert_eq!(policy.check(), []);
    let service = policy.service("search").unwrap();
    assert_eq!(service.resolve, Resolve::Dns("search.example.com:80".into()));
    let route = &service.routes[0];
    assert_eq!(route.matches[0].path, Some(TextMatch::Prefix("/find".into())));
    assert_eq!((route.to[0].weight, route.to[1].weight), (9, 1));
    assert_eq!(route.timeout, Some(Length::millis(1_500)));
    let on = &route.retries.as_ref().unwrap().on;
    assert_eq!(on[..], [RetryOn::Http5xx, RetryOn::ConnectFailure, RetryOn::Retriable4xx]);
    let key = HashKey::Header("x-user".into());
    assert_eq!(service.destination.balancer, Balancer::Maglev { key, entries: 65_537 });
    assert_eq!(service.destination.proxy_protocol, Some(ProxyProtocol::V2));
    let again: Policy = serde_json::from_value(serde_json::to_value(&policy).unwrap()).unwrap();
    assert_eq!(again, policy);
}

#[test]
fn unknown_fields_and_bad_values_are_errors() {
    for bad in [
        serde_json::json!({ "services": [] }),
        serde_json::json!({ "service": [{ "host": "a", "route": [{ "timeout": "5" }] }] }),
        serde_json::json!({ "service": [{ "host": "a", "route": [{ "retry": {} }] }] }),
        serde_json::json!({ "service": [{ "host": "a", "destination": { "panic_threshold": 101 } }] }),
        serde_json::json!({ "service": [{ "host": "a", "destination": { "balancer": "quickest" } }] }),
    ] {
        assert!(serde_json::from_value::<Policy>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn all_mistakes_are_found_at_once_with_their_paths() {
    let policy = from_json(serde_json::json!({ "service": [
        { "host": "a",
          "route": [
            { "to": [{ "host": "a", "subset": "v9" }], "respond": { "status": 700 } },
            { "match": [{ "path": { "regex": "(" } }], "headers": { "request": { "remove": ["a b"] } } },
            { "to": [{ "host": "elsewhere" }], "rate_limit": [{ "requests": 0 }] },
            { "rewrite": { "path": "/a", "full_path": "/b" }, "rate_limit": [{ "requests": 1, "header": "a b" }] },
          ],
          "endpoint": [{ "address": "nowhere" }],
          "destination": { "balancer": { "maglev": { "key": "source_ip", "entries": 65_536 } },
                           "tls": { "mode": "mutual" } } },
        { "host": "a" },
    ] }));
    let found: Vec<String> = policy.check().iter().map(ToString::to_string).collect();
    for expected in [
        "service[a].endpoint[0]: address: expected host:port",
        "service[a].route[0]: one of to, redirect and respond",
        "service[a].route[0]: to: `a` has no subset `v9`",
        "service[a].route[0]: respond.status: expected 200 to 599",
        "service[a].route[1].match[0]: path: `(`: error: unclosed group",
        "service[a].route[1]: `a b`: expected a header name",
        "service[a].route[2].rate_limit[0]: requests: expected 1 or more",
        "service[a].route[3]: rewrite: one of path, full_path and regex",
        "service[a].route[3].rate_limit[0]: `a b`: expected a header name",
        "service[a].destination: balancer.maglev.entries: expected a prime from 3 to 5000011",
        "service[a].destination: tls: mutual needs ca",
        "service[a].destination: tls: mutual needs cert and key",
        "service[a]: each host once",
    ] {
        assert!(found.iter().any(|line| line == expected), "{expected}\nis not in\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), 13, "{found:#?}");
}

#[test]
fn durations_are_those_of_go() {
    for (text, ms) in [("250ms", 250), ("1.5s", 1_500), ("1h30m", 5_400_000), ("2d", 172_800_000), ("0s", 0)]
    {
        assert_eq!(Length::parse(text), Some(Length::millis(ms)), "{text}");
        assert_eq!(Length::parse(&Length::millis(ms).to_string()), Some(Length::millis(ms)));
    }
    for bad in ["", "5", "s", "-1s", "1y", "1s2", "1..2s", "400d"] {
        assert_eq!(Length::parse(bad), None, "{bad}");
    }
}

#[test]
fn labels_select_endpoints_and_the_version_is_one() {
    let endpoint = Endpoint {
        version: "2".into(),
        labels: [("track".to_owned(), "canary".to_owned())].into(),
        ..Endpoint::default()
    };
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    assert!(endpoint.has(&labels(&[("version", "2"), ("track", "canary")])));
    assert!(!endpoint.has(&labels(&[("version", "1")])));
    assert!(!endpoint.has(&labels(&[("region", "eu")])));
    assert!(endpoint.has(&labels(&[])));
}
