//! Configuration: as written (file, environment, flags), then as meant ([`Config`]), with every mistake
//! listed at once.
//!
//! A flag wins over its `WEIR_*` variable, the variable over the file, the file over the default.

mod prometheus;
mod promql;
mod retention;
mod rules;
mod sampling;
mod units;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use weir_model::hint::Mode;
use weir_model::{TenantId, limits};
use weir_storage::{Ack, Acks, Retention, Samplings};

pub(crate) use promql::Promql;

use crate::features::Features;
use crate::{export, telemetry};

/// The configuration of `weir serve` as meant: validated, with defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Where tables and the write-ahead log live.
    pub(crate) data_dir: PathBuf,
    /// Whose telemetry arrives here.
    pub(crate) tenant: TenantId,
    /// OTLP/gRPC and the mesh protocol.
    pub(crate) otlp_grpc: SocketAddr,
    /// OTLP/HTTP.
    pub(crate) otlp_http: SocketAddr,
    /// Everything people and tools read.
    pub(crate) http: SocketAddr,
    /// Whether addresses beyond loopback are allowed without TLS and credentials.
    pub(crate) insecure_listen: bool,
    /// Age at which hot rows are written to Parquet.
    pub(crate) flush_age: Duration,
    /// Size in bytes at which they are.
    pub(crate) flush_bytes: usize,
    /// How long rows are kept.
    pub(crate) retention: Retention,
    /// Which traces stay when their day is over.
    pub(crate) samplings: Samplings,
    /// What an answer to a sender of telemetry promises.
    pub(crate) acks: Acks,
    /// Which of its own spans the program makes, and where they go.
    pub(crate) telemetry: telemetry::Settings,
    /// What new hints ask of the proxies.
    pub(crate) hints: Mode,
    /// Prometheus' own configuration, and how the names in it are found.
    pub(crate) prometheus: prometheus::Settings,
    /// How PromQL is answered.
    pub(crate) promql: Promql,
    /// What is on that Prometheus has off by default.
    pub(crate) features: Features,
    /// Recording and alerting rules, and who is told of alerts.
    pub(crate) rules: crate::rules::Settings,
}

