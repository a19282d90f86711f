//! Metrics: `ExportMetricsServiceRequest` to rows of `samples`, `histograms`, `exemplars` and `series`, with
//! names and labels as OpenTelemetry's Prometheus compatibility rules give them, by what the section `otlp` of a
//! configuration of Prometheus chooses ([`Otlp`]). As in Prometheus, neither the scope nor the rest of the resource is
//! among the labels unless it says so; the rows of `series` say them, and all else that labels and values do not.
//!
//! Explicit-bucket histograms and summaries become the float series that PromQL knows; exponential
//! histograms stay whole, delta or cumulative as they came. Delta sums and delta explicit-bucket
//! histograms are summed up to cumulative ones ([`DeltaState`]).

mod delta;
mod described;
mod exemplars;
mod labels;
mod names;
mod points;
mod rows;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use weir_model::prometheus::Otlp;
use weir_model::{SeriesId, UnixNanos, limits};
use weir_storage::rows::{Metadata, STALE_BITS};
use weir_storage::{Known, Labels};

use super::attributes::{Attribute, Attributes, cost};
use super::origin::{Resource, Scope};
use super::wire::{Fault, Field, Malformed, Reader};
use super::{Budget, DecodeError, Decoded, Reason, check_not_ahead};
pub use delta::DeltaState;
use described::{Sent, SeriesRow};
use exemplars::{Exemplar, Exemplars};
use labels::{LabelSet, Pair, Target};
use names::Kind;
use points::{Buckets, Exponential, Number, PointKey, Rest, Summary};
use rows::Rows;

/// What decoding metrics asks about series.
pub struct Series<'a> {
    /// What the index knows of a label set on a day.
    pub known: &'a (dyn Fn(SeriesId, &Labels, i32) -> Known + Sync),
    /// Running totals of delta series.
    pub deltas: &'a DeltaState,
    /// How series are named.
    pub naming: &'a Otlp,
}

/// A metric as its message describes it, points aside.
#[derive(Debug)]
struct Metric<'a> {
    name: Arc<str>,
    kind: Kind,
    /// What it is to Prometheus.
    described: Metadata,
    temporality: i32,
    /// Name and unit as they came.
    sent_name: &'a str,
    sent_unit: &'a str,
    metadata: Vec<Attribute<'a>>,
}

/// Where a point comes from.
#[derive(Debug)]
struct Origin<'t, 'a> {
    target: &'t Target,
    resource: Rc<Resource<'a>>,
    scope: Rc<Scope<'a>>,
    /// What the scope is to the labels.
    scope_labels: Vec<Pair>,
}

/// OTLP's `AggregationTemporality`.
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// What a sample holds where a series ends: a NaN that Prometheus calls the stale marker.
pub(super) fn stale() -> f64 {
    f64::from_bits(STALE_BITS)
}

const NANOS_PER_DAY: u64 = 86_400_000_000_000;

