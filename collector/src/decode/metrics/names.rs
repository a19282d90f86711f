//! Metric names and units as Prometheus wants them (opentelemetry.io, "Prometheus and OpenMetrics
//! Compatibility"; the unit words are those that Prometheus itself uses).

use std::sync::Arc;

use weir_model::prometheus::Translation;

/// What kind of data a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    MonotonicSum,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

impl Kind {
    /// The type that the table `series` shows.
    pub(super) fn series_type(self) -> &'static str {
        match self {
            Self::MonotonicSum => "counter",
            Self::Gauge | Self::Sum => "gauge",
            Self::Histogram | Self::Exponential => "histogram",
            Self::Summary => "summary",
        }
    }

    /// What its data is called in OTLP, as the table `series` shows it.
    pub(super) fn data_name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::MonotonicSum | Self::Sum => "sum",
            Self::Histogram => "histogram",
            Self::Exponential => "exponential_histogram",
            Self::Summary => "summary",
        }
    }

    /// Whether a sum only rises; of other data nothing is said.
    pub(super) fn is_monotonic(self) -> Option<bool> {
        match self {
            Self::MonotonicSum => Some(true),
            Self::Sum => Some(false),
            _ => None,
        }
    }

    /// Whether both come in the same field of a metric.
    pub(super) fn same_data(self, other: Self) -> bool {
        let is_sum = |kind| matches!(kind, Self::MonotonicSum | Self::Sum);
        self == other || (is_sum(self) && is_sum(other))
    }

    /// Whether its points are sums over time.
    pub(super) fn has_temporality(self) -> bool {
        !matches!(self, Self::Gauge | Self::Summary)
    }
}

/// The name of a metric as `translation` makes it. `None` where nothing is left.
pub(super) fn metric(name: &str, unit: &str, kind: Kind, translation: Translation) -> Option<String> {
    let made = match translation {
        Translation::UnderscoresWithSuffixes => escaped_with_suffixes(name, unit, kind)?,
        Translation::UnderscoresWithoutSuffixes => escaped(name)?,
        Translation::Utf8WithSuffixes => with_suffixes(name, unit, kind),
        Translation::None => name.to_owned(),
    };
    Some(made).filter(|made| !made.is_empty())
}

/// Words of letters, digits and colons joined by underscores, then the unit and the suffix of the type, each unless it
/// is there already.
fn escaped_with_suffixes(name: &str, unit: &str, kind: Kind) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut words: Vec<&str> = name.split(|c| !is_part(c)).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return None;
    }
    let (main, per) = unit_words(unit);
    if !main.is_empty() && !words.contains(&main.as_str()) {
        words.push(&main);
    }
    let per = (!per.is_empty()).then(|| format!("per_{per}"));
    if let Some(per) = per.as_deref().filter(|per| !words.contains(per)) {
        words.push(per);
    }
    if let Some(suffix) = type_suffix(unit, kind) {
        words.retain(|word| *word != suffix);
        words.push(suffix);
    }
    Some(not_a_number(words.join("_")))
}

/// Letters, digits, colons and underscores; what lies between becomes one underscore.
fn escaped(name: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == ':' || c == '_';
    let parts: Vec<&str> = name.split(|c| !is_part(c)).filter(|part| !part.is_empty()).collect();
    let joined = parts.join("_");
    let says_something = joined == name || joined.chars().any(|c| c != '_');
    says_something.then(|| not_a_number(joined))
}

/// The name as it is, then the unit and the suffix of the type, each unless it stands in its place already.
fn with_suffixes(name: &str, unit: &str, kind: Kind) -> String {
    let (main, per) = unit_words(unit);
    let per = (!per.is_empty()).then(|| format!("per_{per}"));
    let mut made = name;
    let last = type_suffix(unit, kind);
    for suffix in [last, per.as_deref()].into_iter().flatten() {
        made = without(made, suffix);
    }
    let mut made = made.to_owned();
    if !main.is_empty() && !made.ends_with(&main) {
        made.push('_');
        made.push_str(&main);
    }
    for suffix in [per.as_deref(), last].into_iter().flatten() {
        made.push('_');
        made.push_str(suffix);
    }
    made
}

/// `name` without `suffix` and the character before it, if anything is left then.
fn without<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(rest) = name.strip_suffix(suffix) else { return name };
    let mut rest = rest.chars();
    rest.next_back();
    if rest.as_str().is_empty() { name } else { rest.as_str() }
}

fn type_suffix(unit: &str, kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::MonotonicSum => Some("total"),
        Kind::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    }
}

/// No name begins with a digit.
fn not_a_number(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    (main_unit(main), per_unit(per))
}

/// The words of a unit, as the table `series` shows them: `bytes`, `bytes_per_second`.
pub(super) fn unit(unit: &str) -> Option<String> {
    let (main, per) = unit_words(unit);
    Some(match (main.as_str(), per.as_str()) {
        (main, "") => main.to_owned(),
        ("", per) => format!("per_{per}"),
        (main, per) => format!("{main}_per_{per}"),
    })
}

/// `name` and a suffix.
pub(super) fn with_suffix(name: &str, suffix: &str) -> Arc<str> {
    format!("{name}{suffix}").into()
}