/// The keys that flags and variables can set, as typed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Overrides {
    /// Where tables and the write-ahead log live [default: ./weir-data]
    #[arg(long, env = "WEIR_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Whose telemetry arrives here [default: default]
    #[arg(long, env = "WEIR_TENANT", value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Address for OTLP/gRPC and the mesh protocol; port 0 picks one [default: 127.0.0.1:4317]
    #[arg(long, env = "WEIR_OTLP_GRPC", value_name = "ADDR")]
    pub(crate) otlp_grpc: Option<String>,
    /// Address for OTLP/HTTP [default: 127.0.0.1:4318]
    #[arg(long, env = "WEIR_OTLP_HTTP", value_name = "ADDR")]
    pub(crate) otlp_http: Option<String>,
    /// Address for the UI and every read API [default: 127.0.0.1:4319]
    #[arg(long, env = "WEIR_HTTP", value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Allow addresses beyond loopback without TLS and credentials
    #[arg(long, env = "WEIR_INSECURE_LISTEN")]
    pub(crate) insecure_listen: bool,
    /// Age at which hot rows are written to Parquet [default: 30s]
    #[arg(long, env = "WEIR_STORAGE_FLUSH_AGE", value_name = "DURATION")]
    pub(crate) flush_age: Option<String>,
    /// Size at which hot rows are written to Parquet [default: 128MiB]
    #[arg(long, env = "WEIR_STORAGE_FLUSH_BYTES", value_name = "SIZE")]
    pub(crate) flush_bytes: Option<String>,
    /// How long rows are kept, in days such as 30d, or forever [default: forever]
    #[arg(long, env = "WEIR_RETENTION_AGE", value_name = "DAYS")]
    pub(crate) retention_age: Option<String>,
    /// Size of a tenant's tables beyond which the oldest files go, such as 100GiB, or unbounded [default: unbounded]
    #[arg(long, env = "WEIR_RETENTION_SIZE", value_name = "SIZE")]
    pub(crate) retention_size: Option<String>,
    /// Share of ordinary traces that stay when their day is over; failed, slow and rare ones do anyway [default: 1]
    #[arg(long, env = "WEIR_SAMPLING_RATE", value_name = "SHARE")]
    pub(crate) sampling_rate: Option<String>,
    /// When telemetry is acknowledged: fsync (synced), os (handed to the system) or object (in a table) [default: fsync]
    #[arg(long, env = "WEIR_STORAGE_ACK", value_name = "MODE")]
    pub(crate) ack: Option<String>,
    /// Share of requests to Weir itself that are traced, from 0 to 1 [default: 0, and 0.01 with an endpoint]
    #[arg(long, env = "WEIR_TELEMETRY_SAMPLE", value_name = "SHARE")]
    pub(crate) telemetry_sample: Option<String>,
    /// OTLP/gRPC endpoint for Weir's own spans [default: its own tables]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) telemetry_endpoint: Option<String>,
    /// What new hints ask of the proxies: dry_run, advise or enforce [default: dry_run]
    #[arg(long, env = "WEIR_ANALYSIS_HINTS", value_name = "MODE")]
    pub(crate) hints: Option<String>,
    /// Prometheus' configuration file, as it is: what to scrape, rules, alerting [default: none]
    #[arg(long, env = "WEIR_PROMETHEUS_CONFIG", value_name = "FILE")]
    pub(crate) prometheus_config: Option<String>,
    /// Addresses of hosts that are scraped, whatever the DNS says, as in shop:10.0.0.7,cart:10.0.0.8 [default: none]
    #[arg(long, env = "WEIR_PROMETHEUS_ADD_HOST", value_name = "HOST:IP")]
    pub(crate) add_host: Option<String>,
    /// DNS server for dns_sd_configs [default: the system's]
    #[arg(long, env = "WEIR_PROMETHEUS_DNS_SERVER", value_name = "IP[:PORT]")]
    pub(crate) dns_server: Option<String>,
    /// How long a PromQL query may take [default: 2m]
    #[arg(long, env = "WEIR_PROMQL_TIMEOUT", value_name = "DURATION")]
    pub(crate) promql_timeout: Option<String>,
    /// Samples that a PromQL query may hold [default: 50000000]
    #[arg(long, env = "WEIR_PROMQL_MAX_SAMPLES", value_name = "COUNT")]
    pub(crate) promql_max_samples: Option<String>,
    /// Series that a selector in a PromQL query may match [default: 1000000]
    #[arg(long, env = "WEIR_PROMQL_MAX_SERIES", value_name = "COUNT")]
    pub(crate) promql_max_series: Option<String>,
    /// Queries that run at once; others wait [default: 20]
    #[arg(long, env = "WEIR_PROMQL_MAX_CONCURRENCY", value_name = "COUNT")]
    pub(crate) promql_max_concurrency: Option<String>,
    /// How long a sample stands for its series in PromQL [default: 5m]
    #[arg(long, env = "WEIR_PROMQL_LOOKBACK_DELTA", value_name = "DURATION")]
    pub(crate) promql_lookback_delta: Option<String>,
    /// Features of Prometheus to turn on, by Prometheus' names, with commas between them
    #[arg(long, env = "WEIR_ENABLE_FEATURE", value_name = "NAME,…")]
    pub(crate) enable_feature: Vec<String>,
}

/// Something wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The key, with a dot between table and key.
    path: String,
    /// What is wrong and what was expected.
    problem: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file `{path}`: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file `{path}` is not valid TOML: {problem}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        problem: String,
    },
    /// Keys or values are wrong.
    #[error("the configuration has {} mistake{}:{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, Listed(.0))]
    Mistakes(Vec<Mistake>),
}

struct Listed<'a>(&'a [Mistake]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {}: {}", mistake.path, mistake.problem))
    }
}

/// Values by path, as text, wherever they were written.
#[derive(Debug, Default)]
struct Written(BTreeMap<String, String>);

/// Reads the file, if any, lays the overrides over it, and says what it all means.
pub(crate) fn load(file: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigError> {
    let mut written = Written::default();
    let mut mistakes = vec![];
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let table = text
            .parse::<toml::Table>()
            .map_err(|e| ConfigError::NotToml { path: path.to_owned(), problem: e.to_string() })?;
        written.add_table("", table, &mut mistakes);
    }
    written.add_overrides(overrides);
    let mut config = written.into_config(mistakes)?;
    // What a file names is found from where the file is.
    config.rules.set_directory(file.and_then(Path::parent).unwrap_or(Path::new("")));
    Ok(config)
}

