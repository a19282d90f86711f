mod example;

use super::*;

fn args() -> ProxyArgs {
    ProxyArgs { service: "cart".into(), app: Some("127.0.0.1:8080".into()), ..ProxyArgs::default() }
}

#[test]
fn a_name_of_the_dns_that_is_none_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    let written = "[[service]]\nhost = \"a\"\nresolve = { dns = \"a.example.com\" }\n\
                   [[service]]\nhost = \"b\"\nresolve = { srv = \"_http._tcp.b.example.com\" }\n";
    std::fs::write(&file, written).unwrap();
    let mistakes = ProxyArgs { policy: Some(file.clone()), ..args() }.into_config().unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert_eq!(mistakes[0].flag, format!("--policy {}#service[a].resolve", file.display()));
    assert!(mistakes[0].expected.ends_with("(it is `a.example.com`)"), "{mistakes:?}");
}

#[test]
fn files_of_a_policy_that_cannot_be_used_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let (file, ca) = (folder.path().join("policy.toml"), folder.path().join("ca.pem"));
    std::fs::write(&ca, "no certificate").unwrap();
    let tls = |host: &str, told: &str| {
        format!("[[service]]\nhost = \"{host}\"\n[service.destination.tls]\n{told}\n")
    };
    let written = [
        tls("a", &format!("mode = \"simple\"\nca = {ca:?}")),
        tls("b", "mode = \"simple\"\nca = \"/nowhere/ca.pem\""),
        tls("c", "mode = \"mesh_mutual\""),
    ];
    std::fs::write(&file, written.concat()).unwrap();
    let args = ProxyArgs { policy: Some(file.clone()), ..args() };
    let told: Vec<_> = args.into_config().unwrap_err().iter().map(ToString::to_string).collect();
    let of = |place: &str| format!("--policy {}#service{place}", file.display());
    assert!(told[0].starts_with(&of("[a].destination.tls.ca: ")), "{told:?}");
    assert!(told[0].contains(&format!("`{}`: no certificate in PEM", ca.display())), "{told:?}");
    assert!(told[1].starts_with(&of("[b].destination.tls.ca: ")), "{told:?}");
    assert!(told[1].contains("`/nowhere/ca.pem`: No such file"), "{told:?}");
    assert!(told[2].starts_with(&of("[c].destination.tls.mode: ")), "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn defaults_are_a_working_proxy() {
    let config = args().into_config().unwrap();
    assert_eq!(config.inbound, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.collector.as_deref(), Some("127.0.0.1:4317"));
    assert_eq!(config.retry, RetryPolicy { limit: 2, budget_pct: 20.0 });
    assert!(config.local_breaker);
    assert_eq!((config.weight, config.priority), (1, 0));
}

