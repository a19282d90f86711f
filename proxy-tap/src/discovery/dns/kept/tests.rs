use super::*;

const S: Duration = Duration::from_secs(1);

fn kept() -> (Kept, Instant) {
    (Kept::new("dns://cart:80".to_owned(), Bounds::default()), Instant::now())
}

fn endpoints(n: usize) -> Vec<Endpoint> {
    let named = |i| Endpoint { instance: format!("10.0.0.{i}:80"), ..Endpoint::default() };
    (0..n).map(named).collect()
}

fn found(n: usize, ttl_s: u32) -> Heard {
    Heard::Found { endpoints: endpoints(n), ttl: S * ttl_s, partial: false }
}

fn failed() -> Heard {
    Heard::Failed("request timed out".to_owned())
}

#[test]
fn an_answer_holds_for_its_ttl_within_bounds() {
    let (mut kept, now) = kept();
    for (ttl_s, wait_s) in [(0, 1), (1, 1), (7, 7), (300, 300), (86_400, 300)] {
        assert_eq!(kept.heard(now, found(2, ttl_s), 0.5).wait, S * wait_s);
    }
}

#[test]
fn only_what_changes_is_set() {
    let (mut kept, now) = kept();
    assert_eq!(kept.heard(now, found(2, 1), 0.0).set, Some(endpoints(2)));
    assert_eq!(kept.heard(now + S, found(2, 1), 0.0).set, None);
    assert_eq!(kept.heard(now + S * 2, found(1, 1), 0.0).set, Some(endpoints(1)));
    assert_eq!(kept.endpoints(), 1);
}

#[test]
fn pauses_after_failures_double_with_jitter_and_end_with_an_answer() {
    let (mut kept, now) = kept();
    let waits: Vec<_> = (0..8).map(|_| kept.heard(now, failed(), 1.0).wait.as_millis()).collect();
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    assert_eq!(kept.heard(now, failed(), 0.0).wait, S * 15, "half of it with the lowest draw");
    kept.heard(now, found(1, 5), 0.0);
    assert_eq!(kept.heard(now, failed(), 1.0).wait, S / 2);
}

#[test]
fn the_last_good_answer_outlives_failures_for_an_hour() {
    let (mut kept, now) = kept();
    assert_eq!(
        kept.heard(now, failed(), 1.0).set,
        None,
        "before the first answer there is nothing to take away"
    );
    kept.heard(now, found(2, 5), 1.0);
    let hour = S * 3600;
    let step = kept.heard(now + hour - S * 3, failed(), 1.0);
    assert_eq!((step.set, kept.endpoints(), kept.good_at()), (None, 2, Some(now)));
    for _ in 0..8 {
        let step = kept.heard(now + hour - S * 3, failed(), 1.0);
        assert!(step.wait <= S * 3, "asks once more just when the hour ends");
    }
    let step = kept.heard(now + hour, failed(), 1.0);
    assert_eq!(step, Step { set: Some(Vec::new()), wait: S * 30 });
    assert_eq!(kept.good_at(), None);
    assert_eq!(kept.heard(now + hour + S, failed(), 1.0).set, None, "gone once");
    assert_eq!(kept.heard(now + hour + S * 2, found(2, 5), 1.0).set, Some(endpoints(2)));
}

#[test]
fn endpoints_that_are_said_to_be_gone_stay_for_half_a_minute() {
    let (mut kept, now) = kept();
    kept.heard(now, found(2, 5), 0.0);
    let absent = |ttl_s| Heard::Absent { ttl: S * ttl_s };
    assert_eq!(kept.heard(now, absent(300), 0.0), Step { set: None, wait: S * 30 });
    assert_eq!(kept.heard(now + S * 10, absent(1), 0.0), Step { set: None, wait: S });
    assert_eq!(kept.heard(now + S * 25, absent(10), 0.0), Step { set: None, wait: S * 5 });
    assert_eq!(kept.heard(now + S * 26, failed(), 0.0).set, None, "a failure neither confirms nor denies it");
    assert_eq!(kept.heard(now + S * 30, absent(300), 0.0), Step { set: Some(Vec::new()), wait: S * 30 });
    assert_eq!(kept.good_at(), Some(now + S * 30), "that there are none is an answer");
    assert_eq!(kept.heard(now + S * 60, found(1, 5), 0.0).set, Some(endpoints(1)));
    // It was only a moment, this time.
    kept.heard(now + S * 65, absent(1), 0.0);
    kept.heard(now + S * 66, found(1, 5), 0.0);
    assert_eq!(kept.heard(now + S * 120, absent(1), 0.0).set, None, "the half minute begins anew");
}

#[test]
fn a_partial_answer_counts_and_is_asked_for_again_soon() {
    let (mut kept, now) = kept();
    let partial = || Heard::Found { endpoints: endpoints(2), ttl: S * 60, partial: true };
    assert_eq!(kept.heard(now, partial(), 1.0), Step { set: Some(endpoints(2)), wait: S / 2 });
    assert_eq!(kept.heard(now, partial(), 1.0), Step { set: None, wait: S });
    assert_eq!(kept.heard(now, found(2, 60), 1.0).wait, S * 60);
}
