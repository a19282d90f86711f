//! The sets of metrics since the start, by their labels, and what exports and the metrics page make of them.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{UnixNanos, limits};

use super::istio::{
    BUILD, COUNTERS, Connections, DURATION, HISTOGRAMS, Key, Requests, Values, labels, native,
};
use super::wire::{Fields, retag};
use crate::call::{Party, Speaks};

const CUMULATIVE: u64 = 2;
/// Fields that hold attributes: of a number's point, of a classic histogram's, of an exponential one's.
const NUMBER: u32 = 7;
const CLASSIC: u32 = 9;
const NATIVE: u32 = 1;

/// Where a set is, and whether it is the one for those that have none of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: usize,
    pub(super) folded: bool,
}

#[derive(Debug)]
struct Series {
    key: Key,
    /// Its labels as attributes of a [`NUMBER`].
    attributes: Box<[u8]>,
    values: Values,
}

/// A metric as a Prometheus page shows it.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// Prometheus' type.
    pub(crate) kind: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// A line of it.
#[derive(Debug)]
pub(crate) struct Sample {
    /// What follows the metric's name.
    pub(crate) suffix: &'static str,
    /// `name="value"`, with commas between.
    pub(crate) labels: String,
    pub(crate) value: f64,
}

/// All sets, of which there are [`limits::PROXY_METRIC_SETS`] and those for the rest.
#[derive(Debug)]
pub(super) struct Totals {
    own: Arc<Party>,
    places: HashMap<Key, usize>,
    series: Vec<Series>,
}

impl Totals {
    pub(super) fn new(own: Arc<Party>) -> Self {
        Self { own, places: HashMap::new(), series: vec![] }
    }

    /// The place of the set with these labels; it stays where it is.
    pub(super) fn place(&mut self, key: Key) -> Place {
        if let Some(index) = self.places.get(&key) {
            return Place { index: *index, folded: false };
        }
        let folded = self.series.len() >= limits::PROXY_METRIC_SETS;
        let key = if folded { key.overflow() } else { key };
        let index = match self.places.get(&key) {
            Some(index) => *index,
            None => self.add(key),
        };
        Place { index, folded }
    }

    fn add(&mut self, key: Key) -> usize {
        let mut attributes = Vec::new();
        labels(&self.own, &key)
            .iter()
            .for_each(|(name, value)| attributes.text_attribute(NUMBER, name, value));
        let values = match key.speaks {
            Speaks::Tcp => Values::Connections(Connections::default()),
            Speaks::Http | Speaks::Grpc => Values::Requests(Box::default()),
        };
        let index = self.series.len();
        self.places.insert(key.clone(), index);
        self.series.push(Series { key, attributes: attributes.into_boxed_slice(), values });
        index
    }

    /// Adds what was counted at these places.
    pub(super) fn merge(&mut self, counted: Vec<Option<Box<Requests>>>) {
        for (series, more) in self.series.iter_mut().zip(counted) {
            if let (Values::Requests(requests), Some(more)) = (&mut series.values, more) {
                requests.merge(&more);
            }
        }
    }

    /// The connections of a place that a [`Speaks::Tcp`] key was given.
    pub(super) fn connections(&mut self, place: Place) -> Option<&mut Connections> {
        match &mut self.series.get_mut(place.index)?.values {
            Values::Connections(connections) => Some(connections),
            Values::Requests(_) => None,
        }
    }