impl Written {
    fn add_table(&mut self, prefix: &str, table: toml::Table, mistakes: &mut Vec<Mistake>) {
        for (key, value) in table {
            let path = format!("{prefix}{key}");
            let text = match value {
                toml::Value::Table(inner) => {
                    self.add_table(&format!("{path}."), inner, mistakes);
                    continue;
                }
                toml::Value::String(text) => text,
                toml::Value::Boolean(_) | toml::Value::Integer(_) | toml::Value::Float(_) => {
                    value.to_string()
                }
                // A list of texts, one a line.
                toml::Value::Array(items)
                    if LISTS.contains(&path.as_str()) && items.iter().all(toml::Value::is_str) =>
                {
                    items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join("\n")
                }
                other => {
                    let problem =
                        format!("expected text, a number or a truth value, found {}", other.type_str());
                    mistakes.push(Mistake { path, problem });
                    continue;
                }
            };
            self.0.insert(path, text);
        }
    }

    fn add_overrides(&mut self, overrides: Overrides) {
        let insecure = overrides.insecure_listen.then(|| "true".to_owned());
        let features = Some(overrides.enable_feature.join(",")).filter(|names| !names.is_empty());
        for (path, value) in [
            ("data_dir", overrides.data_dir),
            ("tenant", overrides.tenant),
            ("otlp_grpc", overrides.otlp_grpc),
            ("otlp_http", overrides.otlp_http),
            ("http", overrides.http),
            ("insecure_listen", insecure),
            ("storage.flush_age", overrides.flush_age),
            ("storage.flush_bytes", overrides.flush_bytes),
            ("retention.age", overrides.retention_age),
            ("retention.size", overrides.retention_size),
            ("sampling.rate", overrides.sampling_rate),
            ("storage.ack", overrides.ack),
            ("telemetry.sample", overrides.telemetry_sample),
            ("telemetry.endpoint", overrides.telemetry_endpoint),
            ("analysis.hints", overrides.hints),
            ("prometheus.config", overrides.prometheus_config),
            ("prometheus.add_host", overrides.add_host),
            ("prometheus.dns_server", overrides.dns_server),
            ("promql.timeout", overrides.promql_timeout),
            ("promql.max_samples", overrides.promql_max_samples),
            ("promql.max_series", overrides.promql_max_series),
            ("promql.max_concurrency", overrides.promql_max_concurrency),
            ("promql.lookback_delta", overrides.promql_lookback_delta),
            ("enable_feature", features),
        ] {
            if let Some(value) = value {
                self.0.insert(path.to_owned(), value);
            }
        }
    }

    fn into_config(mut self, mistakes: Vec<Mistake>) -> Result<Config, ConfigError> {
        let mut take = Take { written: &mut self.0, mistakes };
        let mut config = Config {
            data_dir: take.value("data_dir", "a folder", PathBuf::from("weir-data"), |t| {
                (!t.is_empty()).then(|| t.into())
            }),
            tenant: take.value(
                "tenant",
                "a name of at most 64 letters, digits, `-` and `_`",
                TenantId::default(),
                TenantId::new,
            ),
            otlp_grpc: take.address("otlp_grpc", 4317),
            otlp_http: take.address("otlp_http", 4318),
            http: take.address("http", 4319),
            insecure_listen: take.value("insecure_listen", "true or false", false, |t| t.parse().ok()),
            flush_age: take.value(
                "storage.flush_age",
                "a duration from 100ms to 1h, as in `30s`",
                limits::FLUSH_AGE,
                |t| {
                    units::duration(t)
                        .filter(|d| (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(d))
                },
            ),
            flush_bytes: take.value(
                "storage.flush_bytes",
                "a size from 1MiB to 1GiB, as in `128MiB`",
                limits::FLUSH_BYTES,
                |t| units::bytes(t).filter(|b| (1 << 20..=1 << 30).contains(b)),
            ),
            retention: take.retention(),
            samplings: take.samplings(),
            acks: take.acks(),
            telemetry: take.telemetry(),
            prometheus: take.prometheus(),
            rules: take.rules(),
            hints: take.value("analysis.hints", "dry_run, advise or enforce", Mode::DryRun, |t| match t {
                "dry_run" => Some(Mode::DryRun),
                "advise" => Some(Mode::Advise),
                "enforce" => Some(Mode::Enforce),
                _ => None,
            }),
            promql: take.promql(),
            features: take
                .value("enable_feature", "names", Features::default(), |text| Some(Features::named(text))),
        };
        take.refuse_open_doors(&mut config);
        let Take { mut mistakes, .. } = take;
        mistakes.extend(self.0.into_keys().map(|path| Mistake {
            problem: "no such key; examples/weir.toml lists them all".to_owned(),
            path,
        }));
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Mistakes(mistakes)) }
    }
}

