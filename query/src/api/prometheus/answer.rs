//! Answers as JSON: `{"resultType":…,"result":…}`. Values are texts, moments Unix seconds.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use weir_storage::Labels;

use crate::promql::histogram::{Bucket, Histogram};
use crate::promql::value::{Points, Stats};
use crate::promql::{Annotations, Output, Sample};

/// Warnings, and as many infos, that an answer carries at most.
const REMARKS: usize = 10;

/// What is said beside a result.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    pub(super) warnings: Vec<String>,
    pub(super) infos: Vec<String>,
}

impl Remarks {
    /// Those on the query `text`, with positions in it.
    pub(super) fn of(annotations: &Annotations, text: &str) -> Self {
        let few = |mut texts: Vec<String>, kind: &str| {
            let more = texts.len().saturating_sub(REMARKS);
            texts.truncate(REMARKS);
            if more > 0 {
                texts.push(format!("{more} more {kind} annotations omitted"));
            }
            texts
        };
        Self {
            warnings: few(annotations.warnings(Some(text)), "warning"),
            infos: few(annotations.infos(Some(text)), "info"),
        }
    }
}

/// The field `data` of an answer, with `stats` where they are asked for.
pub(super) fn data(output: &Output, stats: Option<&Stats>) -> String {
    let mut out = String::new();
    let kind = match output {
        Output::Scalar(..) => "scalar",
        Output::Text(..) => "string",
        Output::Vector(..) => "vector",
        Output::Matrix(_) => "matrix",
    };
    // Writing to a text cannot fail, here and below.
    let _ = write!(out, "{{\"resultType\":\"{kind}\",\"result\":");
    match output {
        Output::Scalar(time, value) => put_float(&mut out, *time, *value),
        Output::Text(time, text) => {
            out.push('[');
            put_time(&mut out, *time);
            let _ = write!(out, ",{}]", json!(text));
        }
        Output::Vector(time, rows) => put_list(&mut out, rows, |out, (labels, sample)| {
            put_metric(out, labels);
            match sample {
                Sample::Absent => {}
                Sample::Float(value) => {
                    out.push_str(",\"value\":");
                    put_float(out, *time, *value);
                }
                Sample::Histogram(histogram) => {
                    out.push_str(",\"histogram\":");
                    put_histogram(out, *time, histogram);
                }
            }
            out.push('}');
        }),
        Output::Matrix(all) => put_list(&mut out, all, put_points),
    }
    if let Some(stats) = stats {
        let _ = write!(out, ",\"stats\":{}", shown_stats(stats));
    }
    out.push('}');
    out
}

/// Seconds and samples as Prometheus tells them; results are sorted as they are evaluated.
fn shown_stats(stats: &Stats) -> Value {
    let seconds = |time: Duration| time.as_secs_f64();
    json!({
        "timings": {
            "evalTotalTime": seconds(stats.prepared + stats.evaluated),
            "resultSortTime": 0.0,
            "queryPreparationTime": seconds(stats.prepared),
            "innerEvalTime": seconds(stats.evaluated),
            "execQueueTime": seconds(stats.queued),
            "execTotalTime": seconds(stats.queued + stats.prepared + stats.evaluated),
        },
        "samples": { "totalQueryableSamples": stats.samples, "peakSamples": stats.peak_samples },
    })
}

fn put_list<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut put: impl FnMut(&mut String, T)) {
    out.push('[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        put(out, item);
    }
    out.push(']');
}

/// `{"metric":{…}`, still open.
fn put_metric(out: &mut String, labels: &Labels) {
    out.push_str("{\"metric\":");
    put_labels(out, labels);
}

/// Labels as an object, in order of their names.
pub(super) fn put_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (at, (name, value)) in labels.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{}:{}", Value::from(name), Value::from(value));
    }
    out.push('}');
}

fn put_points(out: &mut String, series: &Points) {
    put_metric(out, &series.labels);
    let floats = || series.points.iter().filter_map(|(time, sample)| Some((*time, sample.float()?)));
    if floats().next().is_some() {
        out.push_str(",\"values\":");
        put_list(out, floats(), |out, (time, value)| put_float(out, time, value));
    }
    let histograms = || series.points.iter().filter_map(|(time, sample)| Some((*time, sample.histogram()?)));
    if histograms().next().is_some() {
        out.push_str(",\"histograms\":");
        put_list(out, histograms(), |out, (time, histogram)| put_histogram(out, time, histogram));
    }
    out.push('}');
}

