//! What it costs a request to tell the breakers how it went.
//!
//! `cargo bench -p weir-proxy-tap --bench breaker -- 5000000` takes that many results a case. Threads are as
//! many as told, each on one upstream that they share, as the runtimes of a proxy do.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Instant;

use weir_proxy_tap::measure_breaker::Subject;

fn measure(name: &str, threads: usize, results: usize, tell: impl Fn(usize) + Sync) {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let tell = &tell;
            scope.spawn(move || (0..results / threads).for_each(|i| tell(black_box(i + thread))));
        }
    });
    let ns = began.elapsed().as_nanos() as f64 / results as f64;
    println!("{name:44} {threads} threads {ns:7.1} ns a result");
}

fn main() {
    let results = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(5_000_000);
    for threads in [1, 2] {
        for endpoints in [3, 100] {
            let subject = Subject::new(endpoints);
            let name = |what: &str| format!("{what}, {endpoints} endpoints");
            measure(&name("success"), threads, results, |i| subject.result(i, true));
            measure(&name("one failure in a hundred"), threads, results, |i| {
                subject.result(i, i % 100 != 0);
            });
            subject.tick();
        }
    }
}
