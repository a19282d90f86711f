use http::Method;
use serde_json::{Value, json};

use super::super::tests::{Asked, compile, mistakes};

mod naive;

/// The name of the route that a request takes.
fn taken(routes: &Value, asked: &Asked) -> Option<String> {
    compile(routes.clone()).find(&asked.view()).map(|found| found.route.name.to_string())
}

/// Whether a request matches the one condition.
fn holds(condition: Value, asked: &Asked) -> bool {
    taken(&json!([{ "match": [condition] }]), asked).is_some()
}

#[test]
fn without_routes_everything_goes_to_the_service_and_with_some_only_what_matches() {
    assert_eq!(taken(&json!([]), &Asked::get("/any")).as_deref(), Some("default"));
    assert_eq!(taken(&json!([{}]), &Asked::get("/any")).as_deref(), Some("0"));
    assert_eq!(taken(&json!([{ "match": [{ "path": { "exact": "/a" } }] }]), &Asked::get("/any")), None);
}

#[test]
fn the_first_that_matches_decides_however_it_is_found() {
    let routes = json!([
        { "name": "beta", "match": [{ "headers": { "x-beta": { "present": true } }, "path": { "prefix": "/" } }] },
        { "name": "long", "match": [{ "path": { "prefix": "/find/all" } }, { "path": { "exact": "/all" } }] },
        { "name": "fold", "match": [{ "path": { "prefix": "/FIND" }, "ignore_path_case": true,
                                      "method": { "exact": "POST" } }] },
        { "name": "regex", "match": [{ "path": { "regex": "/find/.*x" } }] },
        { "name": "short", "match": [{ "path": { "path_prefix": "/find" } }] },
        { "name": "exact", "match": [{ "path": { "exact": "/find/one" } }] },
        { "name": "post", "match": [{ "method": { "exact": "POST" } }] },
    ]);
    for (asked, expected) in [
        (Asked::get("/find/all/x").header("x-beta", ""), Some("beta")),
        (Asked::get("/find/all/x"), Some("long")),
        (Asked::get("/all"), Some("long")),
        (Asked::get("/find/x"), Some("regex")),
        (Asked::get("/Find/x").method(Method::POST), Some("fold")),
        (Asked::get("/find/one"), Some("short")),
        (Asked::get("/finder"), None),
        (Asked::get("/find"), Some("short")),
        (Asked::get("/x/../%66ind/./one"), Some("short")),
        (Asked::get("/other").method(Method::POST), Some("post")),
        (Asked::get("/other"), None),
    ] {
        assert_eq!(taken(&routes, &asked).as_deref(), expected, "{asked:?}");
    }
}

#[test]
fn paths_and_grpc_methods() {
    for (condition, yes, no) in [
        (
            json!({ "path": { "exact": "/a" } }),
            &["/a", "/a?q=1", "/b/../a"][..],
            &["/a/", "/A", "//a", "/ab"][..],
        ),
        (json!({ "path": { "exact": "/~a" } }), &["/~a", "/%7ea"], &["/%257ea"]),
        (json!({ "path": { "exact": "/%7Ea" } }), &["/~a", "/%7ea"], &["/a"]),
        (json!({ "path": { "exact": "/A" }, "ignore_path_case": true }), &["/a", "/A"], &["/b"]),
        (json!({ "path": { "prefix": "/a" } }), &["/a", "/ab", "/a/b"], &["/", "/b", "/A"]),
        (json!({ "path": { "path_prefix": "/a" } }), &["/a", "/a/", "/a/b"], &["/ab", "/"]),
        (json!({ "path": { "path_prefix": "/a/" } }), &["/a", "/a/", "/a/b"], &["/ab"]),
        (json!({ "path": { "path_prefix": "/" } }), &["/", "/a", "//"], &["*"]),
        (json!({ "path": { "path_prefix": "/A" }, "ignore_path_case": true }), &["/a/b"], &["/ab"]),
        (json!({ "path": { "regex": "/a|/bc?" } }), &["/a", "/b", "/bc"], &["/ab", "/bcd", "/x/a"]),
        (json!({ "path": { "regex": "/A" }, "ignore_path_case": true }), &["/a"], &["/b"]),
        (json!({ "path": { "present": true } }), &["/", "/a"], &[]),
        (
            json!({ "grpc": { "exact": "shop.Cart/Add" } }),
            &["/shop.Cart/Add"],
            &["/shop.Cart/Del", "/x/shop.Cart/Add"],
        ),
        (json!({ "grpc": { "path_prefix": "shop.Cart" } }), &["/shop.Cart/Add"], &["/shop.Carts/Add"]),
        (json!({ "grpc": { "prefix": "shop." } }), &["/shop.Cart/Add"], &["/shopCart/Add"]),
        (json!({ "grpc": { "regex": ".*/Add" } }), &["/shop.Cart/Add"], &["/shop.Cart/Del"]),
    ] {
        for path in yes {
            assert!(holds(condition.clone(), &Asked::get(path)), "{condition} {path}");
        }
        for path in no {
            assert!(!holds(condition.clone(), &Asked::get(path)), "{condition} {path}");
        }
    }
}