#[test]
fn labels_have_a_name_and_may_have_no_value() {
    let label = vec!["track=canary".into(), "beta=".into()];
    let config = ProxyArgs { label, weight: "0".into(), ..args() }.into_config().unwrap();
    let expected =
        [("beta", ""), ("track", "canary")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((config.labels, config.weight), (expected.into(), 0));
}

#[test]
fn all_mistakes_are_told_at_once_with_their_flags() {
    let mistakes = ProxyArgs {
        app: Some("nowhere".into()),
        inbound: Some("x".into()),
        outbound: vec!["payments".into(), "a=127.0.0.1:0".into(), "a=127.0.0.1:1".into()],
        collector: "host:".into(),
        protocol: "soap".into(),
        timeout: "0s".into(),
        retries: "-1".into(),
        retry_budget: "101".into(),
        local_breaker: "maybe".into(),
        balancer: "fastest".into(),
        drain: "soon".into(),
        region: "a b".into(),
        namespace: "a;b".into(),
        label: vec!["canary".into(), "a=b;c".into(), "a=1".into(), "a=2".into()],
        weight: "65536".into(),
        priority: "-1".into(),
        drain_delay: "-1s".into(),
        endpoints: Some("/does/not/exist".into()),
        ..ProxyArgs::default()
    }
    .into_config()
    .unwrap_err();
    let mut flags: Vec<_> = mistakes.iter().map(|m| m.flag.as_str()).collect();
    flags.sort_unstable();
    flags.dedup();
    let expected = [
        "--app",
        "--balancer",
        "--collector",
        "--drain",
        "--drain-delay",
        "--endpoints",
        "--inbound",
        "--label",
        "--local-breaker",
        "--namespace",
        "--outbound",
        "--priority",
        "--protocol",
        "--region",
        "--retries",
        "--retry-budget",
        "--service",
        "--timeout",
        "--weight",
    ];
    assert_eq!(flags, expected);
    assert_eq!(mistakes.iter().filter(|m| m.flag == "--outbound").count(), 2);
    assert_eq!(mistakes.iter().filter(|m| m.flag == "--label").count(), 3);
    let shown = mistakes.iter().find(|m| m.flag == "--protocol").unwrap().to_string();
    assert_eq!(shown, "--protocol: expected http, http2, grpc or tcp, got `soap`");
}

#[test]
fn draining_may_take_no_time_and_be_announced_no_time_before() {
    let config = ProxyArgs { drain: "0s".into(), drain_delay: "0".into(), ..args() }.into_config().unwrap();
    assert_eq!((config.drain, config.drain_delay), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn a_proxy_with_nothing_to_do_is_a_mistake() {
    let mistakes = ProxyArgs { service: "x".into(), ..ProxyArgs::default() }.into_config().unwrap_err();
    assert_eq!(mistakes[0].flag, "--outbound");
}

#[test]
fn an_endpoint_without_instance_is_named_by_its_address() {
    let all =
        endpoints::parse(br#"{"payments": [{"address": "127.0.0.1:9000", "protocol": "grpc"}]}"#).unwrap();
    assert_eq!(all["payments"][0].instance, "127.0.0.1:9000");
    assert_eq!(all["payments"][0].protocol, Protocol::Grpc);
}

#[test]
fn problems_of_the_endpoint_file_have_paths() {
    let text = br#"{"payments": [{"address": "x"}, {"address": "h:1", "protocol": "ftp", "zone": "a b"}]}"#;
    let paths: Vec<_> = endpoints::parse(text).unwrap_err().into_iter().map(|p| p.path).collect();
    assert_eq!(paths, ["#payments[0].address", "#payments[1].zone", "#payments[1].protocol"]);
    assert!(endpoints::parse(br#"{"payments": [{"adress": "h:1"}]}"#).is_err());
}

#[test]
fn the_endpoint_file_says_where_an_endpoint_is_and_how_much_it_takes() {
    let text = br#"{"payments": [
        {"address": "h:1", "region": "eu", "zone": "eu-1", "labels": {"track": "canary", "beta": ""},
         "weight": 65535, "priority": 2},
        {"address": "h:2"}
    ]}"#;
    let all = endpoints::parse(text).unwrap();
    let first = &all["payments"][0];
    assert_eq!((first.region.as_str(), first.zone.as_str()), ("eu", "eu-1"));
    assert_eq!((first.weight, first.priority), (65_535, 2));
    assert_eq!(first.labels["track"], "canary");
    let plain = Endpoint { instance: "h:2".into(), address: "h:2".into(), ..Endpoint::default() };
    assert_eq!(all["payments"][1], plain);
    assert_eq!((plain.weight, plain.priority), (1, 0));
}

#[test]
fn numbers_and_labels_of_the_endpoint_file_have_bounds() {
    let labels: Vec<_> = (0..65).map(|i| format!("\"l{i}\": \"\"")).collect();
    let text = format!(
        r#"{{"payments": [
            {{"address": "h:1", "weight": -1, "priority": -1}},
            {{"address": "h:2", "weight": 65536, "priority": 65536, "region": "a b"}},
            {{"address": "h:3", "labels": {{"a b": "c", "d": "e;f"}}}},
            {{"address": "h:4", "labels": {{{}}}}}
        ]}}"#,
        labels.join(",")
    );
    let problems = endpoints::parse(text.as_bytes()).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|p| p.path.trim_start_matches("#payments")).collect();
    let expected = [
        "[0].weight",
        "[0].priority",
        "[1].region",
        "[1].weight",
        "[1].priority",
        "[2].labels",
        "[2].labels",
        "[3].labels",
    ];
    assert_eq!(paths, expected);
}

/// Each flag has a row with its default in the table of PROXY.md, and each row a flag.
#[test]
fn the_reference_lists_the_flags_and_their_defaults() {
    use clap::Args as _;

    let page = include_str!("../../PROXY.md");
    let rows: std::collections::BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|row| {
            let flag = row.strip_prefix("| `--")?.split([' ', '`']).next()?;
            let default = row.replace("\\|", "/").split('|').nth(2).map(str::trim)?.to_owned();
            Some((flag, &*default.leak()))
        })
        .collect();
    let command = ProxyArgs::augment_args(clap::Command::new("weir-proxy"));
    let mut known = std::collections::BTreeSet::new();
    for flag in command.get_arguments() {
        let name = flag.get_long().unwrap();
        known.insert(name);
        let row = rows.get(name).unwrap_or_else(|| panic!("PROXY.md has no row for --{name}"));
        let default = flag.get_default_values().iter().filter_map(|text| text.to_str()).collect::<String>();
        let expected = match (flag.get_action().takes_values(), &*default) {
            (false, _) => "off".to_owned(),
            (true, "") if name == "inbound" => "`127.0.0.1:0` with `--app`".to_owned(),
            (true, "") => "\u{2013}".to_owned(),
            (true, default) => format!("`{default}`"),
        };
        assert_eq!(*row, expected, "--{name}");
        let variable = format!("WEIR_PROXY_{}", name.replace('-', "_").to_uppercase());
        assert_eq!(flag.get_env().and_then(|name| name.to_str()), Some(&*variable));
    }
    let unknown: Vec<_> = rows.keys().filter(|name| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "PROXY.md has flags that are none: {unknown:?}");
}
