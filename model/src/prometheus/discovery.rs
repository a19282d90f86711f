//! Where targets are found: written down, in files, in the DNS, at an HTTP server, in Consul.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::global::labels;
use super::http::{HttpClient, is_url};
use super::names::NameScheme;
use super::relabel::Labels;
use super::secret::{Secret, Sourced};
use super::{BasicAuth, element, unsupported};
use crate::yaml::{Document, Fields, Mistakes, Node};

/// One way in which the targets of a job are found.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// Written down.
    Static(Vec<Group>),
    /// In files that are read again when they change.
    File(FileDiscovery),
    /// Records of the DNS.
    Dns(DnsDiscovery),
    /// A list from an HTTP server.
    Http(Box<HttpDiscovery>),
    /// Services of Consul.
    Consul(Box<ConsulDiscovery>),
}

/// Targets that share labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// The labels of each target, `__address__` among them.
    pub targets: Vec<Labels>,
    /// Labels of all of them, where they have not their own.
    pub labels: Labels,
}

/// The label that says where a target listens.
pub const ADDRESS: &str = "__address__";

impl Group {
    /// Targets at `addresses` that share `labels`.
    pub fn new(addresses: Vec<String>, labels: Labels) -> Self {
        let targets = addresses.into_iter().map(|address| Labels::from([(ADDRESS.to_owned(), address)]));
        Self { targets: targets.collect(), labels }
    }

    /// Reads the groups in a file of targets, in YAML or JSON, which is YAML too.
    pub fn parse(text: &str) -> Result<Vec<Self>, Mistakes> {
        let document = Document::parse(text)?;
        let items = document.root().map(|root| root.items()).unwrap_or_default();
        let groups = items.into_iter().filter_map(|node| Self::read(&node)).collect();
        document.finish().map(|_| groups)
    }

    fn read(node: &Node<'_>) -> Option<Self> {
        let mut fields = element(node)?;
        let targets = fields.texts("targets");
        let labels = labels(&mut fields, "labels", NameScheme::Utf8);
        fields.finish();
        Some(Self::new(targets, labels))
    }
}

/// An element of `file_sd_configs`.
#[derive(Debug, Clone, PartialEq)]
pub struct FileDiscovery {
    /// Patterns with `*` in their last part.
    pub files: Vec<PathBuf>,
    /// How often they are read even if no change was seen.
    pub refresh_interval: Duration,
}

/// An element of `dns_sd_configs`.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsDiscovery {
    /// Names to look up.
    pub names: Vec<String>,
    /// What is looked up.
    pub record: Record,
    /// The port, of records that have none.
    pub port: u16,
    /// How often.
    pub refresh_interval: Duration,
}

/// A type of DNS records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Servers of a service with their ports.
    Srv,
    /// Mail servers.
    Mx,
    /// Name servers.
    Ns,
}

/// An element of `http_sd_configs`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpDiscovery {
    /// Where the list is.
    pub url: String,
    /// How often it is asked for.
    pub refresh_interval: Duration,
    /// How.
    pub client: HttpClient,
}

/// An element of `consul_sd_configs`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsulDiscovery {
    /// Host and port.
    pub server: String,
    /// What goes before `/v1`.
    pub path_prefix: String,
    /// `http` or `https`.
    pub scheme: String,
    /// An ACL token.
    pub token: Option<Secret>,
    /// The data center, if not the server's own.
    pub datacenter: Option<String>,
    /// Of Consul Enterprise.
    pub namespace: Option<String>,
    /// Of Consul Enterprise.
    pub partition: Option<String>,
    /// What goes between the tags of a service in its label.
    pub tag_separator: String,
    /// Services to take; all where none is named.
    pub services: Vec<String>,
    /// Tags that a service must have.
    pub tags: Vec<String>,
    /// Metadata that a node must have.
    pub node_meta: Vec<(String, String)>,
    /// An expression for the catalog.
    pub filter: Option<String>,
    /// An expression for the health of services.
    pub health_filter: Option<String>,
    /// Whether any server may answer, not the leader alone.
    pub allow_stale: bool,
    /// The least time between two looks.
    pub refresh_interval: Duration,
    /// How.
    pub client: HttpClient,
}

/// What Prometheus finds targets with and this program does not.
const OTHERS: [&str; 30] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "digitalocean_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "elasticache_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "msk_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "rds_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
];
/// See [`OTHERS`].
const MORE_OTHERS: [&str; 1] = ["vultr_sd_configs"];

impl Discovery {
    /// Takes all keys of discovery out of `fields`. Without rules that may rewrite them, addresses must be plain.
    pub(super) fn read(fields: &mut Fields<'_>, relabelled: bool) -> Vec<Self> {
        let mut found = Vec::new();
        let groups = fields.list("static_configs", |node| {
            let group = Group::read(&node)?;
            for address in group.targets.iter().filter_map(|target| target.get(ADDRESS)) {
                if address.contains('/') && !relabelled {
                    node.mistake(format!(
                        "`{address}` is no host and port; scheme and path have their own keys"
                    ));
                }
            }
            Some(group)
        });
        if !groups.is_empty() {
            found.push(Self::Static(groups));
        }
        found.extend(fields.list("file_sd_configs", |node| FileDiscovery::read(&node).map(Self::File)));
        found.extend(fields.list("dns_sd_configs", |node| DnsDiscovery::read(&node).map(Self::Dns)));
        found.extend(
            fields.list("http_sd_configs", |node| HttpDiscovery::read(&node).map(Box::new).map(Self::Http)),
        );
        found.extend(
            fields.list("consul_sd_configs", |node| {
                ConsulDiscovery::read(&node).map(Box::new).map(Self::Consul)
            }),
        );
        const NONE: &str = "finds no targets: this kind of discovery is not supported; static, file, DNS, HTTP and \
                            Consul are";
        unsupported(fields, &OTHERS, NONE);
        unsupported(fields, &MORE_OTHERS, NONE);
        found
    }

