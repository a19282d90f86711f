use super::*;

fn args() -> ProxyArgs {
    ProxyArgs { service: "cart".into(), app: Some("127.0.0.1:8080".into()), ..ProxyArgs::default() }
}

#[test]
fn defaults_are_a_working_proxy() {
    let config = args().into_config().unwrap();
    assert_eq!(config.inbound, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.collector.as_deref(), Some("127.0.0.1:4317"));
    assert_eq!(config.retry, RetryPolicy { limit: 2, budget_pct: 20.0 });
    assert!(config.local_breaker);
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
        balancer: "random".into(),
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
        "--endpoints",
        "--inbound",
        "--local-breaker",
        "--outbound",
        "--protocol",
        "--retries",
        "--retry-budget",
        "--service",
        "--timeout",
    ];
    assert_eq!(flags, expected);
    assert_eq!(mistakes.iter().filter(|m| m.flag == "--outbound").count(), 2);
    let shown = mistakes.iter().find(|m| m.flag == "--protocol").unwrap().to_string();
    assert_eq!(shown, "--protocol: expected http or grpc, got `soap`");
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
