//! How the targets of a job are found: a task for each entry of its configuration, which says all it knows each
//! time that changes.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use weir_model::prometheus::{Discovery, Group};

use super::client::Hosts;

mod consul;
mod dns;
mod file;
mod http;

/// All targets that one entry has found.
#[derive(Debug)]
pub(super) struct Update {
    /// Which entry.
    pub(super) entry: usize,
    pub(super) groups: Vec<Group>,
}

/// Where updates of one entry go; a full queue makes it wait.
#[derive(Debug, Clone)]
pub(super) struct Publish {
    entry: usize,
    updates: mpsc::Sender<Update>,
}

/// Nobody listens any more.
#[derive(Debug)]
struct Gone;

impl Publish {
    pub(super) fn new(entry: usize, updates: mpsc::Sender<Update>) -> Self {
        Self { entry, updates }
    }

    async fn groups(&self, groups: Vec<Group>) -> Result<(), Gone> {
        self.updates.send(Update { entry: self.entry, groups }).await.map_err(|_| Gone)
    }
}

/// How names are found, where not as the system does it.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Names and the addresses they have here.
    pub hosts: Hosts,
    /// The DNS server for discovery, if not the system's.
    pub dns_server: Option<(IpAddr, u16)>,
}

/// Finds targets until nobody listens.
pub(super) async fn run(discovery: Discovery, names: Names, publish: Publish) {
    let result = match discovery {
        Discovery::Static(groups) => publish.groups(groups).await,
        Discovery::File(file) => file::run(file, publish).await,
        Discovery::Dns(dns) => dns::run(dns, &names, publish).await,
        Discovery::Http(http) => http::run(*http, &names.hosts, publish).await,
        Discovery::Consul(consul) => consul::run(*consul, &names.hosts, publish).await,
    };
    if result.is_err() {
        tracing::debug!("discovery ends with its job");
    }
}

/// A part of a label's name: what it may not have becomes an underscore.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// Waits for `pause`, but not for longer than somebody listens.
async fn pause(pause: Duration, publish: &Publish) -> Result<(), Gone> {
    tokio::select! {
        () = tokio::time::sleep(pause) => Ok(()),
        () = publish.updates.closed() => Err(Gone),
    }
}
