use serde_json::{Value, json};

use super::super::tests::{Asked, listed, mistakes, only};
use super::*;

fn location(route: Value, asked: &Asked) -> String {
    let (route, prefix) = only(route, asked);
    let answer = route.answer(&asked.view(), prefix).expect("an answer");
    assert!(answer.body.is_empty());
    format!("{} {}", answer.status.as_u16(), answer.headers[LOCATION].to_str().unwrap())
}

#[test]
fn a_redirect_changes_what_is_written_and_nothing_else() {
    let asked = Asked::get("/old/%2e/p?q=1");
    for (redirect, expected) in [
        (json!({}), "301 http://shop.example:8080/old/%2e/p?q=1"),
        (json!({ "authority": "b.example" }), "301 http://b.example/old/%2e/p?q=1"),
        (json!({ "authority": "b.example:81" }), "301 http://b.example:81/old/%2e/p?q=1"),
        (json!({ "authority": "b.example:80" }), "301 http://b.example/old/%2e/p?q=1"),
        // The scheme's own port replaces that of the request …
        (json!({ "scheme": "https", "status": 308 }), "308 https://shop.example/old/%2e/p?q=1"),
        // … but none that is written.
        (json!({ "scheme": "https", "port": 8443 }), "301 https://shop.example:8443/old/%2e/p?q=1"),
        (json!({ "scheme": "https", "port": 443 }), "301 https://shop.example/old/%2e/p?q=1"),
        (json!({ "scheme": "https", "authority": "b:81" }), "301 https://b:81/old/%2e/p?q=1"),
        (json!({ "port": 81 }), "301 http://shop.example:81/old/%2e/p?q=1"),
        (json!({ "path": "/new", "status": 302 }), "302 http://shop.example:8080/new?q=1"),
        (json!({ "path": "/new?own=1" }), "301 http://shop.example:8080/new?own=1"),
    ] {
        assert_eq!(location(json!({ "redirect": redirect }), &asked), expected, "{redirect}");
    }
    let prefix = |path, to: &str| json!({ "match": [{ "path": path }], "redirect": { "prefix": to } });
    let old = json!({ "path_prefix": "/old" });
    assert_eq!(location(prefix(old.clone(), "/new"), &asked), "301 http://shop.example:8080/new/p?q=1");
    assert_eq!(location(prefix(old, ""), &asked), "301 http://shop.example:8080/p?q=1");
}

#[test]
fn a_redirect_cannot_be_turned_to_another_host_by_the_path() {
    let mut asked = Asked::get("//evil.example/a");
    let redirect = json!({ "redirect": {} });
    assert_eq!(location(redirect.clone(), &asked), "301 http://shop.example:8080//evil.example/a");
    asked.authority = String::new();
    assert_eq!(location(redirect.clone(), &asked), "301 /evil.example/a");
    asked.authority = "[::1]:81".to_owned();
    assert_eq!(location(redirect.clone(), &asked), "301 http://[::1]:81//evil.example/a");
    asked.authority = "[::1]".to_owned();
    assert_eq!(location(redirect, &asked), "301 http://[::1]//evil.example/a");
}

#[test]
fn a_route_answers_by_itself_and_its_header_changes_hold() {
    let respond = json!({ "respond": { "status": 503, "body": "closed" },
                          "headers": { "response": { "set": { "retry-after": "60" } } } });
    let asked = Asked::get("/");
    let (route, prefix) = only(respond, &asked);
    let answer = route.answer(&asked.view(), prefix).unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.body), (503, &b"closed"[..]));
    let expected = [("content-type", "text/plain; charset=utf-8"), ("retry-after", "60")];
    assert_eq!(listed(&answer.headers), expected);
    let (route, prefix) = only(json!({ "respond": { "status": 204 } }), &asked);
    assert_eq!(route.answer(&asked.view(), prefix), Some(Answer::empty(StatusCode::NO_CONTENT)));
}

#[test]
fn answers_that_cannot_be_sent_are_mistakes() {
    for route in [
        json!({ "respond": { "status": 1000 } }),
        json!({ "respond": { "body": "a", "content_type": "a\nb" } }),
        json!({ "redirect": { "status": 0 } }),
        json!({ "redirect": { "path": "new" } }),
        json!({ "redirect": { "prefix": "/a?b" } }),
        json!({ "redirect": { "authority": "a/b" } }),
        json!({ "redirect": { "scheme": "http s" } }),
    ] {
        assert_eq!(mistakes(json!([route])).len(), 1, "{route}");
    }
}
