//! Prometheus' protobuf format: messages `io.prometheus.client.MetricFamily`, each behind its length. The only
//! format that carries native histograms.

use std::borrow::Cow;

use weir_model::prometheus::Labels;

use super::number::format_float;
use super::{Exemplar, Kind, Options, ParseError, Point, Series, Sink, Told, Value};
use crate::decode::wire::{Fault, Malformed, Reader};

mod histogram;
mod native;

pub(crate) use native::Native;

use histogram::Histogram;

/// Why a message cannot be read, or that the sink wants no more.
enum Halt {
    Problem(String),
    Stop,
}

impl From<Malformed> for Halt {
    fn from(malformed: Malformed) -> Self {
        Self::Problem(malformed.to_string())
    }
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(malformed) => malformed.into(),
            Fault::Record(reason) => Self::Problem(reason.name().to_owned()),
        }
    }
}

impl From<super::Stop> for Halt {
    fn from(_: super::Stop) -> Self {
        Self::Stop
    }
}

/// Reads `body` to its end.
pub(super) fn parse(body: &[u8], options: Options, sink: &mut dyn Sink) -> Result<(), ParseError> {
    let mut messages = Reader::new(body);
    let mut message = 0;
    while !messages.bytes().is_empty() {
        message += 1;
        let read = messages.delimited().map_err(Halt::from).and_then(|family| read(family, options, sink));
        match read {
            Ok(()) => {}
            Err(Halt::Stop) => return Ok(()),
            Err(Halt::Problem(problem)) => return Err(ParseError::Message { message, problem }),
        }
    }
    Ok(())
}

/// Reads one family.
fn read(message: Reader<'_>, options: Options, sink: &mut dyn Sink) -> Result<(), Halt> {
    let (mut name, mut help, mut unit, mut kind) = ("", "", "", Some(Kind::Counter));
    let mut fields = message;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => help = field.text()?,
            3 => {
                kind = match field.int32()? {
                    0 => Some(Kind::Counter),
                    1 => Some(Kind::Gauge),
                    2 => Some(Kind::Summary),
                    3 => Some(Kind::Unknown),
                    4 => Some(Kind::Histogram),
                    5 => Some(Kind::GaugeHistogram),
                    _ => None,
                }
            }
            5 => unit = field.text()?,
            _ => {}
        }
    }
    if name.is_empty() {
        return Err(Halt::Problem("a family without a name".to_owned()));
    }
    let kind = kind.ok_or_else(|| Halt::Problem(format!("`{name}` is of an unknown type")))?;
    sink.describe(name, Told::Kind(kind));
    if !help.is_empty() {
        sink.describe(name, Told::Help(help));
    }
    if !unit.is_empty() {
        sink.describe(name, Told::Unit(unit));
    }
    let mut family = Family { name, kind, options, sink, key: Vec::new() };
    let mut fields = message;
    while let Some(field) = fields.next()? {
        if field.number == 4 {
            family.metric(field.message()?)?;
        }
    }
    Ok(())
}

struct Family<'f, 's> {
    name: &'f str,
    kind: Kind,
    options: Options,
    sink: &'s mut dyn Sink,
    /// Reused from one series to the next.
    key: Vec<u8>,
}

/// Which series of a metric: the end of its name, and the label of a bucket or a quantile.
type Part = (&'static str, Option<(&'static str, f64)>);

/// What a message `Metric` holds but its value.
struct Metric<'f> {
    labels: Vec<(&'f str, &'f str)>,
    time: Option<i64>,
}

