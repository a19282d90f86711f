//! Rules as the configuration names them: files found and read, receivers of alerts made ready.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use weir_model::limits::{NOTIFY_TIMEOUT, RULES};
use weir_model::prometheus;
use weir_query::promql::features::Features;
use weir_query::rules::file::{self, Group};
use weir_query::rules::notify::{Kind, Notifier, Receiver};
use weir_query::rules::{Mistake, Timing};
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

/// Who is told of alerts.
pub(crate) fn notifier(settings: &Settings) -> anyhow::Result<Notifier> {
    let client = client(NOTIFY_TIMEOUT)?;
    let alertmanagers = settings.alertmanagers.iter().map(|address| {
        let url = format!("{}/api/v2/alerts", address.trim_end_matches('/'));
        Receiver::new(Kind::Alertmanager, url, client.clone())
    });
    let webhook =
        settings.webhook.iter().map(|url| Receiver::new(Kind::Webhook, url.clone(), client.clone()));
    let receivers = alertmanagers.chain(webhook).collect();
    Ok(Notifier::new(receivers, settings.external_labels.clone(), Vec::new()))
}

fn client(timeout: Duration) -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder().timeout(timeout).build();
    client.context("cannot make a client for the receivers of alerts")
}
