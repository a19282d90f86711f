//! A message `Histogram`, which is a classic one, a native one, or both.

use weir_model::limits;

use super::native::Native;
use super::{Exemplar, Halt, exemplar, timestamp};
use crate::decode::wire::{Field, Reader};

/// As the message has it.
#[derive(Debug, Default)]
pub(super) struct Histogram<'f> {
    count: u64,
    float_count: f64,
    pub(super) sum: f64,
    pub(super) buckets: Vec<Bucket<'f>>,
    pub(super) start: Option<i64>,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    float_zero_count: f64,
    negative: Side,
    positive: Side,
    exemplars: Vec<Exemplar<'f>>,
}

/// One classic bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket<'f> {
    pub(super) bound: f64,
    /// Of all observations up to the bound.
    pub(super) count: f64,
    pub(super) exemplar: Option<Exemplar<'f>>,
}

/// The buckets of one side of zero.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// Gap to the one before, and length.
    spans: Vec<(i32, u32)>,
    /// Differences of counts, in zigzag encoding.
    deltas: Vec<u64>,
    /// Bits of counts.
    counts: Vec<u64>,
}

impl<'f> Histogram<'f> {
    pub(super) fn read(mut message: Reader<'f>) -> Result<Self, Halt> {
        let mut histogram = Self::default();
        while let Some(field) = message.next()? {
            match field.number {
                1 => histogram.count = field.varint()?,
                2 => histogram.sum = field.double()?,
                3 => {
                    if histogram.buckets.len() >= limits::HISTOGRAM_BUCKETS {
                        let most = limits::HISTOGRAM_BUCKETS;
                        return Err(Halt::Problem(format!("a histogram of more than {most} buckets")));
                    }
                    histogram.buckets.push(Bucket::read(field.message()?)?);
                }
                4 => histogram.float_count = field.double()?,
                5 => histogram.schema = field.sint32()?,
                6 => histogram.zero_threshold = field.double()?,
                7 => histogram.zero_count = field.varint()?,
                8 => histogram.float_zero_count = field.double()?,
                9..=11 => histogram.negative.read(field.number - 9, &field)?,
                12..=14 => histogram.positive.read(field.number - 12, &field)?,
                15 => histogram.start = Some(timestamp(field.message()?)?),
                16 => histogram.exemplars.push(exemplar(field.message()?)?),
                _ => {}
            }
        }
        Ok(histogram)
    }

    /// How many observations.
    pub(super) fn count(&self) -> f64 {
        if self.float_count > 0.0 { self.float_count } else { self.count as f64 }
    }

    /// Whether it is one at all: an exporter says so by a zero threshold, or by a span of no buckets.
    pub(super) fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
            || self.float_zero_count > 0.0
    }

    /// The native histogram.
    pub(super) fn native(&self, gauge: bool) -> Result<Native, Halt> {
        let problem = |text: String| Halt::Problem(text);
        // Finer ones than 8 could be merged; no client makes them.
        if !(-4..=8).contains(&self.schema) {
            return Err(problem(format!("a native histogram of schema {}", self.schema)));
        }
        let is_float = self.float_count > 0.0 || self.float_zero_count > 0.0;
        let side = |side: &Side| side.dense(is_float);
        Ok(Native {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            gauge,
            is_float,
            count: if is_float { self.float_count } else { self.count as f64 },
            whole_count: self.count,
            zero: if is_float { self.float_zero_count } else { self.zero_count as f64 },
            whole_zero: self.zero_count,
            positive: side(&self.positive)?,
            negative: side(&self.negative)?,
            bounds: Vec::new(),
        })
    }

    /// Its exemplars; those of classic buckets where it has none of its own. They need a time.
    pub(super) fn native_exemplars(&self) -> Vec<Exemplar<'f>> {
        let own = self.exemplars.iter().filter(|exemplar| exemplar.time.is_some());
        if !self.exemplars.is_empty() {
            return own.cloned().collect();
        }
        let of_buckets = self.buckets.iter().filter_map(|bucket| bucket.exemplar.clone());
        of_buckets.filter(|exemplar| exemplar.time.is_some()).collect()
    }
}

