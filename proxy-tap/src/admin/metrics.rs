//! The proxy's own counters and Istio's metrics, in Prometheus' text format.
//!
//! Format: prometheus.io/docs/instrumenting/exposition_formats, "Text format".

use std::fmt::Write;

use tokio::time::Instant;

use crate::run::Proxy;
use crate::worker;

/// All samples of one metric after another, as the format wants them.
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().fold(String::new(), |mut text, (name, value)| {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{name}=\"{}\"", escaped(value));
            text
        });
        self.labelled(name, "", &labels, value);
    }

    fn labelled(&mut self, name: &str, suffix: &str, labels: &str, value: f64) {
        let _ = match labels {
            "" => writeln!(self.0, "{name}{suffix} {value}"),
            labels => writeln!(self.0, "{name}{suffix}{{{labels}}} {value}"),
        };
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn page(proxy: &Proxy) -> String {
    let mut page = Page(String::with_capacity(4 << 10));
    telemetry(&mut page, proxy);
    mesh(&mut page, proxy);
    shared_limits(&mut page, proxy);
    listeners(&mut page, proxy);
    breakers(&mut page, proxy);
    for family in proxy.tap.metric_families() {
        page.metric(family.name, family.kind, "Istio's standard metric.");
        for sample in family.samples {
            page.labelled(family.name, sample.suffix, &sample.labels, sample.value);
        }
    }
    page.0
}

fn telemetry(page: &mut Page, proxy: &Proxy) {
    let name = "weir_proxy_telemetry_dropped_total";
    page.metric(name, "counter", "Spans, log records, points and answers that were lost, by reason.");
    for (reason, count) in proxy.tap.dropped.list() {
        page.sample(name, &[("reason", reason)], count as f64);
    }
    page.sample(name, &[("reason", "acks_full")], proxy.answers.dropped() as f64);
    let (records, requests) = proxy.tap.waiting();
    let name = "weir_proxy_queue_length";
    page.metric(name, "gauge", "Items that wait to be sent to the collector.");
    page.sample(name, &[("queue", "records")], records as f64);
    page.sample(name, &[("queue", "export_requests")], requests as f64);
    page.sample(name, &[("queue", "acks")], proxy.answers.len() as f64);
}

fn mesh(page: &mut Page, proxy: &Proxy) {
    let name = "weir_proxy_collector_connected";
    page.metric(name, "gauge", "Whether the proxy has joined the mesh at its collector.");
    page.sample(name, &[], f64::from(u8::from(proxy.mesh.is_joined())));
    let name = "weir_proxy_collector_epoch";
    page.metric(name, "gauge", "The run of the collector that was joined last.");
    page.sample(name, &[], proxy.mesh.epoch() as f64);
    let name = "weir_proxy_mesh_events_total";
    page.metric(name, "counter", "Streams that were joined, that failed, and what was unusable in them.");
    for (event, count) in proxy.mesh.counts() {
        page.sample(name, &[("event", event)], count as f64);
    }
    let name = "weir_proxy_mirrored_requests_total";
    page.metric(name, "counter", "Copies of requests that were sent, that failed, and that were not sent.");
    for (outcome, count) in proxy.mirror.counts() {
        page.sample(name, &[("outcome", outcome)], count as f64);
    }
    sources(page, proxy);
    policy(page, proxy);
    updates(page, proxy);
    let name = "weir_proxy_uptime_seconds";
    page.metric(name, "gauge", "Time since the proxy started.");
    page.sample(name, &[], proxy.started.elapsed().as_secs_f64());
}

fn shared_limits(page: &mut Page, proxy: &Proxy) {
    let shared = proxy.buckets.shared();
    let name = "weir_proxy_global_rate_limit_requests_total";
    page.metric(name, "counter", "Requests that limits shared with other proxies admitted and refused.");
    for (outcome, count) in shared.counts() {
        page.sample(name, &[("outcome", outcome)], count as f64);
    }
    let name = "weir_proxy_global_rate_limit_keys";
    page.metric(name, "gauge", "Buckets of limits shared with other proxies.");
    page.sample(name, &[], shared.kept() as f64);
    let name = "weir_proxy_global_rate_limit_keys_dropped_total";
    page.metric(name, "counter", "Buckets of such limits that were forgotten because there were too many.");
    page.sample(name, &[], shared.dropped() as f64);
}

fn listeners(page: &mut Page, proxy: &Proxy) {
    let name = "weir_proxy_connections";
    page.metric(name, "gauge", "Connections that are open, by listener.");
    for tally in &proxy.tallies {
        page.sample(name, &[("listener", &tally.name)], tally.open() as f64);
    }
    let name = "weir_proxy_connections_accepted_total";
    page.metric(name, "counter", "Connections that were accepted, by listener.");
    for tally in &proxy.tallies {
        page.sample(name, &[("listener", &tally.name)], tally.accepted() as f64);
    }
    let name = "weir_proxy_tls_errors_total";
    page.metric(name, "counter", "Connections that came without TLS or failed to agree on it, by listener.");
    for tally in &proxy.tallies {
        page.sample(name, &[("listener", &tally.name)], tally.tls_errors() as f64);
    }
    let name = "weir_proxy_malformed_requests_total";
    page.metric(name, "counter", "Requests that could not be understood and were refused.");
    page.sample(name, &[], proxy.malformed_requests() as f64);
    let name = "weir_proxy_health_checks_received_total";
    page.metric(name, "counter", "Health checks of other proxies, which are in no other metric.");
    page.sample(name, &[], proxy.health_checks() as f64);
    let name = "weir_proxy_draining";
    page.metric(name, "gauge", "Whether the proxy is about to leave.");
    page.sample(name, &[], f64::from(u8::from(proxy.drain.begun().is_some())));
}

fn sources(page: &mut Page, proxy: &Proxy) {
    let name = "weir_proxy_dns_events_total";
    page.metric(name, "counter", "Questions to the DNS, those that failed, and endpoints in the answers.");
    for (service, status) in proxy.sources.names() {
        for (event, count) in status.counts() {
            page.sample(name, &[("service", &*service), ("event", event)], count as f64);
        }
    }
    let name = "weir_proxy_dns_answer_age_seconds";
    page.metric(name, "gauge", "Time since the DNS last answered.");
    for (service, status) in proxy.sources.names() {
        if let Some(age) = status.age(Instant::now()) {
            page.sample(name, &[("service", &*service)], age.as_secs_f64());
        }
    }
    let name = "weir_proxy_endpoints_file_events_total";
    page.metric(name, "counter", "Times that the file of endpoints said something new, and was broken.");
    for (event, count) in proxy.sources.file.counts() {
        page.sample(name, &[("event", event)], count as f64);
    }
    let name = "weir_proxy_endpoints_file_mistakes";
    page.metric(name, "gauge", "Mistakes in the file of endpoints as it is.");
    page.sample(name, &[], proxy.sources.file.mistakes().len() as f64);
}

fn updates(page: &mut Page, proxy: &Proxy) {
    let name = "weir_proxy_update_duration_seconds";
    page.metric(name, "histogram", "Time from hearing of a change until it was in force, by source.");
    for (source, times) in proxy.sources.took().into_iter().chain([("registry", &proxy.mesh.took)]) {
        let (mut total, labels) = (0, format!("source=\"{source}\""));
        for (bound, count) in times.buckets() {
            total = count;
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            page.labelled(name, "_bucket", &format!("{labels},le=\"{bound}\""), count as f64);
        }
        page.labelled(name, "_sum", &labels, times.sum_s());
        page.labelled(name, "_count", &labels, total as f64);
    }
}

fn policy(page: &mut Page, proxy: &Proxy) {
    let name = "weir_proxy_policy_file_mistakes";
    page.metric(name, "gauge", "Mistakes in the policy file as it is.");
    page.sample(name, &[], proxy.sources.policy_mistakes() as f64);
}

fn breakers(page: &mut Page, proxy: &Proxy) {
    let now = Instant::now();
    let all: Vec<_> = proxy
        .services
        .all()
        .into_iter()
        .map(|upstream| {
            let views = upstream.breaker_views(now);
            (upstream, views)
        })
        .collect();
    let name = "weir_proxy_breaker_state";
    page.metric(name, "gauge", "1 for the state that a breaker is in; the edge has an empty endpoint.");
    for (upstream, views) in &all {
        for view in worker::giving_way(views) {
            let endpoint = view.endpoint.as_deref().unwrap_or_default();
            let cause = view.cause.unwrap_or("");
            let labels = [
                ("service", &*upstream.name),
                ("endpoint", endpoint),
                ("state", view.state.name()),
                ("cause", cause),
            ];
            page.sample(name, &labels, 1.0);
        }
    }
    let name = "weir_proxy_breaker_share";
    page.metric(name, "gauge", "Share of normal traffic that a breaker lets through.");
    for (upstream, views) in &all {
        for view in worker::giving_way(views) {
            let endpoint = view.endpoint.as_deref().unwrap_or_default();
            page.sample(name, &[("service", &*upstream.name), ("endpoint", endpoint)], view.share);
        }
    }
    let name = "weir_proxy_requests_in_flight";
    page.metric(name, "gauge", "Requests under way that count against a bound of the policy.");
    for (upstream, _) in &all {
        let limits = &upstream.applied().limits;
        page.sample(name, &[("service", &*upstream.name)], f64::from(limits.in_flight()));
    }
    let name = "weir_proxy_requests_pending";
    page.metric(
        name,
        "gauge",
        "Requests that wait for a connection and count against a bound of the policy.",
    );
    for (upstream, _) in &all {
        let limits = &upstream.applied().limits;
        page.sample(name, &[("service", &*upstream.name)], f64::from(limits.pending()));
    }
    let name = "weir_proxy_endpoint_connections";
    page.metric(name, "gauge", "Connections to the endpoints of a service that are open or coming about.");
    for (upstream, _) in &all {
        page.sample(name, &[("service", &*upstream.name)], f64::from(upstream.terms().open()));
    }
    let name = "weir_proxy_requests_over_limit_total";
    page.metric(name, "counter", "Requests and connections refused by a bound of the policy.");
    for (upstream, _) in &all {
        page.sample(name, &[("service", &*upstream.name)], upstream.applied().limits.refused() as f64);
    }
    let name = "weir_proxy_hints_in_force";
    page.metric(name, "gauge", "Hints whose lease runs.");
    for (upstream, _) in &all {
        let hints = upstream.breakers().hints_in_force();
        page.sample(name, &[("service", &*upstream.name)], hints as f64);
    }
}
