//! Parameters of a request: the query string, and the form in the body of a POST.

use std::num::IntErrorKind;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use chrono::DateTime;
use http::header::CONTENT_TYPE;
use weir_storage::{Days, LabelMatcher};

use super::error::ApiError;
use crate::promql::{duration, parser};

/// Largest magnitude of a time or a duration in milliseconds: sums of some cannot overflow.
const FARTHEST_MS: f64 = 1e15;

/// Names and values, those of the body first, as sent.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let form = kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let query = request.uri().query().unwrap_or_default().to_owned();
        let mut pairs = Vec::new();
        if form {
            let body = Bytes::from_request(request, state).await.map_err(|rejection| {
                ApiError::bad_data(format!("error parsing form values: {}", rejection.body_text()))
            })?;
            pairs.extend(url::form_urlencoded::parse(&body).into_owned());
        }
        pairs.extend(url::form_urlencoded::parse(query.as_bytes()).into_owned());
        Ok(Self(pairs))
    }
}

impl Params {
    /// The value of `name`; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// Every value of `name`.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The moment `name` in Unix milliseconds.
    pub(super) fn time(&self, name: &str) -> Result<i64, ApiError> {
        let text = self.get(name).unwrap_or_default();
        time_ms(text).ok_or_else(|| {
            ApiError::parameter(name, format_args!("cannot parse {text:?} to a valid timestamp"))
        })
    }

    /// The moment `name`, or `default` where there is none.
    pub(super) fn time_or(&self, name: &str, default: i64) -> Result<i64, ApiError> {
        self.optional_time(name).map(|time| time.unwrap_or(default))
    }

    /// The moment `name`, where there is one.
    pub(super) fn optional_time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        time_ms(text).map(Some).ok_or_else(|| {
            let message =
                format!("invalid time value for '{name}': cannot parse {text:?} to a valid timestamp");
            ApiError::parameter(name, message)
        })
    }

    /// The days from `start` to `end` of a question about labels.
    pub(super) fn days(&self) -> Result<Days, ApiError> {
        let (start, end) = (self.optional_time("start")?, self.optional_time("end")?);
        Ok(Days::between(start, end))
    }
    /// The length `name` in milliseconds.
    pub(super) fn duration_ms(&self, name: &str) -> Result<f64, ApiError> {
        let text = self.get(name).unwrap_or_default();
        duration_ms(text).ok_or_else(|| ApiError::parameter(name, not_a_duration(text)))
    }

    /// How long the query may take.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        if self.get("timeout").is_none() {
            return Ok(None);
        }
        // A timeout that is negative has passed already.
        let ms = self.duration_ms("timeout")?.max(0.0);
        Ok(Some(Duration::from_secs_f64(ms / 1000.0)))
    }

    /// How long a sample stands for its series, where that is asked for.
    pub(super) fn lookback_ms(&self) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get("lookback_delta") else { return Ok(None) };
        let lookback = duration_ms(text).map(|ms| ms as i64).ok_or_else(|| {
            let reason = not_a_duration(text);
            ApiError::bad_data(format!("error parsing lookback delta duration: {reason}"))
        })?;
        // As in Prometheus, one that is not positive means the default.
        Ok(Some(lookback).filter(|ms| *ms > 0))
    }

    /// How many results are wanted; 0 for all.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        match text.parse::<i64>() {
            Ok(limit) => {
                usize::try_from(limit).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
            }
            Err(error) => {
                let reason = match error.kind() {
                    IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                Err(ApiError::parameter("limit", format_args!("strconv.Atoi: parsing {text:?}: {reason}")))
            }
        }
    }

    /// The selectors in `match[]`, each as its conditions; none of them may select everything.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<LabelMatcher>>, ApiError> {
        let mut selectors = Vec::new();
        for text in self.all("match[]") {
            selectors.push(parser::parse_selector(text).map_err(|error| ApiError::bad_data(error.message))?);
        }
        let empty = |matchers: &Vec<LabelMatcher>| matchers.iter().all(|matcher| matcher.matches(""));
        if selectors.iter().any(empty) {
            return Err(ApiError::bad_data("match[] must contain at least one non-empty matcher"));
        }
        Ok(selectors)
    }
}

fn not_a_duration(text: &str) -> String {
    let overflows = text.parse::<f64>().is_ok_and(|seconds| seconds.abs() > FARTHEST_MS / 1000.0);
    let reason = if overflows { ". It overflows int64" } else { "" };
    format!("cannot parse {text:?} to a valid duration{reason}")
}

/// Unix seconds or RFC 3339.
fn time_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ms = (seconds * 1000.0).round();
        return (ms.abs() <= FARTHEST_MS).then_some(ms as i64);
    }
    DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.timestamp_millis())
}

/// Seconds, or a duration like `15s`.
fn duration_ms(text: &str) -> Option<f64> {
    let ms = match text.parse::<f64>() {
        Ok(seconds) => seconds * 1000.0,
        Err(_) => duration::read_ms(text)? as f64,
    };
    (ms.abs() <= FARTHEST_MS).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for (text, ms) in [
            ("0", 0),
            ("1.5", 1_500),
            ("1e3", 1_000_000),
            ("-3.001", -3_001),
            ("1795521600.1234", 1_795_521_600_123),
            ("2026-11-24T12:00:00Z", 1_795_521_600_000),
            ("2026-11-24T13:00:00.5+01:00", 1_795_521_600_500),
        ] {
            assert_eq!(time_ms(text), Some(ms), "{text}");
        }
        for text in ["", "soon", "NaN", "Inf", "1e300", "2026-11-24", "-15m"] {
            assert_eq!(time_ms(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        for (text, ms) in [("15", 15_000.0), ("0.25", 250.0), ("1h30m", 5_400_000.0), ("-1", -1_000.0)] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "15x", "-15s", "NaN", "1e300", "1.5m"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }
}
