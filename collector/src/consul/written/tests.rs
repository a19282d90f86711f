use serde_json::json;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

fn service_of(body: &Value) -> Result<(ServiceDefinition, Vec<NewCheck>), Refused> {
    service(body.to_string().as_bytes(), PEER)
}

fn refusal(body: &Value) -> String {
    service_of(body).unwrap_err().to_string()
}

#[test]
fn names_of_fields_are_taken_in_any_case_and_with_underscores() {
    let go = json!({
        "ID": "web-1", "Name": "web", "Tags": ["a"], "Address": "10.0.0.1", "Port": 80,
        "Meta": { "Some_Key": "v" }, "EnableTagOverride": true, "Weights": { "Passing": 5, "Warning": 2 },
        "TaggedAddresses": { "lan": { "Address": "10.0.0.2", "Port": 81 } }, "Check": null, "Connect": null,
        "Checks": [{ "HTTP": "http://10.0.0.1/", "Interval": "10s", "Timeout": "250ms", "TLSSkipVerify": true,
            "Header": { "X-A": ["1", "2"] }, "DeregisterCriticalServiceAfter": "10m", "Status": "passing" }],
    });
    let python = json!({
        "id": "web-1", "name": "web", "tags": ["a"], "address": "10.0.0.1", "port": 80,
        "meta": { "Some_Key": "v" }, "enable_tag_override": true, "weights": { "passing": 5, "warning": 2 },
        "tagged_addresses": { "lan": { "address": "10.0.0.2", "port": 81 } }, "kind": "",
        "checks": [{ "http": "http://10.0.0.1/", "interval": 10_000_000_000_u64, "timeout": "250ms",
            "tls_skip_verify": true, "header": { "X-A": ["1", "2"] },
            "deregister_critical_service_after": "10m", "status": "passing" }],
    });
    let (definition, checks) = service_of(&go).unwrap();
    assert_eq!(service_of(&python).unwrap(), (definition.clone(), checks.clone()));
    assert_eq!(definition.weights, Weights { passing: 5, warning: 2 });
    assert_eq!(definition.meta["Some_Key"], "v");
    let check = &checks[0].definition;
    assert_eq!((check.id.as_str(), check.service_id.as_str()), ("service:web-1", "web-1"));
    assert_eq!(check.kind.timing(), Some((Duration::from_secs(10), Duration::from_millis(250))));
    assert_eq!(check.deregister_after, Some(Duration::from_secs(600)));
    assert_eq!(checks[0].status, Status::Passing);
}

#[test]
fn what_is_left_out_has_consuls_defaults() {
    let (definition, checks) = service_of(
        &json!({ "Name": "web", "Checks": [{ "TTL": "5s" }, {}, { "TCP": "a:1", "Interval": "1ms" }] }),
    )
    .unwrap();
    assert_eq!((definition.id.as_str(), definition.address.as_str()), ("web", "10.0.0.9"));
    assert_eq!(definition.weights, Weights { passing: 1, warning: 1 });
    let ids: Vec<_> = checks.iter().map(|check| check.definition.id.as_str()).collect();
    assert_eq!(ids, ["service:web:1", "service:web:2"], "the empty one is passed over");
    assert_eq!(checks[0].status, Status::Critical);
    assert_eq!(checks[1].definition.kind.timing(), Some((limits::AGENT_INTERVAL, limits::AGENT_TIMEOUT)));
    let short = json!({ "Name": "n", "TTL": "5s", "DeregisterCriticalServiceAfter": "1s" });
    let alone = check(short.to_string().as_bytes()).unwrap();
    assert_eq!((alone.definition.id.as_str(), alone.definition.service_id.as_str()), ("n", ""));
    assert_eq!(alone.definition.deregister_after, Some(limits::AGENT_DEREGISTER));
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let with = |check: Value| json!({ "Name": "web", "Check": check });
    let tags = vec!["t"; limits::AGENT_TAGS + 1];
    for (body, said) in [
        (json!({ "ID": "x" }), "Missing service name"),
        (json!({ "Name": "web", "Address": "0.0.0.0" }), "Invalid service address"),
        (
            json!({ "Name": "web", "Port": 70_000 }),
            "Request decode failed: invalid value: integer `70000`, expected u16",
        ),
        (json!([]), "Request decode failed: a JSON object is expected"),
        (json!({ "Name": "web", "Tags": tags }), "there are more than 64 tags"),
        (
            json!({ "Name": "web", "Meta": { "a b": "" } }),
            "Invalid Service Meta: key \"a b\" is not 1 to 128 letters, digits, `-` and `_`",
        ),
        (
            json!({ "Name": "web", "Weights": { "Passing": 0 } }),
            "Invalid Weight definition: `Passing` must be above 0",
        ),
        (
            json!({ "Name": "web", "Kind": "connect-proxy" }),
            "`Kind`: proxies and gateways of Consul's own mesh are not registered here",
        ),
        (
            json!({ "Name": "web", "Connect": { "SidecarService": {} } }),
            "`Connect`: services of Consul's own mesh are not registered here",
        ),
        (
            with(json!({ "GRPC": "a:1", "Interval": "1s" })),
            "Invalid check: gRPC checks are not run here; TTL, HTTP and TCP checks are",
        ),
        (
            with(json!({ "Args": ["true"], "Interval": "1s" })),
            "Invalid check: script checks are not run here; TTL, HTTP and TCP checks are",
        ),
        (with(json!({ "HTTP": "http://a/" })), "Invalid check: Interval must be > 0 for HTTP and TCP checks"),
        (
            with(json!({ "HTTP": "ftp://a/", "Interval": "1s" })),
            "Invalid check: `ftp://a/` begins with neither `http://` nor `https://`",
        ),
        (with(json!({ "TCP": "a", "Interval": "1s" })), "Invalid check: `a` is not of the form `host:port`"),
        (
            with(json!({ "TTL": "1s", "Interval": "1s" })),
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (
            with(json!({ "TTL": "1s", "TCP": "a:1" })),
            "Invalid check: only one of TTL, HTTP and TCP can be specified",
        ),
        (with(json!({ "Name": "c" })), "Invalid check: TTL must be > 0 for TTL checks"),
        (with(json!({ "TTL": "soon" })), "Request decode failed: `soon` is no duration such as `10s`"),
        (
            with(json!({ "TTL": "1s", "Status": "fine" })),
            "Invalid check: status `fine` is none of passing, warning, critical",
        ),
        (
            with(json!({ "HTTP": "http://a/", "Interval": "1s", "Header": { "a": ["\n"] } })),
            "Invalid check: `a` is no header, or its value cannot be sent",
        ),
    ] {
        assert_eq!(refusal(&body), said, "{body}");
    }
    assert_eq!(check(b"{\"TTL\": \"1s\"}").unwrap_err().to_string(), "Missing check name");
    assert_eq!(update(b"{\"Status\": \"ok\"}").unwrap_err().to_string(), "Invalid check status: 'ok'");
    assert_eq!(
        update(b"{\"Status\": \"warning\", \"Output\": \"hm\"}").unwrap(),
        (Status::Warning, "hm".to_owned())
    );
}
