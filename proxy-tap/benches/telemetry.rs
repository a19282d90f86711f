//! What telemetry costs a request, without a network: reporting it, and making export requests of the reports. Times
//! are those that the process had a processor for, so that others on the machine matter little.
//!
//! `cargo bench -p weir-proxy-tap --bench telemetry -- 2000000` takes that many requests a case.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use weir_proxy_tap::measure::Subject;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests between two collections.
const ROUND: usize = 2_000;

/// Time on a processor so far.
fn cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = told.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn measure(name: &str, requests: usize, subject: &Subject, report: impl Fn(&Subject, usize)) {
    let (mut reporting, mut collecting, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
    let rounds = requests.div_ceil(ROUND);
    for _ in 0..rounds {
        let began = cpu();
        for i in 0..ROUND {
            report(black_box(subject), i);
        }
        reporting += cpu() - began;
        let began = cpu();
        bytes += subject.collect();
        collecting += cpu() - began;
    }
    let per = |time: Duration| time.as_nanos() as f64 / (rounds * ROUND) as f64;
    println!(
        "{name:32} {:7.0} ns a request, and {:5.0} ns to collect {:4} bytes",
        per(reporting),
        per(collecting),
        bytes / (rounds * ROUND)
    );
}

fn main() {
    let requests = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let without = Subject::new(false, 1.0);
    measure("metrics, no collector", requests, &without, Subject::call);
    let unsampled = Subject::new(true, 0.0);
    measure("metrics", requests, &unsampled, Subject::call);
    let with = Subject::new(true, 1.0);
    measure("edge metric", requests, &with, Subject::edge);
    measure("metrics, span and log", requests, &with, Subject::call);
    measure("all of a request", requests, &with, |subject, i| {
        subject.edge(i);
        subject.call(i);
    });
    measure("a known peer header", requests, &with, |subject, _| subject.peer());
    measure("a TCP connection", requests, &with, Subject::connection);
    let mut tracing = Subject::new(true, 1.0);
    let began = cpu();
    (0..requests).for_each(|_| black_box(&mut tracing).trace());
    println!("{:32} {:7.0} ns", "trace context", (cpu() - began).as_nanos() as f64 / requests as f64);
    println!("{} messages in a chunk", with.messages());
}