impl<'f> Family<'f, '_> {
    fn metric(&mut self, message: Reader<'f>) -> Result<(), Halt> {
        let mut metric = Metric { labels: Vec::new(), time: None };
        let mut value = None;
        let mut fields = message;
        while let Some(field) = fields.next()? {
            match field.number {
                1 => metric.labels.push(pair(field.message()?)?),
                // Zero is none, as it cannot be told from none everywhere.
                6 => metric.time = Some(field.varint()? as i64).filter(|time| *time != 0),
                number if Some(number) == self.value_number() => value = Some(field.message()?),
                _ => {}
            }
        }
        let Some(value) = value else {
            return Err(Halt::Problem(format!(
                "a metric of `{}` has no value of the type of its family",
                self.name
            )));
        };
        match self.kind {
            Kind::Summary => self.summary(&metric, value),
            Kind::Histogram | Kind::GaugeHistogram => self.histogram(&metric, value),
            _ => self.number(&metric, value),
        }
    }

    /// The number of the field with the value.
    fn value_number(&self) -> Option<u32> {
        Some(match self.kind {
            Kind::Gauge => 2,
            Kind::Counter => 3,
            Kind::Summary => 4,
            Kind::Unknown => 5,
            Kind::Histogram | Kind::GaugeHistogram => 7,
            _ => return None,
        })
    }

    /// A counter, a gauge, or neither.
    fn number(&mut self, metric: &Metric<'f>, mut message: Reader<'f>) -> Result<(), Halt> {
        let (mut value, mut start, mut exemplars) = (0.0, None, Vec::new());
        while let Some(field) = message.next()? {
            match (field.number, self.kind) {
                (1, _) => value = field.double()?,
                (2, Kind::Counter) => exemplars.push(exemplar(field.message()?)?),
                (3, Kind::Counter) => start = Some(timestamp(field.message()?)?),
                _ => {}
            }
        }
        self.float(metric, ("", None), value, start, &exemplars)
    }

    fn summary(&mut self, metric: &Metric<'f>, mut message: Reader<'f>) -> Result<(), Halt> {
        let (mut count, mut sum, mut start, mut quantiles) = (0, 0.0, None, Vec::new());
        while let Some(field) = message.next()? {
            match field.number {
                1 => count = field.varint()?,
                2 => sum = field.double()?,
                3 => {
                    let mut quantile = (0.0, 0.0);
                    let mut fields = field.message()?;
                    while let Some(field) = fields.next()? {
                        match field.number {
                            1 => quantile.0 = field.double()?,
                            2 => quantile.1 = field.double()?,
                            _ => {}
                        }
                    }
                    quantiles.push(quantile);
                }
                4 => start = Some(timestamp(field.message()?)?),
                _ => {}
            }
        }
        self.float(metric, ("_count", None), count as f64, start, &[])?;
        self.float(metric, ("_sum", None), sum, start, &[])?;
        for (quantile, value) in quantiles {
            self.float(metric, ("", Some(("quantile", quantile))), value, start, &[])?;
        }
        Ok(())
    }

    fn histogram(&mut self, metric: &Metric<'f>, message: Reader<'f>) -> Result<(), Halt> {
        let histogram = Histogram::read(message)?;
        let is_native = self.options.native && histogram.is_native();
        if is_native {
            let native = histogram.native(self.kind == Kind::GaugeHistogram)?;
            let exemplars = histogram.native_exemplars();
            let point = Point {
                value: Value::Native(&native),
                time: metric.time,
                start: histogram.start,
                exemplars: &exemplars,
            };
            self.point(metric, ("", None), point)?;
        }
        if is_native && (!self.options.classic_too || histogram.buckets.is_empty()) {
            return Ok(());
        }
        let start = histogram.start;
        self.float(metric, ("_count", None), histogram.count(), start, &[])?;
        self.float(metric, ("_sum", None), histogram.sum, start, &[])?;
        let mut infinite = false;
        for bucket in &histogram.buckets {
            infinite |= bucket.bound == f64::INFINITY;
            let exemplars = bucket.exemplar.as_slice();
            self.float(metric, ("_bucket", Some(("le", bucket.bound))), bucket.count, start, exemplars)?;
        }
        if !infinite {
            self.float(metric, ("_bucket", Some(("le", f64::INFINITY))), histogram.count(), start, &[])?;
        }
        Ok(())
    }

    fn float(
        &mut self,
        metric: &Metric<'f>,
        part: Part,
        value: f64,
        start: Option<i64>,
        exemplars: &[Exemplar<'_>],
    ) -> Result<(), Halt> {
        let value =
            Value::Float(if value.is_nan() { f64::from_bits(super::number::NORMAL_NAN) } else { value });
        self.point(metric, part, Point { value, time: metric.time, start, exemplars })
    }

    fn point(&mut self, metric: &Metric<'f>, (suffix, bound): Part, point: Point<'_>) -> Result<(), Halt> {
        self.key.clear();
        self.key.extend_from_slice(self.name.as_bytes());
        self.key.extend_from_slice(suffix.as_bytes());
        if let Some((_, bound)) = bound {
            self.key.push(0xfe);
            self.key.extend_from_slice(&bound.to_bits().to_le_bytes());
        }
        for (name, value) in &metric.labels {
            for text in [name, value] {
                self.key.push(0xff);
                self.key.extend_from_slice(text.as_bytes());
            }
        }
        let series =
            ProtobufSeries { key: &self.key, name: self.name, suffix, bound, labels: &metric.labels };
        self.sink.point(&series, point)?;
        Ok(())
    }
}

struct ProtobufSeries<'f> {
    key: &'f [u8],
    name: &'f str,
    suffix: &'static str,
    bound: Option<(&'static str, f64)>,
    labels: &'f [(&'f str, &'f str)],
}

impl Series for ProtobufSeries<'_> {
    fn key(&self) -> &[u8] {
        self.key
    }

    fn labels(&self) -> Result<Labels, &'static str> {
        let mut labels = Labels::from([("__name__".to_owned(), format!("{}{}", self.name, self.suffix))]);
        let bound = self.bound.map(|(name, bound)| (name, format_float(bound)));
        let bound = bound.as_ref().map(|(name, text)| (*name, text.as_str()));
        for (name, value) in self.labels.iter().copied().chain(bound) {
            if labels.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err("a label is there twice");
            }
        }
        Ok(labels)
    }
}

fn pair(mut message: Reader<'_>) -> Result<(&str, &str), Halt> {
    let mut pair = ("", "");
    while let Some(field) = message.next()? {
        match field.number {
            1 => pair.0 = field.text()?,
            2 => pair.1 = field.text()?,
            _ => {}
        }
    }
    Ok(pair)
}

/// A `google.protobuf.Timestamp`, in Unix milliseconds.
fn timestamp(mut message: Reader<'_>) -> Result<i64, Halt> {
    let (mut seconds, mut nanos) = (0, 0);
    while let Some(field) = message.next()? {
        match field.number {
            1 => seconds = field.varint()? as i64,
            2 => nanos = i64::from(field.int32()?),
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
}

fn exemplar(mut message: Reader<'_>) -> Result<Exemplar<'_>, Halt> {
    let mut exemplar = Exemplar::default();
    while let Some(field) = message.next()? {
        match field.number {
            1 => {
                let (name, value) = pair(field.message()?)?;
                exemplar.labels.push((Cow::Borrowed(name), Cow::Borrowed(value)));
            }
            2 => exemplar.value = field.double()?,
            3 => exemplar.time = Some(timestamp(field.message()?)?),
            _ => {}
        }
    }
    Ok(exemplar)
}
