//! Targets that an HTTP server lists (prometheus.io, "HTTP SD").

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use reqwest::Method;
use weir_model::limits;
use weir_model::prometheus::discovery::HttpDiscovery;
use weir_model::prometheus::{Group, Labels};

use super::super::client::{Hosts, Http, HttpError, body, ok};
use super::{Gone, Publish, pause};

/// How long an answer may take, whatever the interval.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(serde::Deserialize)]
struct Listed {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: Option<Labels>,
}

pub(super) async fn run(discovery: HttpDiscovery, hosts: &Hosts, publish: Publish) -> Result<(), Gone> {
    loop {
        let asked = tokio::time::timeout(PATIENCE, ask(&discovery, hosts)).await;
        match asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(groups) => publish.groups(groups).await?,
            Err(error) => tracing::error!(url = discovery.url, error, "targets stay as they were"),
        }
        pause(discovery.refresh_interval, &publish).await?;
    }
}

async fn ask(discovery: &HttpDiscovery, hosts: &Hosts) -> Result<Vec<Group>, String> {
    let told = |error: HttpError| error.to_string();
    let client = Http::new(&discovery.client, hosts, None).await.map_err(told)?;
    let request = client.request(Method::GET, &discovery.url).await.map_err(told)?;
    let response = request
        .header(ACCEPT, "application/json")
        .header("X-Prometheus-Refresh-Interval-Seconds", discovery.refresh_interval.as_secs_f64().to_string())
        .send()
        .await
        .map_err(HttpError::from)
        .and_then(ok)
        .map_err(told)?;
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(format!("expected `application/json`, found `{essence}`"));
    }
    let body = body(response, limits::DISCOVERY_BODY_BYTES as u64).await.map_err(told)?;
    let listed: Vec<Listed> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let groups = listed.into_iter().map(|listed| {
        let mut labels = listed.labels.unwrap_or_default();
        labels.insert("__meta_url".to_owned(), discovery.url.clone());
        Group::new(listed.targets, labels)
    });
    Ok(groups.collect())
}
