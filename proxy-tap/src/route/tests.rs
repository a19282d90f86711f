//! What parts share in tests, and what a whole route does.

use std::collections::HashMap;

use http::{HeaderName, Method};
use serde_json::{Value, json};
use weir_model::policy::Service;

use super::*;

/// A request that a test makes up.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) authority: String,
    pub(super) scheme: String,
    pub(super) headers: HeaderMap,
    pub(super) source: String,
}

impl Asked {
    pub(super) fn get(target: &str) -> Self {
        Self {
            method: Method::GET,
            target: target.parse().unwrap(),
            authority: "shop.example:8080".to_owned(),
            scheme: "http".to_owned(),
            headers: HeaderMap::new(),
            source: "web".to_owned(),
        }
    }

    pub(super) fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    pub(super) fn from(self, source: &str) -> Self {
        Self { source: source.to_owned(), ..self }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(&self.method, &self.target, &self.authority, &self.scheme, &self.headers, &self.source)
    }
}

pub(super) fn service(routes: Value) -> Service {
    serde_json::from_value(json!({ "host": "search", "route": routes })).unwrap()
}

pub(super) fn compile(routes: Value) -> Routes {
    Routes::compile(&service(routes), &Buckets::new(Instant::now())).unwrap()
}

/// The only route of a service, and how many bytes its prefix matched.
pub(super) fn only(route: Value, asked: &Asked) -> (Arc<Route>, Option<usize>) {
    let routes = compile(json!([route]));
    let found = routes.find(&asked.view()).expect("a route that matches");
    (Arc::clone(found.route), found.prefix)
}

pub(super) fn mistakes(routes: Value) -> Vec<String> {
    let result = Routes::compile(&service(routes), &Buckets::new(Instant::now()));
    result.unwrap_err().iter().map(ToString::to_string).collect()
}

/// Headers in order of their names.
pub(super) fn listed(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut all: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    all.sort_unstable();
    all
}

#[test]
fn what_is_not_configured_does_nothing() {
    let asked = Asked::get("/a//../%2e?q").method(Method::OPTIONS).header("origin", "https://a.example");
    let asked = asked.header("access-control-request-method", "PUT");
    let (route, prefix) = only(json!({}), &asked);
    let (view, chance, now) = (asked.view(), Chance::new(1, ""), Instant::now());
    assert_eq!(route.preflight(&view), None);
    assert_eq!(route.fault(&chance), (None, None));
    assert_eq!(route.admit(&view, now), Verdict::Allowed(None));
    assert_eq!(route.answer(&view, prefix), None);
    assert_eq!(route.mirrors(&chance).count(), 0);
    assert_eq!((route.retries.is_none(), route.hedge, route.upgrade), (true, None, None));
    let target = route.target(chance.u64());
    assert_eq!((&*target.host, &target.subset), ("search", &None));
    // The path is forwarded as it came, however it was matched.
    let Asked { target: mut path, mut headers, .. } = asked.clone();
    let mut authority = HeaderValue::from_static("search");
    route.rewrite(target, prefix, &mut path, &mut authority, &mut headers).unwrap();
    assert_eq!(
        (path.as_str(), &headers, authority.as_bytes()),
        ("/a//../%2e?q", &asked.headers, &b"search"[..])
    );
    let mut response = HeaderMap::new();
    route.respond(target, route.origin(&asked.headers), &mut response);
    assert!(response.is_empty());
}

#[test]
fn a_bound_on_time_is_the_routes_or_the_proxys_and_zero_is_none() {
    let default = Duration::from_secs(15);
    let bounds = |route| {
        let patience = only(route, &Asked::get("/")).0.patience(default);
        (patience.head, patience.whole)
    };
    let two = Some(Duration::from_secs(2));
    assert_eq!(bounds(json!({})), (Some(default), None), "what streams may go on");
    assert_eq!(bounds(json!({ "timeout": "2s" })), (two, two));
    assert_eq!(bounds(json!({ "timeout": "0s" })), (None, None));
}

fn share(n: usize, of: usize) -> f64 {
    n as f64 / of as f64
}

#[test]
fn targets_get_their_weights() {
    let to = json!([{ "subset": "v1", "weight": 90 }, { "subset": "none", "weight": 0 },
                    { "subset": "v2", "weight": 9 }, { "host": "other" }]);
    let (route, _) = only(json!({ "to": to }), &Asked::get("/"));
    let chance = Chance::new(5, "weights");
    let mut counts: HashMap<(&str, Option<&str>), usize> = HashMap::new();
    for _ in 0..100_000 {
        let target = route.target(chance.u64());
        *counts.entry((&target.host, target.subset.as_deref())).or_default() += 1;
    }
    assert_eq!(counts.len(), 3);
    for (target, expected) in
        [(("search", Some("v1")), 0.9), (("search", Some("v2")), 0.09), (("other", None), 0.01)]
    {
        let got = share(counts[&target], 100_000);
        assert!((got - expected).abs() < 0.005, "{target:?}: {got}");
    }
    assert_eq!(route.target(0).subset.as_deref(), Some("v1"));
    assert_eq!(&*route.target(u64::MAX).host, "other");
}

#[test]
fn faults_and_copies_happen_as_often_as_they_should() {
    let route = json!({
        "fault": { "delay": { "fixed": "10ms", "percent": 20 }, "abort": { "grpc_status": 14, "percent": 5 } },
        "mirror": [{ "host": "audit", "percent": 50 }, { "host": "shadow", "subset": "v2" }],
    });
    let (route, _) = only(route, &Asked::get("/"));
    let chance = Chance::new(6, "faults");
    let (mut delays, mut aborts, mut both, mut audits) = (0, 0, 0, 0);
    for _ in 0..100_000 {
        let (delay, abort) = route.fault(&chance);
        assert!(delay.is_none_or(|delay| delay == Duration::from_millis(10)));
        assert!(abort.is_none_or(|abort| abort == Abort::Grpc(14)));
        delays += usize::from(delay.is_some());
        aborts += usize::from(abort.is_some());
        both += usize::from(delay.is_some() && abort.is_some());
        let mirrors: Vec<_> = route.mirrors(&chance).map(|to| &*to.host).collect();
        assert_eq!(mirrors.last(), Some(&"shadow"));
        audits += mirrors.len() - 1;
    }
    for (n, expected) in [(delays, 0.2), (aborts, 0.05), (both, 0.01), (audits, 0.5)] {
        assert!((share(n, 100_000) - expected).abs() < 0.006, "{n} of 100000, not {expected}");
    }
}

#[test]
fn an_abort_with_a_status_is_one_of_http() {
    let (route, _) = only(json!({ "fault": { "abort": { "status": 418 } } }), &Asked::get("/"));
    assert_eq!(route.fault(&Chance::new(1, "")), (None, Some(Abort::Http(418))));
}
