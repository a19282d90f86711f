//! Data points as they come from the wire.

use weir_model::limits;
use weir_storage::rows;

use super::super::Reason;
use super::super::attributes::Attributes;
use super::super::wire::{Fault, Field, Malformed, Reader};
use super::exemplars::Exemplars;
use super::stale;

/// What every kind of point has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PointKey {
    pub(super) start: u64,
    pub(super) time: u64,
    /// OTLP's `DataPointFlags`.
    flags: u32,
}

/// The flag by which a series says that it has ended.
const NO_RECORDED_VALUE: u32 = 1;

/// What of a point no column holds: the name of its OTLP field, and its value as text.
pub(super) type Rest = (&'static str, String);

impl PointKey {
    pub(super) fn at(time: u64) -> Self {
        Self { time, ..Self::default() }
    }

    /// Whether there is no value, because the series has ended.
    pub(super) fn no_value(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }

    /// The flags, where a stale marker does not say them.
    pub(super) fn rest(&self) -> Option<Rest> {
        (self.flags & !NO_RECORDED_VALUE != 0).then(|| ("flags", self.flags.to_string()))
    }

    /// Reads a field that all points have under the same number.
    fn read(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        match field.number {
            2 => self.start = field.fixed64()?,
            3 => self.time = field.fixed64()?,
            _ => {}
        }
        Ok(())
    }

    fn read_flags(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        self.flags = field.uint32()?;
        Ok(())
    }
}

/// A point of a gauge or a sum.
#[derive(Debug, Default)]
pub(super) struct Number {
    pub(super) key: PointKey,
    value: Option<f64>,
    /// The value, where it came as a whole number.
    long: Option<i64>,
}

impl Number {
    pub(super) fn read<'a>(
        mut message: Reader<'a>,
        attributes: &mut Attributes<'a>,
        exemplars: &mut Exemplars<'a>,
    ) -> Result<Self, Fault> {
        let mut point = Self::default();
        while let Some(field) = message.next()? {
            match field.number {
                4 => (point.value, point.long) = (Some(field.double()?), None),
                5 => exemplars.note(&field)?,
                6 => {
                    let long = field.fixed64()? as i64;
                    (point.value, point.long) = (Some(long as f64), Some(long));
                }
                7 => attributes.read(field.message()?)?,
                8 => point.key.read_flags(&field)?,
                _ => point.key.read(&field)?,
            }
        }
        Ok(point)
    }

    /// The value; a stale marker where the sender says that there is none.
    pub(super) fn value(&self) -> Result<f64, Reason> {
        if self.key.no_value() { Ok(stale()) } else { self.value.ok_or(Reason::NoValue) }
    }

    /// Whether the value came as a whole number.
    pub(super) fn is_whole(&self) -> bool {
        self.long.is_some()
    }

    /// What the value does not say: digits that a double has no room for, unless it is a `delta`.
    pub(super) fn rest(&self, delta: bool) -> Vec<Rest> {
        let exact = |long: &i64| (*long as f64) as i128 == i128::from(*long);
        let long = self.long.filter(|long| !delta && !self.key.no_value() && !exact(long));
        self.key.rest().into_iter().chain(long.map(|long| ("as_int", long.to_string()))).collect()
    }
}

/// A point of an explicit-bucket histogram.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    pub(super) key: PointKey,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) bounds: Vec<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Buckets {
    pub(super) fn read<'a>(
        mut message: Reader<'a>,
        attributes: &mut Attributes<'a>,
        exemplars: &mut Exemplars<'a>,
    ) -> Result<Self, Fault> {
        let mut point = Self::default();
        let mut bounds = vec![];
        while let Some(field) = message.next()? {
            match field.number {
                4 => point.count = field.fixed64()?,
                5 => point.sum = Some(field.double()?),
                6 => field.repeated_fixed64(&mut point.counts)?,
                7 => field.repeated_fixed64(&mut bounds)?,
                8 => exemplars.note(&field)?,
                9 => attributes.read(field.message()?)?,
                10 => point.key.read_flags(&field)?,
                11 => point.min = Some(field.double()?),
                12 => point.max = Some(field.double()?),
                _ => point.key.read(&field)?,
            }
        }
        point.bounds = bounds.into_iter().map(f64::from_bits).collect();
        Ok(point)
    }

    /// Checks that there is a count for each bucket, or for none, and that the bounds rise.
    pub(super) fn check(&self) -> Result<(), Reason> {
        if self.bounds.len() > limits::HISTOGRAM_BUCKETS {
            return Err(Reason::ManyBuckets);
        }
        let fits = match self.counts.len() {
            0 => self.bounds.is_empty() || self.key.no_value(),
            counts => counts == self.bounds.len() + 1,
        };
        let rises = self.bounds.windows(2).all(|pair| pair[0] < pair[1]);
        let numbers = self.bounds.iter().all(|bound| !bound.is_nan());
        if fits && rises && numbers { Ok(()) } else { Err(Reason::Buckets) }
    }

    /// What its series do not say.
    pub(super) fn rest(&self) -> Vec<Rest> {
        let extremes = [("min", self.min), ("max", self.max)];
        let extremes = extremes.into_iter().filter_map(|(name, value)| Some((name, number(value?))));
        self.key.rest().into_iter().chain(extremes).collect()
    }
}

