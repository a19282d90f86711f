//! Rule files as they are read, and every mistake in them.

use super::*;

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = parse("rules.yml", text, Features::NONE).expect_err("a file with mistakes");
    mistakes.iter().map(Mistake::to_string).collect()
}

#[test]
fn a_file_is_read_whole() {
    let text = r#"
groups:
- name: node
  interval: 30s
  query_offset: 1m
  limit: 10
  labels: {team: infra, tier: 1}
  rules:
  - record: job:up:sum
    expr: sum by(job)   (up)
    labels: {tier: "2", gone: ""}
  - alert: Down
    expr: up == 0
    for: 1h30m
    keep_firing_for: 5m
    labels: {severity: page}
    annotations:
      summary: "{{ $labels.instance }} is down"
      number: 1.50
- name: empty
"#;
    let groups = parse("rules.yml", text, Features::NONE).expect("groups");
    let [node, empty] = groups.as_slice() else { panic!("two groups: {groups:?}") };
    assert_eq!(
        (node.name.as_str(), node.interval_ms, node.query_offset_ms, node.limit),
        ("node", Some(30_000), Some(60_000), 10)
    );
    assert_eq!(empty.rules.len(), 0);
    let [record, alert] = node.rules.as_slice() else { panic!("two rules") };
    assert_eq!(record.query, "sum by (job) (up)");
    assert_eq!(record.labels, Labels::new([("team", "infra"), ("tier", "2")]));
    assert!(record.changes.contains(&("gone".to_owned(), String::new())));
    assert_eq!(
        alert.written(),
        "alert: Down\nexpr: up == 0\nfor: 1h30m\nkeep_firing_for: 5m\nlabels:\n  severity: page\n  team: infra\n  tier: 1\nannotations:\n  number: 1.50\n  summary: {{ $labels.instance }} is down\n"
    );
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = r#"groups:
- name: a
  intervall: 1m
  rules:
  - record: x
    alert: y
    expr: up
  - expr: up
  - record: r
    expr: sum(
  - record: "r{a}"
    expr: up
    for: 1m
    annotations: {a: b}
  - alert: z
    for: soon
    labels: {__name__: q}
    annotations: {summary: "{{ $nope }}"}
    expr: up
- name: a
  rules: nothing
- rules: []
extra: 1
"#;
    insta::assert_snapshot!(mistakes(text).join("\n"));
}

#[test]
fn what_is_no_yaml_is_told_with_its_line() {
    assert_eq!(mistakes("groups:\n- name: [\n").len(), 1);
    assert!(
        mistakes("groups:\n- name: x\n  name: y\n")[0]
            .starts_with("rules.yml:3:3: this is not YAML: duplicated key")
    );
    assert!(mistakes("groups: 5\n")[0].contains("groups: expected a list"));
}

#[test]
fn an_empty_file_has_no_groups() {
    for text in ["", "# nothing\n", "groups:\n", "groups: []\n"] {
        assert_eq!(parse("rules.yml", text, Features::NONE).expect("no groups").len(), 0, "{text:?}");
    }
}

#[test]
fn rules_that_record_the_same_series_are_found() {
    let text = "groups:\n- name: a\n  rules:\n  - {record: x, expr: up}\n  - {record: x, expr: down}\n  - {record: x, expr: up, labels: {a: b}}\n  - {alert: x, expr: up}\n";
    let groups = parse("rules.yml", text, Features::NONE).expect("groups");
    assert_eq!(duplicates(&groups), [("x", &Labels::default())]);
}