    /// All metrics as `Metric` fields of a scope, with the number of points.
    pub(super) fn encode(&self, start: UnixNanos, now: UnixNanos) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(256 + self.series.len() * 8_000);
        let mut points = 1;
        out.message(2, |metric| {
            metric.bytes(1, b"istio_build");
            metric.message(5, |gauge| {
                gauge.message(1, |point| {
                    point.fixed64(3, now.0);
                    point.fixed64(6, 1);
                    BUILD.iter().for_each(|(name, value)| point.text_attribute(NUMBER, name, value));
                });
            });
        });
        for (name, unit, of) in COUNTERS {
            points += self.metric(&mut out, name, unit, 7, NUMBER, start, now, |series, point| {
                point.fixed64(6, of(&series.key, &series.values)?);
                Some(())
            });
        }
        for (name, unit, of) in HISTOGRAMS {
            points += self.metric(&mut out, name, unit, 9, CLASSIC, start, now, |series, point| {
                of(&series.values)?.encode(point);
                Some(())
            });
        }
        points += self.metric(&mut out, DURATION, "ms", 10, NATIVE, start, now, |series, point| {
            native(&series.values)?.encode(point);
            Some(())
        });
        (out, points)
    }

    /// Appends a metric whose points are in field `data`, unless it has none; returns their number.
    #[allow(clippy::too_many_arguments, reason = "what a metric and a point are made of")]
    fn metric(
        &self,
        out: &mut Vec<u8>,
        name: &str,
        unit: &str,
        data: u32,
        attributes: u32,
        start: UnixNanos,
        now: UnixNanos,
        fill: impl Fn(&Series, &mut Vec<u8>) -> Option<()>,
    ) -> u64 {
        let before = out.len();
        let mut points = 0;
        out.message(2, |metric| {
            metric.bytes(1, name.as_bytes());
            if !unit.is_empty() {
                metric.bytes(3, unit.as_bytes());
            }
            metric.message(data, |of| {
                for series in &self.series {
                    let before = of.len();
                    let mut has_one = false;
                    of.message(1, |point| {
                        has_one = fill(series, point).is_some();
                        point.fixed64(2, start.0);
                        point.fixed64(3, now.0);
                        let at = point.len();
                        point.extend_from_slice(&series.attributes);
                        if attributes != NUMBER {
                            retag(&mut point[at..], attributes);
                        }
                    });
                    if has_one {
                        points += 1;
                    } else {
                        of.truncate(before);
                    }
                }
                of.varint(2, CUMULATIVE);
                if data == 7 {
                    of.varint(3, 1);
                }
            });
        });
        if points == 0 {
            out.truncate(before);
        }
        points
    }

    /// All metrics for a Prometheus page, which has no native histograms.
    pub(super) fn families(&self) -> Vec<Family> {
        let texts: Vec<String> =
            self.series.iter().map(|series| text(&labels(&self.own, &series.key))).collect();
        let all = || self.series.iter().zip(&texts);
        let build = BUILD.map(|(name, value)| (name, value.to_owned()));
        let build = Sample { suffix: "", labels: text(&build), value: 1.0 };
        let mut families = vec![Family { name: "istio_build", kind: "gauge", samples: vec![build] }];
        for (name, _, of) in COUNTERS {
            let sample = |(series, labels): (&Series, &String)| {
                let value = of(&series.key, &series.values)? as f64;
                Some(Sample { suffix: "", labels: labels.clone(), value })
            };
            families.push(Family { name, kind: "counter", samples: all().filter_map(sample).collect() });
        }
        for (name, _, of) in HISTOGRAMS {
            let mut samples = vec![];
            for (histogram, labels) in all().filter_map(|(s, labels)| Some((of(&s.values)?, labels))) {
                let mut total = 0;
                for (i, count) in histogram.counts.iter().enumerate() {
                    total += count;
                    let bound = histogram.bounds.get(i).map_or("+Inf".to_owned(), f64::to_string);
                    let labels = format!("{labels},le=\"{bound}\"");
                    samples.push(Sample { suffix: "_bucket", labels, value: total as f64 });
                }
                samples.push(Sample { suffix: "_sum", labels: labels.clone(), value: histogram.sum });
                samples.push(Sample { suffix: "_count", labels: labels.clone(), value: total as f64 });
            }
            families.push(Family { name, kind: "histogram", samples });
        }
        families.retain(|family| !family.samples.is_empty());
        families
    }
}

fn text(labels: &[(&'static str, String)]) -> String {
    let shown = |(name, value): &(&str, String)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    labels.iter().map(shown).collect::<Vec<_>>().join(",")
}
