use serde_json::{Value, json};

use super::super::tests::{Asked, listed, mistakes, only};
use super::*;

/// The path that the target of a request for `sent` gets.
fn rewritten(path: Value, rewrite: Value, sent: &str) -> String {
    let asked = Asked::get(sent);
    let (route, prefix) = only(json!({ "match": [{ "path": path }], "rewrite": rewrite }), &asked);
    let (mut path, mut headers) = (asked.target, asked.headers);
    route
        .rewrite(route.target(0), prefix, &mut path, &mut HeaderValue::from_static("a"), &mut headers)
        .unwrap();
    path.as_str().to_owned()
}

#[test]
fn prefixes_are_replaced_and_the_query_stays() {
    for (path, rewrite, sent, expected) in [
        (json!({ "path_prefix": "/foo" }), "/xyz", "/foo/bar?q=1", "/xyz/bar?q=1"),
        (json!({ "path_prefix": "/foo" }), "/xyz/", "/foo/bar", "/xyz/bar"),
        (json!({ "path_prefix": "/foo/" }), "/xyz", "/foo/bar", "/xyz/bar"),
        (json!({ "path_prefix": "/foo/" }), "/xyz/", "/foo/bar", "/xyz/bar"),
        (json!({ "path_prefix": "/foo" }), "/xyz", "/foo", "/xyz"),
        (json!({ "path_prefix": "/foo" }), "/xyz", "/foo/", "/xyz/"),
        (json!({ "path_prefix": "/foo" }), "", "/foo/bar", "/bar"),
        (json!({ "path_prefix": "/foo" }), "", "/foo", "/"),
        (json!({ "path_prefix": "/foo" }), "/", "/foo/", "/"),
        (json!({ "path_prefix": "/" }), "/api", "/x", "/api/x"),
        (json!({ "prefix": "/foo" }), "/", "/foo/bar", "/bar"),
        (json!({ "prefix": "/foo-" }), "/v2-", "/foo-bar", "/v2-bar"),
        (json!({ "exact": "/foo" }), "/bar", "/foo?q", "/bar?q"),
        (json!({ "regex": "/f.*" }), "/bar", "/foo/x", "/bar"),
        // By what was matched, not by how it was spelled.
        (json!({ "path_prefix": "/foo" }), "/xyz", "/a/../%66oo/b%2Fc", "/xyz/b%2Fc"),
    ] {
        assert_eq!(rewritten(path, json!({ "path": rewrite }), sent), expected, "{sent} {rewrite}");
    }
}

#[test]
fn whole_paths_and_patterns_are_replaced() {
    let any = json!({ "prefix": "/" });
    assert_eq!(rewritten(any.clone(), json!({ "full_path": "/all" }), "/foo/bar?q"), "/all?q");
    let regex = |find: &str, replace: &str| json!({ "regex": { "find": find, "replace": replace } });
    let groups = regex("^/service/([^/]+)(/.*)$", r"\2/instance/\1");
    assert_eq!(rewritten(any.clone(), groups, "/service/foo/v1/api?a=b"), "/v1/api/instance/foo?a=b");
    assert_eq!(rewritten(any.clone(), regex("one", "two"), "/xxx/one/yyy/one/zzz"), "/xxx/two/yyy/two/zzz");
    assert_eq!(rewritten(any.clone(), regex("^/a", ""), "/ab"), "/b");
    assert_eq!(rewritten(any.clone(), regex("a(b)", r"$1\1${1}{"), "/ab"), "/$1b${1}{");
    assert_eq!(rewritten(any, regex("nothing", "x"), "/ab"), "/ab");
}

#[test]
fn the_host_is_the_routes_or_the_targets_and_what_was_is_told() {
    for (route, expected) in [
        (json!({ "rewrite": { "authority": "b" } }), "b"),
        (json!({ "headers": { "request": { "set": { "Host": "c" } } } }), "c"),
        (json!({ "to": [{ "headers": { "request": { "set": { "host": "d" } } } }] }), "d"),
        (
            json!({ "rewrite": { "authority": "b", "full_path": "/new" },
                    "to": [{ "headers": { "request": { "set": { "host": "d" } } } }] }),
            "b",
        ),
    ] {
        let asked = Asked::get("/old?q").header("x-envoy-original-host", "forged");
        let (route, prefix) = only(route, &asked);
        let (mut path, mut headers) = (asked.target, asked.headers);
        let mut authority = HeaderValue::from_static("a");
        route.rewrite(route.target(0), prefix, &mut path, &mut authority, &mut headers).unwrap();
        assert_eq!(authority, expected);
        match path.as_str() {
            "/old?q" => assert_eq!(listed(&headers), [("x-envoy-original-host", "a")]),
            _ => assert_eq!(
                listed(&headers),
                [("x-envoy-original-host", "a"), ("x-envoy-original-path", "/old?q")]
            ),
        }
    }
}

#[test]
fn a_path_that_grew_too_long_is_an_error_and_nothing_was_changed() {
    let asked = Asked::get(&format!("/{}", "a".repeat(40_000)));
    let regex = json!({ "rewrite": { "regex": { "find": "a", "replace": "bb" }, "authority": "b" } });
    let (route, prefix) = only(regex, &asked);
    let (mut path, mut headers) = (asked.target.clone(), asked.headers);
    let mut authority = HeaderValue::from_static("a");
    let result = route.rewrite(route.target(0), prefix, &mut path, &mut authority, &mut headers);
    assert_eq!(result, Err(RewriteError { bytes: 80_001 }));
    assert_eq!((path, authority, headers.len()), (asked.target, HeaderValue::from_static("a"), 0));
}

#[test]
fn replacements_that_make_no_path_are_mistakes() {
    for rewrite in [
        json!({ "path": "/a?b" }),
        json!({ "full_path": "/a#b" }),
        json!({ "path": "/a b" }),
        json!({ "authority": "a\nb" }),
        json!({ "regex": { "find": "(", "replace": "" } }),
        json!({ "regex": { "find": "a", "replace": "\\x" } }),
        json!({ "regex": { "find": "a", "replace": "?b" } }),
    ] {
        assert_eq!(mistakes(json!([{ "rewrite": rewrite }])).len(), 1, "{rewrite}");
    }
}
