//! Tests of rules, passing and failing.

use super::*;

const RULES: &str = r#"
groups:
- name: second
  rules:
  - record: job:up:sum
    expr: sum by(job) (up)
- name: first
  rules:
  - record: requests:rate
    expr: rate(requests[5m])
  - record: latency
    expr: sum(histogram_quantile(0.5, h))
  - alert: Down
    expr: up == 0
    for: 5m
    keep_firing_for: 2m
    labels: {severity: page, copied: "{{ $externalLabels.region }}"}
    annotations:
      summary: "{{ $labels.instance }} of {{ (query \"count(up)\" | first).Value }} at {{ $externalURL }}"
"#;

const TESTS: &str = r#"
rule_files: [rules.yml]
evaluation_interval: 1m
group_eval_order: [first, second]
tests:
- name: ups and downs
  interval: 1m
  external_labels: {region: eu}
  external_url: http://weir
  input_series:
  - series: 'up{job="a",instance="1"}'
    values: '1x3 0x7 1x9'
  - series: 'up{job="a",instance="2"}'
    values: '1x20'
  - series: 'requests{path="/"}'
    values: '0+60x20'
  - series: 'h'
    values: '{{schema:0 sum:2 count:2 buckets:[2]}}x20'
  alert_rule_test:
  - eval_time: 8m
    alertname: Down
  - eval_time: 9m
    alertname: Down
    exp_alerts:
    - exp_labels: {job: a, instance: "1", severity: page, copied: eu}
      exp_annotations: {summary: "1 of 2 at http://weir"}
  - eval_time: 11m
    alertname: Down
    exp_alerts:
    - exp_labels: {job: a, instance: "1", severity: page, copied: eu}
      exp_annotations: {summary: "1 of 2 at http://weir"}
  - eval_time: 15m
    alertname: Down
  promql_expr_test:
  - expr: job:up:sum
    eval_time: 4m
    exp_samples:
    - labels: 'job:up:sum{job="a"}'
      value: 1
  - expr: requests:rate
    eval_time: 10m
    exp_samples:
    - labels: '{__name__="requests:rate", path="/"}'
      value: 1
  - expr: h
    eval_time: 2m
    exp_samples:
    - labels: 'h'
      histogram: '{{schema:0 sum:2 count:2 buckets:[2]}}'
  - expr: ALERTS{alertstate="firing"}
    eval_time: 9m
    exp_samples:
    - labels: 'ALERTS{alertname="Down",alertstate="firing",copied="eu",instance="1",job="a",severity="page"}'
      value: 1
  - expr: ALERTS_FOR_STATE
    eval_time: 9m
    exp_samples:
    - labels: 'ALERTS_FOR_STATE{alertname="Down",copied="eu",instance="1",job="a",severity="page"}'
      value: 240
- start_timestamp: 2021-01-01T00:00:00Z
  input_series: [{series: x, values: 1 2 3}]
  promql_expr_test:
  - expr: timestamp(x)
    eval_time: 2m
    exp_samples: [{labels: "{}", value: 1609459320}]
"#;

async fn failures(tests: &str) -> Vec<String> {
    let file = parse("rules_test.yml", tests).expect("a file of tests");
    file.run(&[("rules.yml".to_owned(), RULES.to_owned())], Features::NONE).await
}

#[tokio::test]
async fn what_is_so_passes() {
    assert_eq!(failures(TESTS).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_so_is_shown_beside_what_was_expected() {
    let wrong = TESTS
        .replace(
            "severity: page, copied: eu}\n      exp_annotations: {summary: \"1 of 2",
            "severity: page, copied: eu}\n      exp_annotations: {summary: \"1 of 3",
        )
        .replace("value: 240", "value: 241")
        .replace(
            "sum:2 count:2 buckets:[2]}}'\n  - expr: ALERTS{",
            "sum:3 count:2 buckets:[2]}}'\n  - expr: ALERTS{",
        );
    insta::assert_snapshot!(failures(&wrong).await.join("\n\n"));
}

#[tokio::test]
async fn a_rule_that_fails_ends_its_tests() {
    let tests = "rule_files: []\ntests:\n- interval: 1m\n  input_series:\n  - {series: 'up{job=\"a\",instance=\"1\"}', values: 0x9}\n  - {series: 'h', values: 1x9}\n  promql_expr_test:\n  - {expr: vector(1), eval_time: 1m, exp_samples: [{labels: '{}', value: 1}]}\n";
    let rules = "groups:\n- name: g\n  rules:\n  - {record: x, expr: '{__name__=~\"up|h\"}', labels: {job: \"\", instance: \"\"}}\n";
    let file = parse("t", tests).expect("tests");
    let failures = file.run(&[("r".to_owned(), rules.to_owned())], Features::NONE).await;
    assert_eq!(
        failures,
        [
            "    rule: x, time: 0s, err: vector contains metrics with the same labelset after applying rule labels"
        ]
    );
}

#[tokio::test]
async fn the_last_bit_does_not_matter_where_that_is_said() {
    let tests = |fuzzy: bool| {
        format!(
            "fuzzy_compare: {fuzzy}\ntests:\n- promql_expr_test:\n  - {{expr: 0.1 + 0.2, exp_samples: [{{labels: '{{}}', value: 0.3}}]}}\n"
        )
    };
    for (fuzzy, count) in [(true, 0), (false, 1)] {
        let file = parse("t", &tests(fuzzy)).expect("tests");
        assert_eq!(file.run(&[], Features::NONE).await.len(), count);
    }
}

#[test]
fn every_mistake_is_told() {
    let tests = "rule_file: [x]\nevaluation_interval: often\ngroup_eval_order: [a, a]\ntests:\n- input_series: [{series: 'up{', values: '1'}]\n  start_timestamp: -5\n  alert_rule_test: [{eval_time: 1m}]\n  promql_expr_test: [{expr: up, exp_samples: [{labels: 'a{b=~\"c\"}', value: 1}, {labels: a, histogram: x}]}]\n";
    let mistakes = parse("t.yml", tests).expect_err("mistakes");
    insta::assert_snapshot!(mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"));
}
