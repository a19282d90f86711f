//! The proxy's own counters and Istio's metrics, in Prometheus' text format.
//!
//! Format: prometheus.io/docs/instrumenting/exposition_formats, "Text format".

use std::fmt::Write;

use tokio::time::Instant;

use crate::run::Proxy;

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
        self.labelled(name, &labels, value);
    }

    fn labelled(&mut self, name: &str, labels: &str, value: f64) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
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
    breakers(&mut page, proxy);
    let mut family = "";
    for (name, labels, value) in proxy.tap.metric_rows() {
        let of = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        if of.unwrap_or(name) != family {
            family = of.unwrap_or(name);
            let kind = if of.is_some() { "histogram" } else { "counter" };
            page.metric(family, kind, "Istio's standard metric.");
        }
        page.labelled(name, &labels, value);
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
    let name = "weir_proxy_uptime_seconds";
    page.metric(name, "gauge", "Time since the proxy started.");
    page.sample(name, &[], proxy.started.elapsed().as_secs_f64());
}

fn breakers(page: &mut Page, proxy: &Proxy) {
    let now = Instant::now();
    let all: Vec<_> =
        proxy.upstreams.iter().map(|upstream| (upstream, upstream.breakers().views(now))).collect();
    let name = "weir_proxy_breaker_state";
    page.metric(name, "gauge", "1 for the state that a breaker is in; the edge has an empty endpoint.");
    for (upstream, views) in &all {
        for view in views {
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
        for view in views {
            let endpoint = view.endpoint.as_deref().unwrap_or_default();
            page.sample(name, &[("service", &*upstream.name), ("endpoint", endpoint)], view.share);
        }
    }
    let name = "weir_proxy_hints_in_force";
    page.metric(name, "gauge", "Hints whose lease runs.");
    for (upstream, _) in &all {
        let hints = upstream.breakers().hints_in_force();
        page.sample(name, &[("service", &*upstream.name)], hints as f64);
    }
}
