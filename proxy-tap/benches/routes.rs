//! Nanoseconds to find a route, by how many there are. `cargo bench -p weir-proxy-tap --bench routes`.

#![allow(dead_code, unused_imports, reason = "the sources are compiled as they are")]
#![allow(clippy::print_stdout, unreachable_pub, reason = "a benchmark prints")]

/// The proxy's own sources: what a request path calls is no part of the library's interface.
#[path = "../src"]
mod sources {
    pub(crate) mod chance;
    pub(crate) mod route;
}

use std::hint::black_box;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use sources::{chance, route};
use tokio::time::Instant;
use weir_model::policy::route::{HttpMatch, TextMatch};
use weir_model::policy::{HttpRoute, Service};

use route::{Buckets, Routes, View};

fn main() {
    println!("{:>8} {:>12} {:>10} {:>10} {:>10}", "routes", "compile µs", "first ns", "last ns", "none ns");
    for n in [0, 10, 1_000] {
        let started = Instant::now();
        let routes = compile(n);
        let compile_us = started.elapsed().as_micros();
        let [first, last, none] =
            [0, n.saturating_sub(1), n + 1].map(|at| find_ns(&routes, &path(at, "/items/17?sort=price")));
        println!("{n:>8} {compile_us:>12} {first:>10.0} {last:>10.0} {none:>10.0}");
    }
}

/// Half of the routes are exact, half are prefixes.
fn compile(n: usize) -> Routes {
    let routes = (0..n).map(|at| {
        let exact = TextMatch::Exact(path(at, "/items/17"));
        let wanted = if at.is_multiple_of(2) { exact } else { TextMatch::PathPrefix(path(at, "")) };
        let matches = vec![HttpMatch { path: Some(wanted), ..HttpMatch::default() }];
        HttpRoute { matches, ..HttpRoute::default() }
    });
    let service = Service { host: "shop".to_owned(), routes: routes.collect(), ..Service::default() };
    Routes::compile(&service, &Buckets::new(Instant::now())).expect("routes without mistakes")
}

fn path(at: usize, rest: &str) -> String {
    format!("/api/v1/tenant-{at}{rest}")
}

/// What one request costs, its view included: the best of some rounds.
fn find_ns(routes: &Routes, target: &str) -> f64 {
    const ROUNDS: u32 = 20;
    const FINDS: u32 = 20_000;
    let target: PathAndQuery = target.parse().expect("a path");
    let headers = HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("*/*"))]);
    let round = |_| {
        let started = Instant::now();
        for _ in 0..FINDS {
            let view = View::new(&Method::GET, black_box(&target), "shop", "http", &headers, "web");
            black_box(routes.find(&view));
        }
        started.elapsed()
    };
    let best = (0..ROUNDS).map(round).min().unwrap_or(Duration::MAX);
    best.as_nanos() as f64 / f64::from(FINDS)
}
