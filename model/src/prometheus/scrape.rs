//! The section `scrape_configs`: what is scraped, and how.

use std::path::Path;
use std::time::Duration;

use super::discovery::Discovery;
use super::global::{Global, NO_FAILURE_LOG, escaping, interval_and_timeout};
use super::http::HttpClient;
use super::names::{Escaping, NameScheme};
use super::relabel::Relabel;
use super::{element, unsupported};
use crate::yaml::{Fields, Node};

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeConfig {
    /// The value of the label `job`.
    pub job_name: String,
    /// How often.
    pub scrape_interval: Duration,
    /// How long a scrape may take.
    pub scrape_timeout: Duration,
    /// What a target is asked for, most wanted first.
    pub scrape_protocols: Vec<Protocol>,
    /// What an answer is that does not say what it is.
    pub fallback_scrape_protocol: Option<Protocol>,
    /// Path of the metrics.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Parameters of the request.
    pub params: Vec<(String, Vec<String>)>,
    /// Whether labels of samples win over those of targets.
    pub honor_labels: bool,
    /// Whether times of samples are taken.
    pub honor_timestamps: bool,
    /// Whether series with times of their own become stale too.
    pub track_timestamps_staleness: bool,
    /// Whether compressed answers are asked for.
    pub enable_compression: bool,
    /// What a scrape may hold.
    pub limits: Limits,
    /// Buckets of a native histogram, above which they are merged; zero is no bound.
    pub native_histogram_bucket_limit: u64,
    /// Growth of a native histogram's buckets, below which they are merged.
    pub native_histogram_min_bucket_factor: f64,
    /// Targets that the API lists although relabelling dropped them; zero is no bound.
    pub keep_dropped_targets: u64,
    /// Which names are valid.
    pub name_scheme: NameScheme,
    /// How targets write other names.
    pub escaping: Escaping,
    /// Whether native histograms are taken.
    pub scrape_native_histograms: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Whether a classic histogram is taken beside the native one.
    pub always_scrape_classic_histograms: bool,
    /// Whether `scrape_timeout_seconds` and its like are stored.
    pub extra_scrape_metrics: bool,
    /// How targets are spoken to.
    pub client: HttpClient,
    /// Where targets are found.
    pub discoveries: Vec<Discovery>,
    /// Rules for targets.
    pub relabel: Vec<Relabel>,
    /// Rules for samples.
    pub metric_relabel: Vec<Relabel>,
}

/// Bounds of a scrape; zero is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of an answer, uncompressed.
    pub body_bytes: u64,
    /// Samples after relabelling.
    pub samples: u64,
    /// Labels of a sample.
    pub labels: u64,
    /// Bytes of a label's name.
    pub label_name_length: u64,
    /// Bytes of a label's value.
    pub label_value_length: u64,
    /// Targets of a job.
    pub targets: u64,
}

impl Limits {
    pub(super) fn read(fields: &mut Fields<'_>, defaults: &Self) -> Self {
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        Self {
            body_bytes: or(fields.bytes("body_size_limit"), defaults.body_bytes),
            samples: or(fields.count("sample_limit"), defaults.samples),
            labels: or(fields.count("label_limit"), defaults.labels),
            label_name_length: or(fields.count("label_name_length_limit"), defaults.label_name_length),
            label_value_length: or(fields.count("label_value_length_limit"), defaults.label_value_length),
            targets: or(fields.count("target_limit"), defaults.targets),
        }
    }
}

/// A format of exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `PrometheusProto`
    Protobuf,
    /// `PrometheusText0.0.4`
    Text004,
    /// `PrometheusText1.0.0`
    Text100,
    /// `OpenMetricsText0.0.1`
    OpenMetrics001,
    /// `OpenMetricsText1.0.0`
    OpenMetrics100,
}

impl Protocol {
    /// How many there are.
    pub const COUNT: usize = 5;
    const NAMES: [(&str, Self); Self::COUNT] = [
        ("PrometheusProto", Self::Protobuf),
        ("PrometheusText0.0.4", Self::Text004),
        ("PrometheusText1.0.0", Self::Text100),
        ("OpenMetricsText0.0.1", Self::OpenMetrics001),
        ("OpenMetricsText1.0.0", Self::OpenMetrics100),
    ];
    const DEFAULT: [Self; 4] = [Self::OpenMetrics100, Self::OpenMetrics001, Self::Text100, Self::Text004];
    const NATIVE: [Self; 5] =
        [Self::Protobuf, Self::OpenMetrics100, Self::OpenMetrics001, Self::Text100, Self::Text004];

    /// The media type in an `Accept` header.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Self::Text004 => "text/plain;version=0.0.4",
            Self::Text100 => "text/plain;version=1.0.0",
            Self::OpenMetrics001 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetrics100 => "application/openmetrics-text;version=1.0.0",
        }
    }

    fn read(node: &Node<'_>) -> Option<Self> {
        node.parsed(
            "`PrometheusProto`, `PrometheusText0.0.4`, `PrometheusText1.0.0`, `OpenMetricsText0.0.1` or \
             `OpenMetricsText1.0.0`",
            |text| Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, protocol)| *protocol),
        )
    }
}

