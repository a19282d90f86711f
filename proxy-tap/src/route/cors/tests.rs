use serde_json::{Value, json};

use super::super::tests::{Asked, listed, only};
use super::*;

fn cors() -> Value {
    json!({
        "allow_origins": [{ "exact": "https://a.example" }, { "regex": "https://[a-z]+\\.b\\.example" }],
        "allow_methods": ["GET", "PUT"], "allow_headers": ["x-one", "x-two"], "expose_headers": ["x-seen"],
        "max_age": "10m", "allow_credentials": true,
    })
}

fn preflight(origin: &str) -> Asked {
    let asked = Asked::get("/").method(Method::OPTIONS).header("origin", origin);
    asked.header("access-control-request-method", "PUT").header("access-control-request-headers", "x-one")
}

fn answer(cors: &Value, asked: &Asked) -> Option<Answer> {
    only(json!({ "cors": cors }), asked).0.preflight(&asked.view())
}

#[test]
fn a_preflight_from_an_allowed_origin_ends_here() {
    for origin in ["https://a.example", "https://www.b.example"] {
        let answer = answer(&cors(), &preflight(origin)).unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        let expected = [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-headers", "x-one,x-two"),
            ("access-control-allow-methods", "GET,PUT"),
            ("access-control-allow-origin", origin),
            ("access-control-max-age", "600"),
            ("vary", "origin, access-control-request-method, access-control-request-headers"),
        ];
        assert_eq!(listed(&answer.headers), expected);
    }
}

#[test]
fn what_is_no_preflight_goes_on() {
    let asked = preflight("https://a.example");
    assert_eq!(answer(&cors(), &asked.clone().method(Method::GET)), None);
    let mut without = asked.clone();
    without.headers.remove("access-control-request-method");
    assert_eq!(answer(&cors(), &without), None);
    without = asked.clone();
    without.headers.remove("origin");
    assert_eq!(answer(&cors(), &without), None);
    let (redirect, _) = only(json!({ "cors": cors(), "redirect": {} }), &asked);
    assert_eq!(redirect.preflight(&asked.view()), None);
}

#[test]
fn a_preflight_from_elsewhere_goes_on_or_is_refused() {
    let asked = preflight("https://a.example.evil");
    assert_eq!(answer(&cors(), &asked), None);
    let mut strict = cors();
    strict["refuse_unmatched_preflights"] = true.into();
    let refusal = answer(&strict, &asked).unwrap();
    assert_eq!((refusal.status.as_u16(), &*listed(&refusal.headers)), (200, &[("vary", "origin")][..]));
}

#[test]
fn beside_credentials_a_star_is_what_was_asked_for() {
    let star = |credentials: bool| {
        json!({ "allow_origins": [{ "exact": "*" }], "allow_methods": ["*"], "allow_headers": ["*"],
                "allow_credentials": credentials })
    };
    let asked = preflight("https://anyone.example");
    for (credentials, methods, headers) in [(false, "*", "*"), (true, "PUT", "x-one")] {
        let answer = answer(&star(credentials), &asked).unwrap().headers;
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://anyone.example");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], methods);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], headers);
    }
}

#[test]
fn responses_say_who_may_read_them_and_that_they_differ_by_origin() {
    let response = |origin: Option<&str>, from_service: &[(&'static str, &'static str)]| {
        let asked = Asked::get("/");
        let asked = origin.into_iter().fold(asked, |asked, origin| asked.header("origin", origin));
        let (route, _) = only(json!({ "cors": cors() }), &asked);
        let mut headers = HeaderMap::new();
        for (name, value) in from_service {
            headers.append(*name, HeaderValue::from_static(value));
        }
        route.respond(route.target(0), route.origin(&asked.headers), &mut headers);
        listed(&headers).iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let permitted = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: https://a.example",
        "access-control-expose-headers: x-seen",
    ];
    let allowed = response(Some("https://a.example"), &[("access-control-allow-origin", "*")]);
    assert_eq!(allowed[..3], permitted);
    assert_eq!(allowed[3..], ["vary: origin"]);
    let varying = response(Some("https://a.example"), &[("vary", "accept, Origin")]);
    assert_eq!(varying[3..], ["vary: accept, Origin"]);
    assert_eq!(
        response(Some("https://evil.example"), &[("vary", "accept")]),
        ["vary: accept", "vary: origin"]
    );
    assert_eq!(response(None, &[]), ["vary: origin"]);
}
