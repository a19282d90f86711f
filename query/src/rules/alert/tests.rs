//! The life of an alert, minute by minute.

use super::*;
use crate::promql::features::Features;
use crate::rules::file::{self, Group};

/// An alerting rule with these times.
fn group(times: &str) -> Group {
    let text = format!("groups:\n- name: g\n  rules:\n  - {{alert: A, expr: up, {times}}}\n");
    file::parse("f", &text, Features::NONE).expect("a rule").remove(0)
}

/// The states of one alert whose sample is there in the minutes of `there`: `-` none, `p` pending, `F` firing,
/// `r` resolved.
fn life(times: &str, there: &str) -> String {
    let group = group(times);
    let rule = group.rules[0].alert().expect("an alert");
    let labels = Labels::new([("alertname", "A")]);
    let mut alerts = Alerts::new();
    let states = there.chars().zip(0..).map(|(c, minute)| {
        let now_ms = minute * 60_000;
        let mut found = Alerts::new();
        if c == 'x' {
            found.insert(labels.clone(), Alert::new(labels.clone(), Labels::default(), 1.0, now_ms));
        }
        advance(&mut alerts, found, rule, now_ms);
        match alerts.get(&labels).map(|alert| alert.state) {
            None => '-',
            Some(AlertState::Pending) => 'p',
            Some(AlertState::Firing) => 'F',
            Some(AlertState::Inactive) => 'r',
        }
    });
    states.collect()
}

#[test]
fn an_alert_fires_once_it_has_been_there_for_long_enough() {
    assert_eq!(life("for: 0s", ".xx.xx"), "-FFrFF");
    assert_eq!(life("for: 3m", ".xxxxx...x"), "-pppFFrrrp");
    assert_eq!(life("for: 3m", "xxx.xxxx"), "ppp-pppF");
}

#[test]
fn it_goes_on_firing_where_that_is_asked_for() {
    assert_eq!(life("for: 1m, keep_firing_for: 3m", "xx......"), "pFFFFrrr");
    assert_eq!(life("for: 1m, keep_firing_for: 3m", "xx..x...."), "pFFFFFFFr");
    assert_eq!(life("for: 5m, keep_firing_for: 3m", "xx.."), "pp--");
}

#[test]
fn a_resolved_one_is_kept_for_a_quarter_of_an_hour() {
    let life = life("for: 0s", "x..................");
    assert_eq!(life, "Frrrrrrrrrrrrrrrr--");
}

#[test]
fn notifiers_hear_of_news_and_of_what_goes_on() {
    let group = group("for: 0s");
    let rule = group.rules[0].alert().expect("an alert");
    let labels = Labels::new([("alertname", "A")]);
    let mut alerts = Alerts::new();
    let mut told = |there: bool, now_ms: i64| {
        let mut found = Alerts::new();
        if there {
            found.insert(labels.clone(), Alert::new(labels.clone(), Labels::default(), 1.0, now_ms));
        }
        advance(&mut alerts, found, rule, now_ms);
        let due = due(&mut alerts, now_ms, 60_000, 15_000);
        due.first().map(|alert| (alert.state, alert.valid_until_ms - now_ms))
    };
    let firing = Some((AlertState::Firing, 240_000));
    assert_eq!(told(true, 0), firing, "it is news");
    assert_eq!(told(true, 15_000), None);
    assert_eq!(told(true, 60_000), None, "not yet longer than the delay");
    assert_eq!(told(true, 75_000), firing, "it goes on");
    assert_eq!(told(false, 90_000).map(|(state, _)| state), Some(AlertState::Inactive), "its end is news");
    assert_eq!(told(false, 105_000), None);
    assert_eq!(told(false, 165_000).map(|(state, _)| state), Some(AlertState::Inactive), "and told again");
    assert_eq!(told(true, 180_000), firing, "it is news again");
}
