//! A request of remote write in one pass over its bytes: series looked up by the bytes of their labels, samples pushed
//! to columns as they are read.

use std::sync::Arc;

use weir_model::{UnixNanos, limits};
use weir_storage::Labels;
use weir_storage::columns::At;
use weir_storage::rows::{Metadata, MetricRows, Refused, Series};

use super::RemoteWrite;
use super::described::kind;
use super::native::Histogram;
use crate::decode::wire::{Fault, Field, Malformed, Reader};
use crate::decode::{Budget, Reason, Rejected};

/// Which message a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// `prometheus.WriteRequest`, of 1.0.
    First,
    /// `io.prometheus.write.v2.Request`, of 2.0.
    Second,
}

/// What became of a request.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Samples that became rows.
    pub(crate) samples: u64,
    /// Histograms that did.
    pub(crate) histograms: u64,
    /// Exemplars that did.
    pub(crate) exemplars: u64,
    /// Samples and histograms that did not.
    pub(crate) rejected: Rejected,
    /// Whether something is said of metric families.
    pub(crate) described: bool,
    /// Exemplars that did not; as with Prometheus they do not count as a fault.
    pub(crate) dropped_exemplars: Rejected,
}

/// Reads a request to `rows`. `now` decides what lies too far ahead.
pub(crate) fn take(
    version: Version,
    request: &[u8],
    now: UnixNanos,
    state: &RemoteWrite,
    rows: &mut MetricRows<'_>,
) -> Result<Taken, Malformed> {
    let latest = (now + limits::FUTURE_SKEW).as_millis();
    let mut taker = Taker {
        state,
        rows,
        latest,
        now: now.as_millis(),
        budget: Budget::new(),
        histogram: Histogram::default(),
        symbols: Vec::new(),
        refs: Vec::new(),
        key: Vec::new(),
        taken: Taken::default(),
    };
    match version {
        Version::First => taker.first(request)?,
        Version::Second => taker.second(request)?,
    }
    Ok(taker.taken)
}

/// Milliseconds of the years from 1 on, which files can be named after.
const EARLIEST: i64 = -62_135_596_800_000;

struct Taker<'a, 's, 'i> {
    state: &'s RemoteWrite,
    rows: &'s mut MetricRows<'i>,
    /// The last millisecond that is not too far ahead.
    latest: i64,
    now: i64,
    budget: Budget,
    histogram: Histogram,
    symbols: Vec<&'a [u8]>,
    refs: Vec<u64>,
    key: Vec<u8>,
    taken: Taken,
}

/// Which fields of a series hold what; 2.0 numbers them anew.
#[derive(Clone, Copy)]
struct Numbers {
    samples: u32,
    histograms: u32,
    exemplars: u32,
}

const FIRST: Numbers = Numbers { samples: 2, exemplars: 3, histograms: 4 };
const SECOND: Numbers = Numbers { samples: 2, histograms: 3, exemplars: 4 };

impl<'a> Taker<'a, '_, '_> {
    fn first(&mut self, request: &'a [u8]) -> Result<(), Malformed> {
        // Metadata stands behind the series it is about, which are told it when they are new.
        let mut message = Reader::new(request);
        let mut described = false;
        while let Some(field) = message.next()? {
            match field.number {
                1 => {
                    let series = field.message()?;
                    let found = self.first_series(series)?;
                    self.samples_of(found, series, FIRST)?;
                }
                3 => described = true,
                _ => {}
            }
        }
        self.taken.described = described;
        if described {
            let mut message = Reader::new(request);
            while let Some(field) = message.next()? {
                if field.number == 3 {
                    self.metadata(field.message()?)?;
                }
            }
        }
        Ok(())
    }

    fn metadata(&mut self, mut message: Reader<'a>) -> Result<(), Malformed> {
        let (mut family, mut number, mut help, mut unit) = (&b""[..], 0, &b""[..], &b""[..]);
        while let Some(field) = message.next()? {
            match field.number {
                1 => number = field.varint()?,
                2 => family = field.bytes()?,
                4 => help = field.bytes()?,
                5 => unit = field.bytes()?,
                _ => {}
            }
        }
        let texts = (std::str::from_utf8(family), std::str::from_utf8(help), std::str::from_utf8(unit));
        if let (Ok(family), Ok(help), Ok(unit)) = texts
            && !family.is_empty()
            && family.len() + help.len() <= limits::REMOTE_WRITE_SERIES_BYTES
        {
            let metadata = Metadata { kind: kind(number).into(), unit: unit.into(), help: help.into() };
            self.state.described.note(family, metadata);
        }
        Ok(())
    }

