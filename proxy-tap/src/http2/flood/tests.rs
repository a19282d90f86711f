use super::*;

fn head(kind: u8, stream: u32, length: usize) -> Head {
    Head { length, kind, flags: 0, stream }
}

#[test]
fn heads_are_found_wherever_the_bytes_are_cut() {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 3, DATA, END_STREAM, 0x80, 0, 0, 7, 1, 2, 3]);
    bytes.extend([0, 0, 4, RST_STREAM, 0, 0, 0, 1, 1, 0, 0, 0, 8]);
    for at in 0..bytes.len() {
        let mut heads = Heads::after(PREFACE_BYTES);
        let mut found = Vec::new();
        for mut part in [&bytes[..at], &bytes[at..]] {
            while let Some(head) = heads.next(&mut part) {
                found.push((head.kind, head.stream, head.length));
            }
        }
        assert_eq!(found, [(SETTINGS, 0, 0), (DATA, 7, 3), (RST_STREAM, 257, 4)], "cut at {at}");
        assert!(heads.is_between_frames());
    }
}

#[tokio::test(start_paused = true)]
async fn what_requests_and_time_bring_with_them_is_no_flood() {
    let mut account = Account::new(Instant::now());
    for request in 0..100_000 {
        let stream = 2 * request + 1;
        account.frame(head(HEADERS, stream, 40)).unwrap();
        for control in [SETTINGS - 2, SETTINGS + 2, SETTINGS + 4] {
            account.frame(head(control, 0, 8)).unwrap();
        }
        account.frame(head(DATA, stream, 10)).unwrap();
    }
    for _ in 0..50_000 {
        tokio::time::advance(Duration::from_millis(100)).await;
        account.time(Instant::now());
        account.frame(head(SETTINGS + 2, 0, 8)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn control_frames_alone_are() {
    let mut account = Account::new(Instant::now());
    let sent = (0..).find(|_| account.frame(head(SETTINGS + 2, 0, 8)).is_err());
    assert_eq!(sent, Some(limits::HTTP2_CONTROL_FRAMES));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_taken_back_are_a_flood_only_at_once_and_mostly() {
    // Each after two seconds: callers whose patience ended.
    let mut account = Account::new(Instant::now());
    for second in 0..20_u32 {
        account.time(Instant::now());
        for n in 0..1_000 {
            account.frame(head(HEADERS, (second * 1_000 + n) * 2 + 1, 40)).unwrap();
        }
        for n in 0..1_000 {
            let Some(before) = second.checked_sub(2) else { break };
            account.frame(head(RST_STREAM, (before * 1_000 + n) * 2 + 1, 4)).unwrap();
        }
        tokio::time::advance(MEANT).await;
    }
    // A third of them, at once: hedging.
    let mut account = Account::new(Instant::now());
    for n in 0..30_000_u32 {
        account.frame(head(HEADERS, 2 * n + 1, 40)).unwrap();
        if n % 3 == 2 {
            account.frame(head(RST_STREAM, 2 * n + 1, 4)).unwrap();
        }
    }
    let mut account = Account::new(Instant::now());
    let flood = (0..10_000_u32).find_map(|n| {
        account.frame(head(HEADERS, 2 * n + 1, 40)).unwrap();
        account.frame(head(RST_STREAM, 2 * n + 1, 4)).err()
    });
    assert_eq!(flood, Some(Flood::Resets));
}
