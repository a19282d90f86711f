//! What balancing over many endpoints costs: time of a pick, and of a change of the endpoints.
//!
//! `cargo bench -p weir-proxy-tap --bench balance`. Bars: with 10,000 endpoints a change takes at most 50 ms
//! and delays no request by more than 5 ms.
#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::time::{Duration, Instant};

use weir_model::policy::Balancer;
use weir_model::policy::destination::HashKey;
use weir_proxy_tap::BalanceBench;

const PICKS: u64 = 200_000;
const CHANGES: usize = 20;

fn main() {
    println!(
        "{:<14} {:>9} {:>9} {:>12} {:>12} {:>11} {:>11} {:>11} {:>11}",
        "balancer",
        "endpoints",
        "pick ns",
        "40% out ns",
        "99% out ns",
        "tables ms",
        "change ms",
        "breakers ms",
        "count us"
    );
    let key = || HashKey::SourceIp;
    let balancers = [
        ("round robin", Balancer::RoundRobin),
        ("random", Balancer::Random),
        ("least request", Balancer::LeastRequest),
        ("peak ewma", Balancer::PeakEwma),
        ("ring hash", Balancer::RingHash { key: key(), points: 1_024 }),
        ("maglev", Balancer::Maglev { key: key(), entries: 65_537 }),
    ];
    for (name, balancer) in balancers {
        for endpoints in [5, 100, 10_000] {
            row(name, &balancer, endpoints);
        }
    }
}

fn row(name: &str, balancer: &Balancer, endpoints: usize) {
    let bench = BalanceBench::new(balancer.clone(), endpoints);
    let all = picks(&bench);
    bench.leave(60);
    let few = picks(&bench);
    bench.leave(1);
    let hardly = picks(&bench);
    bench.leave(100);
    let tables = worst((0..CHANGES).map(|_| time(|| bench.make())));
    let change = worst((1..=CHANGES).map(|n| bench.change(n)));
    let breakers = worst((0..CHANGES).map(|_| bench.tell_breakers()));
    let count = worst((0..CHANGES).map(|_| time(|| bench.refresh())));
    println!(
        "{name:<14} {endpoints:>9} {all:>9.0} {few:>12.0} {hardly:>12.0} {:>11.2} {:>11.2} {:>11.2} {:>11.0}",
        tables.as_secs_f64() * 1e3,
        change.as_secs_f64() * 1e3,
        breakers.as_secs_f64() * 1e3,
        count.as_secs_f64() * 1e6,
    );
}

fn picks(bench: &BalanceBench) -> f64 {
    let now = tokio::time::Instant::now();
    let took = time(|| {
        for n in 0..PICKS {
            assert!(std::hint::black_box(bench.pick(n, now)));
        }
    });
    took.as_secs_f64() * 1e9 / PICKS as f64
}

fn time(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn worst(times: impl Iterator<Item = Duration>) -> Duration {
    times.max().unwrap_or_default()
}
