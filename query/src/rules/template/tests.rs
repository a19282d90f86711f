//! What templates become, and how they fail: by what Go and Prometheus do.

use weir_storage::Labels;

use super::*;

const URL: &str = "http://testhost:9090/path/prefix";

fn subject(value: Sample) -> Subject {
    Subject { labels: Labels::new([("instance", "web-1:9100"), ("job", "node")]), value }
}

fn answers() -> Answers {
    let row = |instance: &str, value: f64| {
        (Labels::new([("__name__", "metric"), ("instance", instance)]), Sample::Float(value))
    };
    Answers::from([
        ("metric".to_owned(), Ok(vec![row("b", 21.0), row("a", 11.0)])),
        ("missing".to_owned(), Ok(vec![])),
        ("broken".to_owned(), Err("no such thing".to_owned())),
    ])
}

fn expand_about(text: &str, value: Sample) -> Result<String, Unexpanded> {
    let external_labels = Labels::new([("region", "eu")]);
    let context = Context { now_ms: 1_435_065_584_128, external_url: URL, external_labels: &external_labels };
    let template = Template::parse("X", text).map_err(Unexpanded::Failed)?;
    template.expand(&subject(value), &context, &answers())
}

fn expand(text: &str) -> Result<String, Unexpanded> {
    expand_about(text, Sample::Float(1_234_567.0))
}

