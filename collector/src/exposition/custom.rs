//! Classic histograms made into native ones with custom buckets, as a job may ask for: the series of one histogram
//! are put together while its family lasts.

use std::collections::HashMap;

use weir_model::limits;
use weir_model::prometheus::Labels;

use super::{Exemplar, Kind, Native, Point, Series, Sink, Stop, Told, Value};

/// Hands on what it is handed, with classic histograms as native ones; beside them as they are, if `both`.
pub(super) struct Custom<'s> {
    sink: &'s mut dyn Sink,
    both: bool,
    kind: Kind,
    family: String,
    /// By name and labels without `le`, in their order.
    known: HashMap<Vec<u8>, usize>,
    histograms: Vec<Histogram>,
    buckets: usize,
}

struct Histogram {
    key: Vec<u8>,
    labels: Labels,
    /// Upper bounds, and how many observations are below each.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    time: Option<i64>,
    start: Option<i64>,
    exemplars: Vec<Exemplar<'static>>,
}

impl<'s> Custom<'s> {
    pub(super) fn new(sink: &'s mut dyn Sink, both: bool) -> Self {
        Self {
            sink,
            both,
            kind: Kind::Unknown,
            family: String::new(),
            known: HashMap::new(),
            histograms: Vec::new(),
            buckets: 0,
        }
    }

    /// Hands on the histograms of the family that has ended.
    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        self.known.clear();
        self.buckets = 0;
        for histogram in std::mem::take(&mut self.histograms) {
            let Some(native) = histogram.native() else { continue };
            let point = Point {
                value: Value::Native(&native),
                time: histogram.time,
                start: histogram.start,
                exemplars: &histogram.exemplars,
            };
            self.sink.point(&histogram, point)?;
        }
        Ok(())
    }

    /// Takes a series of a classic histogram; false where it is none.
    fn take(&mut self, series: &dyn Series, point: Point<'_>) -> bool {
        let Value::Float(value) = point.value else { return false };
        let Ok(mut labels) = series.labels() else { return false };
        let name = labels.get("__name__").cloned().unwrap_or_default();
        let Some(part) = name.strip_prefix(self.family.as_str()) else { return false };
        let bound = match part {
            "_bucket" => match labels.remove("le").and_then(|text| text.parse::<f64>().ok()) {
                Some(bound) if self.buckets < limits::SCRAPE_SERIES => Some(bound),
                _ => return false,
            },
            "_count" | "_sum" => None,
            _ => return false,
        };
        labels.insert("__name__".to_owned(), self.family.clone());
        let histogram = self.histogram(labels);
        match (part, bound) {
            ("_bucket", Some(bound)) => {
                histogram.buckets.push((bound, value));
                let owned = point.exemplars.iter().map(|exemplar| Exemplar {
                    labels: exemplar
                        .labels
                        .iter()
                        .map(|(name, value)| {
                            (name.clone().into_owned().into(), value.clone().into_owned().into())
                        })
                        .collect(),
                    ..*exemplar
                });
                histogram.exemplars.extend(owned);
            }
            ("_count", _) => histogram.count = Some(value),
            _ => histogram.sum = value,
        }
        histogram.time = point.time;
        histogram.start = histogram.start.or(point.start);
        self.buckets += usize::from(bound.is_some());
        true
    }

    fn histogram(&mut self, labels: Labels) -> &mut Histogram {
        // A byte that no text has tells it from series as they were written.
        let mut key = vec![0xfd];
        for (name, value) in &labels {
            for text in [name, value] {
                key.extend_from_slice(text.as_bytes());
                key.push(0xff);
            }
        }
        let index = *self.known.entry(key.clone()).or_insert(self.histograms.len());
        if index == self.histograms.len() {
            self.histograms.push(Histogram {
                key,
                labels,
                buckets: Vec::new(),
                count: None,
                sum: 0.0,
                time: None,
                start: None,
                exemplars: Vec::new(),
            });
        }
        &mut self.histograms[index]
    }
}

impl Sink for Custom<'_> {
    fn describe(&mut self, family: &str, told: Told<'_>) {
        if family != self.family {
            // A sink that stops here stops at the next point too.
            let _ = self.finish();
            family.clone_into(&mut self.family);
            self.kind = Kind::Unknown;
        }
        if let Told::Kind(kind) = told {
            self.kind = kind;
        }
        self.sink.describe(family, told);
    }

    fn point(&mut self, series: &dyn Series, point: Point<'_>) -> Result<(), Stop> {
        if self.kind == Kind::Histogram && self.take(series, point) && !self.both {
            return Ok(());
        }
        self.sink.point(series, point)
    }
}

impl Histogram {
    /// The native histogram; none where its buckets do not add up.
    fn native(&self) -> Option<Native> {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets.dedup_by(|a, b| a.0 == b.0);
        let last = buckets.last().map(|(_, count)| *count);
        let total = self.count.or(last)?;
        if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            buckets.push((f64::INFINITY, total));
        }
        let mut below = 0.0;
        let mut counts = Vec::with_capacity(buckets.len());
        for (_, cumulative) in &buckets {
            if cumulative.is_nan() || *cumulative < below {
                return None;
            }
            counts.push(cumulative - below);
            below = *cumulative;
        }
        let bounds =
            buckets.iter().map(|(bound, _)| *bound).filter(|bound| *bound != f64::INFINITY).collect();
        let is_whole = |count: &f64| count.fract() == 0.0 && *count < 9e15;
        let is_float = !counts.iter().all(is_whole);
        let mut native = Native {
            schema: Native::CUSTOM,
            sum: self.sum,
            is_float,
            count: below,
            whole_count: below as u64,
            bounds,
            ..Native::default()
        };
        if is_float {
            native.positive.counts = counts;
        } else {
            native.positive.whole = counts.into_iter().map(|count| count as u64).collect();
        }
        Some(native)
    }
}

impl Series for Histogram {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn labels(&self) -> Result<Labels, &'static str> {
        Ok(self.labels.clone())
    }
}
