//! Rules as the configuration names them: files found and read, receivers of alerts made ready.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use http::StatusCode;
use tokio_util::sync::CancellationToken;
use weir_collector::scrape::{Hosts, Http, Scraper};
use weir_model::limits::{NOTIFY_TIMEOUT, RULES};
use weir_model::prometheus::{self, Alerting, Alertmanager};
use weir_query::promql::features::Features;
use weir_query::rules::file::{self, Group};
use weir_query::rules::notify::{Kind, Notifier, Post, Receiver, Told};
use weir_query::rules::{Environment, Mistake, Rules, Timing};
use weir_storage::Labels;

use crate::glob;

/// Which rules are evaluated, and who is told of alerts.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Settings {
    /// Patterns of rule files.
    pub(crate) files: Vec<PathBuf>,
    /// How rules are timed.
    pub(crate) timing: Timing,
    /// Addresses of Alertmanagers.
    pub(crate) alertmanagers: Vec<String>,
    /// The address of a webhook.
    pub(crate) webhook: Option<String>,
    /// Under which address people reach this server.
    pub(crate) external_url: Option<String>,
    /// Labels that everything sent from here carries.
    pub(crate) external_labels: Labels,
}

impl Settings {
    /// Takes relative patterns as relative to `dir`.
    pub(crate) fn set_directory(&mut self, dir: &Path) {
        for pattern in &mut self.files {
            *pattern = dir.join(&*pattern);
        }
    }

    /// With what Prometheus' own configuration says of rules.
    pub(crate) fn with_prometheus(mut self, config: &prometheus::Config) -> Self {
        if !config.rule_files.is_empty() {
            self.files.extend(config.rule_files.iter().cloned());
            self.timing.interval = config.global.evaluation_interval;
        }
        let labels = config.global.external_labels.iter();
        self.external_labels = Labels::new(labels.map(|(name, value)| (name.as_str(), value.as_str())));
        self
    }

    /// Under which address people reach the server that listens at `http`.
    pub(crate) fn external_url(&self, http: SocketAddr) -> String {
        self.external_url.clone().unwrap_or_else(|| format!("http://{http}"))
    }
}

/// The groups of all rule files; fails with every mistake in them.
pub(crate) fn groups(settings: &Settings) -> anyhow::Result<Vec<Group>> {
    let mut groups = Vec::new();
    let mut mistakes: Vec<Mistake> = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for pattern in &settings.files {
        let found = glob::files(pattern);
        if found.is_empty() {
            tracing::warn!("no rule file is named `{}`", pattern.display());
        }
        for path in found {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    for path in paths {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{name}`"))?;
        match file::parse(&name, &text, Features::NONE) {
            Ok(found) => groups.extend(found),
            Err(found) => mistakes.extend(found),
        }
    }
    if !mistakes.is_empty() {
        let all: Vec<String> = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
        bail!("rule files have {} mistakes:{}", all.len(), all.concat());
    }
    let rules: usize = groups.iter().map(|group| group.rules.len()).sum();
    if rules > RULES {
        bail!("there are {rules} rules, at most {RULES} are evaluated");
    }
    Ok(groups)
}

/// Keeps rules and receivers of alerts as the configuration says, until `stop`. `environment` says what else rules are
/// evaluated with.
pub(crate) async fn follow(
    settings: Settings,
    scraper: Scraper,
    rules: Rules,
    notifier: Notifier,
    environment: Environment,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (mut config, mut found) = (scraper.config(), scraper.alertmanagers());
    let mut is_new = true;
    loop {
        let current = Arc::clone(&config.borrow_and_update());
        let alertmanagers = Arc::clone(&found.borrow_and_update());
        let settings = settings.clone().with_prometheus(&current);
        // First, so that what rules say under a new configuration is told as it says.
        notifier.follow(told(&settings, &current.alerting, &alertmanagers).await?);
        if is_new {
            let reading = settings.clone();
            match tokio::task::spawn_blocking(move || groups(&reading)).await? {
                Ok(groups) => {
                    let (labels, timing) = (settings.external_labels.clone(), settings.timing.clone());
                    rules
                        .load(groups, Environment { external_labels: labels, timing, ..environment.clone() });
                }
                Err(error) => tracing::error!(%error, "the rules stay as they were"),
            }
        }
        is_new = tokio::select! {
            changed = config.changed() => changed.is_ok(),
            _ = found.changed() => false,
            () = stop.cancelled() => return Ok(()),
        };
    }
}

/// Who is told of alerts: those that Weir's own settings name, and the Alertmanagers `found` of each entry of
/// `alerting`.
async fn told(settings: &Settings, alerting: &Alerting, found: &[Vec<String>]) -> anyhow::Result<Told> {
    let client = reqwest::Client::builder().timeout(NOTIFY_TIMEOUT).build();
    let client: Arc<dyn Post> = Arc::new(client.context("cannot make a client for the receivers of alerts")?);
    let mut receivers: Vec<Receiver> = Vec::new();
    for address in &settings.alertmanagers {
        let url = format!("{}/api/v2/alerts", address.trim_end_matches('/'));
        receivers.push(Receiver::new(Kind::Alertmanager, url, Arc::clone(&client)));
    }
    if let Some(url) = &settings.webhook {
        receivers.push(Receiver::new(Kind::Webhook, url.clone(), Arc::clone(&client)));
    }
    for (entry, urls) in alerting.alertmanagers.iter().zip(found) {
        for url in urls {
            match Spoken::new(entry, url).await {
                Ok(spoken) => {
                    let receiver = Receiver::new(Kind::Alertmanager, url.clone(), Arc::new(spoken));
                    receivers.push(receiver.with_relabel(entry.alert_relabel.clone()));
                }
                Err(error) => tracing::error!(%error, url, "this Alertmanager cannot be told of alerts"),
            }
        }
    }
    Ok(Told {
        receivers: receivers.into_iter().map(Arc::new).collect(),
        external_labels: settings.external_labels.clone(),
        relabel: alerting.alert_relabel.clone(),
    })
}

/// How an Alertmanager of Prometheus' configuration is spoken to.
struct Spoken {
    http: Http,
    timeout: Duration,
}

impl Spoken {
    async fn new(entry: &Alertmanager, url: &str) -> anyhow::Result<Self> {
        let url = reqwest::Url::parse(url)?;
        let place = url.host_str().zip(url.port_or_known_default());
        Ok(Self { http: Http::new(&entry.client, &Hosts::new(), place).await?, timeout: entry.timeout })
    }
}

#[async_trait]
impl Post for Spoken {
    async fn post(&self, url: &str, body: &serde_json::Value) -> Result<StatusCode, String> {
        let posted = self.http.post_json(url, body.to_string().into_bytes(), self.timeout).await;
        posted.map_err(|error| error.to_string())
    }
}
