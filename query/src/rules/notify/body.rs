//! What is sent: the list that Alertmanager's API v2 takes, and the message that its own webhooks send.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};
use weir_storage::Labels;

use super::Notification;

/// The alerts for `POST /api/v2/alerts`.
pub(super) fn alertmanager(alerts: &[Notification]) -> Value {
    let each = alerts.iter().map(|alert| {
        json!({
            "labels": object(&alert.labels),
            "annotations": object(&alert.annotations),
            "startsAt": rfc3339(alert.starts_at_ms),
            "endsAt": rfc3339(alert.ends_at_ms),
            "generatorURL": alert.generator_url,
        })
    });
    Value::Array(each.collect())
}

/// The message of version 4 that Alertmanager sends to webhooks. Its alerts share their name.
pub(super) fn webhook(alerts: &[Notification]) -> Value {
    let status = |resolved: bool| if resolved { "resolved" } else { "firing" };
    let name = alerts.first().and_then(|alert| alert.labels.get("alertname")).unwrap_or_default();
    let base = alerts.first().map_or("", |alert| alert.generator_url.as_str());
    let each = alerts.iter().map(|alert| {
        let ends_at =
            if alert.resolved { rfc3339(alert.ends_at_ms) } else { "0001-01-01T00:00:00Z".to_owned() };
        json!({
            "status": status(alert.resolved),
            "labels": object(&alert.labels),
            "annotations": object(&alert.annotations),
            "startsAt": rfc3339(alert.starts_at_ms),
            "endsAt": ends_at,
            "generatorURL": alert.generator_url,
            "fingerprint": format!("{:016x}", alert.labels.id().0),
        })
    });
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{alertname={name:?}}}"),
        "truncatedAlerts": 0,
        "status": status(alerts.iter().all(|alert| alert.resolved)),
        "receiver": "webhook",
        "groupLabels": { "alertname": name },
        "commonLabels": object(&common(alerts.iter().map(|alert| &alert.labels))),
        "commonAnnotations": object(&common(alerts.iter().map(|alert| &alert.annotations))),
        "externalURL": base.split("/graph?").next().unwrap_or_default(),
        "alerts": each.collect::<Vec<_>>(),
    })
}

fn object(labels: &Labels) -> Map<String, Value> {
    labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// What is the same in all of them.
fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = all.next() else { return Labels::default() };
    all.fold(first.clone(), |common, labels| {
        Labels::new(common.iter().filter(|(name, value)| labels.get(name) == Some(*value)))
    })
}

fn rfc3339(ms: i64) -> String {
    let moment = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}
