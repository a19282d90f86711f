//! Targets that are services of Consul: its catalog says which there are, its health endpoint where; both are asked
//! by queries that wait for a change (developer.hashicorp.com, "Consul HTTP API", blocking queries).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_model::limits;
use weir_model::prometheus::discovery::{ADDRESS, ConsulDiscovery};
use weir_model::prometheus::{Group, Labels};

use super::super::client::{Hosts, Http, HttpError, body, ok};
use super::{Gone, Publish, pause, sanitized};

/// How long Consul may wait for a change …
const WAIT: Duration = Duration::from_secs(120);
/// … and how much longer its answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(15);

/// What one service has, and `None` when it is gone.
type Changed = (String, Option<Group>);

pub(super) async fn run(discovery: ConsulDiscovery, hosts: &Hosts, publish: Publish) -> Result<(), Gone> {
    let http = loop {
        match Http::new(&discovery.client, hosts, None).await {
            Ok(http) => break http,
            Err(error) => tracing::error!(%error, "Consul cannot be asked"),
        }
        pause(RETRY, &publish).await?;
    };
    let consul = Arc::new(Consul { config: discovery, http });
    let (changes_in, mut changes) = mpsc::channel(limits::DISCOVERY_QUEUE);
    let mut tasks = JoinSet::new();
    let watching_all = consul.config.services.is_empty() || !consul.config.tags.is_empty();
    if watching_all {
        tasks.spawn(Arc::clone(&consul).watch_catalog(changes_in));
    } else {
        for service in consul.config.services.clone() {
            tasks.spawn(Arc::clone(&consul).watch_service(service, changes_in.clone()));
        }
        drop(changes_in);
    }
    let mut services: BTreeMap<String, Group> = BTreeMap::new();
    loop {
        let changed = tokio::select! {
            changed = changes.recv() => changed,
            () = publish.updates.closed() => return Err(Gone),
        };
        let Some(changed) = changed else { return Err(Gone) };
        let mut next = Some(changed);
        while let Some((service, group)) = next {
            match group {
                Some(group) => services.insert(service, group),
                None => services.remove(&service),
            };
            next = changes.try_recv().ok();
        }
        publish.groups(services.values().cloned().collect()).await?;
    }
}

struct Consul {
    config: ConsulDiscovery,
    http: Http,
}

