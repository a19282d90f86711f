//! The section `otlp`: how OTLP metrics become Prometheus' series.

use super::names::NameScheme;
use crate::yaml::Node;

/// How OTLP metrics become Prometheus' series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// How names are made.
    pub translation: Translation,
    /// Attributes of resources that become labels; all where [`Self::promote_all`] is set.
    pub promote: Vec<String>,
    /// Whether all attributes of resources become labels …
    pub promote_all: bool,
    /// … but these.
    pub ignore: Vec<String>,
    /// Whether `service.name` and its like stay in `target_info`.
    pub keep_identifying: bool,
    /// Whether explicit-bucket histograms become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether name and version of the instrumentation scope become labels.
    pub promote_scope: bool,
    /// Whether `key_` goes before labels that begin with an underscore.
    pub sanitize_leading_underscore: bool,
    /// Whether several underscores in a row stay.
    pub preserve_underscores: bool,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            translation: Translation::UnderscoresWithSuffixes,
            promote: Vec::new(),
            promote_all: false,
            ignore: Vec::new(),
            keep_identifying: false,
            convert_histograms_to_nhcb: false,
            promote_scope: false,
            sanitize_leading_underscore: true,
            preserve_underscores: true,
        }
    }
}

/// How names of OTLP metrics become Prometheus' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Translation {
    /// `UnderscoreEscapingWithSuffixes`
    UnderscoresWithSuffixes,
    /// `UnderscoreEscapingWithoutSuffixes`
    UnderscoresWithoutSuffixes,
    /// `NoUTF8EscapingWithSuffixes`
    Utf8WithSuffixes,
    /// `NoTranslation`
    None,
}

impl Otlp {
    pub(super) fn read(node: &Node<'_>, names: NameScheme) -> Self {
        let Some(mut fields) = node.fields() else { return Self::default() };
        let translation = fields.take("translation_strategy");
        let strategy = translation.as_ref().and_then(|node| {
            node.parsed(
                "`UnderscoreEscapingWithSuffixes`, `UnderscoreEscapingWithoutSuffixes`, \
                 `NoUTF8EscapingWithSuffixes` or `NoTranslation`",
                |text| match text {
                    "UnderscoreEscapingWithSuffixes" => Some(Translation::UnderscoresWithSuffixes),
                    "UnderscoreEscapingWithoutSuffixes" => Some(Translation::UnderscoresWithoutSuffixes),
                    "NoUTF8EscapingWithSuffixes" => Some(Translation::Utf8WithSuffixes),
                    "NoTranslation" => Some(Translation::None),
                    _ => None,
                },
            )
        });
        let keeps_utf8 = matches!(strategy, Some(Translation::Utf8WithSuffixes | Translation::None));
        if let Some(node) = translation.filter(|_| keeps_utf8 && names == NameScheme::Legacy) {
            node.mistake("keeps names in UTF-8 while only legacy names are valid");
        }
        let otlp = Self {
            translation: strategy.unwrap_or(Translation::UnderscoresWithSuffixes),
            promote: fields.texts("promote_resource_attributes"),
            promote_all: fields.flag("promote_all_resource_attributes", false),
            ignore: fields.texts("ignore_resource_attributes"),
            keep_identifying: fields.flag("keep_identifying_resource_attributes", false),
            convert_histograms_to_nhcb: fields.flag("convert_histograms_to_nhcb", false),
            promote_scope: fields.flag("promote_scope_metadata", false),
            sanitize_leading_underscore: fields.flag("label_name_underscore_sanitization", true),
            preserve_underscores: fields.flag("label_name_preserve_multiple_underscores", true),
        };
        if otlp.promote_all && !otlp.promote.is_empty() {
            node.mistake("promotes all resource attributes and some; set one of the two keys");
        }
        if !otlp.promote_all && !otlp.ignore.is_empty() {
            node.mistake("`ignore_resource_attributes` needs `promote_all_resource_attributes`");
        }
        fields.finish();
        otlp
    }
}
