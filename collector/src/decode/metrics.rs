//! Metrics: `ExportMetricsServiceRequest` to rows of `samples`, `histograms` and `series`, with names and
//! labels as OpenTelemetry's Prometheus compatibility rules give them (escaped with underscores, with
//! suffixes for unit and type).
//!
//! Explicit-bucket histograms and summaries become the float series that PromQL knows; exponential
//! histograms stay whole, delta or cumulative as they came. Delta sums and delta explicit-bucket
//! histograms are summed up to cumulative ones ([`DeltaState`]).

mod delta;
mod labels;
mod names;
mod points;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::{SeriesId, UnixNanos};
use weir_storage::{Known, Labels};

use super::attributes::Attributes;
use super::origin::Resource;
use super::wire::{Fault, Field, Malformed, Reader};
use super::{Budget, DecodeError, Decoded, Reason, check_not_ahead};
pub use delta::DeltaState;
use labels::{LabelSet, Target};
use names::Kind;
use points::{Buckets, Exponential, Number, PointKey, Summary};
use rows::{Rows, SeriesRow};

/// What decoding metrics asks about series.
pub struct Series<'a> {
    /// What the index knows of a label set on a day.
    pub known: &'a (dyn Fn(SeriesId, &Labels, i32) -> Known + Sync),
    /// Running totals of delta series.
    pub deltas: &'a DeltaState,
}

/// A metric as its message describes it, points aside.
#[derive(Debug, Clone)]
struct Metric {
    name: Arc<str>,
    kind: Kind,
    unit: Option<Arc<str>>,
    help: Option<Arc<str>>,
    temporality: i32,
}

/// OTLP's `AggregationTemporality`.
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// What a sample holds where a series ends: a NaN that Prometheus calls the stale marker.
pub(super) fn stale() -> f64 {
    f64::from_bits(0x7ff0_0000_0000_0002)
}

const NANOS_PER_DAY: u64 = 86_400_000_000_000;

/// Decodes an `ExportMetricsServiceRequest`.
pub(super) fn decode(request: &[u8], now: UnixNanos, series: &Series<'_>) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder {
        now,
        series,
        budget: Budget::new(),
        attributes: Attributes::default(),
        staged: vec![],
        rows: Rows::default(),
        series_rows: BTreeMap::new(),
        latest: 0,
        decoded: Decoded::default(),
    };
    let mut message = Reader::new(request);
    while let Some(field) = message.next()? {
        if field.number == 1 {
            decoder.resource_metrics(field.message()?)?;
        }
    }
    decoder.decoded.repeated_attributes += decoder.attributes.repeated;
    decoder.decoded.parts = decoder.rows.finish(decoder.series_rows.into_values())?;
    Ok(decoder.decoded)
}

struct Decoder<'a, 's> {
    now: UnixNanos,
    series: &'s Series<'s>,
    budget: Budget,
    attributes: Attributes<'a>,
    /// The series of the point in hand; stored together or not at all.
    staged: Vec<Staged>,
    rows: Rows,
    /// In an order that depends on nothing but the request.
    series_rows: BTreeMap<(SeriesId, i32), SeriesRow>,
    /// The latest accepted time of the resource in hand.
    latest: u64,
    decoded: Decoded,
}

/// A float series of a point, and its value there.
struct Staged {
    name: Arc<str>,
    labels: Labels,
    id: SeriesId,
    value: f64,
}

