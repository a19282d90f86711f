//! What exporters say, in every format that Prometheus takes: its text format, OpenMetrics, and protobuf
//! (prometheus.io, "Exposition formats"; OpenMetrics 1.0).
//!
//! One pass over the bytes hands each point to a [`Sink`] as it is read. Labels are only put together where the
//! sink asks for them: a sink that has seen a series before knows it by its [`Series::key`], and then a point costs
//! no allocation.

mod created;
mod custom;
mod number;
mod protobuf;
mod text;

use std::borrow::Cow;

use weir_model::prometheus::{Labels, Protocol};

pub(crate) use protobuf::Native;

/// Takes what an exposition holds, in its order.
pub(crate) trait Sink {
    /// The type, unit or help of the metrics that begin with `family`.
    fn describe(&mut self, family: &str, told: Told<'_>);

    /// A point. The exposition is not read on after [`Stop`].
    fn point(&mut self, series: &dyn Series, point: Point<'_>) -> Result<(), Stop>;
}

/// The sink wants no more and knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop;

/// What an exposition tells of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told<'a> {
    Kind(Kind),
    Unit(&'a str),
    Help(&'a str),
}

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl Kind {
    const NAMES: [(&str, Self); 9] = [
        ("unknown", Self::Unknown),
        ("untyped", Self::Unknown),
        ("counter", Self::Counter),
        ("gauge", Self::Gauge),
        ("histogram", Self::Histogram),
        ("gaugehistogram", Self::GaugeHistogram),
        ("summary", Self::Summary),
        ("info", Self::Info),
        ("stateset", Self::StateSet),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// As Prometheus calls it.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("unknown", |(name, _)| name)
    }
}

/// A series as it was written.
pub(crate) trait Series {
    /// What it was written as: the same bytes are the same series.
    fn key(&self) -> &[u8];

    /// Its labels, `__name__` among them; an error where they are no label set.
    fn labels(&self) -> Result<Labels, &'static str>;
}

/// A point of a series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<'a> {
    pub(crate) value: Value<'a>,
    /// Unix milliseconds, where the exposition says them.
    pub(crate) time: Option<i64>,
    /// When counting began, in Unix milliseconds.
    pub(crate) start: Option<i64>,
    pub(crate) exemplars: &'a [Exemplar<'a>],
}

/// The value of a point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Float(f64),
    Native(&'a Native),
}

/// A measurement behind a point.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Exemplar<'a> {
    pub(crate) labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(crate) value: f64,
    /// Unix milliseconds.
    pub(crate) time: Option<i64>,
}

/// Why an exposition cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    /// Of a text.
    #[error("line {line}: {problem}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Of protobuf.
    #[error("message {message}: {problem}")]
    Message {
        /// Of the families, from 1.
        message: usize,
        /// What is wrong there.
        problem: String,
    },
}

/// How to read what can be read in several ways.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Whether native histograms are taken.
    pub(crate) native: bool,
    /// Whether classic histograms are taken beside native ones.
    pub(crate) classic_too: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub(crate) custom: bool,
}

/// Reads `body` to its end, or to where the sink stops.
pub(crate) fn parse(
    protocol: Protocol,
    body: &[u8],
    options: Options,
    sink: &mut dyn Sink,
) -> Result<(), ParseError> {
    if options.custom {
        let mut custom = custom::Custom::new(sink, options.classic_too);
        parse(protocol, body, Options { custom: false, ..options }, &mut custom)?;
        // A sink that has enough knows why.
        let _ = custom.finish();
        return Ok(());
    }
    match protocol {
        Protocol::Protobuf => protobuf::parse(body, options, sink),
        Protocol::Text004 | Protocol::Text100 => text::parse(utf8(body)?, text::Dialect::Prometheus, sink),
        Protocol::OpenMetrics001 | Protocol::OpenMetrics100 => {
            text::parse(utf8(body)?, text::Dialect::OpenMetrics, sink)
        }
    }
}

fn utf8(body: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(body).map_err(|error| ParseError::Line {
        line: 1 + body[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count(),
        problem: "not valid UTF-8".to_owned(),
    })
}

/// The format that a `Content-Type` header names.
pub(crate) fn protocol_of(content_type: &str) -> Option<Protocol> {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next()?.to_ascii_lowercase();
    let parameter = |name: &str| {
        content_type.split(';').skip(1).find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        })
    };
    match essence.as_str() {
        "application/openmetrics-text" => Some(match parameter("version") {
            Some("0.0.1") => Protocol::OpenMetrics001,
            _ => Protocol::OpenMetrics100,
        }),
        "text/plain" => Some(match parameter("version") {
            Some("1.0.0") => Protocol::Text100,
            _ => Protocol::Text004,
        }),
        "application/vnd.google.protobuf" => {
            let family = parameter("proto").is_none_or(|proto| proto == "io.prometheus.client.MetricFamily");
            let delimited = parameter("encoding").is_none_or(|encoding| encoding == "delimited");
            (family && delimited).then_some(Protocol::Protobuf)
        }
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
