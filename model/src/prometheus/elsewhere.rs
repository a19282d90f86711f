//! Sections that Weir does in another way or not at all: read, checked, and told.

use super::http::{HttpClient, Tls, is_url};
use super::names::NameScheme;
use super::relabel::Relabel;
use super::{element, unsupported};
use crate::yaml::{Fields, Node};

/// Takes the sections that say nothing to Weir.
pub(super) fn read(fields: &mut Fields<'_>, names: NameScheme) {
    if let Some(node) = fields.take("runtime")
        && let Some(mut section) = node.fields()
    {
        unsupported(&mut section, &["gogc"], "has no effect: there is no garbage collector");
        section.finish();
    }
    if let Some(node) = fields.take("storage") {
        storage(&node);
    }
    if let Some(node) = fields.take("tracing") {
        tracing(&node);
    }
    for node in fields.take("remote_write").map(|node| node.items()).unwrap_or_default() {
        node.warn("has no effect: samples are stored here and not sent on");
        remote_write(&node, names);
    }
    for node in fields.take("remote_read").map(|node| node.items()).unwrap_or_default() {
        node.warn("has no effect: queries read what is stored here only");
        remote_read(&node);
    }
}

fn storage(node: &Node<'_>) {
    let Some(mut section) = node.fields() else { return };
    if let Some(node) = section.take("tsdb")
        && let Some(mut tsdb) = node.fields()
    {
        unsupported(
            &mut tsdb,
            &["out_of_order_time_window", "stale_series_compaction_threshold"],
            "has no effect: samples are taken in any order",
        );
        if let Some(node) = tsdb.take("retention")
            && let Some(mut retention) = node.fields()
        {
            let told = "has no effect: say `retention.age` and `retention.size` in Weir's own configuration";
            unsupported(&mut retention, &["time", "size", "percentage"], told);
            retention.finish();
        }
        tsdb.finish();
    }
    if let Some(node) = section.take("exemplars")
        && let Some(mut exemplars) = node.fields()
    {
        unsupported(&mut exemplars, &["max_exemplars"], "has no effect: exemplars are kept like samples");
        exemplars.finish();
    }
    section.finish();
}

fn tracing(node: &Node<'_>) {
    node.warn("has no effect: say `telemetry.endpoint` in Weir's own configuration");
    let Some(mut section) = node.fields() else { return };
    if section.text("endpoint").is_none_or(|endpoint| endpoint.is_empty()) {
        node.mistake("`endpoint` is missing");
    }
    if let Some(kind) = section.take("client_type") {
        kind.parsed("`http` or `grpc`", |text| ["http", "grpc"].contains(&text).then_some(()));
    }
    if let Some(compression) = section.take("compression") {
        compression.parsed("`gzip`", |text| ["", "gzip"].contains(&text).then_some(()));
    }
    section.duration("timeout");
    section.flag("insecure", false);
    section.take("sampling_fraction").map(|node| node.parsed("a number", |text| text.parse::<f64>().ok()));
    section.take("headers").map(|node| node.text_map());
    section.take("tls_config").map(|node| Tls::read(&node));
    section.finish();
}

fn url(fields: &mut Fields<'_>) {
    match fields.take("url") {
        Some(node) => {
            node.parsed("a URL of http or https with a host", |text| is_url(text).then_some(()));
        }
        None => fields.of().mistake("`url` is missing"),
    }
}

fn remote_write(node: &Node<'_>, names: NameScheme) {
    let Some(mut fields) = element(node) else { return };
    let fields = &mut fields;
    url(fields);
    fields.duration("remote_timeout");
    fields.text("name");
    fields.take("headers").map(|node| node.text_map());
    for key in ["send_exemplars", "send_native_histograms", "round_robin_dns"] {
        fields.flag(key, false);
    }
    if let Some(message) = fields.take("protobuf_message") {
        message.parsed("`prometheus.WriteRequest` or `io.prometheus.write.v2.Request`", |text| {
            ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"].contains(&text).then_some(())
        });
    }
    Relabel::read_list(fields, "write_relabel_configs", names);
    HttpClient::read(fields);
    if let Some(mut queue) = fields.take("queue_config").and_then(|node| node.fields()) {
        for key in ["capacity", "max_shards", "min_shards", "max_samples_per_send"] {
            queue.count(key);
        }
        for key in ["batch_send_deadline", "min_backoff", "max_backoff", "sample_age_limit"] {
            queue.duration(key);
        }
        queue.flag("retry_on_http_429", false);
        queue.finish();
    }
    if let Some(mut metadata) = fields.take("metadata_config").and_then(|node| node.fields()) {
        metadata.flag("send", true);
        metadata.duration("send_interval");
        metadata.count("max_samples_per_send");
        metadata.finish();
    }
    for key in ["sigv4", "azuread", "google_iam"] {
        fields.take(key);
    }
    for key in fields.left().map(str::to_owned).collect::<Vec<_>>() {
        fields.take_any(&key).iter().for_each(|node| node.mistake("no such key"));
    }
}

fn remote_read(node: &Node<'_>) {
    let Some(mut fields) = element(node) else { return };
    url(&mut fields);
    fields.duration("remote_timeout");
    fields.text("name");
    fields.count("chunked_read_limit");
    fields.take("headers").map(|node| node.text_map());
    fields.flag("read_recent", false);
    fields.flag("filter_external_labels", true);
    fields.take("required_matchers").map(|node| node.text_map());
    HttpClient::read(&mut fields);
    fields.finish();
}
