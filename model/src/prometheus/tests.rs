use std::time::Duration;

use super::*;

fn parse(text: &str) -> (Config, Vec<String>) {
    let (config, warnings) = Config::parse(text).unwrap();
    (config, warnings.into_iter().map(|notice| format!("{}: {}", notice.path, notice.problem)).collect())
}

fn mistakes(text: &str) -> Vec<String> {
    Config::parse(text).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_is_the_default_configuration() {
    for text in ["", "# nothing\n", "global:\n", "scrape_configs: []\n"] {
        let (config, warnings) = parse(text);
        assert_eq!(config, Config { shown: config.shown.clone(), ..Config::default() }, "{text}");
        assert!(warnings.is_empty());
    }
}

#[test]
fn a_job_of_a_name_alone_has_prometheus_defaults() {
    let (config, _) =
        parse("scrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['localhost:9100']\n");
    let job = &config.scrape_configs[0];
    assert_eq!(job.scrape_interval, Duration::from_secs(60));
    assert_eq!(job.scrape_timeout, Duration::from_secs(10));
    assert_eq!((job.metrics_path.as_str(), job.scheme.as_str()), ("/metrics", "http"));
    assert_eq!(job.scrape_protocols[0], Protocol::OpenMetrics100);
    assert!(job.honor_timestamps && job.enable_compression && !job.honor_labels);
    assert_eq!(job.client, HttpClient::default());
    assert_eq!(
        job.discoveries,
        [Discovery::Static(vec![Group::new(vec!["localhost:9100".into()], Labels::new())])]
    );
}

const LIVED_IN: &str = r#"
global:
  scrape_interval: 15s
  evaluation_interval: 30s
  external_labels: {region: eu, replica: $HOSTNAME}
  sample_limit: 50000
  scrape_native_histograms: true
rule_files: [rules/*.yml]
alerting:
  alert_relabel_configs:
  - {regex: replica, action: labeldrop}
  alertmanagers:
  - scheme: https
    path_prefix: /am
    api_version: v2
    timeout: 5s
    basic_auth: {username: am, password_file: secrets/am}
    tls_config: {ca_file: ca.pem, server_name: am.internal}
    static_configs: [{targets: [am-1:9093, am-2:9093]}]
  - dns_sd_configs: [{names: [_am._tcp.internal]}]
scrape_configs:
- job_name: 'node'
  scrape_interval: 5s
  scrape_protocols: [PrometheusText0.0.4]
  file_sd_configs: [{files: [targets/*.json], refresh_interval: 1m}]
  relabel_configs:
  - source_labels: [__address__]
    regex: '([^:]+)(:\d+)?'
    target_label: host
- job_name: federate
  honor_labels: true
  metrics_path: /federate
  params: {'match[]': ['{job="x"}', up]}
  http_sd_configs: [{url: "http://sd:8080/targets", authorization: {credentials: t0ken}}]
  body_size_limit: 10MB
  label_limit: 30
- job_name: mesh
  bearer_token_file: token
  consul_sd_configs: [{server: 'consul:8500', services: [web], tags: [prod], token: t0ken}]
  dns_sd_configs: [{names: [web.internal], type: A, port: 9090}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: 'go_.*', action: drop}
"#;

#[test]
fn a_lived_in_file_means_what_it_says() {
    let (mut config, warnings) = parse(LIVED_IN);
    assert_eq!(warnings, [""; 0]);
    config.set_directory(Path::new("/etc/prometheus"));
    config.expand_external_labels(|name| (name == "HOSTNAME").then(|| "a".to_owned()));
    assert_eq!(config.global.external_labels["replica"], "a");
    assert_eq!(config.rule_files, [PathBuf::from("/etc/prometheus/rules/*.yml")]);
    let [node, federate, mesh] = config.scrape_configs.as_slice() else { panic!() };
    assert_eq!(node.scrape_timeout, Duration::from_secs(5), "no longer than the interval");
    assert_eq!(node.scrape_protocols, [Protocol::Text004]);
    assert_eq!(node.limits.samples, 50_000, "from global");
    let Discovery::File(files) = &node.discoveries[0] else { panic!() };
    assert_eq!(files.files, [PathBuf::from("/etc/prometheus/targets/*.json")]);
    assert_eq!(federate.scrape_protocols[0], Protocol::Protobuf, "native histograms are asked for");
    assert_eq!(federate.params, [("match[]".to_owned(), vec![r#"{job="x"}"#.to_owned(), "up".to_owned()])]);
    assert_eq!((federate.limits.body_bytes, federate.limits.labels), (10 << 20, 30));
    let Some(Authorization { scheme, credentials: Some(Sourced::File(file)) }) = &mesh.client.authorization
    else {
        panic!()
    };
    assert_eq!((scheme.as_str(), file.as_path()), ("Bearer", Path::new("/etc/prometheus/token")));
    let [Discovery::Dns(dns), Discovery::Consul(consul)] = mesh.discoveries.as_slice() else { panic!() };
    assert_eq!((dns.record, dns.port), (discovery::Record::A, 9090));
    assert_eq!((consul.services.as_slice(), consul.allow_stale), (["web".to_owned()].as_slice(), true));
    let [am, found] = config.alerting.alertmanagers.as_slice() else { panic!() };
    assert_eq!((am.path_prefix.as_str(), am.timeout), ("/am", Duration::from_secs(5)));
    assert!(matches!(am.client.basic_auth.as_ref().unwrap().password, Some(Sourced::File(_))));
    assert!(matches!(&found.discoveries[0], Discovery::Dns(dns) if dns.record == discovery::Record::Srv));
}

#[test]
fn secrets_are_seen_nowhere() {
    let (config, _) = parse(LIVED_IN);
    assert!(!format!("{config:?}").contains("t0ken"));
    assert!(!config.shown.contains("t0ken"), "{}", config.shown);
    assert!(config.shown.contains("credentials: <secret>"), "{}", config.shown);
    assert!(serde_json::to_string(&Secret::new("t0ken")).unwrap().contains("<secret>"));
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let told = mistakes(
        r#"
global:
  scrape_interval: 10
  scrape_tiemout: 5s
  external_labels: {"": x}
rule_files: ["rules/*/a.yml"]
scrape_configs:
- job_name: a
  scrape_interval: 5s
  scrape_timeout: 10s
  static_configs: [{targets: ["http://a:1"]}]
  relabel_configs: []
- job_name: a
  scheme: ftp
  honor_labels: perhaps
  sample_limit: -1
  body_size_limit: 100
  scrape_protocols: [PrometheusText0.0.4, PrometheusText0.0.4, Text]
  basic_auth: {username: u, password: p, password_file: f}
  bearer_token: x
  dns_sd_configs: [{names: [x], type: A}]
  file_sd_configs: [{files: [a.txt]}]
  http_sd_configs: [{url: 'sd'}]
  tls_config: {cert_file: c}
  relabel_configs: [{action: hashmod, target_label: t}]
-
- metrics_path: /x
remote_write: [{urll: x}]
alerting: {alertmanagers: [{api_version: v1}]}
"#,
    );
    let expected = [
        "line 3, column 3: global.scrape_interval: expected a duration such as `30s`",
        "line 4, column 3: global.scrape_tiemout: no such key",
        "line 5, column 21: global.external_labels.: `` is no valid name of a label",
        "line 6, column 14: rule_files[0]: expected a path with `*` in its last part only",
        "line 10, column 3: scrape_configs[0].scrape_timeout: is longer than the scrape interval of 5s",
        "line 11, column 20: scrape_configs[0].static_configs[0]: `http://a:1` is no host and port",
        "line 13, column 3: scrape_configs[1]: another job is named `a` already",
        "line 13, column 3: scrape_configs[1]: at most one way to log in may be set, found basic_auth and bearer_token",
        "line 14, column 3: scrape_configs[1].scheme: expected `http` or `https`, found `ftp`",
        "line 15, column 3: scrape_configs[1].honor_labels: expected true or false, found `perhaps`",
        "line 16, column 3: scrape_configs[1].sample_limit: expected a whole number that is not negative",
        "line 17, column 3: scrape_configs[1].body_size_limit: expected a size with a unit",
        "line 18, column 43: scrape_configs[1].scrape_protocols[1]: is there twice",
        "line 18, column 64: scrape_configs[1].scrape_protocols[2]: expected `PrometheusProto`",
        "line 19, column 29: scrape_configs[1].basic_auth.password: at most one of `password` and `password_file`",
        "line 21, column 20: scrape_configs[1].dns_sd_configs[0]: needs a `port`",
        "line 22, column 30: scrape_configs[1].file_sd_configs[0].files[0]: expected a path that ends in `.json`",
        "line 23, column 22: scrape_configs[1].http_sd_configs[0].url: expected a URL",
        "line 24, column 3: scrape_configs[1].tls_config: a `cert` or `cert_file` needs a `key`",
        "line 25, column 21: scrape_configs[1].relabel_configs[0]: `hashmod` needs a `modulus`",
        "scrape_configs[2]: expected a map, found nothing",
        "line 27, column 3: scrape_configs[3]: `job_name` is missing or empty",
        "line 28, column 16: remote_write[0]: `url` is missing",
        "line 28, column 17: remote_write[0].urll: no such key",
        "line 29, column 29: alerting.alertmanagers[0].api_version: expected `v2`, found `v1`",
    ];
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(expected), "told `{told}`, expected `{expected}`");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn what_is_not_done_is_told_and_not_silent() {
    let (_, warnings) = parse(
        r#"
global: {query_log_file: q.log}
runtime: {gogc: 50}
storage: {tsdb: {out_of_order_time_window: 1h, retention: {time: 15d}}, exemplars: {max_exemplars: 10}}
tracing: {endpoint: "tempo:4317", insecure: true}
remote_write: [{url: "http://x/write", queue_config: {max_shards: 3}}]
remote_read: [{url: "http://x/read"}]
scrape_configs:
- job_name: pods
  proxy_from_environment: true
  kubernetes_sd_configs: [{role: pod}]
"#,
    );
    let paths: Vec<&str> = warnings.iter().map(|told| told.split_once(": ").unwrap().0).collect();
    assert_eq!(
        paths,
        [
            "global.query_log_file",
            "runtime.gogc",
            "storage.tsdb.out_of_order_time_window",
            "storage.tsdb.retention.time",
            "storage.exemplars.max_exemplars",
            "tracing",
            "remote_write[0]",
            "remote_read[0]",
            "scrape_configs[0].proxy_from_environment",
            "scrape_configs[0].kubernetes_sd_configs",
        ]
    );
}

