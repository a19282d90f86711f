//! Functions over the samples of one series in one range.

pub(super) mod extended;
mod over_time;
mod rate;

use std::sync::Arc;

use super::operators;
use crate::promql::ast::{Extent, Span};
use crate::promql::error::{Annotations, Error};
use crate::promql::histogram::Histogram;
use crate::promql::value::Sample;

/// The part of a track that lies in a window.
#[derive(Debug)]
pub(super) struct Slice<'a, T> {
    pub(super) times: &'a [i64],
    pub(super) values: &'a [T],
    /// Start timestamps; empty where unknown.
    pub(super) starts: &'a [i64],
}

impl<T> Slice<'_, T> {
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The start timestamp of sample `at`; 0 where unknown.
    pub(super) fn start(&self, at: usize) -> i64 {
        self.starts.get(at).copied().unwrap_or(0)
    }
}

/// The samples of a range at one step; with `anchored` and `smoothed` some around it, too.
#[derive(Debug)]
pub(super) struct Window<'a> {
    /// Exclusive start of the range.
    pub(super) start: i64,
    /// Inclusive end.
    pub(super) end: i64,
    /// Length.
    pub(super) range: i64,
    pub(super) extent: Extent,
    pub(super) floats: Slice<'a, f64>,
    pub(super) histograms: Slice<'a, Arc<Histogram>>,
}

impl Window<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }
}

/// What a function may use besides the samples.
pub(super) struct Context<'a> {
    pub(super) annotations: Annotations,
    /// The place of the range.
    pub(super) span: Span,
    /// The place of the first parameter.
    pub(super) parameter_span: Span,
    pub(super) metric: &'a str,
    /// The scalar arguments at this step.
    pub(super) parameters: Vec<f64>,
    /// The step.
    pub(super) time: i64,
    /// Whether start timestamps count.
    pub(super) starts: bool,
    /// Whether no float of the series is below the one before: a counter that was never reset.
    pub(super) rising: bool,
    /// Ends the query.
    pub(super) failure: Option<Error>,
}

impl Context<'_> {
    /// `message` with the metric's name, as warnings end.
    fn named(&self, message: &str) -> String {
        if self.metric.is_empty() {
            message.to_owned()
        } else {
            format!("{message} for metric name {:?}", self.metric)
        }
    }

    fn warn(&mut self, message: &str) {
        let message = self.named(message);
        self.annotations.warn(self.span, message);
    }

    fn info(&mut self, message: &str) {
        let message = self.named(message);
        self.annotations.info(self.span, message);
    }

    pub(super) fn mixed(&mut self) {
        self.warn("encountered a mix of histograms and floats");
    }

    fn incompatible(&mut self) {
        self.warn("vector contains a mix of histograms with exponential and custom buckets schemas");
    }

    /// Warns that a histogram is no counter (or gauge).
    fn not_a(&mut self, what: &str) {
        let message = format!("this native histogram metric is not a {what}: {:?}", self.metric);
        self.annotations.warn(self.span, message);
    }

    /// Says so where custom bounds differed and were `reconciled`.
    fn reconciled(&mut self, reconciled: bool, operation: &str) {
        if reconciled {
            let message = format!("mismatched custom buckets were reconciled during {operation}");
            self.annotations.info(self.span, message);
        }
    }

    /// Floats are used, histograms are not.
    fn ignored_histograms(&mut self, window: &Window<'_>) {
        if !window.histograms.is_empty() && !window.floats.is_empty() {
            self.info("ignored histograms in a range containing both floats and histograms");
        }
    }

    /// Warns where `q` is no probability.
    fn quantile_range(&mut self, q: f64) {
        operators::quantile_range(&mut self.annotations, self.parameter_span, q);
    }
}

pub(super) type WindowFunction = fn(&Window<'_>, &mut Context<'_>) -> Sample;

/// The function over a range called `name`; `absent_over_time` is none, as it looks at all series at once.
pub(super) fn find(name: &str) -> Option<WindowFunction> {
    Some(match name {
        "avg_over_time" => over_time::avg,
        "changes" => over_time::changes,
        "count_over_time" => over_time::count,
        "delta" => rate::delta,
        "deriv" => over_time::deriv,
        "double_exponential_smoothing" => over_time::smoothing,
        "first_over_time" => over_time::first,
        "idelta" => rate::idelta,
        "increase" => rate::increase,
        "irate" => rate::irate,
        "last_over_time" => over_time::last,
        "mad_over_time" => over_time::mad,
        "max_over_time" => over_time::max,
        "min_over_time" => over_time::min,
        "predict_linear" => over_time::predict_linear,
        "present_over_time" => over_time::present,
        "quantile_over_time" => over_time::quantile,
        "rate" => rate::rate,
        "resets" => rate::resets,
        "stddev_over_time" => over_time::stddev,
        "stdvar_over_time" => over_time::stdvar,
        "sum_over_time" => over_time::sum,
        "ts_of_first_over_time" => over_time::ts_of_first,
        "ts_of_last_over_time" => over_time::ts_of_last,
        "ts_of_max_over_time" => over_time::ts_of_max,
        "ts_of_min_over_time" => over_time::ts_of_min,
        _ => return None,
    })
}

/// Whether the result is a sample of the series itself.
pub(super) fn keeps_name(name: &str) -> bool {
    matches!(name, "last_over_time" | "first_over_time")
}
