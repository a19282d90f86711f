//! The pages for people and tools.

use std::io::{Read as _, Write as _};

use http::Method;
use http_body_util::BodyExt;
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
async fn what_is_no_request_runs_beside_those_that_serve() {
    let app = App::always(200, "app").await;
    let beside = Some(weir_proxy_tap::beside().unwrap());
    let proxy = start(Config { beside, ..cart(&[app.address]) }).await;
    let admin = proxy.admin.unwrap();
    let read = move || -> std::io::Result<String> {
        let mut page = std::net::TcpStream::connect(admin)?;
        page.set_read_timeout(Some(DEADLINE))?;
        page.write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        page.read_to_string(&mut text)?;
        Ok(text)
    };
    // The thread that serves requests does nothing while it waits here.
    let page = std::thread::spawn(read).join().unwrap().unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("weir_proxy_update_duration_seconds_count{source=\"file\"} 0"), "{page}");
    assert_eq!(get(to_payments(&proxy), "/").await.text(), "app");
    proxy.shutdown().await;
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
async fn every_setting_is_shown() {
    let resolve = weir_proxy_tap::config::Target::parse("dns://ledger.example:80").unwrap();
    let config = Config {
        resolve: [("ledger".to_owned(), resolve)].into(),
        http_proxy: Some(any_port()),
        policy_file: Some("policy.toml".into()),
        mark: Some(7),
        ..cart(&[])
    };
    let proxy = start(config).await;
    let shown = json(&proxy, "/config").await;
    for (key, value) in [
        ("resolve", serde_json::json!({ "ledger": "dns://ledger.example:80" })),
        ("http_proxy", "127.0.0.1:0".into()),
        ("policy_file", "policy.toml".into()),
        ("mark", 7.into()),
        ("workers", 1.into()),
        ("unknown_hosts", "allow".into()),
        ("tls", Value::Null),
        ("capture", Value::Null),
        ("drain_ms", 5_000.into()),
        ("drain_delay_ms", 100.into()),
        ("takeover", Value::Null),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
}

#[tokio::test]
async fn the_filter_of_log_lines_is_told_and_changed() {
    let (filter, handle) = tracing_subscriber::reload::Layer::<_, tracing_subscriber::Registry>::new(
        tracing_subscriber::EnvFilter::new("info"),
    );
    let log = Some(weir_proxy_tap::LogFilter::reloading(handle));
    let proxy = start(Config { log, ..cart(&[]) }).await;
    let admin = proxy.admin.unwrap();
    assert_eq!(json(&proxy, "/log-level").await["filter"], "info");
    let say = async |method: Method, text: &'static str, origin: Option<&str>| {
        let mut say = request(method, "/log-level");
        if let Some(origin) = origin {
            say = say.header("origin", origin);
        }
        ask(admin, say.body(http_body_util::Full::new(text.into()).boxed()).unwrap()).await
    };
    assert_eq!(say(Method::PUT, "warn,weir_proxy_tap=debug\n", None).await.status, 200);
    let told = json(&proxy, "/log-level").await["filter"].as_str().unwrap().to_owned();
    assert!(told.contains("weir_proxy_tap=debug") && told.contains("warn"), "{told}");
    let answer = say(Method::POST, "a=b=c", None).await;
    assert!(answer.status == 400 && answer.text().contains("invalid_filter"), "{}", answer.text());
    assert_eq!(say(Method::POST, "error", Some("http://shop.example")).await.status, 403);
    let long = Box::leak("x".repeat(5_000).into_boxed_str());
    assert_eq!(say(Method::POST, long, None).await.status, 400);
    assert_eq!(json(&proxy, "/log-level").await["filter"], told, "what was wrong changed nothing");
    drop(filter);
    let without = start(cart(&[])).await;
    assert_eq!(get(without.admin.unwrap(), "/log-level").await.status, 501);
}

#[tokio::test]
async fn the_certificates_are_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "shop authority");
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(authority, authority_key).unwrap();
    let mut cart_params =
        rcgen::CertificateParams::new(vec!["cart".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    let uri = "spiffe://shop/ns/default/sa/cart".try_into().unwrap();
    cart_params.subject_alt_names.push(rcgen::SanType::URI(uri));
    cart_params.distinguished_name.push(rcgen::DnType::CommonName, "cart");
    cart_params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    cart_params.not_after = rcgen::date_time_ymd(2096, 3, 4);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = cart_params.signed_by(&key, &authority).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = weir_proxy_tap::config::TlsFiles {
        cert: file("cert.pem", own.pem()),
        key: file("key.pem", key.serialize_pem()),
        ca: file("ca.pem", authority.pem()),
    };
    let tls = Some(weir_proxy_tap::config::TlsConfig { files, plaintext: false });
    let proxy = start(Config { tls, ..cart(&[]) }).await;
    let shown = json(&proxy, "/certs").await;
    let chain = &shown["chain"][0];
    assert!(chain["subject"].as_str().unwrap().contains("CN=cart"), "{shown}");
    assert!(chain["issuer"].as_str().unwrap().contains("CN=shop authority"), "{shown}");
    let names =
        serde_json::json!(["DNS:cart", "IP Address:10.0.0.1", "URI:spiffe://shop/ns/default/sa/cart"]);
    assert_eq!(chain["alternative_names"], names);
    assert_eq!(chain["not_before"], "2026-01-02T00:00:00Z");
    assert_eq!(chain["not_after"], "2096-03-04T00:00:00Z");
    assert!(chain["expires_in_s"].as_i64().unwrap() > 0);
    assert_eq!((&chain["is_ca"], &shown["authorities"][0]["is_ca"]), (&false.into(), &true.into()));
    assert!(shown["files"]["key"].as_str().unwrap().ends_with("key.pem"));
    assert!(!shown.to_string().contains("PRIVATE"));
    let without = start(cart(&[])).await;
    assert_eq!(json(&without, "/certs").await["chain"], serde_json::json!([]));
}

#[tokio::test]
async fn connections_and_malformed_requests_are_counted() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let app = App::always(200, "").await;
    let proxy = start(cart(&[app.address])).await;
    let mut stream = tokio::net::TcpStream::connect(to_payments(&proxy)).await.unwrap();
    let label = ["listener=\"outbound/payments\""];
    let open = async || metric(&proxy, "weir_proxy_connections", &label).await;
    until("one connection", async || (open().await == 1.0).then_some(())).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    drop(stream);
    until("no connection", async || (open().await == 0.0).then_some(())).await;
    assert!((metric(&proxy, "weir_proxy_connections_accepted_total", &label).await - 1.0).abs() < 1e-9);
    assert!((metric(&proxy, "weir_proxy_malformed_requests_total", &[]).await - 1.0).abs() < 1e-9);
    assert!(metric(&proxy, "weir_proxy_connections", &["listener=\"admin\""]).await >= 1.0);
}

#[tokio::test]
async fn endpoints_and_breakers_are_listed() {
    let app = App::always(200, "").await;
    let proxy = start(cart(&[app.address])).await;
    let endpoints = json(&proxy, "/endpoints").await;
    let expected = serde_json::json!([{
        "service": "payments", "instance": "p1", "address": app.address.to_string(), "version": "v2",
        "region": "", "zone": "", "namespace": "", "labels": {}, "weight": 1, "priority": 0, "protocol": "http",
        "share": 1.0, "healthy": true, "check": null, "in_flight": 0, "source": "file",
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
        "weir_proxy_global_rate_limit_requests_total",
        "weir_proxy_global_rate_limit_keys_dropped_total",
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
