use super::*;

fn read(text: &str) -> Document {
    Document::parse(text).unwrap()
}

#[test]
fn scalars_keep_the_text_they_were_written_as() {
    let document = read("version: 1.10\noctal: 0123\nquoted: 'null'\nempty:\nyes: yes\n");
    let mut fields = document.root().unwrap().fields().unwrap();
    assert_eq!(fields.text("version").as_deref(), Some("1.10"));
    assert_eq!(fields.text("octal").as_deref(), Some("0123"));
    assert_eq!(fields.text("quoted").as_deref(), Some("null"), "a quoted null is text");
    assert_eq!(fields.text("empty"), None);
    assert!(fields.flag("yes", false));
    fields.finish();
    document.finish().unwrap();
}

#[test]
fn mistakes_have_path_line_and_column_and_come_all_at_once() {
    let document = read("a:\n  - b: [1]\n    c: x\n  - oops\nd: -3\n");
    let mut fields = document.root().unwrap().fields().unwrap();
    for item in fields.take("a").unwrap().items() {
        if let Some(mut fields) = item.fields() {
            fields.text("b");
            fields.finish();
        }
    }
    fields.count("d");
    fields.finish();
    let told: Vec<String> =
        document.finish().unwrap_err().0.into_iter().map(|notice| notice.to_string()).collect();
    assert_eq!(
        told,
        [
            "line 2, column 5: a[0].b: expected text, found a list",
            "line 3, column 5: a[0].c: no such key",
            "line 4, column 5: a[1]: expected a map, found a value",
            "line 5, column 1: d: expected a whole number that is not negative, found `-3`",
        ]
    );
}

#[test]
fn anchors_and_merge_keys_mean_what_they_mean_elsewhere() {
    let document = read(
        "base: &base {interval: 1m, path: /a}\nother: &other {path: /o, x: y}\n\
         job:\n  <<: [*base, *other]\n  path: /b\n",
    );
    let mut fields = document.root().unwrap().fields().unwrap();
    let job = fields.take("job").unwrap().text_map();
    let pairs: Vec<(&str, &str)> = job.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("path", "/b"), ("interval", "1m"), ("x", "y")]);
}

#[test]
fn a_text_that_is_no_yaml_says_where() {
    let mistakes = Document::parse("a: [1, 2\nb: 3\n").unwrap_err();
    assert!(
        mistakes.to_string().starts_with("1 mistake:\n  line 2, column 2: not valid YAML: "),
        "{mistakes}"
    );
    assert!(Document::parse("a: 1\na: 2\n").is_err(), "a key twice");
    assert!(Document::parse("# only this\n").unwrap().root().is_none());
}

#[test]
fn what_is_shown_has_no_secrets_and_is_the_same_document() {
    let text = "scrape_configs:\n- job_name: \"a: b\"\n  params:\n    token: [x]\n  basic_auth: {username: u, password: hunter2}\n  tls_config: {key: hunter2, cert: c}\n  http_headers:\n    X-Key: {secrets: [hunter2], values: [v]}\n  labels: {password: open}\n  empty: []\n  nothing:\n  list: [[1, 2], {a: b}]\nurl: http://me:hunter2@host/path\nblock: |\n  one\n  two\n";
    let shown = read(text).without_secrets();
    assert!(!shown.contains("hunter2"), "{shown}");
    for kept in
        ["job_name: \"a: b\"", "token:\n    - x", "password: open", "username: u", "me:xxxxx@host/path"]
    {
        assert!(shown.contains(kept), "no {kept} in {shown}");
    }
    assert_eq!(read(&shown).without_secrets(), shown, "it is YAML and stays as it is");
}
