//! An alert's life: pending while its sample is there, firing once it has been there long enough, resolved when it
//! has gone. Pure: what was found and when goes in, the new states come out.

use std::collections::BTreeMap;

use weir_model::limits::ALERT_RESOLVED_RETENTION;
use weir_storage::Labels;

use super::file::AlertRule;

/// Where an alert is in its life. In order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    /// Its sample has gone.
    Inactive,
    /// Its sample is there, not yet long enough.
    Pending,
    /// It tells people.
    Firing,
}

impl AlertState {
    /// How samples and the API call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert of an alerting rule. Moments are Unix milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Who it is.
    pub labels: Labels,
    /// What it tells.
    pub annotations: Labels,
    /// Where it is.
    pub state: AlertState,
    /// The value of its sample when that was last there.
    pub value: f64,
    /// Since when its sample has been there.
    pub active_at_ms: i64,
    /// Since when it has been firing.
    pub fired_at_ms: Option<i64>,
    /// Since when it has been resolved.
    pub resolved_at_ms: Option<i64>,
    /// Since when it has been firing without a sample.
    pub keep_firing_since_ms: Option<i64>,
    /// When it was last handed to the notifiers.
    pub last_sent_ms: Option<i64>,
    /// Until when they may take it for firing.
    pub valid_until_ms: i64,
}

impl Alert {
    /// An alert whose sample was found at `now_ms` for the first time.
    pub fn new(labels: Labels, annotations: Labels, value: f64, now_ms: i64) -> Self {
        Self {
            labels,
            annotations,
            state: AlertState::Pending,
            value,
            active_at_ms: now_ms,
            fired_at_ms: None,
            resolved_at_ms: None,
            keep_firing_since_ms: None,
            last_sent_ms: None,
            valid_until_ms: 0,
        }
    }

    /// Whether the notifiers must hear of it: it is news, or `resend_ms` old.
    fn is_due(&self, now_ms: i64, resend_ms: i64) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(sent) = self.last_sent_ms else { return true };
        self.resolved_at_ms.is_some_and(|resolved| resolved > sent) || sent + resend_ms < now_ms
    }
}

/// The alerts of a rule by their labels.
pub type Alerts = BTreeMap<Labels, Alert>;

/// Takes in what the rule found at `now_ms`. Returns how many alerts are pending or firing.
pub fn advance(alerts: &mut Alerts, found: Alerts, rule: &AlertRule, now_ms: i64) -> usize {
    let present: std::collections::BTreeSet<Labels> = found.keys().cloned().collect();
    for (labels, new) in found {
        match alerts.get_mut(&labels) {
            Some(alert) if alert.state != AlertState::Inactive => {
                alert.value = new.value;
                alert.annotations = new.annotations;
            }
            _ => {
                alerts.insert(labels, new);
            }
        }
    }
    let mut active = 0;
    alerts.retain(|labels, alert| {
        if present.contains(labels) {
            alert.keep_firing_since_ms = None;
        } else if !keeps_firing(alert, rule, now_ms) {
            return resolve(alert, now_ms);
        }
        active += 1;
        if alert.state == AlertState::Pending && now_ms - alert.active_at_ms >= rule.for_ms {
            alert.state = AlertState::Firing;
            alert.fired_at_ms = Some(now_ms);
        }
        true
    });
    active
}

/// Whether an alert whose sample has gone goes on firing all the same.
fn keeps_firing(alert: &mut Alert, rule: &AlertRule, now_ms: i64) -> bool {
    if alert.state != AlertState::Firing || rule.keep_firing_for_ms == 0 {
        return false;
    }
    now_ms - *alert.keep_firing_since_ms.get_or_insert(now_ms) < rule.keep_firing_for_ms
}

/// Ends an alert whose sample has gone. Returns whether it is kept, so that the notifiers hear of it again.
fn resolve(alert: &mut Alert, now_ms: i64) -> bool {
    let retention = ALERT_RESOLVED_RETENTION.as_millis() as i64;
    match (alert.state, alert.resolved_at_ms) {
        (AlertState::Pending, _) => return false,
        (_, Some(resolved)) if now_ms - resolved > retention => return false,
        (AlertState::Firing, _) => {
            alert.state = AlertState::Inactive;
            alert.resolved_at_ms = Some(now_ms);
        }
        (AlertState::Inactive, _) => {}
    }
    true
}

/// The alerts that the notifiers must hear of now. Those that fire are valid for four times the longer of the two
/// intervals: one evaluation and one notification may fail.
pub fn due(alerts: &mut Alerts, now_ms: i64, resend_ms: i64, interval_ms: i64) -> Vec<Alert> {
    let mut out = Vec::new();
    for alert in alerts.values_mut().filter(|alert| alert.is_due(now_ms, resend_ms)) {
        alert.last_sent_ms = Some(now_ms);
        alert.valid_until_ms = now_ms + 4 * resend_ms.max(interval_ms);
        out.push(alert.clone());
    }
    out
}

#[cfg(test)]
mod tests;
