//! Frames in masses: the connection that they come on ends, calmly, and the application hears little or nothing.

use weir_proxy_tap::Running;

use super::frames::*;
use crate::support::*;

/// A proxy before an application that counts.
async fn guarded() -> (App, Running) {
    let app = App::always(200, "").await;
    let proxy = start(payments(app.address)).await;
    (app, proxy)
}

async fn serves_on(proxy: &Running) {
    assert_eq!(get(proxy.inbound.unwrap(), "/after").await.status, 200);
    let asked = request(http::Method::GET, "http://a/after").body(empty()).unwrap();
    assert_eq!(ask2(proxy.inbound.unwrap(), asked).await.status, 200);
}

#[tokio::test]
async fn rapid_resets_in_one_go_end_the_connection() {
    let (app, proxy) = guarded().await;
    let flood: Vec<u8> =
        (0..10_000).flat_map(|n| [asks(2 * n + 1, "/"), rst(2 * n + 1, CANCEL)].concat()).collect();
    let raw = Raw::connect(proxy.inbound.unwrap()).await;
    assert_eq!(raw.flooded(flood).await, Fate::GoAway(ENHANCE_YOUR_CALM));
    assert!(app.count() <= 1_100, "{} requests arrived", app.count());
    serves_on(&proxy).await;
}

#[tokio::test]
async fn rapid_resets_of_requests_that_have_begun_end_the_connection() {
    let app = App::start(|_| std::future::pending()).await;
    let proxy = start(payments(app.address)).await;
    let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
    let mut sent = 0;
    // Fifty at a time, so that a second, after which resets count for less, sees more than are allowed.
    for first in (0..3_000).step_by(50) {
        let streams = || (first..first + 50).map(|n| 2 * n + 1);
        raw.send(&streams().flat_map(|stream| asks(stream, "/")).collect::<Vec<_>>()).await;
        if !raw.synced().await {
            break;
        }
        raw.send(&streams().flat_map(|stream| rst(stream, CANCEL)).collect::<Vec<_>>()).await;
        sent += 50;
    }
    assert!((500..=600).contains(&sent), "ended after {sent} of them");
    assert!(app.accepted() <= 600, "{} connections", app.accepted());
}

#[tokio::test]
async fn continuations_without_end_are_cut_short() {
    let (app, proxy) = guarded().await;
    for part in [block(&[("x-a", "1")]), vec![]] {
        let mut flood = headers(END_STREAM, 1, &asking("GET", "/", &[]));
        (0..10_000).for_each(|_| flood.extend(frame(CONTINUATION, NONE, 1, &part)));
        let raw = Raw::connect(proxy.inbound.unwrap()).await;
        assert_eq!(raw.flooded(flood).await, Fate::GoAway(ENHANCE_YOUR_CALM));
    }
    assert_eq!(app.count(), 0);
    serves_on(&proxy).await;
}

/// A head in as many frames as it needs.
fn large(fields: Fields<'_>) -> Vec<u8> {
    let block = block(fields);
    let mut parts: Vec<_> = block.chunks(16_384).collect();
    let last = parts.pop().unwrap();
    let (mut sent, mut kind) = (Vec::new(), HEADERS);
    for part in parts {
        sent.extend(frame(kind, END_STREAM * u8::from(kind == HEADERS), 1, part));
        kind = CONTINUATION;
    }
    let flags = END_HEADERS | (END_STREAM * u8::from(kind == HEADERS));
    [sent, frame(kind, flags, 1, last)].concat()
}

#[tokio::test]
async fn heads_beyond_their_bounds_are_refused() {
    let (app, proxy) = guarded().await;
    let (half, long) = ("a".repeat(33_000), "a".repeat(40_000));
    for (name, more) in [
        ("two large fields", vec![("x-a", &*half), ("x-b", &*half)]),
        ("many fields", vec![("x-a", "1"); 300]),
        ("very many fields", vec![("x-a", "1"); 2_000]),
    ] {
        let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
        raw.send(&large(&asking("GET", "/", &more))).await;
        assert_eq!(raw.fate(1).await, Fate::Status(431), "{name}");
        raw.send(&asks(3, "/next")).await;
        assert!(matches!(raw.fate(3).await, Fate::Status(_)), "{name}");
    }
    assert_eq!(app.count(), 3, "the requests after them");
    // A bomb: one entry of the table, named again and again by one byte.
    let mut bomb = block(&asking("GET", "/", &[]));
    bomb.push(0x40);
    bomb.extend(&block(&[("x-bomb", &long[..4_000])])[1..]);
    bomb.extend([0xbe; 10_000]);
    let raw = Raw::connect(proxy.inbound.unwrap()).await;
    assert_eq!(raw.flooded(frame(HEADERS, WHOLE, 1, &bomb)).await, Fate::GoAway(ENHANCE_YOUR_CALM));
    assert_eq!(app.count(), 3);
    serves_on(&proxy).await;
}

#[tokio::test]
async fn frames_that_ask_for_nothing_end_the_connection_that_they_flood() {
    let (app, proxy) = guarded().await;
    let ping = frame(PING, NONE, 0, &[0; 8]);
    let dependency = frame(PRIORITY, NONE, 1, &[0, 0, 0, 3, 0]);
    for (name, one) in [
        ("pings", ping),
        ("settings", settings(&[])),
        ("settings that change windows", settings(&[(4, 10)])),
        ("priorities", dependency),
        ("windows", window(0, 1)),
        ("unknown frames", frame(0x16, NONE, 0, b"x")),
    ] {
        let raw = Raw::connect(proxy.inbound.unwrap()).await;
        assert_eq!(raw.flooded(one.repeat(20_000)).await, Fate::GoAway(ENHANCE_YOUR_CALM), "{name}");
    }
    assert_eq!(app.count(), 0);
    serves_on(&proxy).await;
}

#[tokio::test]
async fn empty_data_ends_the_connection_that_it_floods() {
    let (app, proxy) = guarded().await;
    let mut flood = headers(END_HEADERS, 1, &asking("POST", "/", &[]));
    flood.extend(frame(DATA, NONE, 1, &[]).repeat(20_000));
    let raw = Raw::connect(proxy.inbound.unwrap()).await;
    assert_eq!(raw.flooded(flood).await, Fate::GoAway(ENHANCE_YOUR_CALM));
    assert_eq!(app.count(), 0, "its request never ended");
    serves_on(&proxy).await;
}

#[tokio::test]
async fn a_long_conversation_with_its_control_frames_goes_on() {
    let (app, proxy) = guarded().await;
    let mut raw = Raw::connect(proxy.inbound.unwrap()).await;
    for n in 0..3_000 {
        let control =
            [frame(PING, NONE, 0, &[0; 8]), window(0, 1), frame(PRIORITY, NONE, 1, &[0, 0, 0, 3, 0])];
        raw.send(&[control.concat(), asks(2 * n + 1, "/")].concat()).await;
        let head =
            raw.find(|frame| (frame.kind == HEADERS || frame.kind == GOAWAY).then_some(frame.kind)).await;
        assert_eq!(head, Some(HEADERS), "request {n}");
    }
    assert_eq!(app.count(), 3_000);
}
