use super::*;

#[tokio::test(start_paused = true)]
async fn the_stages_follow_each_other_in_their_time() {
    let drain = Drain::new();
    let gate = drain.gate(&Tally::new("inbound".into()));
    // A listener with a connection that never ends by itself.
    drain.listeners.spawn(async move { gate.cut.cancelled().await });
    let seconds = Duration::from_secs;
    let going = Arc::clone(&drain);
    let run = tokio::spawn(async move { going.run(None, seconds(2), seconds(3)).await });
    assert_eq!((drain.stage(), drain.is_ready(), drain.begun()), ("serving", true, None));
    drain.begin(Why::Admin);
    sleep(Duration::from_millis(1_999)).await;
    assert_eq!((drain.stage(), drain.is_ready()), ("withdrawing", false));
    sleep(Duration::from_millis(2)).await;
    assert_eq!(drain.stage(), "draining");
    sleep(Duration::from_millis(2_997)).await;
    assert_eq!(drain.stage(), "draining");
    run.await.unwrap();
    assert_eq!(drain.stage(), "drained");
    let (why, ago) = drain.begun().unwrap();
    assert_eq!((why, ago.as_secs()), (Why::Admin, 5));
}

#[tokio::test(start_paused = true)]
async fn a_successor_makes_the_delay_needless_and_answers_for_readiness() {
    let drain = Drain::new();
    let begun = Instant::now();
    drain.begin(Why::Successor);
    assert_eq!((drain.stage(), drain.is_ready()), ("draining", true));
    drain.run(None, Duration::from_secs(60), Duration::from_secs(60)).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // A connection to the admin page may outlive that by a moment.
    drain.rest.cancel();
    assert!(drain.is_ready());
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_is_told_and_a_successor_still_counts() {
    let drain = Drain::new();
    drain.begin(Why::Program);
    drain.begin(Why::Successor);
    assert_eq!((drain.begun().unwrap().0, drain.stage()), (Why::Program, "draining"));
}

#[test]
fn connections_are_counted_while_they_last() {
    let tally = Tally::new("inbound".into());
    let (one, two) = (tally.count(), tally.count());
    drop(one);
    assert_eq!((tally.accepted(), tally.open()), (2, 1));
    drop(two);
    assert_eq!((tally.accepted(), tally.open()), (2, 0));
}
