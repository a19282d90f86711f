//! The section `global`.

use std::time::Duration;

use super::names::{Escaping, NameScheme};
use super::relabel::Labels;
use super::scrape::{Limits, Protocol, protocols};
use super::unsupported;
use crate::yaml::{Fields, Node};

/// What holds where a job or a rule group says nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Global {
    /// How often targets are scraped.
    pub scrape_interval: Duration,
    /// How long a scrape may take.
    pub scrape_timeout: Duration,
    /// What a target is asked for, most wanted first, where that was said.
    pub scrape_protocols: Option<Vec<Protocol>>,
    /// How often rules are evaluated.
    pub evaluation_interval: Duration,
    /// How far in the past rules are evaluated.
    pub rule_query_offset: Duration,
    /// Labels for what leaves this server.
    pub external_labels: Labels,
    /// What a scrape may hold.
    pub limits: Limits,
    /// Targets of a job that the API lists although relabelling dropped them; zero is no bound.
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
}

impl Default for Global {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::from_secs(10),
            scrape_protocols: None,
            evaluation_interval: Duration::from_secs(60),
            rule_query_offset: Duration::ZERO,
            external_labels: Labels::new(),
            limits: Limits::default(),
            keep_dropped_targets: 0,
            name_scheme: NameScheme::Utf8,
            escaping: Escaping::AllowUtf8,
            scrape_native_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: false,
        }
    }
}

impl Global {
    pub(super) fn read(node: &Node<'_>) -> Self {
        let Some(mut fields) = node.fields() else { return Self::default() };
        let defaults = Self::default();
        let name_scheme = fields
            .take("metric_name_validation_scheme")
            .and_then(|node| node.parsed("`legacy` or `utf8`", NameScheme::parse))
            .unwrap_or_default();
        let (scrape_interval, scrape_timeout) =
            interval_and_timeout(&mut fields, defaults.scrape_interval, defaults.scrape_timeout);
        let global = Self {
            scrape_interval,
            scrape_timeout,
            scrape_protocols: protocols(&mut fields),
            evaluation_interval: fields
                .duration("evaluation_interval")
                .filter(|interval| !interval.is_zero())
                .unwrap_or(defaults.evaluation_interval),
            rule_query_offset: fields.duration("rule_query_offset").unwrap_or_default(),
            external_labels: labels(&mut fields, "external_labels", name_scheme),
            limits: Limits::read(&mut fields, &Limits::default()),
            keep_dropped_targets: fields.count("keep_dropped_targets"),
            name_scheme,
            escaping: escaping(&mut fields).unwrap_or(Escaping::of(name_scheme)),
            scrape_native_histograms: fields.flag("scrape_native_histograms", false),
            convert_classic_histograms_to_nhcb: fields.flag("convert_classic_histograms_to_nhcb", false),
            always_scrape_classic_histograms: fields.flag("always_scrape_classic_histograms", false),
            extra_scrape_metrics: fields.flag("extra_scrape_metrics", false),
        };
        if global.escaping == Escaping::AllowUtf8 && name_scheme == NameScheme::Legacy {
            fields.of().mistake("names in UTF-8 are asked for while only legacy names are valid");
        }
        unsupported(&mut fields, &["query_log_file"], "has no effect: queries are not logged to a file");
        unsupported(&mut fields, &["scrape_failure_log_file"], NO_FAILURE_LOG);
        fields.finish();
        global
    }
}

pub(super) const NO_FAILURE_LOG: &str =
    "has no effect: failed scrapes are in Weir's own log and in /api/v1/targets";

/// `scrape_interval` and `scrape_timeout`, which is not longer than the interval.
pub(super) fn interval_and_timeout(
    fields: &mut Fields<'_>,
    interval: Duration,
    timeout: Duration,
) -> (Duration, Duration) {
    let not_zero = |duration: &Duration| !duration.is_zero();
    let interval = fields.duration("scrape_interval").filter(not_zero).unwrap_or(interval);
    let node = fields.take("scrape_timeout");
    let written = node.as_ref().and_then(|node| {
        node.parsed("a duration such as `10s`", super::units::parse_duration).filter(not_zero)
    });
    if let (Some(node), Some(written)) = (&node, written)
        && written > interval
    {
        node.mistake(format!(
            "is longer than the scrape interval of {}",
            super::units::format_duration(interval)
        ));
    }
    (interval, written.unwrap_or(timeout.min(interval)))
}

/// A map of labels.
pub(super) fn labels(fields: &mut Fields<'_>, key: &str, scheme: NameScheme) -> Labels {
    let entries = fields.take(key).map(|node| node.entries()).unwrap_or_default();
    let named = entries.into_iter().filter_map(|(name, node)| {
        if !scheme.is_label_name(&name) {
            node.mistake(format!("`{name}` is no valid name of a label"));
        }
        Some((name, node.text()?))
    });
    named.collect()
}

pub(super) fn escaping(fields: &mut Fields<'_>) -> Option<Escaping> {
    let node = fields.take("metric_name_escaping_scheme")?;
    node.parsed("`allow-utf-8`, `underscores`, `dots` or `values`", Escaping::parse)
}
