//! Checks of endpoints, from both sides: what an application and its proxy see of them, and what they may decide.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::sleep;
use weir_proxy_tap::config::Protocol;
use weir_proxy_tap::{Config, Running};

use crate::support::*;

/// A policy of `payments` with checks of `/health`, and more.
fn checking(more: &str) -> String {
    format!(
        "[[service]]\nhost = \"payments\"\n[service.destination.health_check]\n\
         kind = {{ http = {{ path = \"/health\" }} }}\ninterval = \"20ms\"\n{more}\n"
    )
}

async fn checked(proxy: &Running) -> serde_json::Value {
    json(proxy, "/endpoints").await["endpoints"][0].clone()
}

#[tokio::test]
async fn checks_reach_the_application_and_are_no_calls_of_anybody() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let app = App::always(200, "").await;
        let receiving = start(Config { protocol, ..payments(app.address) }).await;
        let mut config = cart(&[receiving.inbound.unwrap()]);
        config.endpoints.values_mut().flatten().for_each(|one| one.protocol = protocol);
        let policy = toml::from_str(&checking("")).unwrap();
        let calling = start(Config { policy, ..config }).await;
        until("checks", async || (app.count() >= 3).then_some(())).await;
        let check = Arc::clone(&app.seen()[0]);
        assert_eq!((check.parts.uri.path(), check.header("x-weir-peer")), ("/health", None));
        assert_eq!(check.header("user-agent"), Some("weir-health-check"));
        assert!(metric(&receiving, "weir_proxy_health_checks_received_total", &[]).await >= 3.0);
        for proxy in [&calling, &receiving] {
            assert!(metric(proxy, "istio_requests_total", &[]).await < 0.5);
        }
        // Nobody who calls through a proxy is taken for one.
        let posing = request(Method::GET, "/pay").header("x-weir-peer", "weir-health-check");
        assert_eq!(ask(to_payments(&calling), posing.body(empty()).unwrap()).await.status, 200);
        let labels = ["source_canonical_service=\"cart\"", "reporter=\"destination\""];
        assert!((metric(&receiving, "istio_requests_total", &labels).await - 1.0).abs() < 1e-9);
    }
}

#[tokio::test]
async fn checks_are_encrypted_as_requests_are() {
    let authority = Authority::new();
    let app = App::always(200, "").await;
    let (own, other) = (authority.identity("cart"), authority.identity("payments"));
    for protocol in [Protocol::Http, Protocol::Http2] {
        let receiving = start(Config { tls: tls(other.clone()), protocol, ..payments(app.address) }).await;
        let mut config = cart(&[receiving.inbound.unwrap()]);
        config.endpoints.values_mut().flatten().for_each(|one| one.protocol = protocol);
        for mesh in [true, false] {
            let (more, files) = match mesh {
                true => (String::new(), tls(own.clone())),
                false => {
                    let files = format!("ca = {:?}\ncert = {:?}\nkey = {:?}", own.ca, own.cert, own.key);
                    (format!("[service.destination.tls]\nmode = \"mutual\"\n{files}"), None)
                }
            };
            let policy = toml::from_str(&checking(&more)).unwrap();
            let calling = start(Config { policy, tls: files, ..config.clone() }).await;
            let before = app.count();
            until("checks", async || (app.count() >= before + 3).then_some(())).await;
            let shown = checked(&calling).await;
            assert_eq!((&shown["healthy"], &shown["check"]["problem"]), (&true.into(), &().into()));
        }
    }
}

#[tokio::test]
async fn good_checks_do_not_bring_an_endpoint_back_that_fails_requests() {
    let sick = App::start(|seen: Arc<Seen>| async move {
        answer(if seen.parts.uri.path() == "/health" { 200 } else { 500 }, "sick")
    })
    .await;
    let well = App::always(200, "well").await;
    let policy = toml::from_str(&checking(
        "[service.destination]\nbalancer = \"round_robin\"\n[service.destination.outlier_detection]\n\
         consecutive_5xx_errors = 3\nbase_ejection_time = \"60s\"",
    ))
    .unwrap();
    let config = cart(&[sick.address, well.address]);
    let proxy = start(Config { policy, local_breaker: true, ..config }).await;
    let breaker = async || {
        let all = json(&proxy, "/breakers").await["breakers"].clone();
        all.as_array().unwrap().iter().find(|one| one["endpoint"] == "p1").unwrap().clone()
    };
    until("its ejection", async || {
        get(to_payments(&proxy), "/").await;
        (breaker().await["state"] == "open").then_some(())
    })
    .await;
    let checks = async || sick.seen().iter().filter(|seen| seen.parts.uri.path() == "/health").count();
    let before = checks().await;
    while checks().await < before + 20 {
        get(to_payments(&proxy), "/").await;
        sleep(Duration::from_millis(10)).await;
    }
    let after = breaker().await;
    assert_eq!((&after["state"], &after["ejections"]), (&"open".into(), &1.into()));
    let shown = checked(&proxy).await;
    assert_eq!(shown["healthy"], true, "by its checks it is: {shown}");
}