fn failure(text: &str) -> String {
    match expand(text) {
        Err(Unexpanded::Failed(message)) => message.replace(VARIABLES, ""),
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[track_caller]
fn all(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(expand(text).as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn actions_pipelines_and_variables() {
    all(&[
        ("plain text", "plain text"),
        ("{{ 1 }}{{ 1.5 }}{{ true }}{{ 'a' }}{{ 0x10 }}{{ 1e3 }}", "11.5true97161000"),
        ("{{ $labels.instance }} {{ .Labels.job }} {{ $labels.absent }}|", "web-1:9100 node |"),
        ("{{ $value }} {{ .Value }}", "1.234567e+06 1.234567e+06"),
        ("{{ $externalLabels.region }} {{ $externalURL }}", "eu http://testhost:9090/path/prefix"),
        ("{{ $x := 1 }}{{ $x }}{{ $x = 2 }}{{ $x }}", "12"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ $x = 3 }}{{ end }}{{ $x }}", "21"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ \"a\\tb\\u00e9\\\"\" }} {{ `raw\\n` }}", "a\tbé\" raw\\n"),
        ("{{ \"x\" | printf \"%s-%s\" \"y\" }}", "y-x"),
        ("{{ printf \"%d\" (len \"abc\") | printf \"%s!\" }}", "3!"),
        ("{{ (query \"metric\" | first).Labels.instance }}", "b"),
        ("a {{- 1 -}} b", "a1b"),
        ("a {{- /* said in passing: }} */ -}} b", "ab"),
        ("a{{/* x */}}b", "ab"),
        ("{{-1}}", "-1"),
        ("{{ nil | print }}{{ print nil }}", "<nil><nil>"),
    ]);
}

#[test]
fn conditions_and_loops() {
    all(&[
        ("{{ if eq $labels.job \"node\" }}n{{ else }}o{{ end }}", "n"),
        ("{{ if false }}1{{ else if true }}2{{ else }}3{{ end }}", "2"),
        ("{{ if false }}1{{ else if 0 }}2{{ else if \"\" }}3{{ else }}4{{ end }}", "4"),
        ("{{ with $labels.absent }}{{ . }}{{ else }}none{{ end }}", "none"),
        ("{{ with $x := $labels.job }}{{ . }}{{ $x }}{{ end }}", "nodenode"),
        ("{{ with false }}1{{ else with 2 }}{{ . }}{{ end }}", "2"),
        (
            "{{ range query \"metric\" | sortByLabel \"instance\" }}{{ .Labels.instance }}:{{ .Value }}: {{ end }}",
            "a:11: b:21: ",
        ),
        ("{{ range $i, $r := query \"metric\" }}{{ $i }}{{ $r.Value }} {{ end }}", "021 111 "),
        (
            "{{ range $name, $value := $labels }}{{ $name }}={{ $value }};{{ end }}",
            "instance=web-1:9100;job=node;",
        ),
        ("{{ range query \"missing\" }}x{{ else }}nothing{{ end }}", "nothing"),
        (
            "{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        ("{{ define \"x\" }}{{ .arg0 }} {{ .arg1 }}{{ end }}{{ template \"x\" (args 1 \"2\") }}", "1 2"),
        ("{{ block \"b\" 7 }}[{{ . }}]{{ end }}{{ template \"b\" 8 }}", "[7][8]"),
        (
            "{{ and 1 0 2 }} {{ or 0 \"\" 3 }} {{ not 0 }} {{ or true (first (query \"missing\")) }}",
            "0 3 true true",
        ),
        (
            "{{ eq 1 2 1 }} {{ ne \"a\" \"b\" }} {{ lt 1 2 }} {{ le 2.0 2.0 }} {{ gt \"b\" \"a\" }} {{ ge 1 2 }}",
            "true true true true true false",
        ),
        ("{{ if gt $value 5.0 }}big{{ end }}", "big"),
    ]);
}

#[test]
fn functions_of_go() {
    all(&[
        ("{{ len \"héé\" }} {{ len $labels }} {{ len (query \"metric\") }}", "5 2 2"),
        (
            "{{ index $labels \"job\" }} {{ (index (query \"metric\") 1).Value }} {{ index \"a\" 0 }}",
            "node 11 97",
        ),
        ("{{ slice \"abcdef\" 1 3 }} {{ slice \"abc\" 1 }}", "bc bc"),
        ("{{ print 1 2 \"x\" 3 4 }}|{{ println 1 \"x\" }}", "1 2x3 4|1 x\n"),
        (
            "{{ html \"<a href='x'>&\" }} {{ js \"it's <b>\" }} {{ urlquery \"a b&c~\" }}",
            "&lt;a href=&#39;x&#39;&gt;&amp; it\\'s \\u003Cb\\u003E a+b%26c~",
        ),
        (
            "{{ printf \"%05.1f|%-6s|%6s|%+d|%x|%q|%v|%%\" 3.14159 \"ab\" \"cd\" 5 255 \"q\" true }}",
            "003.1|ab    |    cd|+5|ff|\"q\"|true|%",
        ),
        ("{{ printf \"%d %s %z\" \"x\" 1 2 }}", "%!d(string=x) %!s(int=1) %!z(int=2)"),
        ("{{ printf \"%d\" 1 2 }} {{ printf \"%d %d\" 1 }}", "1%!(EXTRA int=2) 1 %!d(MISSING)"),
        (
            "{{ printf \"%.2f %.3g %e %g %8.3f\" 1234.5678 1234.5678 1234.5678 1e21 2.5 }}",
            "1234.57 1.23e+03 1.234568e+03 1e+21    2.500",
        ),
        ("{{ $labels }} {{ query \"missing\" }}", "map[instance:web-1:9100 job:node] []"),
    ]);
}

#[test]
fn functions_of_prometheus() {
    all(&[
        (
            "{{ query \"metric\" | first | value }} {{ query \"metric\" | first | label \"instance\" }}",
            "21 b",
        ),
        ("{{ query \"metric\" | first | strvalue }}|{{ query \"metric\" | first | label \"absent\" }}", "|"),
        (
            "{{ reReplaceAll \"(a)b\" \"x$1\" \"abab\" }} {{ match \"a+\" \"baa\" }} {{ match \"^a+$\" \"b\" }}",
            "xaxa true false",
        ),
        ("{{ title \"aa bb-cc DD\" }} {{ toUpper \"aB\" }} {{ toLower \"aB\" }}", "Aa Bb-Cc DD AB ab"),
        (
            "{{ graphLink \"up == 0\" }} {{ tableLink \"up\" }}",
            "/graph?g0.expr=up+%3D%3D+0&g0.tab=0 /graph?g0.expr=up&g0.tab=1",
        ),
        ("{{ pathPrefix }} {{ externalURL }}", "/path/prefix http://testhost:9090/path/prefix"),
        (
            "{{ printf \"%0.2f\" (parseDuration \"1h2m10ms\") }} {{ parseDurationTime \"1h2m10ms\" }}",
            "3720.01 1h2m0.01s",
        ),
        ("{{ toDuration 90.5 }} {{ (toDuration 3600).Hours }} {{ toDuration 0.0015 }}", "1m30.5s 1 1.5ms"),
        (
            "{{ now }} {{ (now | toTime).Format \"2006-01-02T15:04:05.000Z07:00\" }}",
            "1.435065584128e+09 2015-06-23T13:19:44.128Z",
        ),
        (
            "{{ (\"1435065584.128\" | toTime).Format \"Mon, 2 Jan 2006 3:04 PM\" }}",
            "Tue, 23 Jun 2015 1:19 PM",
        ),
        ("{{ (toTime 0).Year }} {{ ((toTime 10).Sub (toTime 4)).Seconds }}", "1970 6"),
        ("{{ urlQueryEscape \"a b/c\" }} {{ safeHtml \"<b>\" }}", "a+b%2Fc <b>"),
        ("{{ (jsonUnmarshal `{\"a\":[1,\"x\"]}`).a }}", "[1 x]"),
    ]);
    let ports = [
        ("foo.example.com", "foo.example.com", "foo"),
        ("foo.example.com:12345", "foo.example.com", "foo:12345"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:12345", "192.0.2.1", "192.0.2.1:12345"),
        ("2001:0DB8::1", "2001:0DB8::1", "2001:0DB8::1"),
        ("[2001:0DB8::1]:12345", "2001:0DB8::1", "[2001:0DB8::1]:12345"),
        ("[2001:0DB8::1]::12345", "[2001:0DB8::1]::12345", "[2001:0DB8::1]::12345"),
    ];
    for (host, port, domain) in ports {
        assert_eq!(expand(&format!("{{{{ \"{host}\" | stripPort }}}}")).as_deref(), Ok(port));
        assert_eq!(expand(&format!("{{{{ \"{host}\" | stripDomain }}}}")).as_deref(), Ok(domain));
    }
}

#[test]
fn numbers_for_people() {
    for (function, value, expected) in [
        ("humanize", "0.0", "0"),
        ("humanize", "1.0", "1"),
        ("humanize", "-1.0", "-1"),
        ("humanize", "1234567.0", "1.235M"),
        ("humanize", ".12", "120m"),
        ("humanize", "9223372036854775807", "9.223E"),
        ("humanize1024", "0.12", "0.12"),
        ("humanize1024", "1048576.0", "1Mi"),
        ("humanize1024", "1234567", "1.177Mi"),
        ("humanizeDuration", "0", "0s"),
        ("humanizeDuration", "1", "1s"),
        ("humanizeDuration", "60", "1m 0s"),
        ("humanizeDuration", "3600", "1h 0m 0s"),
        ("humanizeDuration", "90000", "1d 1h 0m 0s"),
        ("humanizeDuration", "-183845", "-2d 3h 4m 5s"),
        ("humanizeDuration", "899.99", "14m 59s"),
        ("humanizeDuration", ".1", "100ms"),
        ("humanizeDuration", ".0001", "100us"),
        ("humanizeDuration", ".12345", "123.5ms"),
        ("humanizeDuration", "60.5", "1m 0s"),
        ("humanizeDuration", "1.2345", "1.234s"),
        ("humanizeDuration", "12.345", "12.35s"),
        ("humanizePercentage", "-0.22222", "-22.22%"),
        ("humanizePercentage", "0.1234567", "12.35%"),
        ("humanizePercentage", "1.23456", "123.5%"),
        ("humanizePercentage", "1234567", "1.235e+08%"),
        ("humanizeTimestamp", "0", "1970-01-01 00:00:00 +0000 UTC"),
        ("humanizeTimestamp", "-1", "1969-12-31 23:59:59 +0000 UTC"),
        ("humanizeTimestamp", "1435065584.128", "2015-06-23 13:19:44.128 +0000 UTC"),
    ] {
        assert_eq!(
            expand(&format!("{{{{ {function} {value} }}}}")).as_deref(),
            Ok(expected),
            "{function} {value}"
        );
        let quoted = expand(&format!("{{{{ \"{value}\" | {function} }}}}"));
        assert_eq!(quoted.as_deref(), Ok(expected), "{function} of a text");
    }
    for (value, expected) in [(f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf"), (f64::NAN, "NaN")] {
        for function in ["humanize", "humanize1024", "humanizeDuration", "humanizeTimestamp"] {
            let got = expand_about(&format!("{{{{ {function} $value }}}}"), Sample::Float(value));
            assert_eq!(got.as_deref(), Ok(expected), "{function}");
        }
    }
}

#[test]
fn numbers_print_as_in_go() {
    for (value, expected) in [
        (0.0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (100_000.0, "100000"),
        (123_456.5, "123456.5"),
        (1_000_000.0, "1e+06"),
        (0.0001, "0.0001"),
        (0.000_012, "1.2e-05"),
        (-2.5e300, "-2.5e+300"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(expand_about("{{ $value }}", Sample::Float(value)).as_deref(), Ok(expected));
    }
}

#[test]
fn failures_are_worded_and_placed_as_in_go() {
    let at = |column: usize| VARIABLES.len() + column;
    assert_eq!(
        failure("{{ query \"missing\" | first }}"),
        format!(
            "error executing template __alert_X: template: __alert_X:1:{}: executing \"__alert_X\" at <first>: error calling first: first() called on vector with no elements",
            at(21)
        )
    );
    assert_eq!(
        failure("{{ humanize \"one\" }}"),
        format!(
            "error executing template __alert_X: template: __alert_X:1:{}: executing \"__alert_X\" at <humanize \"one\">: error calling humanize: strconv.ParseFloat: parsing \"one\": invalid syntax",
            at(3)
        )
    );
    assert_eq!(
        failure("{{ (query \"missing\").banana }}"),
        format!(
            "error executing template __alert_X: template: __alert_X:1:{}: executing \"__alert_X\" at <\"missing\">: can't evaluate field banana in type template.queryResult",
            at(10)
        )
    );
    assert!(failure("{{ query \"broken\" }}").ends_with("error calling query: no such thing"));
    assert!(failure("{{ .Foo }}").contains("can't evaluate field Foo in type struct"));
    assert!(failure("{{ gt $value 5 }}").ends_with("error calling gt: incompatible types for comparison"));
    assert!(failure("{{ humanize }}").ends_with("wrong number of args for humanize: want 1 got 0"));
    assert!(failure("{{ template \"nope\" }}").contains("template \"nope\" not defined"));
    assert!(failure("{{ toUpper 1 }}").contains("expected string; got int"));
    assert!(
        failure("{{ humanizeTimestamp 1e19 }}")
            .contains("1e+19 cannot be represented as a nanoseconds timestamp since it overflows int64")
    );
}

#[test]
fn what_is_no_template_is_told() {
    for (text, expected) in [
        ("{{", "unclosed action"),
        ("{{ \u{a0} }}", "unrecognized character in action: U+00A0"),
        ("{{ nope }}", "function \"nope\" not defined"),
        ("{{ $nope }}", "undefined variable \"$nope\""),
        ("{{ $nope = 1 }}", "undefined variable \"$nope\""),
        ("{{ if }}x{{ end }}", "missing value for if"),
        ("{{ if true }}x", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ else }}", "unexpected {{else}}"),
        ("{{ \"x }}", "unterminated quoted string"),
        ("{{ (1 }}", "unclosed left paren"),
        ("{{ 1) }}", "unexpected right paren"),
        ("{{ break }}", "{{break}} outside {{range}}"),
        ("{{ /* x }}", "unexpected <"),
        ("{{/* x }}", "unclosed comment"),
        ("{{ 1 | 2 }}", "non executable command in pipeline stage 2"),
        ("{{ 12x }}", "bad number syntax: \"12x\""),
        ("{{ if true }}{{ define \"x\" }}{{ end }}{{ end }}", "unexpected {{define}}"),
    ] {
        let problem = Template::parse("X", text).expect_err(text);
        let (place, message) = problem.split_at(problem.find(":1: ").expect("a line") + 4);
        assert_eq!(place, "template: __alert_X:1: ", "{text}");
        let expected = if text == "{{ /* x }}" { "unrecognized character" } else { expected };
        assert!(message.starts_with(expected), "{text}: {message}");
    }
    assert!(
        Template::parse("X", "a\nb\n{{ nope }}")
            .expect_err("no function")
            .starts_with("template: __alert_X:3: ")
    );
}

#[test]
fn what_a_template_asks_is_asked_of_whoever_expands_it() {
    assert_eq!(expand("{{ query \"up\" }}"), Err(Unexpanded::Needs("up".to_owned())));
    let text = "{{ if false }}{{ query \"up\" }}{{ end }}";
    assert_eq!(expand(text).as_deref(), Ok(""));
}

#[test]
fn nothing_a_template_does_goes_on_for_ever() {
    let recursive = "{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}";
    assert!(failure(recursive).contains("exceeded maximum template depth"));
    assert!(failure("{{ range 1000000000 }}{{ end }}").contains("too many steps"));
    assert!(failure("{{ range 1000 }}{{ range 1000 }}a{{ end }}{{ end }}").contains("too"));
    assert!(failure("{{ range 99999 }}0123456789{{ end }}").contains("the result is too long"));
    let nested = format!("{}1{}", "{{ if ".to_owned() + &"(".repeat(500), ")".repeat(500) + " }}{{ end }}");
    assert!(Template::parse("X", &nested).expect_err("too deep").contains("nested too deeply"));
    let bodies = "{{ if 1 }}".repeat(500) + &"{{ end }}".repeat(500);
    assert!(Template::parse("X", &bodies).expect_err("too deep").contains("nested too deeply"));
}

#[test]
fn a_native_histogram_is_a_value() {
    let histogram = crate::promql::histogram::Histogram { count: 3.0, sum: 4.5, ..Default::default() };
    let got = expand_about("{{ $value }} {{ $value.Count }}", Sample::from(histogram));
    assert_eq!(got.as_deref(), Ok("{count:3, sum:4.5} 3"));
}
