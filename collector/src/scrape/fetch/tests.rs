//! A real server is asked, and what it was asked and what it answered is seen.

use std::io::Write as _;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use weir_model::prometheus::{Config, Labels};

use super::super::target::{Found, target};
use super::*;

fn zipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Answers with what it was asked for.
async fn echo(headers: HeaderMap) -> Response {
    let named = ["accept", "x-prometheus-scrape-timeout-seconds", "authorization", "x-own", "user-agent"];
    let of = |name: &&str| headers.get(*name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let text = named.iter().map(of).collect::<Vec<_>>().join("\n");
    let takes_gzip = headers.get("accept-encoding").is_some_and(|value| value == "gzip");
    if takes_gzip {
        let headers = [("content-type", "text/plain; version=0.0.4"), ("content-encoding", "gzip")];
        return (headers, zipped(&text)).into_response();
    }
    ([("content-type", "text/plain")], text).into_response()
}

async fn fetched(rest: &str, path: &str) -> Result<Exposition, String> {
    let moved = async || (StatusCode::FOUND, [("location", "/metrics")]);
    let router = Router::new()
        .route("/metrics", get(echo))
        .route("/moved", get(moved))
        .route("/html", get(async || ([("content-type", "text/html")], "a 1\n")))
        .route(
            "/bomb",
            get(async || {
                (
                    [("content-type", "text/plain"), ("content-encoding", "gzip")],
                    zipped(&"a 1\n".repeat(100_000)),
                )
            }),
        )
        .route("/failing", get(async || (StatusCode::SERVICE_UNAVAILABLE, "no")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let text =
        format!("scrape_configs:\n- job_name: x\n  metrics_path: {path}\n  scrape_timeout: 1500ms\n{rest}");
    let (config, _) = Config::parse(&text).unwrap();
    let job = &config.scrape_configs[0];
    // By a name that only the hosts know.
    let own = Labels::from([("__address__".to_owned(), format!("exporter.test:{}", address.port()))]);
    let Ok(Found::Target(target)) = target(job, &own, &Labels::new()) else { panic!() };
    let hosts = vec![("exporter.test".to_owned(), address.ip())];
    let http = Http::new(&job.client, &hosts, None).await.unwrap();
    fetch(&http, job, &accept(job), &target).await
}

#[tokio::test]
async fn a_target_is_asked_as_prometheus_asks() {
    let answer = fetched("", "/metrics").await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
    assert_eq!(lines[1..4], ["1.5", "-", "-"]);
    assert!(lines[4].starts_with("Weir/"));
    assert_eq!(answer.protocol, Protocol::Text004);
    let rest = "  basic_auth: {username: me, password: secret}\n  enable_compression: false\n  \
                http_headers: {X-Own: {values: [a]}}\n  scrape_protocols: [PrometheusProto]\n";
    let answer = fetched(rest, "/metrics").await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.starts_with("application/vnd.google.protobuf;proto="), "{text}");
    assert!(text.contains("\nBasic bWU6c2VjcmV0\na\n"), "{text}");
}

#[tokio::test]
async fn what_is_no_exposition_is_told() {
    assert!(fetched("", "/moved").await.is_ok(), "redirects are followed");
    for (rest, path, told) in [
        ("  follow_redirects: false\n", "/moved", "server returned HTTP status 302 Found"),
        ("", "/failing", "server returned HTTP status 503"),
        ("", "/html", "unsupported Content-Type `text/html`"),
        ("  body_size_limit: 1KB\n", "/bomb", "body size limit exceeded"),
    ] {
        let error = fetched(rest, path).await.unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    let fallback = fetched("  fallback_scrape_protocol: PrometheusText0.0.4\n", "/html").await.unwrap();
    assert_eq!(fallback.protocol, Protocol::Text004);
    assert_eq!(fetched("", "/bomb").await.unwrap().body.len(), 400_000);
}