#[test]
fn everything_else_of_a_request() {
    let asked = || {
        Asked::get("/p?a=1&b=%20&a=2&c").header("x-user", "ann").header("x-many", "1").header("x-many", "2")
    };
    for (condition, expected) in [
        (json!({ "method": { "exact": "GET" } }), true),
        (json!({ "method": { "regex": "PUT|POST" } }), false),
        (json!({ "authority": { "exact": "Shop.example:8080" } }), true),
        (json!({ "authority": { "prefix": "shop." } }), true),
        (json!({ "authority": { "exact": "shop.example" } }), false),
        (json!({ "scheme": { "exact": "http" } }), true),
        (json!({ "scheme": { "exact": "https" } }), false),
        (json!({ "source": { "exact": "web" } }), true),
        (json!({ "source": { "present": false } }), false),
        (json!({ "headers": { "X-User": { "exact": "ann" } } }), true),
        (json!({ "headers": { "x-user": { "exact": "Ann" } } }), false),
        (json!({ "headers": { "x-user": { "present": false } } }), false),
        (json!({ "headers": { "x-none": { "present": false } } }), true),
        (json!({ "headers": { "x-none": { "prefix": "" } } }), false),
        (json!({ "headers": { "x-many": { "exact": "1,2" } } }), true),
        (json!({ "headers": { "x-user": { "regex": "a.n" }, "x-many": { "prefix": "2" } } }), false),
        (json!({ "without_headers": { "x-user": { "exact": "bob" } } }), true),
        (json!({ "without_headers": { "x-user": { "exact": "ann" } } }), false),
        (json!({ "without_headers": { "x-user": { "present": true } } }), false),
        (json!({ "without_headers": { "x-none": { "exact": "a" } } }), true),
        (json!({ "query": { "a": { "exact": "1" } } }), true),
        (json!({ "query": { "a": { "exact": "2" } } }), false),
        (json!({ "query": { "b": { "exact": "%20" }, "c": { "exact": "" } } }), true),
        (json!({ "query": { "d": { "present": false } } }), true),
        (json!({ "query": { "d": { "present": true } } }), false),
    ] {
        assert_eq!(holds(condition.clone(), &asked()), expected, "{condition}");
    }
    assert!(holds(json!({ "source": { "present": false } }), &Asked::get("/").from("")));
    let odd = Asked::get("/").header("x-user", "müller");
    assert!(holds(json!({ "headers": { "x-user": { "regex": "m.ller" } } }), &odd));
}

#[test]
fn all_mistakes_are_found_at_once_with_their_paths() {
    let found = mistakes(json!([
        { "match": [{}, { "path": { "regex": "(" }, "headers": { "a b": { "exact": "" } } }] },
        { "match": [{ "authority": { "regex": "(\\pL{1000}){100}" } }], "to": [{ "weight": 0 }] },
        { "rate_limit": [{ "requests": 1, "header": "a b" }], "cors": { "allow_origins": [{ "regex": "[" }] } },
    ]));
    let expected = [
        "service[search].route[0].match[1]: path: `(`: error: unclosed group",
        "service[search].route[0].match[1]: headers.a b: invalid HTTP header name",
        "service[search].route[1].match[0]: authority: `(\\pL{1000}){100}`: ",
        "service[search].route[1]: to: expected a weight above 0",
        "service[search].route[2]: rate_limit[0].header: invalid HTTP header name",
        "service[search].route[2]: cors.allow_origins: `[`: error: unclosed character class",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
}
