//! `/federate`: the newest sample of each selected series, as a target that another Prometheus scrapes.

use std::fmt::Write;

use axum::extract;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use weir_storage::Labels;

use super::State;
use super::error::ApiError;
use super::params::Params;
use super::samples;
use crate::promql::SeriesSamples;
use crate::promql::histogram::Histogram;
use crate::promql::number::is_stale;
use crate::promql::parser;
use crate::promql::source::Selection;

/// The newest samples within the look-back of the series that any `match[]` selects.
pub(super) async fn federate(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let escaping =
        if accept.contains("escaping=allow-utf-8") { Escaping::Quotes } else { Escaping::Underscores };
    match newest(&state, &params).await {
        Ok(series) => {
            let external = state.prometheus.external_labels();
            let made = state.engine.run(async move { exposition(&series, &external, escaping) });
            let Ok(text) = made.await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
            let scheme = match escaping {
                Escaping::Quotes => "allow-utf-8",
                Escaping::Underscores => "underscores",
            };
            let kind = format!("text/plain; version=0.0.4; charset=utf-8; escaping={scheme}");
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => error.plain(),
    }
}

async fn newest(state: &State, params: &Params) -> Result<Vec<SeriesSamples>, ApiError> {
    let mut selections = Vec::new();
    let until = state.clock.now().as_millis();
    let after = until.saturating_sub(state.prometheus.options.lookback_ms + 1);
    for text in params.all("match[]") {
        let matchers = parser::parse_selector(text).map_err(|error| ApiError::bad_data(error.message))?;
        selections.push(Selection { matchers, after, until });
    }
    samples::select(state, selections).await
}

/// How names that are more than letters, digits, `_` and `:` are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escaping {
    /// Each other character as `_`.
    Underscores,
    /// In quotes, the metric's within the braces.
    Quotes,
}

/// Series in order of their metrics, in Prometheus' text format.
fn exposition(series: &[SeriesSamples], external: &Labels, escaping: Escaping) -> String {
    let mut all: Vec<&SeriesSamples> =
        series.iter().filter(|series| !series.labels.metric().is_empty()).collect();
    all.sort_by(|a, b| (a.labels.metric(), &a.labels).cmp(&(b.labels.metric(), &b.labels)));
    let (mut out, mut family) = (String::new(), ("", ""));
    for series in all {
        // The format has no stale markers, and a series that has ended is not there.
        let Some(newest) = Newest::of(series).filter(|newest| !newest.is_stale()) else { continue };
        let metric = series.labels.metric();
        let kind = newest.kind();
        if family != (metric, kind) {
            let _ = writeln!(out, "# TYPE {} {kind}", name(metric, escaping));
            family = (metric, kind);
        }
        let mut labels: Vec<(&str, &str)> =
            series.labels.iter().filter(|(name, _)| *name != "__name__").collect();
        // Without it the one who scrapes would add its own.
        let instance = [("instance", "")].into_iter().filter(|_| external.get("instance").is_none());
        let mut global: Vec<(&str, &str)> = external.iter().chain(instance).collect();
        global.sort_unstable();
        labels.extend(global.into_iter().filter(|(name, _)| series.labels.get(name).is_none()));
        match newest {
            Newest::Float(time, value) => put(&mut out, metric, &labels, escaping, value, time),
            Newest::Histogram(time, histogram) => {
                put_histogram(&mut out, metric, &labels, escaping, histogram, time);
            }
        }
    }
    out
}

/// The last sample of a series, with its time.
enum Newest<'a> {
    Float(i64, f64),
    Histogram(i64, &'a Histogram),
}

impl<'a> Newest<'a> {
    fn of(series: &'a SeriesSamples) -> Option<Self> {
        let (floats, histograms) = (&series.floats, &series.histograms);
        let float = floats.times.last().copied().zip(floats.values.last());
        let histogram = histograms.times.last().copied().zip(histograms.values.last());
        match (float, histogram) {
            (Some((time, _)), Some((later, histogram))) if later > time => {
                Some(Self::Histogram(later, histogram))
            }
            (Some((time, value)), _) => Some(Self::Float(time, *value)),
            (None, Some((time, histogram))) => Some(Self::Histogram(time, histogram)),
            (None, None) => None,
        }
    }

    fn is_stale(&self) -> bool {
        match self {
            Self::Float(_, value) => is_stale(*value),
            Self::Histogram(_, histogram) => is_stale(histogram.sum),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Float(..) => "untyped",
            Self::Histogram(..) => "histogram",
        }
    }
}