impl<'f> Bucket<'f> {
    fn read(mut message: Reader<'f>) -> Result<Self, Halt> {
        let mut bucket = Self::default();
        let mut float = 0.0;
        while let Some(field) = message.next()? {
            match field.number {
                1 => bucket.count = field.varint()? as f64,
                2 => bucket.bound = field.double()?,
                3 => bucket.exemplar = Some(exemplar(field.message()?)?),
                4 => float = field.double()?,
                _ => {}
            }
        }
        if float > 0.0 {
            bucket.count = float;
        }
        Ok(bucket)
    }
}

impl Side {
    fn read(&mut self, part: u32, field: &Field<'_>) -> Result<(), Halt> {
        let too_many =
            || Halt::Problem(format!("a histogram of more than {} buckets", limits::EXPONENTIAL_BUCKETS));
        match part {
            0 => {
                let mut span = (0, 0);
                let mut fields = field.message()?;
                while let Some(field) = fields.next()? {
                    match field.number {
                        1 => span.0 = field.sint32()?,
                        2 => span.1 = field.uint32()?,
                        _ => {}
                    }
                }
                if self.spans.len() >= limits::EXPONENTIAL_BUCKETS {
                    return Err(too_many());
                }
                self.spans.push(span);
            }
            1 => {
                if !field.repeated_varint(&mut self.deltas, limits::EXPONENTIAL_BUCKETS)? {
                    return Err(too_many());
                }
            }
            _ => {
                field.repeated_fixed64(&mut self.counts)?;
                if self.counts.len() > limits::EXPONENTIAL_BUCKETS {
                    return Err(too_many());
                }
            }
        }
        Ok(())
    }

    /// Where the first bucket is, and all counts from there to the last.
    fn dense(&self, is_float: bool) -> Result<super::native::Buckets, Halt> {
        let bad = |text: &str| Halt::Problem(format!("a native histogram whose {text}"));
        let mut counts: Vec<f64> = Vec::new();
        let mut whole: Vec<u64> = Vec::new();
        let mut values = {
            let mut sum = 0_i64;
            let deltas = self.deltas.iter().map(move |zigzag| {
                sum = sum.wrapping_add((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
                sum
            });
            let floats = self.counts.iter().map(|bits| f64::from_bits(*bits));
            if is_float {
                Values::Floats(floats.collect::<Vec<_>>().into_iter())
            } else {
                Values::Whole(deltas.collect::<Vec<_>>().into_iter())
            }
        };
        let mut first = None;
        for (index, (gap, length)) in self.spans.iter().enumerate() {
            if index == 0 {
                first = Some(*gap);
            } else {
                let gap = usize::try_from(*gap).map_err(|_| bad("spans overlap"))?;
                let longer = counts.len() + whole.len() + gap;
                if longer > limits::EXPONENTIAL_BUCKETS {
                    return Err(bad("buckets are too far apart"));
                }
                if is_float { counts.resize(longer, 0.0) } else { whole.resize(longer, 0) }
            }
            for _ in 0..*length {
                match &mut values {
                    Values::Floats(floats) => {
                        let count =
                            floats.next().ok_or_else(|| bad("spans have more buckets than there are"))?;
                        if count.is_nan() || count < 0.0 {
                            return Err(bad("count of a bucket is negative or no number"));
                        }
                        counts.push(count);
                    }
                    Values::Whole(deltas) => {
                        let count =
                            deltas.next().ok_or_else(|| bad("spans have more buckets than there are"))?;
                        whole.push(u64::try_from(count).map_err(|_| bad("count of a bucket is negative"))?);
                    }
                }
            }
        }
        if values.has_more() {
            return Err(bad("spans have fewer buckets than there are"));
        }
        Ok(super::native::Buckets { first: first.unwrap_or_default(), counts, whole })
    }
}

enum Values {
    Floats(std::vec::IntoIter<f64>),
    Whole(std::vec::IntoIter<i64>),
}

impl Values {
    fn has_more(&self) -> bool {
        match self {
            Self::Floats(floats) => floats.len() > 0,
            Self::Whole(whole) => whole.len() > 0,
        }
    }
}
