//! Prometheus' configuration file, from as written to as meant: whoever has one hands it over as it is.
//!
//! In: the text of a file in the format of Prometheus 3.14 ("Configuration", prometheus.io). Out: a [`Config`]
//! with every default filled in, or all mistakes at once by path, line and column. What Weir knows and does not do
//! is a warning, never silence. Files that it names are not read here, and no network is touched: whoever runs a
//! part of it does that. [`relabel`] applies relabelling rules to a set of labels.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::yaml::{Document, Fields, Mistakes, Node, Notice};

pub mod discovery;
pub mod relabel;
pub mod units;

mod alerting;
mod elsewhere;
mod global;
mod http;
mod names;
mod otlp;
mod scrape;
mod secret;

pub use alerting::{Alerting, Alertmanager};
pub use discovery::{Discovery, Group};
pub use global::Global;
pub use http::{Authorization, BasicAuth, Headers, HttpClient, OAuth2, Proxy, Tls, TlsVersion};
pub use names::{Escaping, NameScheme};
pub use otlp::{Otlp, Translation};
pub use relabel::{Labels, Relabel};
pub use scrape::{Limits, Protocol, ScrapeConfig};
pub use secret::{Secret, Sourced};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// What holds where nothing else is said.
    pub global: Global,
    /// Patterns of the files with recording and alerting rules.
    pub rule_files: Vec<PathBuf>,
    /// Patterns of files with further scrape configurations.
    pub scrape_config_files: Vec<PathBuf>,
    /// What is scraped, and how.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Where alerts go.
    pub alerting: Alerting,
    /// How OTLP metrics are named.
    pub otlp: Otlp,
    /// The file as it was written, in YAML, without comments and secrets.
    pub shown: String,
}

impl Config {
    /// Reads a configuration, and says what in it will not be done.
    pub fn parse(text: &str) -> Result<(Self, Vec<Notice>), Mistakes> {
        let document = Document::parse(text)?;
        let mut config = Self { shown: document.without_secrets(), ..Self::default() };
        if let Some(mut fields) = document.root().and_then(|root| root.fields()) {
            config.read(&mut fields);
            fields.finish();
        }
        Ok((config, document.finish()?))
    }

    fn read(&mut self, fields: &mut Fields<'_>) {
        if let Some(node) = fields.take("global") {
            self.global = Global::read(&node);
        }
        self.rule_files = patterns(fields, "rule_files");
        self.scrape_config_files = patterns(fields, "scrape_config_files");
        self.scrape_configs = scrape_configs(fields, &self.global);
        if let Some(node) = fields.take("alerting") {
            self.alerting = Alerting::read(&node, self.global.name_scheme);
        }
        if let Some(node) = fields.take("otlp") {
            self.otlp = Otlp::read(&node, self.global.name_scheme);
        }
        elsewhere::read(fields, self.global.name_scheme);
    }

    /// Takes relative paths as relative to `dir`, the folder of the file.
    pub fn set_directory(&mut self, dir: &Path) {
        for path in self.rule_files.iter_mut().chain(&mut self.scrape_config_files) {
            *path = dir.join(&*path);
        }
        self.scrape_configs.iter_mut().for_each(|job| job.set_directory(dir));
        self.alerting.set_directory(dir);
    }

    /// Replaces `$NAME` and `${NAME}` in the values of external labels; an absent variable is empty.
    pub fn expand_external_labels(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for value in self.global.external_labels.values_mut() {
            *value = units::expand(value, &variable);
        }
    }

    /// Reads a file that `scrape_config_files` names and adds its jobs.
    pub fn add_scrape_configs(&mut self, text: &str, dir: &Path) -> Result<Vec<Notice>, Mistakes> {
        let document = Document::parse(text)?;
        let mut jobs = Vec::new();
        if let Some(mut fields) = document.root().and_then(|root| root.fields()) {
            jobs = scrape_configs(&mut fields, &self.global);
            fields.finish();
            if let Some(root) = document.root() {
                for job in &jobs {
                    if self.scrape_configs.iter().any(|other| other.job_name == job.job_name) {
                        root.mistake(format!("another file has a job named `{}` already", job.job_name));
                    }
                }
            }
        }
        jobs.iter_mut().for_each(|job| job.set_directory(dir));
        let warnings = document.finish()?;
        self.scrape_configs.extend(jobs);
        Ok(warnings)
    }
}

/// File patterns, whose wildcards may only be in the last part.
fn patterns(fields: &mut Fields<'_>, key: &str) -> Vec<PathBuf> {
    fields.list(key, |node| {
        let text = node.text()?;
        let wild = text.find('*').is_some_and(|at| text[at..].contains('/'));
        if text.is_empty() || wild {
            node.mistake(format!("expected a path with `*` in its last part only, found `{text}`"));
            return None;
        }
        Some(PathBuf::from(text))
    })
}

fn scrape_configs(fields: &mut Fields<'_>, global: &Global) -> Vec<ScrapeConfig> {
    let mut names = HashSet::new();
    fields.list("scrape_configs", |node| {
        let job = ScrapeConfig::read(&node, global)?;
        if !job.job_name.is_empty() && !names.insert(job.job_name.clone()) {
            node.mistake(format!("another job is named `{}` already; names are unique", job.job_name));
        }
        Some(job)
    })
}

/// Notes the keys of `fields` that are known and have no effect here.
fn unsupported(fields: &mut Fields<'_>, keys: &[&str], why: &str) {
    for key in keys {
        if let Some(node) = fields.take_any(key).filter(|node| !node.is_null()) {
            node.warn(why);
        }
    }
}

/// A node that must be a map, in a list where Prometheus takes no null.
fn element<'a>(node: &Node<'a>) -> Option<Fields<'a>> {
    node.fields()
}

#[cfg(test)]
mod tests;