/// A point of a summary.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) key: PointKey,
    pub(super) count: u64,
    pub(super) sum: f64,
    /// Quantile and value.
    pub(super) quantiles: Vec<(f64, f64)>,
}

impl Summary {
    /// What its series do not say.
    pub(super) fn rest(&self) -> Vec<Rest> {
        self.key.rest().into_iter().collect()
    }

    pub(super) fn read<'a>(mut message: Reader<'a>, attributes: &mut Attributes<'a>) -> Result<Self, Fault> {
        let mut point = Self::default();
        while let Some(field) = message.next()? {
            match field.number {
                4 => point.count = field.fixed64()?,
                5 => point.sum = field.double()?,
                6 if point.quantiles.len() >= limits::HISTOGRAM_BUCKETS => {
                    return Err(Reason::ManyBuckets.into());
                }
                6 => point.quantiles.push(read_quantile(field.message()?)?),
                7 => attributes.read(field.message()?)?,
                8 => point.key.read_flags(&field)?,
                _ => point.key.read(&field)?,
            }
        }
        Ok(point)
    }
}

fn read_quantile(mut message: Reader<'_>) -> Result<(f64, f64), Malformed> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while let Some(field) = message.next()? {
        match field.number {
            1 => quantile = field.double()?,
            2 => value = field.double()?,
            _ => {}
        }
    }
    Ok((quantile, value))
}

/// The scales that OpenTelemetry's SDKs choose from.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;

/// A point of an exponential histogram.
#[derive(Debug, Default)]
pub(super) struct Exponential {
    pub(super) key: PointKey,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: Side,
    pub(super) negative: Side,
}

/// The buckets of one sign: the index of the first, and the counts from there on.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

impl Exponential {
    pub(super) fn read<'a>(
        mut message: Reader<'a>,
        attributes: &mut Attributes<'a>,
        exemplars: &mut Exemplars<'a>,
    ) -> Result<Self, Fault> {
        let mut point = Self::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => attributes.read(field.message()?)?,
                4 => point.count = field.fixed64()?,
                5 => point.sum = Some(field.double()?),
                6 => point.scale = field.sint32()?,
                7 => point.zero_count = field.fixed64()?,
                8 => point.positive.read(field.message()?)?,
                9 => point.negative.read(field.message()?)?,
                10 => point.key.read_flags(&field)?,
                11 => exemplars.note(&field)?,
                12 => point.min = Some(field.double()?),
                13 => point.max = Some(field.double()?),
                14 => point.zero_threshold = field.double()?,
                _ => point.key.read(&field)?,
            }
        }
        Ok(point)
    }

    /// Checks that the scale is one that SDKs have: readers shift by it, and one of Prometheus' numbers
    /// beyond means custom bounds.
    pub(super) fn check(&self) -> Result<(), Reason> {
        if SCALES.contains(&self.scale) { Ok(()) } else { Err(Reason::Scale) }
    }

    /// What no column says.
    pub(super) fn rest(&self) -> Vec<Rest> {
        self.key.rest().into_iter().collect()
    }

    /// How many buckets it has.
    pub(super) fn buckets(&self) -> usize {
        self.positive.counts.len() + self.negative.counts.len()
    }
}

impl Side {
    /// As rows take it.
    pub(super) fn buckets(&self) -> rows::Side<'_, u64> {
        rows::Side { offset: self.offset, counts: &self.counts }
    }

    fn read(&mut self, mut message: Reader<'_>) -> Result<(), Fault> {
        while let Some(field) = message.next()? {
            match field.number {
                1 => self.offset = field.sint32()?,
                2 => {
                    let fits = field.repeated_varint(&mut self.counts, limits::EXPONENTIAL_BUCKETS)?;
                    fits.then_some(()).ok_or(Reason::ManyBuckets)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A double as text that reads back as the same number.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => format!("{value:?}"),
    }
}

/// How many data points a `ResourceMetrics` holds.
pub(super) fn count_in_resource(mut resource: Reader<'_>) -> Result<u64, Malformed> {
    let mut count = 0;
    while let Some(field) = resource.next()? {
        if field.number == 2 {
            count += count_in_scope(field.message()?)?;
        }
    }
    Ok(count)
}

/// How many data points a `ScopeMetrics` holds.
pub(super) fn count_in_scope(mut scope: Reader<'_>) -> Result<u64, Malformed> {
    let mut count = 0;
    while let Some(field) = scope.next()? {
        if field.number == 2 {
            count += count_in_metric(field.message()?)?;
        }
    }
    Ok(count)
}

/// How many data points a `Metric` holds.
pub(super) fn count_in_metric(mut metric: Reader<'_>) -> Result<u64, Malformed> {
    let mut count = 0;
    while let Some(field) = metric.next()? {
        if matches!(field.number, 5 | 7 | 9 | 10 | 11) {
            count += count_in_data(field.message()?)?;
        }
    }
    Ok(count)
}

/// How many data points a `Gauge`, `Sum`, `Histogram`, `ExponentialHistogram` or `Summary` holds.
pub(super) fn count_in_data(mut data: Reader<'_>) -> Result<u64, Malformed> {
    let mut count = 0;
    while let Some(field) = data.next()? {
        count += u64::from(field.number == 1);
    }
    Ok(count)
}
