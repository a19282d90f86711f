//! Native histograms as Prometheus' protocols carry them: buckets as spans, whole counts as differences.

use weir_model::limits;
use weir_storage::rows::{CUSTOM_BOUNDS, Counts, Native, ResetHint, STALE_BITS, Side};

use crate::decode::Reason;
use crate::decode::wire::{Fault, Field, Malformed, Reader};

/// A histogram as it is read; its lists are used again for the next.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub(super) time: i64,
    pub(super) start: i64,
    count: Number,
    zero: Number,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    positive: Buckets,
    negative: Buckets,
    hint: i32,
    bounds: Vec<f64>,
    raw: Vec<u64>,
}

/// A count, whole or not.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(u64),
    Float(f64),
}

impl Default for Number {
    fn default() -> Self {
        Self::Whole(0)
    }
}

/// The buckets of one sign: as they came, and one after the other without gaps.
#[derive(Debug, Default)]
struct Buckets {
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
    floats: Vec<f64>,
    offset: i32,
    whole_counts: Vec<u64>,
    float_counts: Vec<f64>,
}

/// Schemas that there may be: finer ones than Prometheus' finest are made coarser when they are read.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=52;

impl Histogram {
    /// Reads the next one into the same lists.
    pub(super) fn read(&mut self, mut message: Reader<'_>) -> Result<(), Fault> {
        self.clear();
        while let Some(field) = message.next()? {
            match field.number {
                1 => self.count = Number::Whole(field.varint()?),
                2 => self.count = Number::Float(field.double()?),
                3 => self.sum = field.double()?,
                4 => self.schema = field.sint32()?,
                5 => self.zero_threshold = field.double()?,
                6 => self.zero = Number::Whole(field.varint()?),
                7 => self.zero = Number::Float(field.double()?),
                8 => self.negative.read_span(field.message()?)?,
                9 => self.negative.read_deltas(&field, &mut self.raw)?,
                10 => self.negative.read_floats(&field, &mut self.raw)?,
                11 => self.positive.read_span(field.message()?)?,
                12 => self.positive.read_deltas(&field, &mut self.raw)?,
                13 => self.positive.read_floats(&field, &mut self.raw)?,
                14 => self.hint = field.int32()?,
                15 => self.time = field.varint()? as i64,
                16 => read_doubles(&field, &mut self.raw, &mut self.bounds)?,
                17 => self.start = field.varint()? as i64,
                _ => {}
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        let Self { positive, negative, mut bounds, raw, .. } = std::mem::take(self);
        bounds.clear();
        *self = Self {
            positive: positive.cleared(),
            negative: negative.cleared(),
            bounds,
            raw,
            ..Self::default()
        };
    }

    /// Checks that it is one, and puts its buckets in their places.
    pub(super) fn place(&mut self) -> Result<(), Reason> {
        if self.is_stale() {
            return Ok(());
        }
        self.check()?;
        match self.count {
            Number::Whole(count) => {
                let Number::Whole(zero) = self.zero else { return Err(Reason::Buckets) };
                let in_buckets = self.positive.whole()?.checked_add(self.negative.whole()?);
                let known = in_buckets.and_then(|sum| sum.checked_add(zero)).ok_or(Reason::Buckets)?;
                // What is no number is counted and is in no bucket.
                if known != count && !(self.sum.is_nan() && known < count) {
                    return Err(Reason::Buckets);
                }
            }
            Number::Float(count) => {
                self.positive.float()?;
                self.negative.float()?;
                let is_zero = match self.zero {
                    Number::Float(zero) => zero >= 0.0,
                    Number::Whole(zero) => zero == 0,
                };
                if !(count >= 0.0 && is_zero) {
                    return Err(Reason::Buckets);
                }
            }
        }
        Ok(())
    }

    fn is_stale(&self) -> bool {
        self.sum.to_bits() == STALE_BITS
    }

    /// The histogram, whose buckets are in their places.
    pub(super) fn native(&self) -> Native<'_> {
        if self.is_stale() {
            return Native::stale();
        }
        let whole = |number| if let Number::Whole(count) = number { count } else { 0 };
        let counts = match self.count {
            Number::Whole(count) => Counts::Whole {
                count,
                zero: whole(self.zero),
                positive: self.positive.side(),
                negative: self.negative.side(),
            },
            Number::Float(count) => Counts::Float {
                count,
                zero: if let Number::Float(zero) = self.zero { zero } else { 0.0 },
                positive: self.positive.floats(),
                negative: self.negative.floats(),
            },
        };
        Native {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            counts,
            bounds: &self.bounds,
            hint: ResetHint::from_number(self.hint),
        }
    }

    fn check(&self) -> Result<(), Reason> {
        if self.schema == CUSTOM_BOUNDS {
            let rise = self.bounds.windows(2).all(|pair| pair[0] < pair[1]);
            let finite = self.bounds.iter().all(|bound| bound.is_finite());
            let no_zero = matches!(self.zero, Number::Whole(0)) || matches!(self.zero, Number::Float(0.0));
            let positive_alone = self.negative.spans.is_empty() && no_zero && self.zero_threshold == 0.0;
            let from_zero = self.positive.spans.first().is_none_or(|(offset, _)| *offset >= 0);
            let within = self.positive.end() <= self.bounds.len() as i64 + 1;
            return if rise && finite && positive_alone && from_zero && within {
                Ok(())
            } else {
                Err(Reason::Buckets)
            };
        }
        if !SCHEMAS.contains(&self.schema) {
            return Err(Reason::Schema);
        }
        let is_width = self.zero_threshold >= 0.0; // and a number
        if self.bounds.is_empty() && is_width { Ok(()) } else { Err(Reason::Buckets) }
    }

    /// What its buckets take in a row.
    pub(super) fn buckets(&self) -> usize {
        let of = |side: &Buckets| side.whole_counts.len() + side.float_counts.len();
        of(&self.positive) + of(&self.negative) + self.bounds.len()
    }
}

impl Buckets {
    fn cleared(mut self) -> Self {
        self.spans.clear();
        self.deltas.clear();
        self.floats.clear();
        self.whole_counts.clear();
        self.float_counts.clear();
        self.offset = 0;
        self
    }

