//! The pages for people and tools.

use http::Method;
use serde_json::Value;
use weir_proxy_tap::Config;
use weir_proxy_tap::config::{Balancer, RetryPolicy};

use crate::support::*;

#[tokio::test]
async fn health_and_readiness_are_plain() {
    let proxy = start(cart(&[])).await;
    assert_eq!(page(&proxy, "/healthz").await, "ok\n");
    assert_eq!(page(&proxy, "/readyz").await, "ready\n");
}

#[tokio::test]
async fn unknown_pages_and_other_methods_are_errors_that_say_what_there_is() {
    let proxy = start(cart(&[])).await;
    let admin = proxy.admin.unwrap();
    let answer = get(admin, "/nothing").await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body["error"]["code"]), (404, &"not_found".into()));
    assert!(body["error"]["hint"].as_str().unwrap().contains("/breakers"), "{body}");
    let answer = ask(admin, request(Method::POST, "/config").body(empty()).unwrap()).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    let answer = ask(admin, request(Method::HEAD, "/healthz").body(empty()).unwrap()).await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (200, 0, Some("3")));
}

#[tokio::test]
async fn the_configuration_is_shown_as_it_was_understood() {
    let config = Config {
        balancer: Balancer::LeastRequest,
        retry: RetryPolicy { limit: 2, budget_pct: 20.0 },
        collector: Some("127.0.0.1:9".into()),
        ..cart(&["127.0.0.1:1".parse().unwrap()])
    };
    let proxy = start(config).await;
    let shown = json(&proxy, "/config").await;
    for (key, value) in [
        ("service", Value::from("cart")),
        ("instance", "cart-1".into()),
        ("version", "v3".into()),
        ("app", Value::Null),
        ("protocol", "http".into()),
        ("balancer", "least-request".into()),
        ("timeout_ms", 2_000.into()),
        ("retries", 2.into()),
        ("retry_budget_pct", 20.0.into()),
        ("local_breaker", false.into()),
        ("collector", "127.0.0.1:9".into()),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    assert_eq!(shown["static_endpoints"]["payments"], 1);
    assert_eq!(shown["outbound"][0]["name"], "payments");
}

#[tokio::test]
async fn endpoints_and_breakers_are_listed() {
    let app = App::always(200, "").await;
    let proxy = start(cart(&[app.address])).await;
    let endpoints = json(&proxy, "/endpoints").await;
    let expected = serde_json::json!([{
        "service": "payments", "instance": "p1", "address": app.address.to_string(), "version": "v2",
        "zone": "", "protocol": "http", "share": 1.0, "in_flight": 0, "source": "file",
    }]);
    assert_eq!(endpoints["endpoints"], expected);
    let breakers = json(&proxy, "/breakers").await;
    let breakers = breakers["breakers"].as_array().unwrap();
    let shown: Vec<_> = breakers.iter().map(|b| (&b["service"], &b["endpoint"], &b["state"])).collect();
    let (service, closed) = (Value::from("payments"), Value::from("closed"));
    assert!(shown.contains(&(&service, &Value::Null, &closed)), "the edge: {shown:?}");
    assert!(shown.contains(&(&service, &Value::from("p1"), &closed)), "the endpoint: {shown:?}");
}

#[tokio::test]
async fn the_metrics_page_keeps_to_prometheus_format() {
    let app = App::always(200, "hello").await;
    let proxy = start(cart(&[app.address])).await;
    for _ in 0..3 {
        get(to_payments(&proxy), "/").await;
    }
    let page = page(&proxy, "/metrics").await;
    let mut family = "";
    let mut families = std::collections::HashSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} under {family}");
            let (labels, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(labels.contains('{'), labels.ends_with('}'), "{line}");
        }
    }
    for expected in [
        "weir_proxy_telemetry_dropped_total",
        "weir_proxy_queue_length",
        "weir_proxy_collector_connected",
        "weir_proxy_breaker_state",
        "weir_proxy_hints_in_force",
        "istio_requests_total",
        "istio_request_duration_milliseconds",
        "istio_request_bytes",
        "istio_response_bytes",
    ] {
        assert!(families.contains(expected), "{expected} in {families:?}");
    }
    let labels = ["destination_service=\"payments\"", "response_code=\"200\"", "reporter=\"source\""];
    assert!((metric(&proxy, "istio_requests_total", &labels).await - 3.0).abs() < 1e-9);
    assert!((metric(&proxy, "istio_response_bytes_sum", &labels).await - 15.0).abs() < 1e-9);
    assert!((metric(&proxy, "istio_response_bytes_bucket", &["le=\"+Inf\""]).await - 3.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_clear_error() {
    let app = App::always(200, "").await;
    let config = Config { admin: Some(app.address), ..cart(&[]) };
    let clock = weir_model::Clock::new(|| weir_model::UnixNanos(1));
    let error = weir_proxy_tap::start(config, clock, 1).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on `{}` for --admin", app.address)), "{error}");
}

#[tokio::test]
async fn the_ready_line_names_every_listener() {
    let app = App::always(200, "").await;
    let proxy = start(Config { outbound: cart(&[]).outbound, ..payments(app.address) }).await;
    let expected = format!(
        "ready inbound={} outbound=payments={} admin={}",
        proxy.inbound.unwrap(),
        to_payments(&proxy),
        proxy.admin.unwrap()
    );
    assert_eq!((proxy.ready_line(), proxy.instance()), (expected, "payments-1"));
}