impl Consul {
    /// Watches which services there are, and each of them while it is there.
    async fn watch_catalog(self: Arc<Self>, changes: mpsc::Sender<Changed>) {
        let mut watched: HashMap<String, DropGuard> = HashMap::new();
        let mut index = 0;
        while !changes.is_closed() {
            let filter = self.config.filter.as_deref();
            let asked =
                self.ask::<BTreeMap<String, Vec<String>>>("catalog/services", &[], filter, index).await;
            let (services, next) = match asked {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::error!(%error, server = self.config.server, "Consul's services stay as they were");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            index = next;
            let wanted = |name: &String, tags: &[String]| {
                (self.config.services.is_empty() || self.config.services.contains(name))
                    && self.config.tags.iter().all(|tag| tags.contains(tag))
            };
            for (name, tags) in &services {
                if watched.contains_key(name) || !wanted(name, tags) {
                    continue;
                }
                if watched.len() >= limits::CONSUL_SERVICES {
                    tracing::error!(service = name, "too many services of Consul; this one is left out");
                    continue;
                }
                let stop = CancellationToken::new();
                let watch = Arc::clone(&self).watch_service(name.clone(), changes.clone());
                let stopped = stop.clone();
                tokio::spawn(async move { stopped.run_until_cancelled(watch).await });
                watched.insert(name.clone(), stop.drop_guard());
            }
            let gone: Vec<String> =
                watched.keys().filter(|name| !services.contains_key(*name)).cloned().collect();
            for name in gone {
                watched.remove(&name);
                if changes.send((name, None)).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(self.config.refresh_interval).await;
        }
    }

    async fn watch_service(self: Arc<Self>, service: String, changes: mpsc::Sender<Changed>) {
        let mut index = 0;
        while !changes.is_closed() {
            let tags: Vec<(&str, &str)> = self.config.tags.iter().map(|tag| ("tag", tag.as_str())).collect();
            let path = format!("health/service/{}", encoded(&service));
            let filter = self.config.health_filter.as_deref();
            match self.ask::<Vec<Entry>>(&path, &tags, filter, index).await {
                Ok((entries, next)) => {
                    index = next;
                    let group = self.group(&service, &entries);
                    if changes.send((service.clone(), Some(group))).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, service, "a service of Consul stays as it was");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            tokio::time::sleep(self.config.refresh_interval).await;
        }
    }

    /// Asks for `path`, waiting for a change since `index`; the answer and its index.
    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        filter: Option<&str>,
        index: u64,
    ) -> Result<(T, u64), String> {
        let config = &self.config;
        let url = self.url(path, parameters, filter, index);
        let told = |error: HttpError| error.to_string();
        let asked = async {
            let mut request = self.http.request(Method::GET, &url).await?;
            if let Some(token) = &config.token {
                request = request.header("X-Consul-Token", token.reveal());
            }
            let response = ok(request.send().await?)?;
            let index = response.headers().get("X-Consul-Index").and_then(|value| value.to_str().ok());
            let index = index.and_then(|text| text.parse().ok()).unwrap_or(0);
            Ok::<_, HttpError>((body(response, limits::DISCOVERY_BODY_BYTES as u64).await?, index))
        };
        let (body, next) = tokio::time::timeout(WAIT + PATIENCE, asked)
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(told)?;
        // An index that goes back means that Consul has begun anew.
        let next = if next < index { 0 } else { next };
        serde_json::from_slice(&body).map(|answer| (answer, next)).map_err(|error| error.to_string())
    }

    fn url(&self, path: &str, parameters: &[(&str, &str)], filter: Option<&str>, index: u64) -> String {
        let config = &self.config;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        let optional =
            [("dc", &config.datacenter), ("ns", &config.namespace), ("partition", &config.partition)];
        for (name, value) in optional {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        for (key, value) in &config.node_meta {
            query.append_pair("node-meta", &format!("{key}:{value}"));
        }
        if let Some(filter) = filter {
            query.append_pair("filter", filter);
        }
        if config.allow_stale {
            query.append_pair("stale", "");
        }
        if index > 0 {
            query.append_pair("index", &index.to_string());
            query.append_pair("wait", &format!("{}s", WAIT.as_secs()));
        }
        let prefix = config.path_prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("{}://{}{slash}{prefix}/v1/{path}?{}", config.scheme, config.server, query.finish())
    }

    fn group(&self, service: &str, entries: &[Entry]) -> Group {
        let separator = &self.config.tag_separator;
        let targets = entries.iter().map(|entry| {
            let mut labels = Labels::new();
            let mut meta = |key: &str, value: &str| {
                labels.insert(format!("__meta_consul_{key}"), value.to_owned());
            };
            let (node, instance) = (&entry.node, &entry.service);
            let tags: String =
                instance.tags().iter().fold(separator.clone(), |tags, tag| tags + tag + separator);
            let datacenter = node.datacenter.as_deref().or(self.config.datacenter.as_deref());
            meta("address", &node.address);
            meta("node", &node.node);
            meta("tags", &tags);
            meta("dc", datacenter.unwrap_or_default());
            meta("service", service);
            meta("service_address", &instance.address);
            meta("service_port", &instance.port.to_string());
            meta("service_id", &instance.id);
            meta("namespace", instance.namespace.as_deref().unwrap_or_default());
            meta("partition", instance.partition.as_deref().unwrap_or_default());
            meta("health", entry.health());
            for (key, value) in node.meta.iter().flatten() {
                meta(&format!("metadata_{}", sanitized(key)), value);
            }
            for (key, value) in instance.meta.iter().flatten() {
                meta(&format!("service_metadata_{}", sanitized(key)), value);
            }
            for (key, value) in node.tagged_addresses.iter().flatten() {
                meta(&format!("tagged_address_{}", sanitized(key)), value);
            }
            let host = if instance.address.is_empty() { &node.address } else { &instance.address };
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            labels.insert(ADDRESS.to_owned(), format!("{host}:{}", instance.port));
            labels
        });
        Group { targets: targets.collect(), labels: Labels::new() }
    }
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    #[serde(default)]
    address: String,
    datacenter: Option<String>,
    tagged_addresses: Option<BTreeMap<String, String>>,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID", default)]
    id: String,
    tags: Option<Vec<String>>,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    meta: Option<BTreeMap<String, String>>,
    namespace: Option<String>,
    partition: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default, rename = "CheckID")]
    id: String,
    #[serde(default)]
    status: String,
}

impl Service {
    fn tags(&self) -> &[String] {
        self.tags.as_deref().unwrap_or_default()
    }
}

impl Entry {
    /// The worst of its checks, as Consul's own client adds them up.
    fn health(&self) -> &'static str {
        let maintenance =
            |check: &Check| check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:");
        let any = |status: &str| self.checks.iter().any(|check| check.status == status);
        match () {
            () if self.checks.iter().any(maintenance) => "maintenance",
            () if any("critical") => "critical",
            () if any("warning") => "warning",
            () => "passing",
        }
    }
}