/// `[1.5,"2"]`
fn put_float(out: &mut String, time: i64, value: f64) {
    out.push('[');
    put_time(out, time);
    let _ = write!(out, ",\"{}\"]", shown(value));
}

/// Milliseconds as seconds; three digits after the point, or none.
pub(super) fn put_time(out: &mut String, ms: i64) {
    let sign = if ms < 0 { "-" } else { "" };
    let (seconds, rest) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
    let _ = match rest {
        0 => write!(out, "{sign}{seconds}"),
        _ => write!(out, "{sign}{seconds}.{rest:03}"),
    };
}

/// A number in the shortest form that reads back the same: with an exponent, of two digits at least, where
/// it is below 1e-6 or from 1e21 on.
pub(super) fn shown(value: f64) -> String {
    let plain = value == 0.0 || !value.is_finite() || (1e-6..1e21).contains(&value.abs());
    if plain {
        return crate::promql::number::show(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

/// `[1.5,{"count":"3","sum":"4","buckets":[[0,"1","2","3"]]}]`
fn put_histogram(out: &mut String, time: i64, histogram: &Histogram) {
    out.push('[');
    put_time(out, time);
    let _ = write!(out, ",{{\"count\":\"{}\",\"sum\":\"{}\"", shown(histogram.count), shown(histogram.sum));
    let buckets = histogram.buckets();
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":");
        put_list(out, &buckets, |out, bucket| {
            let (lower, upper, count) = (shown(bucket.lower), shown(bucket.upper), shown(bucket.count));
            let rule = boundaries(histogram, bucket);
            let _ = write!(out, "[{rule},\"{lower}\",\"{upper}\",\"{count}\"]");
        });
    }
    out.push_str("}]");
}

/// Which ends belong to a bucket: 0 the upper, 1 the lower, 3 both.
fn boundaries(histogram: &Histogram, bucket: &Bucket) -> u8 {
    match histogram.is_custom() {
        true if bucket.lower == f64::NEG_INFINITY => 3,
        true => 0,
        false if bucket.lower <= 0.0 && bucket.upper >= 0.0 => 3,
        false if bucket.lower < 0.0 => 1,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::histogram::{Buckets, CUSTOM};

    #[test]
    fn numbers_are_written_as_prometheus_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.25e300, "-1.25e+300"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-07"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(shown(value), text);
        }
    }

    #[test]
    fn times_have_milliseconds_where_they_need_them() {
        for (ms, text) in [(0, "0"), (1_000, "1"), (1_005, "1.005"), (-500, "-0.500"), (-12_050, "-12.050")] {
            let mut out = String::new();
            put_time(&mut out, ms);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn buckets_say_which_ends_are_theirs() {
        let exponential = Histogram {
            schema: 0,
            count: 6.0,
            sum: 4.5,
            zero_threshold: 0.5,
            zero_count: 1.0,
            positive: Buckets { offset: 1, counts: vec![2.0, 0.0, 1.0] },
            negative: Buckets { offset: 1, counts: vec![2.0] },
            ..Histogram::default()
        };
        let custom = Histogram {
            schema: CUSTOM,
            count: 3.0,
            sum: 4.0,
            positive: Buckets { offset: 0, counts: vec![1.0, 1.0, 1.0] },
            bounds: [1.0, 2.0].into(),
            ..Histogram::default()
        };
        let labels = Labels::new([("a", "b")]);
        let vector = Output::Vector(
            1_500,
            vec![(labels.clone(), exponential.clone().into()), (Labels::default(), custom.into())],
        );
        insta::assert_snapshot!(data(&vector, None));
        let empty = Histogram::default();
        let matrix = Output::Matrix(vec![
            Points {
                labels: labels.clone(),
                points: vec![(0, 1.0), (1_000, 2.0)]
                    .into_iter()
                    .map(|(t, v)| (t, Sample::Float(v)))
                    .chain([(2_000, empty.into())])
                    .collect(),
            },
            Points { labels, points: vec![(0, exponential.into())] },
        ]);
        insta::assert_snapshot!(data(&matrix, None));
    }
}
