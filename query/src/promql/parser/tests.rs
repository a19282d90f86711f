use proptest::prelude::*;

use super::parse;
use crate::promql::Features;

fn shown(text: &str) -> String {
    parse(text, Features::ALL).unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
}

fn failure(text: &str) -> String {
    parse(text, Features::ALL).map(|e| e.to_string()).expect_err(text).to_string()
}

/// The expression with every binary operation in brackets.
fn grouped(text: &str) -> String {
    fn show(expr: &crate::promql::ast::Expr) -> String {
        use crate::promql::ast::Expr;
        match expr {
            Expr::Binary(b) => format!("<{} {} {}>", show(&b.left), b.op, show(&b.right)),
            Expr::Unary { operand, negate, .. } => {
                format!("{}{}", if *negate { "-" } else { "+" }, show(operand))
            }
            Expr::Paren(inner, _) => show(inner),
            other => other.to_string(),
        }
    }
    show(&parse(text, Features::ALL).expect(text))
}

#[test]
fn operators_bind_as_in_prometheus() {
    assert_eq!(grouped("a + b * c ^ d ^ e"), "<a + <b * <c ^ <d ^ e>>>>");
    assert_eq!(grouped("a or b and c unless d == e"), "<a or <<b and c> unless <d == e>>>");
    assert_eq!(grouped("a - b - c"), "<<a - b> - c>");
    assert_eq!(grouped("-a ^ 2 * c"), "<-<a ^ 2> * c>");
    assert_eq!(grouped("a atan2 b / c"), "<<a atan2 b> / c>");
    assert_eq!(grouped("a offset 2 ^ 2"), "<a offset 2s ^ 2>");
}

