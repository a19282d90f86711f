use serde_json::json;

use super::super::tests::{Asked, listed, mistakes, only};
use super::*;

#[test]
fn headers_are_removed_set_and_added_and_the_route_has_the_last_word() {
    let route = json!({
        "to": [{ "host": "other", "headers": {
            "request": { "set": { "x-by": "target", "x-only": "target" } },
            "response": { "add": { "x-seen": "target" } } } }],
        "headers": {
            "request": { "remove": ["X-Gone"], "set": { "x-by": "route" }, "add": { "x-gone": "again" } },
            "response": { "remove": ["server"], "add": { "x-seen": "route" } } },
    });
    let asked = Asked::get("/").header("x-gone", "1").header("x-gone", "2").header("x-by", "caller");
    let (route, prefix) = only(route, &asked);
    let (mut path, mut headers) = (asked.target, asked.headers);
    let mut authority = HeaderValue::from_static("a");
    route.rewrite(route.target(0), prefix, &mut path, &mut authority, &mut headers).unwrap();
    assert_eq!(listed(&headers), [("x-by", "route"), ("x-gone", "again"), ("x-only", "target")]);
    let mut response = HeaderMap::new();
    response.insert("server", HeaderValue::from_static("s"));
    route.respond(route.target(0), None, &mut response);
    assert_eq!(listed(&response), [("x-seen", "route"), ("x-seen", "target")]);
}

#[test]
fn headers_that_frame_a_message_and_values_that_break_it_are_mistakes() {
    let found = mistakes(json!([{ "headers": {
        "request": { "set": { "x-a": "a\r\nb: c", "Content-Length": "0" }, "add": { "host": "a" } },
        "response": { "set": { "host": "a" }, "remove": ["transfer-encoding"] } } }]));
    assert_eq!(
        found,
        [
            "service[search].route[0]: headers.request.set.Content-Length: \
         `content-length` belongs to the connection and cannot be changed",
            "service[search].route[0]: headers.request.set.x-a: failed to parse header value",
            "service[search].route[0]: headers.request.add.host: `host` can only be set, in requests",
            "service[search].route[0]: headers.response.set.host: `host` can only be set, in requests",
            "service[search].route[0]: headers.response.remove: \
         `transfer-encoding` belongs to the connection and cannot be changed",
        ]
    );
}