#[test]
fn jobs_of_further_files_join_and_must_not_repeat_names() {
    let (mut config, _) = parse("global: {scrape_interval: 7s}\nscrape_configs: [{job_name: a}]\n");
    config.add_scrape_configs("scrape_configs: [{job_name: b}]\n", Path::new("/x")).unwrap();
    assert_eq!(config.scrape_configs[1].scrape_interval, Duration::from_secs(7));
    let error = config.add_scrape_configs("scrape_configs: [{job_name: a}]\n", Path::new("/x")).unwrap_err();
    assert!(error.to_string().contains("another file has a job named `a`"), "{error}");
    assert!(config.add_scrape_configs("global: {}\n", Path::new("/x")).is_err());
}

#[test]
fn target_files_are_json_or_yaml() {
    let json = r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "prod", "n": "1"}}, {"targets": []}]"#;
    let yaml = "- targets: [a:1, 'b:2']\n  labels:\n    env: prod\n    n: 1\n- targets: []\n";
    let groups = Group::parse(json).unwrap();
    assert_eq!(groups, Group::parse(yaml).unwrap());
    assert_eq!(groups[0].targets[1][discovery::ADDRESS], "b:2");
    assert_eq!(groups[0].labels["n"], "1");
    assert!(Group::parse("targets: [a]").is_err());
}

#[test]
fn names_in_utf8_need_the_scheme_that_allows_them() {
    let (config, _) = parse(
        "global: {metric_name_validation_scheme: legacy}\nscrape_configs: [{job_name: a}, {job_name: b, metric_name_validation_scheme: utf8}]\n",
    );
    assert_eq!(config.scrape_configs[0].escaping, Escaping::Underscores);
    assert_eq!(config.scrape_configs[1].escaping, Escaping::AllowUtf8);
    let told = mistakes(
        "scrape_configs: [{job_name: a, metric_name_validation_scheme: legacy, relabel_configs: [{target_label: a.b}]}]\n",
    );
    assert!(told[0].contains("`a.b` is no valid `target_label`"), "{told:?}");
}
