//! The sections `rules` and `alerts`: which rules are evaluated, and who is told of alerts.

use std::path::PathBuf;
use std::time::Duration;

use weir_query::rules::Timing;
use weir_storage::Labels;

use super::{Take, units};
use crate::rules::Settings;

impl Take<'_> {
    pub(super) fn rules(&mut self) -> Settings {
        let default = Timing::default();
        let timing = Timing {
            interval: self.length("rules.evaluation_interval", default.interval, Duration::from_millis(100)),
            query_offset: self.length("rules.query_offset", default.query_offset, Duration::ZERO),
            resend: self.length("rules.resend_delay", default.resend, Duration::from_millis(100)),
            outage_tolerance: self.length(
                "rules.for_outage_tolerance",
                default.outage_tolerance,
                Duration::ZERO,
            ),
            grace_period: self.length("rules.for_grace_period", default.grace_period, Duration::ZERO),
        };
        let files = self.list("rules.files", "patterns of files", |text| Some(PathBuf::from(text)));
        const ADDRESS: &str = "an address such as `http://127.0.0.1:9093`";
        let address = |text: &str| {
            let url = reqwest::Url::parse(text).ok()?;
            matches!(url.scheme(), "http" | "https").then(|| text.to_owned())
        };
        let optional = |text: &str| if text.is_empty() { Some(None) } else { address(text).map(Some) };
        Settings {
            files,
            timing,
            alertmanagers: self.list("alerts.alertmanagers", ADDRESS, address),
            webhook: self.value("alerts.webhook", ADDRESS, None, optional),
            external_url: self.value("external_url", ADDRESS, None, optional),
            external_labels: Labels::default(),
        }
    }

    /// What `parse` makes of each element of a list; one may stand for itself.
    fn list<T>(&mut self, path: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let Some(text) = self.written.remove(path) else { return Vec::new() };
        let mut all = Vec::new();
        for item in text.lines().filter(|item| !item.is_empty()) {
            match parse(item) {
                Some(value) => all.push(value),
                None => self.mistake(path, format!("expected {expected}, found `{item}`")),
            }
        }
        all
    }

    /// A length of time from `least` to a day.
    fn length(&mut self, path: &str, default: Duration, least: Duration) -> Duration {
        let expected = format!("a duration from {least:?} to 24h, as in `1m`");
        self.value(path, &expected, default, |text| {
            units::duration(text).filter(|length| (least..=Duration::from_secs(86_400)).contains(length))
        })
    }
}