    fn read_span(&mut self, mut message: Reader<'_>) -> Result<(), Fault> {
        let mut span = (0, 0);
        while let Some(field) = message.next()? {
            match field.number {
                1 => span.0 = field.sint32()?,
                2 => span.1 = field.uint32()?,
                _ => {}
            }
        }
        if self.spans.len() >= limits::EXPONENTIAL_BUCKETS {
            return Err(Reason::ManyBuckets.into());
        }
        self.spans.push(span);
        Ok(())
    }

    fn read_deltas(&mut self, field: &Field<'_>, raw: &mut Vec<u64>) -> Result<(), Fault> {
        raw.clear();
        let room = limits::EXPONENTIAL_BUCKETS - self.deltas.len().min(limits::EXPONENTIAL_BUCKETS);
        if !field.repeated_varint(raw, room)? {
            return Err(Reason::ManyBuckets.into());
        }
        self.deltas.extend(raw.iter().map(|zigzag| (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)));
        Ok(())
    }

    fn read_floats(&mut self, field: &Field<'_>, raw: &mut Vec<u64>) -> Result<(), Fault> {
        read_doubles(field, raw, &mut self.floats)
    }

    /// Where the last span ends, gaps included.
    fn end(&self) -> i64 {
        self.spans.iter().map(|(offset, length)| i64::from(*offset) + i64::from(*length)).sum()
    }

    /// Places the spans one after the other: gives the index of the first bucket and how many buckets there are from
    /// it on, if `given` of them are in spans.
    fn place(&mut self, given: usize) -> Result<usize, Reason> {
        let in_spans: u64 = self.spans.iter().map(|(_, length)| u64::from(*length)).sum();
        let follow = self.spans.iter().skip(1).all(|(offset, _)| *offset >= 0);
        if in_spans != given as u64 || !follow {
            return Err(Reason::Buckets);
        }
        let Some((first, _)) = self.spans.first() else { return Ok(0) };
        self.offset = *first;
        let len = self.end() - i64::from(*first);
        // The last index, too, is one.
        let fits = i32::try_from(i64::from(*first) + len).is_ok();
        match usize::try_from(len) {
            Ok(len) if len <= limits::EXPONENTIAL_BUCKETS && fits => Ok(len),
            _ => Err(Reason::ManyBuckets),
        }
    }

    /// Makes counts of differences; gives their sum.
    fn whole(&mut self) -> Result<u64, Reason> {
        if !self.floats.is_empty() {
            return Err(Reason::Buckets);
        }
        let len = self.place(self.deltas.len())?;
        self.whole_counts.reserve(len);
        let mut deltas = self.deltas.iter();
        let (mut count, mut sum) = (0_i64, 0_u64);
        for (at, (gap, length)) in self.spans.iter().enumerate() {
            let gap = if at == 0 { 0 } else { *gap as usize }; // not below 0: see `place`
            self.whole_counts.resize(self.whole_counts.len() + gap, 0);
            for delta in deltas.by_ref().take(*length as usize) {
                count = count.checked_add(*delta).ok_or(Reason::Buckets)?;
                let counted = u64::try_from(count).map_err(|_| Reason::Buckets)?;
                sum = sum.checked_add(counted).ok_or(Reason::Buckets)?;
                self.whole_counts.push(counted);
            }
        }
        Ok(sum)
    }

    /// Puts counts in fractions in their places.
    fn float(&mut self) -> Result<(), Reason> {
        if !self.deltas.is_empty() {
            return Err(Reason::Buckets);
        }
        let len = self.place(self.floats.len())?;
        self.float_counts.reserve(len);
        let mut floats = self.floats.iter();
        for (at, (gap, length)) in self.spans.iter().enumerate() {
            let gap = if at == 0 { 0 } else { *gap as usize };
            self.float_counts.resize(self.float_counts.len() + gap, 0.0);
            self.float_counts.extend(floats.by_ref().take(*length as usize));
        }
        if self.floats.iter().all(|count| *count >= 0.0) { Ok(()) } else { Err(Reason::Buckets) }
    }

    fn side(&self) -> Side<'_, u64> {
        Side { offset: self.offset, counts: &self.whole_counts }
    }

    fn floats(&self) -> Side<'_, f64> {
        Side { offset: self.offset, counts: &self.float_counts }
    }
}

fn read_doubles(field: &Field<'_>, raw: &mut Vec<u64>, out: &mut Vec<f64>) -> Result<(), Fault> {
    raw.clear();
    let read: Result<(), Malformed> = field.repeated_fixed64(raw);
    read?;
    if out.len() + raw.len() > limits::EXPONENTIAL_BUCKETS {
        return Err(Reason::ManyBuckets.into());
    }
    out.extend(raw.iter().map(|bits| f64::from_bits(*bits)));
    Ok(())
}