    fn first_series(&mut self, series: Reader<'a>) -> Result<Result<Arc<Series>, Reason>, Malformed> {
        // The labels come first, one after the other: their bytes name the series.
        let all = series.bytes();
        let mut rest = series;
        let mut end = 0;
        let mut count = 0;
        while let Some(field) = rest.next()? {
            if field.number != 1 {
                break;
            }
            count += 1;
            end = all.len() - rest.bytes().len();
        }
        let key = &all[..end];
        // Labels that stand elsewhere, too, are seen below: such a series is never remembered.
        if let Some(known) = self.state.first.get(key).filter(|_| !has_more_labels(rest)) {
            return Ok(Ok(known));
        }
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(count);
        let mut message = series;
        let mut fault = None;
        while let Some(field) = message.next()? {
            if field.number == 1 {
                match pair(field.message()?) {
                    Ok(pair) if pairs.len() < limits::SERIES_LABELS => pairs.push(pair),
                    Ok(_) => fault = Some(Reason::Labels),
                    Err(Fault::Record(reason)) => fault = Some(reason),
                    Err(Fault::Malformed(malformed)) => return Err(malformed),
                }
            }
        }
        if let Some(reason) = fault {
            return Ok(Err(reason));
        }
        let metadata = |name: &str| self.state.described.of(name).unwrap_or_default();
        let made = self::series(&pairs, metadata);
        if let Ok(made) = &made
            && !has_more_labels(rest)
        {
            self.state.first.put(key, Arc::clone(made));
        }
        Ok(made)
    }

    fn second(&mut self, request: &'a [u8]) -> Result<(), Malformed> {
        let mut message = Reader::new(request);
        let mut series = 0;
        while let Some(field) = message.next()? {
            match field.number {
                4 => self.symbols.push(field.bytes()?),
                5 => series += 1,
                _ => {}
            }
        }
        if series > 0 && self.symbols.first().is_none_or(|first| !first.is_empty()) {
            return Err(Malformed { at: 0, reason: "the first symbol is not the empty one" });
        }
        let mut message = Reader::new(request);
        while let Some(field) = message.next()? {
            if field.number == 5 {
                let series = field.message()?;
                let found = self.second_series(series)?;
                self.samples_of(found, series, SECOND)?;
            }
        }
        Ok(())
    }

    fn second_series(&mut self, series: Reader<'a>) -> Result<Result<Arc<Series>, Reason>, Malformed> {
        let mut about = (0, 0, 0);
        self.refs.clear();
        let mut message = series;
        while let Some(field) = message.next()? {
            match field.number {
                1 if !field.repeated_varint(&mut self.refs, 2 * limits::SERIES_LABELS)? => {
                    return Ok(Err(Reason::Labels));
                }
                5 => about = read_about(field.message()?)?,
                _ => {}
            }
        }
        let refs = std::mem::take(&mut self.refs);
        let found = self.of_symbols(&refs, about);
        self.refs = refs;
        found
    }

    fn of_symbols(
        &mut self,
        refs: &[u64],
        (number, help, unit): (u64, u64, u64),
    ) -> Result<Result<Arc<Series>, Reason>, Malformed> {
        if !refs.len().is_multiple_of(2) {
            return Ok(Err(Reason::LabelNames));
        }
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        for symbol in refs {
            let text = self.symbol(*symbol)?;
            key.extend_from_slice(&(text.len() as u32).to_le_bytes()); // at most limits::OTLP_REQUEST_BYTES
            key.extend_from_slice(text);
        }
        let (help, unit) = (self.symbol(help)?, self.symbol(unit)?);
        let known = self.state.second.get(&key);
        let is_same = |known: &Arc<Series>| {
            let about = known.metadata();
            let says_nothing = number == 0 && help.is_empty() && unit.is_empty();
            // What is no UTF-8 was taken as far as it is.
            let says =
                |text: &str, bytes: &[u8]| text.as_bytes() == bytes || String::from_utf8_lossy(bytes) == text;
            says_nothing
                || (about.kind.as_ref() == kind(number) && says(&about.help, help) && says(&about.unit, unit))
        };
        let made = match known {
            Some(known) if is_same(&known) => Ok(known),
            known => self.made(refs, number, help, unit)?.inspect(|made| {
                self.state.second.put(&key, Arc::clone(made));
                if known.is_some() {
                    // Its row of today says something else.
                    let now = At::from_millis(self.now);
                    let _ = self.rows.describe(made, now, made.metadata()); // a refusal is met again by its samples
                }
            }),
        };
        self.key = key;
        Ok(made)
    }

