//! The index against a scan: an own, slow reading of what conditions mean, tried one by one.

use http::Method;
use proptest::prelude::*;
use weir_model::policy::route::{HttpMatch, HttpRoute, TextMatch};
use weir_model::policy::{Mistake, Service};

use super::super::super::Buckets;
use super::super::super::tests::Asked;
use super::super::Routes;

fn text_matches(wanted: &TextMatch, text: &str, fold: bool) -> bool {
    let same = |text: &str| if fold { text.to_lowercase() } else { text.to_owned() };
    let text = same(text);
    match wanted {
        TextMatch::Exact(wanted) => text == same(wanted),
        TextMatch::Prefix(wanted) => text.starts_with(&same(wanted)),
        TextMatch::PathPrefix(wanted) => {
            let wanted = same(wanted.trim_end_matches('/'));
            text == wanted || text.starts_with(&format!("{wanted}/"))
        }
        TextMatch::Regex(wanted) => {
            regex::Regex::new(&format!("^({})$", same(wanted))).unwrap().is_match(&text)
        }
        TextMatch::Present(wanted) => *wanted,
    }
}

fn holds(one: &HttpMatch, asked: &Asked) -> bool {
    let path = asked.target.path();
    one.path.as_ref().is_none_or(|wanted| text_matches(wanted, path, one.ignore_path_case))
        && one.grpc.as_ref().is_none_or(|wanted| text_matches(wanted, &path[1..], false))
        && one.method.as_ref().is_none_or(|wanted| text_matches(wanted, asked.method.as_str(), false))
}

fn first(routes: &[HttpRoute], asked: &Asked) -> Option<usize> {
    routes
        .iter()
        .position(|route| route.matches.is_empty() || route.matches.iter().any(|one| holds(one, asked)))
}

fn text(pattern: &'static str) -> impl Strategy<Value = TextMatch> {
    prop_oneof![
        4 => pattern.prop_map(TextMatch::Exact),
        3 => pattern.prop_map(TextMatch::Prefix),
        3 => pattern.prop_map(TextMatch::PathPrefix),
        1 => pattern.prop_map(|text| TextMatch::Regex(format!("{text}.*"))),
        1 => any::<bool>().prop_map(TextMatch::Present),
    ]
}

const PATH: &str = "(/[abAB]{1,2}){0,3}/?";

prop_compose! {
    fn conditions()(
        path in prop::option::weighted(0.8, text("/([abAB]{1,2}/){0,2}[abAB]{0,2}")),
        grpc in prop::option::weighted(0.2, text("([abAB]/){0,2}[abAB]{0,1}")),
        post in prop::option::weighted(0.2, any::<bool>()),
        ignore_path_case in any::<bool>(),
    ) -> HttpMatch {
        let method = post.map(|post| TextMatch::Exact(if post { "POST" } else { "GET" }.to_owned()));
        HttpMatch { path, grpc, method, ignore_path_case, ..HttpMatch::default() }
    }
}

fn routes() -> impl Strategy<Value = Vec<HttpRoute>> {
    let matches = prop_oneof![1 => Just(Vec::new()), 20 => prop::collection::vec(conditions(), 1..3)];
    let route = matches.prop_map(|matches| HttpRoute { matches, ..HttpRoute::default() });
    prop::collection::vec(route, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_index_finds_what_a_scan_finds(
        routes in routes(),
        asked in prop::collection::vec((PATH, any::<bool>()), 1..20),
    ) {
        let service = Service { host: "search".to_owned(), routes, ..Service::default() };
        let compiled: Result<Routes, Vec<Mistake>> =
            Routes::compile(&service, &Buckets::new(tokio::time::Instant::now()));
        let compiled = compiled.unwrap();
        for (path, post) in asked {
            let path = if path.starts_with('/') { path } else { format!("/{path}") };
            let asked = Asked::get(&path).method(if post { Method::POST } else { Method::GET });
            let found = compiled.find(&asked.view()).map(|found| found.route.name.parse().unwrap());
            prop_assert_eq!(found, first(&service.routes, &asked), "{}", path);
        }
    }
}