/// The sums of a histogram: the text format has no place for its buckets.
fn put_histogram(
    out: &mut String,
    metric: &str,
    labels: &[(&str, &str)],
    escaping: Escaping,
    histogram: &Histogram,
    time: i64,
) {
    let with_bound: Vec<_> = labels.iter().copied().chain([("le", "+Inf")]).collect();
    put(out, &format!("{metric}_bucket"), &with_bound, escaping, histogram.count, time);
    put(out, &format!("{metric}_sum"), labels, escaping, histogram.sum, time);
    put(out, &format!("{metric}_count"), labels, escaping, histogram.count, time);
}

fn put(out: &mut String, metric: &str, labels: &[(&str, &str)], escaping: Escaping, value: f64, time: i64) {
    let shown = name(metric, escaping);
    let quoted = shown.starts_with('"');
    let mut inside: Vec<String> = Vec::with_capacity(labels.len() + 1);
    if quoted {
        inside.push(shown.clone());
    } else {
        out.push_str(&shown);
    }
    for (label, text) in labels {
        inside.push(format!("{}=\"{}\"", label_name(label, escaping), escaped(text)));
    }
    if !inside.is_empty() {
        let _ = write!(out, "{{{}}}", inside.join(","));
    }
    let _ = writeln!(out, " {} {time}", float(value));
}

fn name(metric: &str, escaping: Escaping) -> String {
    fitting(metric, escaping, |c| c == ':')
}

fn label_name(label: &str, escaping: Escaping) -> String {
    fitting(label, escaping, |_| false)
}

/// `text` as it is where it fits the classic rules for names.
fn fitting(text: &str, escaping: Escaping, also: impl Fn(char) -> bool) -> String {
    let fits = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || also(c) || (at > 0 && c.is_ascii_digit())
    };
    match escaping {
        _ if text.chars().enumerate().all(fits) => text.to_owned(),
        Escaping::Quotes => format!("\"{}\"", escaped(text)),
        Escaping::Underscores => {
            text.chars().enumerate().map(|(at, c)| if fits((at, c)) { c } else { '_' }).collect()
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// A number as Go's shortest form: with an exponent below 1e-4 and from 1e6 on.
fn float(value: f64) -> String {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = exponent.parse().unwrap_or_default();
    if value == 0.0 || !value.is_finite() || (-4..6).contains(&power) {
        return crate::promql::number::show(value);
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.abs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::promql::SeriesSamples;
    use crate::promql::number::stale;
    use crate::promql::source::Track;

    fn series(labels: &[(&str, &str)], points: &[(i64, f64)]) -> SeriesSamples {
        let mut floats = Track::default();
        points.iter().for_each(|(time, value)| floats.push(*time, *value, 0));
        let labels = Labels::new(labels.iter().map(|(name, value)| (*name, *value)));
        SeriesSamples { labels, floats, ..SeriesSamples::default() }
    }

    #[test]
    fn newest_samples_are_written_by_metric() {
        let mut histogram = series(&[("__name__", "h"), ("job", "x")], &[]);
        let value = Histogram { count: 3.0, sum: 1.5, ..Histogram::default() };
        histogram.histograms.push(9, Arc::new(value), 0);
        let all = [
            series(&[("__name__", "up"), ("job", "b"), ("instance", "i\"1")], &[(1_000, 0.0), (2_000, 1.0)]),
            series(&[("__name__", "up"), ("job", "a")], &[(3_000, 1e-7)]),
            series(&[("__name__", "up"), ("job", "gone")], &[(3_000, 1.0), (4_000, stale())]),
            series(&[("job", "nameless")], &[(3_000, 1.0)]),
            series(&[("__name__", "a.b"), ("c d", "1")], &[(5_000, 1_234_567.0)]),
            histogram,
        ];
        let external = Labels::new([("region", "eu"), ("job", "mine")]);
        assert_eq!(
            exposition(&all, &external, Escaping::Underscores),
            "# TYPE a_b untyped\n\
             a_b{c_d=\"1\",instance=\"\",job=\"mine\",region=\"eu\"} 1.234567e+06 5000\n\
             # TYPE h histogram\n\
             h_bucket{job=\"x\",instance=\"\",region=\"eu\",le=\"+Inf\"} 3 9\n\
             h_sum{job=\"x\",instance=\"\",region=\"eu\"} 1.5 9\n\
             h_count{job=\"x\",instance=\"\",region=\"eu\"} 3 9\n\
             # TYPE up untyped\n\
             up{instance=\"i\\\"1\",job=\"b\",region=\"eu\"} 1 2000\n\
             up{job=\"a\",instance=\"\",region=\"eu\"} 1e-07 3000\n"
        );
        let quoted = exposition(&all[4..5], &Labels::new([("instance", "x")]), Escaping::Quotes);
        let expected = "# TYPE \"a.b\" untyped\n{\"a.b\",\"c d\"=\"1\",instance=\"x\"} 1.234567e+06 5000\n";
        assert_eq!(quoted, expected);
    }

    #[test]
    fn numbers_are_go_s() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
            (1.795_521_6e9, "1.7955216e+09"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