#[test]
fn every_form_prints_back() {
    for text in [
        r#"sum by (le, destination_service) (rate(istio_request_duration_milliseconds_bucket[1m]))"#,
        r#"rate(istio_requests_total{reporter="source",destination_service="payments"}[5m])"#,
        r#"a + on (x, y) group_left (z) b"#,
        r#"a > bool ignoring (x) group_right () b"#,
        r#"max_over_time(a[1h:5m] @ 12.5 offset -5m)"#,
        r#"a{b!="c",d=~"e.*",f!~"g|h"}[5m] @ start()"#,
        r#"quantile without (a) (0.9, x)"#,
        r#"{"http.requests","service.name"="x"}"#,
        r#"label_replace(a, "b", "$1\n\"", "c", `(.*)\d`)"#,
        r#"rate(a[5m] smoothed) + fill_left (0) fill_right (NaN) b"#,
        r#"sum_over_time(a[min_of(step() + 1, 1h)])"#,
        r#"-(a + b) ^ 2 </ 4"#,
        r#"topk(5, count_values("v", a))"#,
    ] {
        let once = shown(text);
        assert_eq!(shown(&once), once, "{text}");
    }
    assert_eq!(shown("SUM(x) BY (job)"), "sum by (job) (x)");
    assert_eq!(shown("sum(x)by(job)"), "sum by (job) (x)");
    assert_eq!(shown("1h30m"), "1h30m");
    assert_eq!(shown("-1500ms + 5m"), "-1s500ms + 5m");
    assert_eq!(shown("0x1F + 1_000 + .5e3 + Inf - nan"), "31 + 1000 + 500 + +Inf - NaN");
    assert_eq!(shown("x[5m:] # tail"), "x[5m:]");
    assert_eq!(shown("on + by"), "on + by");
    assert_eq!(shown("sum{a='b'}"), r#"sum{a="b"}"#);
}

#[test]
fn mistakes_are_named_with_line_and_column() {
    for (text, message) in [
        ("", "1:1: parse error: no expression found in input"),
        ("sum(", "1:5: parse error: unexpected end of input, expected an expression"),
        ("a +\n  )", "2:3: parse error: unexpected \")\", expected an expression"),
        (
            "rate(x)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("nosuch(x)", "1:1: parse error: unknown function with name \"nosuch\""),
        ("1 == 2", "1:1: parse error: comparisons between scalars must use BOOL modifier"),
        ("{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("x[5m] offset 1m offset 2m", "1:17: parse error: offset may not be set multiple times"),
        ("x{a=b}", "1:5: parse error: unexpected identifier \"b\" in label matching, expected string"),
        ("ü", "1:1: parse error: unexpected character: 'ü'"),
        ("\"open", "1:1: parse error: unterminated quoted string"),
        ("x[0s]", "1:2: parse error: duration must be greater than 0"),
        (
            "topk(x)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2",
        ),
        ("1 + bool 2", "1:5: parse error: bool modifier can only be used on comparison operators"),
        ("a b", "1:3: parse error: unexpected identifier \"b\""),
    ] {
        assert_eq!(failure(text), message, "{text}");
    }
    assert!(failure("x{a=~\"(\"}").starts_with("1:3: parse error: invalid regular expression `(`"));
}

#[test]
fn experimental_syntax_needs_the_feature() {
    for text in
        ["mad_over_time(x[5m])", "x[5m + 1m]", "a + fill(0) b", "limitk(1, a)", "rate(x[1m] anchored)"]
    {
        assert!(parse(text, Features::ALL).is_ok(), "{text}");
        assert!(parse(text, Features::NONE).is_err(), "{text}");
    }
}

#[test]
fn depth_bombs_are_refused() {
    for bomb in [
        "(".repeat(30_000),
        "-".repeat(30_000),
        format!("1{}", "+1".repeat(30_000)),
        format!("1{}", "^1".repeat(20_000)),
        format!("x{}", "[1m:]".repeat(10_000)),
        format!("x[{}1m]", "(".repeat(30_000)),
        format!("x[{}1m]", "-".repeat(30_000)),
        format!("x offset {}1m", "-".repeat(30_000)),
        format!("x[1m{}]", "+1m".repeat(10_000)),
        "abs(".repeat(15_000),
        "sum(".repeat(15_000),
        "x".repeat(100_000),
    ] {
        assert!(parse(&bomb, Features::ALL).is_err(), "{}", &bomb[..20]);
    }
}

const PIECES: &[&str] = &[
    "a",
    "b:c",
    "sum",
    "by",
    "on",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    "=",
    "==",
    "!~",
    "=~",
    "+",
    "-",
    "^",
    "@",
    ":",
    "offset",
    "5m",
    "1",
    "1.5e3",
    "\"x\"",
    "'",
    "rate",
    "start",
    "end",
    "bool",
    "group_left",
    "ignoring",
    "and",
    "or",
    "unless",
    "\\",
    "é",
    "NaN",
    "inf",
    "0x",
    "#",
    "\n",
    "step()",
    "fill",
    "anchored",
    "histogram_quantile",
    "`",
    "atan2",
];

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
        let _ = parse(&text, Features::ALL);
    }

    #[test]
    fn any_tokens_are_parsed_or_refused(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        for glue in ["", " "] {
            let text = pieces.join(glue);
            if let Ok(expr) = parse(&text, Features::ALL) {
                let once = expr.to_string();
                let twice = parse(&once, Features::ALL).map(|e| e.to_string());
                prop_assert_eq!(twice.map_err(|e| e.to_string()), Ok(once));
            }
        }
    }

    #[test]
    fn expressions_round_trip(text in expression()) {
        let once = shown(&text);
        prop_assert_eq!(shown(&once), once);
    }
}

/// Well-formed expressions of type instant vector.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("up".to_owned()),
        Just("a{b=\"c\"}".to_owned()),
        Just("{__name__=~\"x.*\",\"d.e\"!=\"f\"}".to_owned()),
        Just("rate(x[5m] offset -1m)".to_owned()),
        Just("x @ end()".to_owned()),
        Just("vector(1e-3)".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let op = prop::sample::select(vec![
            "+",
            "*",
            "^",
            "== bool",
            "and",
            "or on (a)",
            "/ ignoring (b) group_left (c)",
            "atan2",
        ]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("sum without (x) ({a})")),
            inner.clone().prop_map(|a| format!("topk(3, {a}) by (y)")),
            inner.prop_map(|a| format!("max_over_time(({a})[1h:1m] @ 3)")),
        ]
    })
}