/// `scrape_protocols`, where they were written.
pub(super) fn protocols(fields: &mut Fields<'_>) -> Option<Vec<Protocol>> {
    let node = fields.take("scrape_protocols")?;
    let items = node.items();
    if items.is_empty() {
        node.mistake("needs at least one protocol");
    }
    let mut protocols = Vec::new();
    for item in items {
        let Some(protocol) = Protocol::read(&item) else { continue };
        if protocols.contains(&protocol) {
            item.mistake("is there twice");
        }
        protocols.push(protocol);
    }
    Some(protocols)
}

impl ScrapeConfig {
    pub(super) fn read(node: &Node<'_>, global: &Global) -> Option<Self> {
        let mut fields = element(node)?;
        let fields = &mut fields;
        let job_name = fields.text("job_name").unwrap_or_default();
        if job_name.is_empty() {
            node.mistake("`job_name` is missing or empty");
        }
        let own_scheme = fields
            .take("metric_name_validation_scheme")
            .and_then(|node| node.parsed("`legacy` or `utf8`", NameScheme::parse));
        let name_scheme = own_scheme.unwrap_or(global.name_scheme);
        let escaping = escaping(fields).unwrap_or(own_scheme.map_or(global.escaping, Escaping::of));
        if escaping == Escaping::AllowUtf8 && name_scheme == NameScheme::Legacy {
            node.mistake("names in UTF-8 are asked for while only legacy names are valid");
        }
        let native = fields.flag("scrape_native_histograms", global.scrape_native_histograms);
        let protocols = protocols(fields)
            .or_else(|| global.scrape_protocols.clone())
            .unwrap_or_else(|| if native { Protocol::NATIVE.to_vec() } else { Protocol::DEFAULT.to_vec() });
        let (scrape_interval, scrape_timeout) =
            interval_and_timeout(fields, global.scrape_interval, global.scrape_timeout);
        let relabel = Relabel::read_list(fields, "relabel_configs", name_scheme);
        let config = Self {
            job_name,
            scrape_interval,
            scrape_timeout,
            scrape_protocols: protocols,
            fallback_scrape_protocol: fields
                .take("fallback_scrape_protocol")
                .and_then(|node| Protocol::read(&node)),
            metrics_path: fields.text("metrics_path").unwrap_or_else(|| "/metrics".to_owned()),
            scheme: scheme(fields),
            params: params(fields),
            honor_labels: fields.flag("honor_labels", false),
            honor_timestamps: fields.flag("honor_timestamps", true),
            track_timestamps_staleness: fields.flag("track_timestamps_staleness", false),
            enable_compression: fields.flag("enable_compression", true),
            limits: Limits::read(fields, &global.limits),
            native_histogram_bucket_limit: fields.count("native_histogram_bucket_limit"),
            native_histogram_min_bucket_factor: fields
                .take("native_histogram_min_bucket_factor")
                .and_then(|node| node.parsed("a number", |text| text.parse().ok()))
                .unwrap_or_default(),
            keep_dropped_targets: match fields.count("keep_dropped_targets") {
                0 => global.keep_dropped_targets,
                count => count,
            },
            name_scheme,
            escaping,
            scrape_native_histograms: native,
            convert_classic_histograms_to_nhcb: fields
                .flag("convert_classic_histograms_to_nhcb", global.convert_classic_histograms_to_nhcb),
            always_scrape_classic_histograms: fields
                .flag("always_scrape_classic_histograms", global.always_scrape_classic_histograms),
            extra_scrape_metrics: fields.flag("extra_scrape_metrics", global.extra_scrape_metrics),
            client: HttpClient::read(fields),
            discoveries: Discovery::read(fields, !relabel.is_empty()),
            relabel,
            metric_relabel: Relabel::read_list(fields, "metric_relabel_configs", name_scheme),
        };
        unsupported(fields, &["scrape_failure_log_file"], NO_FAILURE_LOG);
        for key in fields.left().map(str::to_owned).collect::<Vec<_>>() {
            if let Some(node) = fields.take_any(&key) {
                node.mistake("no such key");
            }
        }
        Some(config)
    }

    pub(super) fn set_directory(&mut self, dir: &Path) {
        self.client.set_directory(dir);
        self.discoveries.iter_mut().for_each(|discovery| discovery.set_directory(dir));
    }
}

/// `scheme`, `http` where nothing is said.
pub(super) fn scheme(fields: &mut Fields<'_>) -> String {
    let node = fields.take("scheme");
    let scheme = node.and_then(|node| {
        node.parsed("`http` or `https`", |text| ["http", "https"].contains(&text).then(|| text.to_owned()))
    });
    scheme.unwrap_or_else(|| "http".to_owned())
}

fn params(fields: &mut Fields<'_>) -> Vec<(String, Vec<String>)> {
    let entries = fields.take("params").map(|node| node.entries()).unwrap_or_default();
    entries.into_iter().map(|(name, node)| (name, node.texts())).collect()
}
