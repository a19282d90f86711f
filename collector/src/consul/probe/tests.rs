use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use super::*;

fn http(url: String) -> HttpProbe {
    HttpProbe {
        url,
        method: "GET".into(),
        headers: vec![],
        body: String::new(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(10),
        tls_skip_verify: false,
        follow_redirects: true,
    }
}

#[tokio::test]
async fn a_request_finds_what_consul_would_find() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let long = "x".repeat(limits::AGENT_OUTPUT_BYTES * 3);
    let router = Router::new()
        .route("/well", get(async || "all is well"))
        .route("/busy", get(async || StatusCode::TOO_MANY_REQUESTS))
        .route("/ill", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/moved", get(async || axum::response::Redirect::to("/well")))
        .route("/long", get(async move || long))
        .route("/never", get(std::future::pending::<()>))
        .route(
            "/told",
            post(async |headers: axum::http::HeaderMap, body: String| format!("{:?} {body}", headers["x-a"])),
        );
    tokio::spawn(async move { axum::serve(listener, router).await });
    let prober = Prober::default();
    let url = |path: &str| format!("http://{at}{path}");
    for (path, status) in [
        ("/well", Status::Passing),
        ("/busy", Status::Warning),
        ("/ill", Status::Critical),
        ("/moved", Status::Passing),
        ("/nowhere", Status::Critical),
    ] {
        let (found, output) = prober.run(&Kind::Http(http(url(path)))).await;
        assert_eq!(found, status, "{path}: {output}");
    }
    let (_, output) = prober.run(&Kind::Http(http(url("/well")))).await;
    assert_eq!(output, format!("HTTP GET http://{at}/well: 200 OK Output: all is well"));
    let stay = HttpProbe { follow_redirects: false, ..http(url("/moved")) };
    assert_eq!(prober.run(&Kind::Http(stay)).await.0, Status::Critical);
    let told = HttpProbe {
        method: "POST".into(),
        headers: vec![("X-A".into(), "1".into())],
        body: "ping".into(),
        ..http(url("/told"))
    };
    let (found, output) = prober.run(&Kind::Http(told)).await;
    assert_eq!(found, Status::Passing);
    assert!(output.ends_with("\"1\" ping"), "{output}");
    let (_, output) = prober.run(&Kind::Http(http(url("/long")))).await;
    assert!(output.len() < limits::AGENT_OUTPUT_BYTES + 200, "{}", output.len());
    let slow = HttpProbe { timeout: Duration::from_millis(50), ..http(url("/never")) };
    assert_eq!(prober.run(&Kind::Http(slow)).await, (Status::Critical, "no answer within 50ms".into()));
}

#[tokio::test]
async fn a_connection_is_made_or_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let second = Duration::from_secs(1);
    let tcp = Kind::Tcp { address: address.clone(), interval: second, timeout: 10 * second };
    let prober = Prober::default();
    assert_eq!(prober.run(&tcp).await, (Status::Passing, format!("TCP connect {address}: Success")));
    drop(listener);
    let (found, output) = prober.run(&tcp).await;
    assert_eq!(found, Status::Critical);
    assert!(output.starts_with(&format!("TCP connect {address}: ")), "{output}");
}