impl<'a> Decoder<'a, '_> {
    fn resource_metrics(&mut self, message: Reader<'a>) -> Result<(), Malformed> {
        let resource = match Resource::read(message, &mut self.decoded.repeated_attributes)? {
            Ok(resource) => resource,
            Err(reason) => {
                self.decoded.rejected.add(reason, points::count_in_resource(message)?);
                return Ok(());
            }
        };
        let target = Target::of(&resource);
        self.latest = 0;
        let mut scopes = message;
        while let Some(field) = scopes.next()? {
            if field.number != 2 {
                continue;
            }
            let mut metrics = field.message()?;
            while let Some(field) = metrics.next()? {
                if field.number == 2 {
                    self.metric(&target, field.message()?)?;
                }
            }
        }
        self.target_info(&target);
        Ok(())
    }

    fn metric(&mut self, target: &Target, message: Reader<'a>) -> Result<(), Malformed> {
        let metric = match read_metric(message) {
            Ok(read) => read,
            Err(Fault::Malformed(malformed)) => return Err(malformed),
            Err(Fault::Record(reason)) => {
                let points = points::count_in_metric(message)?.max(1);
                self.decoded.rejected.add(reason, points);
                return Ok(());
            }
        };
        let mut pieces = message;
        while let Some(field) = pieces.next()? {
            match data_kind(field.number) {
                Some(kind) if kind.same_data(metric.kind) => {
                    self.points(target, &metric, field.message()?)?
                }
                // Of two kinds the last one counts.
                Some(_) => {
                    self.decoded.rejected.add(Reason::NoData, points::count_in_data(field.message()?)?);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn points(&mut self, target: &Target, metric: &Metric, mut data: Reader<'a>) -> Result<(), Malformed> {
        while let Some(field) = data.next()? {
            if field.number != 1 {
                continue;
            }
            match self.point(target, metric, field) {
                Ok(()) => self.decoded.accepted += 1,
                Err(Fault::Record(reason)) => self.decoded.rejected.add(reason, 1),
                Err(Fault::Malformed(malformed)) => return Err(malformed),
            }
        }
        Ok(())
    }

    fn point(&mut self, target: &Target, metric: &Metric, field: Field<'a>) -> Result<(), Fault> {
        let message = field.message()?;
        self.attributes.clear();
        self.staged.clear();
        match metric.kind {
            Kind::Gauge | Kind::MonotonicSum | Kind::Sum => {
                let number = Number::read(message, &mut self.attributes)?;
                let labels = self.begin(&number.key, metric, target, 1)?;
                self.stage(&metric.name, &labels, None, number.value()?);
                self.store_samples(metric, &number.key)
            }
            Kind::Histogram => {
                let point = Buckets::read(message, &mut self.attributes)?;
                point.check()?;
                let labels = self.begin(&point.key, metric, target, point.bounds.len() + 3)?;
                self.stage_buckets(metric, &labels, &point);
                self.store_samples(metric, &point.key)
            }
            Kind::Summary => {
                let point = Summary::read(message, &mut self.attributes)?;
                let labels = self.begin(&point.key, metric, target, point.quantiles.len() + 2)?;
                self.stage_summary(metric, &labels, &point);
                self.store_samples(metric, &point.key)
            }
            Kind::Exponential => {
                let point = Exponential::read(message, &mut self.attributes)?;
                point.check()?;
                let labels = self.begin(&point.key, metric, target, 1)?;
                self.budget.take(8 * point.buckets())?;
                self.stage(&metric.name, &labels, None, 0.0);
                self.admit_series(metric, &point.key)?;
                let id = self.staged[0].id;
                self.rows.histogram(&metric.name, metric.temporality, id, &point);
                self.latest = self.latest.max(point.key.time);
                Ok(())
            }
        }
    }

    /// Checks what all points have in common, pays for `series` rows, and makes the labels.
    fn begin(
        &mut self,
        key: &PointKey,
        metric: &Metric,
        target: &Target,
        series: usize,
    ) -> Result<LabelSet, Reason> {
        if key.time == 0 {
            return Err(Reason::NoTime);
        }
        check_not_ahead(key.time, self.now)?;
        let labels = LabelSet::of(self.attributes.all(), target)?;
        self.budget.take(series.saturating_mul(64 + metric.name.len() + 32 * labels.len()))?;
        Ok(labels)
    }

    fn stage(&mut self, name: &Arc<str>, labels: &LabelSet, extra: Option<(&str, String)>, value: f64) {
        let labels = labels.series(name, extra);
        self.staged.push(Staged { name: Arc::clone(name), id: labels.id(), labels, value });
    }

    fn stage_buckets(&mut self, metric: &Metric, labels: &LabelSet, point: &Buckets) {
        let value = |value: f64| if point.key.no_value { stale() } else { value };
        let bucket = names::with_suffix(&metric.name, "_bucket");
        let mut below = 0_u64;
        for (bound, count) in point.bounds.iter().zip(&point.counts) {
            below = below.saturating_add(*count);
            if bound.is_finite() {
                let bound = labels::number(*bound);
                self.stage(&bucket, labels, Some(("le", bound)), value(below as f64));
            }
        }
        self.stage(&bucket, labels, Some(("le", "+Inf".into())), value(point.count as f64));
        if let Some(sum) = point.sum.or(point.key.no_value.then_some(0.0)) {
            self.stage(&names::with_suffix(&metric.name, "_sum"), labels, None, value(sum));
        }
        self.stage(&names::with_suffix(&metric.name, "_count"), labels, None, value(point.count as f64));
    }

    fn stage_summary(&mut self, metric: &Metric, labels: &LabelSet, point: &Summary) {
        let value = |value: f64| if point.key.no_value { stale() } else { value };
        for (quantile, at) in &point.quantiles {
            let quantile = labels::number(*quantile);
            self.stage(&metric.name, labels, Some(("quantile", quantile)), value(*at));
        }
        self.stage(&names::with_suffix(&metric.name, "_sum"), labels, None, value(point.sum));
        self.stage(&names::with_suffix(&metric.name, "_count"), labels, None, value(point.count as f64));
    }

    /// Turns what is staged into samples, if every one of its series may be stored.
    fn store_samples(&mut self, metric: &Metric, key: &PointKey) -> Result<(), Fault> {
        self.admit_series(metric, key)?;
        let mut start = key.start;
        if metric.temporality == DELTA && !key.no_value {
            let values = self.staged.iter_mut().map(|staged| (staged.id, &mut staged.value));
            start = self.series.deltas.accumulate(key.start, key.time, values)?;
        }
        for staged in &self.staged {
            self.rows.sample(&staged.name, staged.id, key.time, start, staged.value);
        }
        self.latest = self.latest.max(key.time);
        Ok(())
    }

    /// Asks the index about every staged series, and then notes a row for each that is new that day.
    fn admit_series(&mut self, metric: &Metric, key: &PointKey) -> Result<(), Reason> {
        let date = (key.time / NANOS_PER_DAY) as i32;
        let mut fresh = vec![];
        for (index, staged) in self.staged.iter().enumerate() {
            match (self.series.known)(staged.id, &staged.labels, date) {
                Known::Stored => {}
                Known::Collision => return Err(Reason::Collision),
                Known::TooMany => return Err(Reason::Series),
                Known::New => match self.series_rows.get_mut(&(staged.id, date)) {
                    Some(row) if row.labels != staged.labels => return Err(Reason::Collision),
                    Some(row) => row.time = row.time.min(key.time),
                    None => fresh.push(index),
                },
            }
        }
        let bytes = |staged: &Staged| -> usize {
            64 + staged.labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
        };
        self.budget.take(fresh.iter().map(|index| bytes(&self.staged[*index])).sum())?;
        for index in fresh {
            let staged = &self.staged[index];
            let row = SeriesRow {
                labels: staged.labels.clone(),
                id: staged.id,
                time: key.time,
                kind: metric.kind.series_type(),
                unit: metric.unit.clone(),
                help: metric.help.clone(),
            };
            self.series_rows.insert((staged.id, date), row);
        }
        Ok(())
    }

    /// The resource's other attributes as labels of a gauge that is always 1.
    fn target_info(&mut self, target: &Target) {
        let Some(labels) = target.info.as_ref().filter(|_| self.latest > 0) else { return };
        let metric = Metric {
            name: "target_info".into(),
            kind: Kind::Gauge,
            unit: None,
            help: Some("Target metadata".into()),
            temporality: CUMULATIVE,
        };
        let key = PointKey { time: self.latest, start: 0, no_value: false };
        self.staged.clear();
        self.stage(&metric.name, labels, None, 1.0);
        // Not a data point of the sender's: where there is no room for it, nothing of theirs is lost.
        if let Err(Fault::Record(reason)) = self.store_samples(&metric, &key) {
            tracing::debug!(reason = reason.name(), "`target_info` left out");
        }
    }
}

/// The kind of data that a field of a `Metric` holds.
fn data_kind(number: u32) -> Option<Kind> {
    Some(match number {
        5 => Kind::Gauge,
        7 => Kind::Sum,
        9 => Kind::Histogram,
        10 => Kind::Exponential,
        11 => Kind::Summary,
        _ => return None,
    })
}

/// Reads what describes a metric, wherever among its fields it stands.
fn read_metric(mut message: Reader<'_>) -> Result<Metric, Fault> {
    let (mut name, mut help, mut unit, mut data) = ("", "", "", None);
    let (mut temporality, mut monotonic) = (0, false);
    while let Some(field) = message.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => help = field.text()?,
            3 => unit = field.text()?,
            number => {
                let Some(kind) = data_kind(number) else { continue };
                if data != Some(kind) {
                    (temporality, monotonic) = (0, false);
                }
                data = Some(kind);
                if kind.has_temporality() {
                    read_data(field.message()?, &mut temporality, &mut monotonic)?;
                }
            }
        }
    }
    let mut kind = data.ok_or(Reason::NoData)?;
    if kind == Kind::Sum && monotonic {
        kind = Kind::MonotonicSum;
    }
    if kind.has_temporality() && !matches!(temporality, DELTA | CUMULATIVE) {
        return Err(Reason::Temporality.into());
    }
    let name = names::metric(name, unit, kind).ok_or(Reason::MetricName)?;
    let unit = names::unit(unit).filter(|unit| !unit.is_empty()).map(Arc::from);
    let help = (!help.is_empty()).then(|| Arc::from(help));
    Ok(Metric { name: name.into(), kind, unit, help, temporality })
}

/// Temporality and monotonicity, which stand behind the points.
fn read_data(mut data: Reader<'_>, temporality: &mut i32, monotonic: &mut bool) -> Result<(), Malformed> {
    while let Some(field) = data.next()? {
        match field.number {
            2 => *temporality = field.int32()?,
            3 => *monotonic = field.varint()? != 0,
            _ => {}
        }
    }
    Ok(())
}
