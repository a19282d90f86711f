//! Which context a request continues, what is passed on, and which traces are sampled.

use proptest::prelude::*;

use super::*;

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const SPAN: &str = "e457b5a2e4d86bd1";
const PARENT: &str = "05e3ac9a4f6e3b90";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let value = |text: &&str| HeaderValue::from_str(text).unwrap();
    pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
}

fn read(pairs: &[(&'static str, &str)]) -> TraceContext {
    TraceContext::of(&headers(pairs), &Chance::new(1, "t"), Share::ALL)
}

fn context(value: &str) -> TraceContext {
    read(&[("traceparent", value), ("tracestate", "vendor=1")])
}

/// What the next one sees of the headers that carry traces.
fn passed_on(pairs: &[(&'static str, &str)]) -> (TraceContext, Vec<String>) {
    let mut headers = headers(pairs);
    let context = TraceContext::of(&headers, &Chance::new(1, "t"), Share::ALL);
    context.inject(&mut headers);
    let mut seen: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    seen.sort();
    (context, seen)
}

#[test]
fn a_valid_context_is_continued_and_passed_on() {
    let (context, seen) = passed_on(&[("traceparent", GOOD), ("tracestate", "vendor=1"), ("baggage", "a=1")]);
    assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(context.parent.unwrap().to_string(), "b7ad6b7169203331");
    assert!(context.sampled());
    let parent = format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-{}-01", context.span);
    assert_eq!(seen, ["baggage: a=1", &parent, "tracestate: vendor=1"]);
}

#[test]
fn an_unsampled_parent_stays_unsampled() {
    assert!(!context(&GOOD.replace("-01", "-00")).sampled());
}

#[test]
fn anything_invalid_starts_a_new_trace() {
    for bad in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
    ] {
        let context = context(bad);
        assert_eq!(context.parent, None, "{bad}");
        assert!(context.sampled());
        let (_, seen) = passed_on(&[("traceparent", bad), ("tracestate", "vendor=1")]);
        assert_eq!(seen.len(), 1, "a `tracestate` of no trace goes: {seen:?}");
    }
    assert!(context(&GOOD.replace("00-0af", "01-0af").replace("-01", "-01-future")).parent.is_some());
}

#[test]
fn b3_in_one_header_is_read_and_written_as_it_came() {
    for (value, decision, out) in [
        (format!("{TRACE}-{SPAN}-1-{PARENT}"), true, "1"),
        (format!("{TRACE}-{SPAN}-1"), true, "1"),
        (format!("{TRACE}-{SPAN}-0"), false, "0"),
        (format!("{TRACE}-{SPAN}-d"), true, "d"),
        // The decision is left to whoever receives it: a root's share, here all.
        (format!("{TRACE}-{SPAN}"), true, "1"),
    ] {
        let (context, seen) = passed_on(&[("b3", &value)]);
        assert_eq!(
            (context.trace.to_string(), context.parent.unwrap().to_string()),
            (TRACE.into(), SPAN.into())
        );
        assert_eq!(context.sampled(), decision, "{value}");
        let flags = if decision { "01" } else { "00" };
        let expected = [
            format!("b3: {TRACE}-{}-{out}-{SPAN}", context.span),
            format!("traceparent: 00-{TRACE}-{}-{flags}", context.span),
        ];
        assert_eq!(seen, expected, "{value}");
    }
}

#[test]
fn b3_may_be_a_decision_alone() {
    for (pairs, decision, out) in [
        ([("b3", "0")], false, "b3: TRACE-SPAN-0"),
        ([("b3", "1")], true, "b3: TRACE-SPAN-1"),
        ([("b3", "d")], true, "b3: TRACE-SPAN-d"),
        ([("x-b3-sampled", "0")], false, "x-b3-sampled: 0"),
        ([("x-b3-sampled", "false")], false, "x-b3-sampled: 0"),
        ([("x-b3-sampled", "true")], true, "x-b3-sampled: 1"),
        ([("x-b3-flags", "1")], true, "x-b3-flags: 1"),
    ] {
        let (context, seen) = passed_on(&pairs);
        assert_eq!((context.sampled(), context.parent), (decision, None), "{pairs:?}");
        let out = out.replace("TRACE", &context.trace.to_string()).replace("SPAN", &context.span.to_string());
        assert!(seen.contains(&out), "{pairs:?} became {seen:?}");
    }
}

#[test]
fn b3_in_several_headers_is_read_and_written_as_it_came() {
    for (extra, decision, told) in [
        (("x-b3-sampled", "1"), true, "x-b3-sampled: 1"),
        (("x-b3-sampled", "0"), false, "x-b3-sampled: 0"),
        (("x-b3-flags", "1"), true, "x-b3-flags: 1"),
        (("x-b3-flags", "0"), true, "x-b3-sampled: 1"),
    ] {
        let (context, seen) = passed_on(&[
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
            ("x-b3-parentspanid", PARENT),
            extra,
        ]);
        assert_eq!((context.trace.to_string(), context.sampled()), (TRACE.into(), decision));
        let mut expected = [
            format!("traceparent: 00-{TRACE}-{}-0{}", context.span, u8::from(decision)),
            told.to_owned(),
            format!("x-b3-parentspanid: {SPAN}"),
            format!("x-b3-spanid: {}", context.span),
            format!("x-b3-traceid: {TRACE}"),
        ];
        expected.sort();
        assert_eq!(seen, expected, "{extra:?}");
    }
}

#[test]
fn short_b3_ids_are_padded() {
    let padded = "000000000000000064fe8b2a57d3eff7";
    for pairs in [
        vec![("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1-1")],
        vec![("x-b3-traceid", "64fe8b2a57d3eff7"), ("x-b3-spanid", SPAN)],
        vec![("x-b3-traceid", "64FE8B2A57D3EFF7"), ("x-b3-spanid", SPAN)],
    ] {
        assert_eq!(read(&pairs).trace.to_string(), padded, "{pairs:?}");
    }
}

#[test]
fn w3c_outweighs_b3_and_one_header_outweighs_several() {
    let single = format!("{TRACE}-{SPAN}-0");
    let (context, seen) = passed_on(&[
        ("traceparent", GOOD),
        ("tracestate", "vendor=1"),
        ("b3", &single),
        ("x-b3-traceid", PARENT),
        ("x-b3-spanid", SPAN),
        ("x-b3-sampled", "0"),
    ]);
    assert_eq!(context.trace.to_string(), &GOOD[3..35]);
    assert!(context.sampled());
    let parent = &GOOD[36..52];
    let expected = [
        format!("b3: {}-{}-1-{parent}", context.trace, context.span),
        format!("traceparent: 00-{}-{}-01", context.trace, context.span),
        "tracestate: vendor=1".to_owned(),
        format!("x-b3-parentspanid: {parent}"),
        "x-b3-sampled: 1".to_owned(),
        format!("x-b3-spanid: {}", context.span),
        format!("x-b3-traceid: {}", context.trace),
    ];
    assert_eq!(seen, expected);
    let context = read(&[("b3", &single), ("x-b3-traceid", PARENT), ("x-b3-spanid", SPAN)]);
    assert_eq!((context.trace.to_string(), context.sampled()), (TRACE.to_owned(), false));
    // B3 is used where W3C is there and says nothing valid; a `tracestate` is then of no trace.
    let (context, seen) =
        passed_on(&[("traceparent", "nonsense"), ("b3", &single), ("tracestate", "vendor=1")]);
    assert_eq!(context.trace.to_string(), TRACE);
    assert!(!seen.iter().any(|header| header.starts_with("tracestate")), "{seen:?}");
}

#[test]
fn b3_without_sense_is_passed_on_and_not_believed() {
    let zero = "0".repeat(32);
    let bad = [
        "".to_owned(),
        "2".to_owned(),
        "-".to_owned(),
        TRACE.to_owned(),
        format!("{TRACE}-{SPAN}-x"),
        format!("{TRACE}-{SPAN}-1-{PARENT}-1"),
        format!("{TRACE}-{SPAN}-1-short"),
        format!("{zero}-{SPAN}-1"),
        format!("{TRACE}-{}-1", &zero[..16]),
        format!("{}-{SPAN}-1", &TRACE[1..]),
    ];
    for value in &bad {
        let (context, seen) = passed_on(&[("b3", value)]);
        assert_eq!((context.parent, context.b3), (None, B3::Absent), "{value}");
        assert!(seen.contains(&format!("b3: {value}")), "{seen:?}");
    }
}

#[test]
fn a_share_of_the_roots_is_sampled_and_what_callers_decided_stands() {
    let chance = Chance::new(7, "roots");
    let roots = (0..20_000).map(|_| TraceContext::of(&HeaderMap::new(), &chance, Share::of(0.1)));
    let sampled = roots.filter(TraceContext::sampled).count();
    assert!((1_800..2_200).contains(&sampled), "{sampled} of 20000");
    let none = Share::of(0.0);
    let decided = |pairs| TraceContext::of(&headers(pairs), &chance, none).sampled();
    assert!(decided(&[("traceparent", GOOD)]));
    assert!(decided(&[("b3", "1")]));
    assert!(!decided(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1")]), "left open");
    assert!(!decided(&[]));
}

#[test]
fn the_low_56_bits_decide() {
    let id = |low: u64| {
        let mut id = [0xff; 16];
        id[8..].copy_from_slice(&low.to_be_bytes());
        TraceId(id)
    };
    let half = Share::of(0.5);
    assert!(!half.takes(&id(0x007f_ffff_ffff_ffff)));
    assert!(half.takes(&id(0x0080_0000_0000_0000)));
    assert!(!half.takes(&id(0xff00_0000_0000_0000)), "the top byte says nothing");
    assert!(Share::of(f64::NAN).takes(&id(0)) && Share::of(7.0).takes(&id(0)));
    assert!(!Share::of(-1.0).takes(&id(u64::MAX)));
}

proptest! {
    #[test]
    fn a_larger_share_has_every_trace_of_a_smaller_one(id: [u8; 16], a in 0.0_f64..=1.0, b in 0.0_f64..=1.0) {
        let (small, large) = (Share::of(a.min(b)), Share::of(a.max(b)));
        prop_assert!(!small.takes(&TraceId(id)) || large.takes(&TraceId(id)));
    }

    #[test]
    fn whatever_headers_say_something_valid_is_passed_on(traceparent in "[ -~]{0,60}", b3 in "[0-9a-f-]{0,80}") {
        let mut headers = headers(&[("traceparent", &traceparent), ("b3", &b3)]);
        TraceContext::of(&headers, &Chance::new(1, "t"), Share::ALL).inject(&mut headers);
        prop_assert!(parse(headers[TRACEPARENT].as_bytes()).is_some());
    }
}
