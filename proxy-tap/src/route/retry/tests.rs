use serde_json::{Value, json};

use super::*;

fn policy(written: Value) -> RetryPolicy {
    RetryPolicy::new(&serde_json::from_value(written).unwrap())
}

#[test]
fn conditions_mean_what_envoys_mean() {
    use Ended::*;
    let answers = [409, 429, 500, 501, 502, 503, 504].map(|status| Answer(status, None));
    let grpc = [0, 1, 2, 4, 8, 13, 14].map(|code| Answer(200, Some(code)));
    let broken = [Connect, RefusedStream, Reset, TryTimeout];
    let all: Vec<Ended> = broken.into_iter().chain(answers).chain(grpc).chain([Answer(200, None)]).collect();
    for (on, get, post) in [
        ("connect-failure", &[Connect][..], &[Connect][..]),
        ("refused-stream", &[RefusedStream], &[RefusedStream]),
        ("reset", &[Connect, RefusedStream, Reset], &[Connect, RefusedStream]),
        ("reset-unsafe", &[Connect, RefusedStream, Reset], &[Connect, RefusedStream, Reset]),
        ("try-timeout", &[TryTimeout], &[]),
        ("503", &[answers[5]], &[answers[5]]),
        ("retriable-4xx", &[answers[0]], &[answers[0]]),
        ("cancelled", &[grpc[1]], &[grpc[1]]),
        ("deadline-exceeded", &[grpc[3]], &[grpc[3]]),
        ("resource-exhausted", &[grpc[4]], &[grpc[4]]),
        ("internal", &[grpc[5]], &[grpc[5]]),
        ("unavailable", &[grpc[6]], &[grpc[6]]),
    ] {
        let policy = policy(json!({ "on": [on] }));
        for (method, expected) in [(Method::GET, get), (Method::POST, post)] {
            let got: Vec<_> = all.iter().copied().filter(|ended| policy.may_retry(*ended, &method)).collect();
            assert_eq!(got, expected, "{on} {method}");
        }
    }
    for (on, statuses) in [("gateway-error", &answers[4..]), ("5xx", &answers[2..])] {
        let policy = policy(json!({ "on": [on] }));
        let got: Vec<_> =
            all.iter().copied().filter(|ended| policy.may_retry(*ended, &Method::POST)).collect();
        assert_eq!(got, [&broken[..], statuses].concat(), "{on}");
    }
}

#[test]
fn further_statuses_are_sent_again_and_without_conditions_nothing_is() {
    let some = policy(json!({ "on": [], "statuses": [429] }));
    assert!(some.may_retry(Ended::Answer(429, None), &Method::POST));
    assert!(!some.may_retry(Ended::Answer(503, None), &Method::GET));
    assert!(!some.may_retry(Ended::Connect, &Method::GET));
}

#[test]
fn the_default_repeats_what_was_not_processed() {
    let default = RetryPolicy::new(&Retries::default());
    assert_eq!((default.attempts, default.per_try, default.reuse_hosts), (2, None, false));
    for (ended, get, post) in [
        (Ended::Connect, true, true),
        (Ended::RefusedStream, true, true),
        (Ended::Reset, true, false),
        (Ended::TryTimeout, false, false),
        (Ended::Answer(503, None), true, true),
        (Ended::Answer(500, None), false, false),
        (Ended::Answer(200, Some(14)), true, true),
        (Ended::Answer(200, Some(2)), false, false),
    ] {
        assert_eq!(default.may_retry(ended, &Method::GET), get, "{ended:?}");
        assert_eq!(default.may_retry(ended, &Method::POST), post, "{ended:?}");
    }
}

#[test]
fn pauses_double_up_to_a_bound_and_use_all_of_it() {
    let policy = policy(json!({ "backoff": "10ms", "max_backoff": "100ms" }));
    let chance = Chance::new(7, "pause");
    for (n, most_ms) in [(0, 10), (1, 20), (3, 80), (4, 100), (40, 100)] {
        let most = Duration::from_millis(most_ms);
        let pauses: Vec<_> = (0..1_000).map(|_| policy.pause(n, None, &chance).unwrap()).collect();
        assert!(pauses.iter().all(|pause| *pause <= most), "{n}");
        assert!(pauses.iter().any(|pause| *pause > most.mul_f64(0.95)), "{n}");
        assert!(pauses.iter().any(|pause| *pause < most.mul_f64(0.05)), "{n}");
    }
}

#[test]
fn who_is_told_to_come_later_does_not_come_earlier() {
    let policy = RetryPolicy::new(&Retries::default());
    let chance = Chance::new(7, "after");
    for _ in 0..100 {
        let pause = policy.pause(0, Some(Duration::from_secs(2)), &chance).unwrap();
        assert!((2_000..=2_025).contains(&pause.as_millis()), "{pause:?}");
    }
    assert_eq!(policy.pause(0, Some(Duration::from_secs(301)), &chance), None);
    assert_eq!(policy.pause(0, Some(Duration::MAX), &chance), None);
}

#[test]
fn a_time_to_come_back_is_read_in_seconds() {
    let read = |value: &'static str| {
        retry_after(&HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static(value))]))
    };
    assert_eq!(read("120"), Some(Duration::from_secs(120)));
    assert_eq!(read(" 0 "), Some(Duration::ZERO));
    for none in ["", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT", "99999999999999999999"] {
        assert_eq!(read(none), None, "{none}");
    }
    assert_eq!(retry_after(&HeaderMap::new()), None);
}
