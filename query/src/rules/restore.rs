//! After a restart: since when alerts had been active before, by what `ALERTS_FOR_STATE` remembers.

use std::collections::HashMap;

use weir_storage::{LabelMatcher, Labels, MatchOp};

use super::evaluate::{Environment, FOR_STATE, RuleState};
use crate::promql::number;
use crate::promql::source::SeriesSamples;

/// Restores the alerts of one rule; from then on its samples are written.
pub(super) async fn restore(state: &mut RuleState, environment: &Environment, now_ms: i64) {
    state.restored = true;
    let Some(rule) = state.rule.alert() else { return };
    let grace_ms = environment.timing.grace_period.as_millis() as i64;
    // An alert that waits for less than that is not made to wait longer.
    if rule.for_ms < grace_ms || state.alerts.is_empty() {
        return;
    }
    let after_ms = now_ms - environment.timing.outage_tolerance.as_millis() as i64;
    let found = environment.store.samples(matchers(state), after_ms, now_ms).await;
    let found = found.unwrap_or_else(|problem| {
        tracing::warn!(rule = state.rule.name, problem, "restoring alerts failed; they are pending anew");
        Vec::new()
    });
    let last: HashMap<Labels, (i64, f64)> = found.iter().filter_map(last_of).collect();
    for alert in state.alerts.values_mut() {
        if let Some(&(seen_ms, since)) = last.get(&alert.labels)
            && !number::is_stale(since)
        {
            alert.active_at_ms = active_at(seen_ms, since as i64 * 1000, rule.for_ms, (now_ms, grace_ms));
        }
    }
}

/// The labels of an alert and its newest sample.
fn last_of(series: &SeriesSamples) -> Option<(Labels, (i64, f64))> {
    let labels = Labels::new(series.labels.iter().filter(|(name, _)| *name != "__name__"));
    let at = series.floats.times.len().checked_sub(1)?;
    Some((labels, (series.floats.times[at], series.floats.values[at])))
}

/// Since when an alert counts as active that was seen last at `seen_ms`, active since `since_ms`: the time without
/// anybody looking does not count, and the alert fires after the grace period at the soonest.
fn active_at(seen_ms: i64, since_ms: i64, for_ms: i64, (now_ms, grace_ms): (i64, i64)) -> i64 {
    let seen_ms = seen_ms.div_euclid(1000) * 1000;
    let left_ms = for_ms - (seen_ms - since_ms);
    match left_ms {
        // It was firing, and fires again at once.
        ..=0 => since_ms,
        left if left < grace_ms => now_ms + grace_ms - for_ms,
        _ => since_ms + (now_ms - seen_ms),
    }
}

/// The series of the rule: its own labels, as far as they are no templates.
fn matchers(state: &RuleState) -> Vec<LabelMatcher> {
    let fixed = state.rule.labels.iter().filter(|(_, value)| !value.contains("{{"));
    let named = [("__name__", FOR_STATE), ("alertname", state.rule.name.as_str())];
    let pairs = fixed.chain(named);
    pairs.filter_map(|(name, value)| LabelMatcher::new(name, MatchOp::Equal, value).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_without_anybody_looking_does_not_count() {
        let minutes = |n: i64| n * 60_000;
        // Active since minute 0, seen last at minute 10, looked at again at minute 30; the grace period is 10 minutes.
        let at = |for_minutes| active_at(minutes(10), 0, minutes(for_minutes), (minutes(30), minutes(10)));
        assert_eq!(at(60), minutes(20), "50 minutes are left, as there were");
        assert_eq!(at(15), minutes(25), "5 minutes are left, but it waits for 10");
        assert_eq!(at(10), 0, "it was firing and goes on");
    }
}
