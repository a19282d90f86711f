//! W3C trace context on the wire: continued where there is one, started where there is none.

use http::Method;
use weir_model::policy::Percent;
use weir_proxy_tap::Config;

use crate::support::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// The four fields of a `traceparent`.
fn fields(seen: &Seen) -> Vec<String> {
    seen.header("traceparent").unwrap().split('-').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_trace_is_continued_through_both_proxies() {
    let app = App::always(200, "").await;
    let receiving = start(payments(app.address)).await;
    let calling = start(cart(&[receiving.inbound.unwrap()])).await;
    for flags in ["01", "00"] {
        let sent = request(Method::GET, "/")
            .header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"))
            .header("tracestate", "vendor=1,other=2")
            .header("baggage", "user=7")
            .body(empty())
            .unwrap();
        assert_eq!(ask(to_payments(&calling), sent).await.status, 200);
        let seen = app.seen().pop().unwrap();
        let context = fields(&seen);
        assert_eq!((&*context[0], &*context[1], &*context[3]), ("00", TRACE, flags));
        assert!(context[2] != SPAN && context[2].len() == 16, "{context:?}");
        assert_eq!(
            (seen.header("tracestate"), seen.header("baggage")),
            (Some("vendor=1,other=2"), Some("user=7"))
        );
    }
}

#[tokio::test]
async fn a_trace_is_started_where_the_request_brings_no_valid_one() {
    let app = App::always(200, "").await;
    let proxy = start(cart(&[app.address])).await;
    let mut traces = std::collections::HashSet::new();
    for bad in [None, Some("nonsense"), Some("00-00000000000000000000000000000000-b7ad6b7169203331-01")] {
        let mut sent = request(Method::GET, "/").header("tracestate", "vendor=1");
        if let Some(bad) = bad {
            sent = sent.header("traceparent", bad);
        }
        assert_eq!(ask(to_payments(&proxy), sent.body(empty()).unwrap()).await.status, 200);
        let seen = app.seen().pop().unwrap();
        let context = fields(&seen);
        let lengths: Vec<_> = context.iter().map(String::len).collect();
        assert_eq!((lengths, &*context[3]), (vec![2, 32, 16, 2], "01"));
        assert_eq!(seen.header("tracestate"), None, "it belonged to no trace");
        traces.insert(context[1].clone());
    }
    assert_eq!(traces.len(), 3, "each request its own trace");
}

#[tokio::test]
async fn the_share_of_traces_that_begin_here_is_sampled_and_a_callers_decision_stands() {
    let app = App::always(200, "").await;
    for (share, flags) in [(Percent::ALL, "-01"), (Percent::default(), "-00")] {
        let proxy = start(Config { trace_sampling: share, ..cart(&[app.address]) }).await;
        get(to_payments(&proxy), "/").await;
        let begun = app.seen().pop().unwrap();
        assert!(begun.header("traceparent").unwrap().ends_with(flags), "{begun:?}");
        for decided in ["-00", "-01"] {
            let parent = format!("00-{}-{}{decided}", "7".repeat(32), "8".repeat(16));
            let asked = request(Method::GET, "/").header("traceparent", parent).body(empty()).unwrap();
            ask(to_payments(&proxy), asked).await;
            let continued = app.seen().pop().unwrap();
            assert!(continued.header("traceparent").unwrap().ends_with(decided), "{continued:?}");
        }
    }
}

#[tokio::test]
async fn b3_is_continued_in_the_form_in_which_it_came() {
    let app = App::always(200, "").await;
    let proxy = start(cart(&[app.address])).await;
    let single = format!("{TRACE}-{SPAN}-1");
    let asked = request(Method::GET, "/").header("b3", single).body(empty()).unwrap();
    ask(to_payments(&proxy), asked).await;
    let seen = app.seen().pop().unwrap();
    let own = fields(&seen);
    assert_eq!((&*own[1], &*own[3]), (TRACE, "01"));
    assert_eq!(seen.header("b3").unwrap(), format!("{TRACE}-{}-1-{SPAN}", own[2]));
    assert_eq!(seen.header("x-b3-traceid"), None);

    let several = request(Method::GET, "/").header("x-b3-traceid", TRACE).header("x-b3-spanid", SPAN);
    let asked = several.header("x-b3-sampled", "0").body(empty()).unwrap();
    ask(to_payments(&proxy), asked).await;
    let seen = app.seen().pop().unwrap();
    let own = fields(&seen);
    assert_eq!((&*own[1], &*own[3]), (TRACE, "00"));
    let told = ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "b3"]
        .map(|name| seen.header(name));
    assert_eq!(told, [Some(TRACE), Some(&*own[2]), Some(SPAN), Some("0"), None]);
}