fn main_unit(unit: &str) -> String {
    let unit = unit.trim();
    let word = match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    };
    word_of(word)
}

fn per_unit(unit: &str) -> String {
    let word = match unit.trim() {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    };
    word_of(word)
}

/// A unit as part of a name: annotations in braces say nothing, other characters become underscores.
fn word_of(unit: &str) -> String {
    if unit.contains(['{', '}']) {
        return String::new();
    }
    let parts: Vec<&str> =
        unit.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    parts.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_compatibility_rules() {
        use Kind::{Exponential, Gauge, Histogram, MonotonicSum, Sum};
        let golden = [
            ("http.server.request.duration", "s", Histogram, "http_server_request_duration_seconds"),
            ("weir_edge_duration_seconds", "s", Exponential, "weir_edge_duration_seconds"),
            ("istio_requests_total", "1", MonotonicSum, "istio_requests_total"),
            ("istio_requests_total", "{request}", MonotonicSum, "istio_requests_total"),
            ("istio_request_duration_milliseconds", "ms", Histogram, "istio_request_duration_milliseconds"),
            ("istio_request_bytes", "By", Histogram, "istio_request_bytes"),
            ("system.network.io", "By", MonotonicSum, "system_network_io_bytes_total"),
            ("system.filesystem.usage", "By", Sum, "system_filesystem_usage_bytes"),
            ("system.cpu.utilization", "1", Gauge, "system_cpu_utilization_ratio"),
            ("ratio.of.things", "1", Gauge, "of_things_ratio"),
            ("system.disk.ops", "{operations}", MonotonicSum, "system_disk_ops_total"),
            ("total.widgets", "", MonotonicSum, "widgets_total"),
            ("speed", "m/s", Gauge, "speed_meters_per_second"),
            ("throughput", "By/s", Gauge, "throughput_bytes_per_second"),
            ("throughput", "{packet}/s", Gauge, "throughput_per_second"),
            ("fuel", "km/{trip}", Gauge, "fuel_km"),
            ("room.temperature", "Cel", Gauge, "room_temperature_celsius"),
            ("cpu", "%", Gauge, "cpu_percent"),
            ("x", "unit with spaces!", Gauge, "x_unit_with_spaces"),
            ("2xx", "", MonotonicSum, "_2xx_total"),
            ("a..b__c", "", Gauge, "a_b_c"),
            ("job:rate:sum", "", Gauge, "job:rate:sum"),
            ("größe", "By", Gauge, "gr_e_bytes"),
            ("uptime", "d", Gauge, "uptime_days"),
            ("age", "min", Gauge, "age_minutes"),
            ("lag", "us", Gauge, "lag_microseconds"),
            ("queue", "1", Sum, "queue"),
        ];
        for (name, unit, kind, expected) in golden {
            let made = metric(name, unit, kind, Translation::UnderscoresWithSuffixes);
            assert_eq!(made.as_deref(), Some(expected), "{name} {unit}");
        }
    }

    #[test]
    fn a_name_without_letters_is_no_name() {
        for name in ["", ".", "___", "ß"] {
            let made = metric(name, "s", Kind::Gauge, Translation::UnderscoresWithSuffixes);
            assert_eq!(made, None, "{name}");
        }
        for name in ["", ".", "ß"] {
            let made = metric(name, "s", Kind::Gauge, Translation::UnderscoresWithoutSuffixes);
            assert_eq!(made, None, "{name}");
        }
    }

    #[test]
    fn each_strategy_escapes_and_adds_what_it_says() {
        use Kind::{Gauge, MonotonicSum, Sum};
        use Translation::{None, UnderscoresWithoutSuffixes, Utf8WithSuffixes};
        let golden = [
            (UnderscoresWithoutSuffixes, "system.network.io", "By", MonotonicSum, "system_network_io"),
            (UnderscoresWithoutSuffixes, "a..b__c", "s", Gauge, "a_b__c"),
            (UnderscoresWithoutSuffixes, "2xx", "", MonotonicSum, "_2xx"),
            (Utf8WithSuffixes, "system.network.io", "By", MonotonicSum, "system.network.io_bytes_total"),
            (Utf8WithSuffixes, "größe", "By", Sum, "größe_bytes"),
            (Utf8WithSuffixes, "requests.total", "{request}", MonotonicSum, "requests_total"),
            (Utf8WithSuffixes, "total", "", MonotonicSum, "total_total"),
            (Utf8WithSuffixes, "cpu.ratio", "1", Gauge, "cpu_ratio"),
            (Utf8WithSuffixes, "speed", "m/s", Gauge, "speed_meters_per_second"),
            (Utf8WithSuffixes, "size.bytes", "By", Gauge, "size.bytes"),
            (None, "größe der Welt", "By", MonotonicSum, "größe der Welt"),
        ];
        for (translation, name, unit, kind, expected) in golden {
            let made = metric(name, unit, kind, translation);
            assert_eq!(made.as_deref(), Some(expected), "{translation:?} {name} {unit}");
        }
    }

    #[test]
    fn units_are_shown_in_words() {
        assert_eq!(unit("By/s").as_deref(), Some("bytes_per_second"));
        assert_eq!(unit("{call}").as_deref(), Some(""));
        assert_eq!(unit("1/s").as_deref(), Some("per_second"));
    }
}