/// Keys whose values are lists of texts.
const LISTS: [&str; 2] = ["alerts.alertmanagers", "rules.files"];
/// Share of own requests that are traced where their spans have an endpoint to go to.
const SAMPLE: f64 = 0.01;

/// Takes values out of what was written and collects what is wrong with them.
struct Take<'a> {
    written: &'a mut BTreeMap<String, String>,
    mistakes: Vec<Mistake>,
}

impl Take<'_> {
    fn value<T>(
        &mut self,
        path: &str,
        expected: &str,
        default: T,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.written.remove(path) else { return default };
        parse(&text).unwrap_or_else(|| {
            self.mistake(path, format!("expected {expected}, found `{text}`"));
            default
        })
    }

    /// `storage.ack`, and `tenants.NAME.ack` of those who differ.
    fn acks(&mut self) -> Acks {
        const EXPECTED: &str = "fsync, os or object";
        let default = self.value("storage.ack", EXPECTED, Ack::default(), Ack::parse);
        let of_tenants = |path: &String| path.starts_with("tenants.") && path.ends_with(".ack");
        let paths: Vec<String> = self.written.keys().filter(|path| of_tenants(path)).cloned().collect();
        let mut tenants = HashMap::new();
        for path in paths {
            let ack = self.value(&path, EXPECTED, default, Ack::parse);
            let name = path.strip_prefix("tenants.").and_then(|rest| rest.strip_suffix(".ack"));
            if let Some(tenant) = self.tenant(&path, name.unwrap_or_default()) {
                tenants.insert(tenant, ack);
            }
        }
        Acks { default, tenants }
    }

    /// The tenant that a part of `path` names.
    fn tenant(&mut self, path: &str, name: &str) -> Option<TenantId> {
        let tenant = TenantId::new(name);
        if tenant.is_none() {
            self.mistake(path, format!("`{name}` is no name of a tenant"));
        }
        tenant
    }

    fn telemetry(&mut self) -> telemetry::Settings {
        let address = |text: &str| export::endpoint(text).map(|_| Some(text.to_owned()));
        let endpoint = self.value(
            "telemetry.endpoint",
            "an address and port, as in `http://127.0.0.1:4317`",
            None,
            |text| if text.is_empty() { Some(None) } else { address(text) },
        );
        let share = |text: &str| text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        let default = if endpoint.is_some() { SAMPLE } else { 0.0 };
        let sample = self.value("telemetry.sample", "a share from 0 to 1", default, share);
        telemetry::Settings { sample, endpoint }
    }

    fn address(&mut self, path: &str, port: u16) -> SocketAddr {
        let default = SocketAddr::from(([127, 0, 0, 1], port));
        let expected = format!("an address and port, as in `{default}`");
        self.value(path, &expected, default, |text| text.parse().ok())
    }

    fn refuse_open_doors(&mut self, config: &mut Config) {
        let doors = [("otlp_grpc", config.otlp_grpc), ("otlp_http", config.otlp_http), ("http", config.http)];
        for (path, address) in doors {
            if !address.ip().is_loopback() && !config.insecure_listen {
                self.mistake(
                    path,
                    format!(
                        "`{address}` is reachable from other machines and there is no TLS and no login yet; \
                         use a loopback address, or say --insecure-listen"
                    ),
                );
            }
        }
    }

    fn mistake(&mut self, path: &str, problem: String) {
        self.mistakes.push(Mistake { path: path.to_owned(), problem });
    }
}

#[cfg(test)]
mod tests;