/// Decodes an `ExportMetricsServiceRequest`.
pub(super) fn decode(request: &[u8], now: UnixNanos, series: &Series<'_>) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder {
        now,
        series,
        request: series.deltas.begin(),
        budget: Budget::new(),
        attributes: Attributes::default(),
        exemplars: Exemplars::default(),
        staged: vec![],
        rows: Rows::default(),
        series_rows: BTreeMap::new(),
        times: None,
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
    /// The number of this request among those that bring deltas.
    request: u64,
    budget: Budget,
    attributes: Attributes<'a>,
    /// Those of the point in hand.
    exemplars: Exemplars<'a>,
    /// The series of the point in hand; stored together or not at all.
    staged: Vec<Staged>,
    rows: Rows,
    /// In an order that depends on nothing but the request.
    series_rows: BTreeMap<(SeriesId, i32), SeriesRow<'a>>,
    /// The earliest and the latest accepted time of the resource in hand.
    times: Option<(u64, u64)>,
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
            Ok(resource) => Rc::new(resource),
            Err(reason) => {
                self.decoded.rejected.add(reason, points::count_in_resource(message)?);
                return Ok(());
            }
        };
        let target = Target::of(&resource, self.series.naming);
        self.times = None;
        let mut scopes = message;
        while let Some(field) = scopes.next()? {
            if field.number == 2 {
                self.scope_metrics(&target, &resource, field.message()?)?;
            }
        }
        self.target_info(&target);
        Ok(())
    }

    fn scope_metrics(
        &mut self,
        target: &Target,
        resource: &Rc<Resource<'a>>,
        message: Reader<'a>,
    ) -> Result<(), Malformed> {
        let scope = match Scope::read(message, &mut self.decoded.repeated_attributes)? {
            Ok(scope) => Rc::new(scope),
            Err(reason) => {
                self.decoded.rejected.add(reason, points::count_in_scope(message)?);
                return Ok(());
            }
        };
        let scope_labels = labels::of_scope(&scope, self.series.naming);
        let origin = Origin { target, resource: Rc::clone(resource), scope, scope_labels };
        let mut metrics = message;
        while let Some(field) = metrics.next()? {
            if field.number == 2 {
                self.metric(&origin, field.message()?)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, origin: &Origin<'_, 'a>, message: Reader<'a>) -> Result<(), Malformed> {
        let metric = match read_metric(message, self.series.naming, &mut self.decoded.repeated_attributes) {
            Ok(read) => Rc::new(read),
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
                    self.points(origin, &metric, field.message()?)?
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

    fn points(
        &mut self,
        origin: &Origin<'_, 'a>,
        metric: &Rc<Metric<'a>>,
        mut data: Reader<'a>,
    ) -> Result<(), Malformed> {
        while let Some(field) = data.next()? {
            if field.number != 1 {
                continue;
            }
            match self.point(origin, metric, field) {
                Ok(()) => self.decoded.accepted += 1,
                Err(Fault::Record(reason)) => self.decoded.rejected.add(reason, 1),
                Err(Fault::Malformed(malformed)) => return Err(malformed),
            }
        }
        Ok(())
    }

    fn point(
        &mut self,
        origin: &Origin<'_, 'a>,
        metric: &Rc<Metric<'a>>,
        field: Field<'a>,
    ) -> Result<(), Fault> {
        let message = field.message()?;
        self.attributes.clear();
        self.exemplars.clear();
        self.staged.clear();
        match metric.kind {
            Kind::Gauge | Kind::MonotonicSum | Kind::Sum => {
                let number = Number::read(message, &mut self.attributes, &mut self.exemplars)?;
                let labels = self.begin(&number.key, metric, origin, 1)?;
                self.stage(&metric.name, &labels, None, number.value()?);
                self.admit_series(metric, &number.key, Some(origin), Some(number.is_whole()))?;
                self.store_samples(metric, &number.key, &number.rest(metric.temporality == DELTA))?;
                self.store_exemplars(&[])
            }
            Kind::Histogram if self.series.naming.convert_histograms_to_nhcb => {
                let point = Buckets::read(message, &mut self.attributes, &mut self.exemplars)?;
                point.check()?;
                let labels = self.begin(&point.key, metric, origin, 1)?;
                self.budget.take(16 * point.counts.len())?;
                self.stage(&metric.name, &labels, None, 0.0);
                self.admit_series(metric, &point.key, Some(origin), None)?;
                self.rows.buckets(&metric.name, metric.temporality, self.staged[0].id, &point);
                self.stored_at(point.key.time);
                self.store_exemplars(&[])
            }
            Kind::Histogram => {
                let mut point = Buckets::read(message, &mut self.attributes, &mut self.exemplars)?;
                point.check()?;
                let labels = self.begin(&point.key, metric, origin, point.bounds.len() + 3)?;
                self.stage_buckets(metric, &labels, &point);
                self.admit_series(metric, &point.key, Some(origin), None)?;
                self.store_samples(metric, &point.key, &point.rest())?;
                point.bounds.retain(|bound| bound.is_finite());
                self.store_exemplars(&point.bounds)
            }
            Kind::Summary => {
                let point = Summary::read(message, &mut self.attributes)?;
                let labels = self.begin(&point.key, metric, origin, point.quantiles.len() + 2)?;
                self.stage_summary(metric, &labels, &point);
                self.admit_series(metric, &point.key, Some(origin), None)?;
                self.store_samples(metric, &point.key, &point.rest())
            }
            Kind::Exponential => {
                let point = Exponential::read(message, &mut self.attributes, &mut self.exemplars)?;
                point.check()?;
                let labels = self.begin(&point.key, metric, origin, 1)?;
                self.budget.take(8 * point.buckets())?;
                self.stage(&metric.name, &labels, None, 0.0);
                self.admit_series(metric, &point.key, Some(origin), None)?;
                let id = self.staged[0].id;
                self.rows.histogram(&metric.name, metric.temporality, id, &point);
                self.stored_at(point.key.time);
                self.store_exemplars(&[])
            }
        }
    }

    /// Checks what all points have in common, pays for `series` rows, and makes the labels.
    fn begin(
        &mut self,
        key: &PointKey,
        metric: &Metric<'_>,
        origin: &Origin<'_, '_>,
        series: usize,
    ) -> Result<LabelSet, Reason> {
        if key.time == 0 {
            return Err(Reason::NoTime);
        }
        check_not_ahead(key.time, self.now)?;
        let labels = LabelSet::of_point(
            self.attributes.all(),
            origin.target,
            &origin.scope_labels,
            self.series.naming,
        )?;
        self.budget.take(series.saturating_mul(64 + metric.name.len() + 32 * labels.len()))?;
        Ok(labels)
    }

    fn stage(&mut self, name: &Arc<str>, labels: &LabelSet, extra: Option<(&str, String)>, value: f64) {
        let labels = labels.series(name, extra);
        self.staged.push(Staged { name: Arc::clone(name), id: labels.id(), labels, value });
    }

    /// Stages the buckets in the order of their bounds, and `_count` last.
    fn stage_buckets(&mut self, metric: &Metric<'_>, labels: &LabelSet, point: &Buckets) {
        let value = |value: f64| if point.key.no_value() { stale() } else { value };
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
        if let Some(sum) = point.sum.or(point.key.no_value().then_some(0.0)) {
            self.stage(&names::with_suffix(&metric.name, "_sum"), labels, None, value(sum));
        }
        self.stage(&names::with_suffix(&metric.name, "_count"), labels, None, value(point.count as f64));
    }

    fn stage_summary(&mut self, metric: &Metric<'_>, labels: &LabelSet, point: &Summary) {
        let value = |value: f64| if point.key.no_value() { stale() } else { value };
        for (quantile, at) in &point.quantiles {
            let quantile = labels::number(*quantile);
            self.stage(&metric.name, labels, Some(("quantile", quantile)), value(*at));
        }
        self.stage(&names::with_suffix(&metric.name, "_sum"), labels, None, value(point.sum));
        self.stage(&names::with_suffix(&metric.name, "_count"), labels, None, value(point.count as f64));
    }

    /// Turns what is staged into samples; the last of them says the `rest` of the point.
    fn store_samples(&mut self, metric: &Metric<'_>, key: &PointKey, rest: &[Rest]) -> Result<(), Fault> {
        let mut at = *key;
        if metric.temporality == DELTA && !key.no_value() {
            let values = self.staged.iter_mut().map(|staged| (staged.id, &mut staged.value));
            at.start = self.series.deltas.accumulate(self.request, key.start, key.time, values)?;
        }
        for (index, staged) in self.staged.iter().enumerate() {
            let rest = if index + 1 == self.staged.len() { rest } else { &[] };
            self.rows.sample(&staged.name, staged.id, &at, staged.value, rest);
        }
        self.stored_at(key.time);
        Ok(())
    }

    /// Stores the exemplars of a point that is stored. Each goes to the staged series whose place its value
    /// has among `bounds`, which are those of the first series; without bounds, to the only one.
    fn store_exemplars(&mut self, bounds: &[f64]) -> Result<(), Fault> {
        self.decoded.dropped_exemplars.add(Reason::ManyExemplars, self.exemplars.more);
        for message in std::mem::take(&mut self.exemplars.messages) {
            match self.exemplar(message, bounds) {
                Err(Fault::Record(reason)) => self.decoded.dropped_exemplars.add(reason, 1),
                done => done?,
            }
        }
        Ok(())
    }

    fn exemplar(&mut self, message: Reader<'a>, bounds: &[f64]) -> Result<(), Fault> {
        self.attributes.clear();
        let exemplar = Exemplar::read(message, &mut self.attributes)?;
        exemplar.check()?;
        check_not_ahead(exemplar.time, self.now)?;
        let Some(series) = self.staged.get(exemplar.bucket(bounds)) else { return Ok(()) };
        self.budget.take(64 + series.name.len() + message.bytes().len() + cost(self.attributes.all()))?;
        self.rows.exemplars.row(&series.name, series.id, &exemplar, self.attributes.all());
        Ok(())
    }

    /// Asks the index about every staged series, and then notes a row for each that is new that day. The last
    /// of them says where the point comes from.
    fn admit_series(
        &mut self,
        metric: &Rc<Metric<'a>>,
        key: &PointKey,
        origin: Option<&Origin<'_, 'a>>,
        whole: Option<bool>,
    ) -> Result<(), Reason> {
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
        let last = self.staged.len() - 1;
        let mut sent = origin.filter(|_| fresh.contains(&last)).map(|origin| {
            let labels = &self.staged[last].labels;
            Sent::new(self.attributes.all(), labels, &origin.resource, &origin.scope)
        });
        if let Some(sent) = &sent {
            self.budget.take(sent.cost() + cost(&metric.metadata))?;
        }
        for index in fresh {
            let staged = &self.staged[index];
            let row = SeriesRow {
                labels: staged.labels.clone(),
                id: staged.id,
                time: key.time,
                metric: Rc::clone(metric),
                whole,
                sent: if index == last { sent.take() } else { None },
            };
            self.series_rows.insert((staged.id, date), row);
        }
        Ok(())
    }

    fn stored_at(&mut self, time: u64) {
        let (first, last) = self.times.unwrap_or((time, time));
        self.times = Some((first.min(time), last.max(time)));
    }

    /// The resource's other attributes as labels of a gauge that is always 1, so often that it never seems to have ended
    /// between the first and the last point.
    fn target_info(&mut self, target: &Target) {
        let (Some(labels), Some((first, last))) = (target.info.as_ref(), self.times) else { return };
        let metric = Rc::new(Metric {
            name: "target_info".into(),
            kind: Kind::Gauge,
            described: Metadata {
                kind: Kind::Gauge.series_type().into(),
                help: "Target metadata".into(),
                unit: "".into(),
            },
            temporality: CUMULATIVE,
            sent_name: "",
            sent_unit: "",
            metadata: vec![],
        });
        let times = (first..last).step_by(INFO_NANOS).take(limits::TARGET_INFOS).chain([last]);
        for time in times {
            let key = PointKey::at(time);
            self.staged.clear();
            self.stage(&metric.name, labels, None, 1.0);
            // Not a data point of the sender's: where there is no room for it, nothing of theirs is lost.
            match self.admit_series(&metric, &key, None, None) {
                Ok(()) => self.rows.sample("target_info", self.staged[0].id, &key, 1.0, &[]),
                Err(reason) => tracing::debug!(reason = reason.name(), "`target_info` left out"),
            }
        }
    }
}

/// From one `target_info` to the next: half of the time for which a sample stands for its series.
const INFO_NANOS: usize = 150_000_000_000;

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
fn read_metric<'a>(mut message: Reader<'a>, naming: &Otlp, repeated: &mut u64) -> Result<Metric<'a>, Fault> {
    let mut metadata = Attributes::default();
    let (mut name, mut help, mut unit, mut data) = ("", "", "", None);
    let (mut temporality, mut monotonic) = (0, false);
    while let Some(field) = message.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => help = field.text()?,
            3 => unit = field.text()?,
            12 => metadata.read(field.message()?)?,
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
    *repeated += metadata.repeated;
    Ok(Metric {
        name: names::metric(name, unit, kind, naming.translation).ok_or(Reason::MetricName)?.into(),
        kind,
        described: Metadata {
            kind: kind.series_type().into(),
            unit: names::unit(unit).unwrap_or_default().into(),
            help: help.into(),
        },
        temporality,
        sent_name: name,
        sent_unit: unit,
        metadata: metadata.all().to_vec(),
    })
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