    fn made(
        &self,
        refs: &[u64],
        number: u64,
        help: &[u8],
        unit: &[u8],
    ) -> Result<Result<Arc<Series>, Reason>, Malformed> {
        let mut pairs = Vec::with_capacity(refs.len() / 2);
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Reason::InvalidUtf8);
        for pair in refs.chunks_exact(2) {
            match (text(self.symbol(pair[0])?), text(self.symbol(pair[1])?)) {
                (Ok(name), Ok(value)) => pairs.push((name, value)),
                (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
            }
        }
        let says_nothing = number == 0 && help.is_empty() && unit.is_empty();
        let metadata = Metadata {
            kind: if says_nothing { "" } else { kind(number) }.into(),
            unit: String::from_utf8_lossy(unit).into(),
            help: String::from_utf8_lossy(help).into(),
        };
        Ok(series(&pairs, |_| metadata))
    }

    fn symbol(&self, number: u64) -> Result<&'a [u8], Malformed> {
        let symbol = usize::try_from(number).ok().and_then(|number| self.symbols.get(number));
        match symbol {
            Some(symbol) => Ok(symbol),
            // Metadata that is not given refers to the first.
            None if number == 0 => Ok(&[]),
            None => Err(Malformed { at: 0, reason: "a label refers to a symbol that there is not" }),
        }
    }

    /// Takes what is measured in `message`, all of which is rejected where there is no series.
    fn samples_of(
        &mut self,
        series: Result<Arc<Series>, Reason>,
        mut message: Reader<'a>,
        numbers: Numbers,
    ) -> Result<(), Malformed> {
        let mut last = None;
        while let Some(field) = message.next()? {
            let number = field.number;
            if number == numbers.samples {
                let taken = self.sample(&series, &field, &mut last);
                self.note(taken, |taken| &mut taken.samples)?;
            } else if number == numbers.histograms {
                let taken = self.native(&series, &field, &mut last);
                self.note(taken, |taken| &mut taken.histograms)?;
            } else if number == numbers.exemplars {
                match self.exemplar(&series, field.message()?, numbers, last) {
                    Ok(()) => self.taken.exemplars += 1,
                    Err(Fault::Record(reason)) => self.taken.dropped_exemplars.add(reason, 1),
                    Err(Fault::Malformed(malformed)) => return Err(malformed),
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn note(
        &mut self,
        taken: Result<(), Fault>,
        counter: impl Fn(&mut Taken) -> &mut u64,
    ) -> Result<(), Malformed> {
        match taken {
            Ok(()) => *counter(&mut self.taken) += 1,
            Err(Fault::Record(reason)) => self.taken.rejected.add(reason, 1),
            Err(Fault::Malformed(malformed)) => return Err(malformed),
        }
        Ok(())
    }

    #[inline]
    fn sample(
        &mut self,
        series: &Result<Arc<Series>, Reason>,
        field: &Field<'a>,
        last: &mut Option<i64>,
    ) -> Result<(), Fault> {
        let (mut value, mut time, mut start) = (0.0, 0, 0);
        let mut message = field.message()?;
        while let Some(field) = message.next()? {
            match field.number {
                1 => value = field.double()?,
                2 => time = field.varint()? as i64,
                3 => start = field.varint()? as i64,
                _ => {}
            }
        }
        let series = series.as_ref().map_err(|reason| *reason)?;
        self.check(time)?;
        self.budget.take(ROW_BYTES + series.metric().len())?;
        self.rows.sample(series, At::from_millis(time), self.start(start), value).map_err(refused)?;
        *last = Some(time);
        Ok(())
    }

    fn native(
        &mut self,
        series: &Result<Arc<Series>, Reason>,
        field: &Field<'a>,
        last: &mut Option<i64>,
    ) -> Result<(), Fault> {
        let mut histogram = std::mem::take(&mut self.histogram);
        let done = self.read_native(series, field.message()?, &mut histogram);
        *last = done.is_ok().then_some(histogram.time).or(*last);
        self.histogram = histogram;
        done
    }

    fn read_native(
        &mut self,
        series: &Result<Arc<Series>, Reason>,
        message: Reader<'a>,
        histogram: &mut Histogram,
    ) -> Result<(), Fault> {
        histogram.read(message)?;
        let series = series.as_ref().map_err(|reason| *reason)?;
        self.check(histogram.time)?;
        let (time, start) = (At::from_millis(histogram.time), self.start(histogram.start));
        histogram.place()?;
        self.budget.take(2 * ROW_BYTES + series.metric().len() + 8 * histogram.buckets())?;
        self.rows.histogram(series, time, start, &histogram.native()).map_err(refused)?;
        Ok(())
    }

    fn exemplar(
        &mut self,
        series: &Result<Arc<Series>, Reason>,
        mut message: Reader<'a>,
        numbers: Numbers,
        last: Option<i64>,
    ) -> Result<(), Fault> {
        let is_second = numbers.exemplars == SECOND.exemplars;
        let (mut value, mut time) = (0.0, 0);
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let mut refs = Vec::new();
        while let Some(field) = message.next()? {
            match field.number {
                1 if is_second => {
                    let fits = field.repeated_varint(&mut refs, 2 * limits::SERIES_LABELS)?;
                    fits.then_some(()).ok_or(Reason::Labels)?;
                }
                1 if pairs.len() >= limits::SERIES_LABELS => return Err(Reason::Labels.into()),
                1 => pairs.push(pair(field.message()?)?),
                2 => value = field.double()?,
                3 => time = field.varint()? as i64,
                _ => {}
            }
        }
        for pair in refs.chunks(2) {
            let [name, value] = pair else { return Err(Reason::LabelNames.into()) };
            let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Reason::InvalidUtf8);
            pairs.push((text(self.symbol(*name)?)?, text(self.symbol(*value)?)?));
        }
        let series = series.as_ref().map_err(|reason| *reason)?;
        pairs.sort_unstable();
        let is_repeated = pairs.windows(2).any(|pair| pair[0].0 == pair[1].0);
        if is_repeated || pairs.iter().any(|(name, _)| name.is_empty()) {
            return Err(Reason::LabelNames.into());
        }
        // The time may be left out, and is then that of the sample.
        let time = if time == 0 { last.unwrap_or(self.now) } else { time };
        self.check(time)?;
        let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        self.budget.take(ROW_BYTES + series.metric().len() + bytes)?;
        self.rows.exemplar(series, At::from_millis(time), value, pairs.iter().copied()).map_err(refused)?;
        Ok(())
    }

    #[inline]
    fn check(&self, time: i64) -> Result<(), Reason> {
        match time {
            time if time > self.latest => Err(Reason::Future),
            time if time < EARLIEST => Err(Reason::Past),
            _ => Ok(()),
        }
    }

    /// When counting began; 0 is unknown, and what no clock says is not known.
    #[inline]
    fn start(&self, start: i64) -> Option<At> {
        (start != 0 && (EARLIEST..=self.latest).contains(&start)).then(|| At::from_millis(start))
    }
}

/// What a row takes beside its texts.
const ROW_BYTES: usize = 64;

fn refused(refused: Refused) -> Fault {
    Fault::Record(match refused {
        Refused::Collision => Reason::Collision,
        Refused::TooManySeries => Reason::Series,
    })
}

/// Whether labels stand behind what is not one.
fn has_more_labels(mut rest: Reader<'_>) -> bool {
    while let Ok(Some(field)) = rest.next() {
        if field.number == 1 {
            return true;
        }
    }
    false
}

fn pair<'a>(mut message: Reader<'a>) -> Result<(&'a str, &'a str), Fault> {
    let (mut name, mut value) = ("", "");
    while let Some(field) = message.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn read_about(mut message: Reader<'_>) -> Result<(u64, u64, u64), Malformed> {
    let (mut kind, mut help, mut unit) = (0, 0, 0);
    while let Some(field) = message.next()? {
        match field.number {
            1 => kind = field.varint()?,
            3 => help = field.varint()?,
            4 => unit = field.varint()?,
            _ => {}
        }
    }
    Ok((kind, help, unit))
}

/// The series with these labels, in whichever order they come, as Prometheus takes them.
fn series(pairs: &[(&str, &str)], metadata: impl FnOnce(&str) -> Metadata) -> Result<Arc<Series>, Reason> {
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let is_repeated = names.windows(2).any(|pair| pair[0] == pair[1]);
    let labels = Labels::new(pairs.iter().copied());
    if is_repeated || names.first() == Some(&"") || labels.metric().is_empty() {
        return Err(Reason::LabelNames);
    }
    let metadata = metadata(labels.metric());
    Ok(Arc::new(Series::described(labels, metadata)))
}
