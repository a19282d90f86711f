//! The rule files of the examples, checked and tested through the command line as a user does; and by Debian's promtool.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{debian, weir};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rules").join(name)
}

/// Runs `weir rules` with `verb` on files; whether it succeeded, and what it wrote to stdout.
fn rules(verb: &str, files: &[PathBuf]) -> (bool, String) {
    let output = weir().args(["rules", verb]).args(files).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_examples_are_sound_and_do_what_their_tests_say() {
    let (sound, said) = rules("check", &[example("node.yml"), example("istio.yml")]);
    assert!(sound, "{said}");
    assert!(said.contains("  SUCCESS: 9 rules found") && said.contains("  SUCCESS: 7 rules found"), "{said}");
    let (passed, said) = rules("test", &[example("node_test.yml"), example("istio_test.yml")]);
    assert!(passed, "{said}");
    assert_eq!(said.matches("  SUCCESS\n").count(), 2, "{said}");
}

#[test]
fn a_test_that_fails_is_shown_and_fails_the_command() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["node.yml", "node_test.yml"] {
        let text = std::fs::read_to_string(example(name)).unwrap();
        std::fs::write(dir.path().join(name), text.replace("for: 5m", "for: 6m")).unwrap();
    }
    let (passed, said) = rules("test", &[dir.path().join("node_test.yml")]);
    assert!(
        !passed && said.contains("  FAILED:\n    name: a machine goes away,\n    alertname: NodeDown"),
        "{said}"
    );
}

#[test]
fn every_mistake_of_a_rule_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.yml");
    std::fs::write(&file, "groups:\n- name: g\n  rules:\n  - {record: x, expr: 'sum('}\n  - {alert: y, expr: up, annotations: {a: '{{'}}\n").unwrap();
    let (sound, said) = rules("check", std::slice::from_ref(&file));
    assert!(!sound && said.contains("  FAILED:"), "{said}");
    for part in [
        "wrong.yml:4:23: groups[0].rules[0].expr: ",
        "could not parse expression: 1:5: parse error",
        "unclosed action",
    ] {
        assert!(said.contains(part), "`{part}` is missing in:\n{said}");
    }
}

#[test]
fn promtool_accepts_the_same_files() {
    let promtool = |verb: &str, names: [&str; 2]| {
        let mut command = Command::new(debian::program("prometheus", "promtool"));
        let output = command.args([verb, "rules"]).args(names.map(example)).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{verb}: {}", said.concat());
    };
    promtool("check", ["node.yml", "istio.yml"]);
    promtool("test", ["node_test.yml", "istio_test.yml"]);
}