    pub(super) fn set_directory(&mut self, dir: &Path) {
        match self {
            Self::Static(_) | Self::Dns(_) => {}
            Self::File(file) => file.files.iter_mut().for_each(|path| *path = dir.join(&*path)),
            Self::Http(http) => http.client.set_directory(dir),
            Self::Consul(consul) => consul.client.set_directory(dir),
        }
    }
}

fn refresh_interval(fields: &mut Fields<'_>, default: u64) -> Duration {
    fields
        .duration("refresh_interval")
        .filter(|interval| !interval.is_zero())
        .unwrap_or(Duration::from_secs(default))
}

impl FileDiscovery {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut fields = element(node)?;
        let files = fields.list("files", |node| {
            let text = node.text()?;
            let wild = text.find('*').is_some_and(|at| text[at..].contains('/'));
            let lower = text.to_ascii_lowercase();
            if wild || ![".json", ".yml", ".yaml"].iter().any(|ending| lower.ends_with(ending)) {
                node.mistake(format!(
                    "expected a path that ends in `.json`, `.yml` or `.yaml`, with `*` in its last part only, found \
                     `{text}`"
                ));
            }
            Some(PathBuf::from(text))
        });
        if files.is_empty() {
            node.mistake("needs at least one path in `files`");
        }
        let discovery = Self { files, refresh_interval: refresh_interval(&mut fields, 300) };
        fields.finish();
        Some(discovery)
    }
}

impl DnsDiscovery {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut fields = element(node)?;
        let names = fields.texts("names");
        if names.is_empty() {
            node.mistake("needs at least one name in `names`");
        }
        let record = fields.take("type").map_or(Some(Record::Srv), |node| {
            node.parsed("`SRV`, `A`, `AAAA`, `MX` or `NS`", |text| match text.to_ascii_uppercase().as_str() {
                "SRV" => Some(Record::Srv),
                "A" => Some(Record::A),
                "AAAA" => Some(Record::Aaaa),
                "MX" => Some(Record::Mx),
                "NS" => Some(Record::Ns),
                _ => None,
            })
        });
        let port = fields.take("port").and_then(|node| node.parsed("a port", |text| text.parse().ok()));
        if record.is_some_and(|record| record != Record::Srv) && port.is_none() {
            node.mistake("needs a `port`, which only records of type `SRV` have themselves");
        }
        let discovery = Self {
            names,
            record: record.unwrap_or(Record::Srv),
            port: port.unwrap_or_default(),
            refresh_interval: refresh_interval(&mut fields, 30),
        };
        fields.finish();
        Some(discovery)
    }
}

impl HttpDiscovery {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut fields = element(node)?;
        let url = fields.take("url");
        if url.is_none() {
            node.mistake("`url` is missing");
        }
        let url = url.and_then(|url| {
            url.parsed("a URL of http or https with a host", |text| is_url(text).then(|| text.to_owned()))
        });
        let discovery = Self {
            url: url.unwrap_or_default(),
            refresh_interval: refresh_interval(&mut fields, 60),
            client: HttpClient::read(&mut fields),
        };
        fields.finish();
        Some(discovery)
    }
}

impl ConsulDiscovery {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut fields = element(node)?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut discovery = Self {
            server: fields.take_any("server").map_or(Some("localhost:8500".to_owned()), |n| n.text())?,
            path_prefix: fields.text("path_prefix").unwrap_or_default(),
            scheme: fields.text("scheme").unwrap_or_else(|| "http".to_owned()),
            token: fields.text("token").map(Secret::new),
            datacenter: filled(fields.text("datacenter")),
            namespace: filled(fields.text("namespace")),
            partition: filled(fields.text("partition")),
            tag_separator: fields.text("tag_separator").unwrap_or_else(|| ",".to_owned()),
            services: fields.texts("services"),
            tags: fields.texts("tags"),
            node_meta: fields.take("node_meta").map(|node| node.text_map()).unwrap_or_default(),
            filter: filled(fields.text("filter")),
            health_filter: filled(fields.text("health_filter")),
            allow_stale: fields.flag("allow_stale", true),
            refresh_interval: refresh_interval(&mut fields, 30),
            client: HttpClient::read(&mut fields),
        };
        if discovery.server.trim().is_empty() {
            node.mistake("`server` is empty");
        }
        let (username, password) = (filled(fields.text("username")), filled(fields.text("password")));
        if username.is_some() || password.is_some() {
            if discovery.client.basic_auth.is_some() {
                node.mistake("at most one of `basic_auth` and `username` with `password` may be set");
            }
            discovery.client.basic_auth = Some(BasicAuth {
                username: username.map(Sourced::Here),
                password: password.map(|text| Sourced::Here(Secret::new(text))),
            });
        }
        fields.finish();
        Some(discovery)
    }
}
