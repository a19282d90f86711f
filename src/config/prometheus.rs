//! The section `prometheus`: a configuration file of Prometheus, and how the names in it are found.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Take;

/// What `weir serve` does of what Prometheus does.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Settings {
    /// Prometheus' configuration file.
    pub(crate) config: Option<PathBuf>,
    /// Hosts that have these addresses here, whatever the DNS says.
    pub(crate) hosts: Vec<(String, IpAddr)>,
    /// The DNS server for discovery, if not the system's.
    pub(crate) dns_server: Option<(IpAddr, u16)>,
}

/// Where a DNS server listens.
const DNS_PORT: u16 = 53;

impl Take<'_> {
    pub(super) fn prometheus(&mut self) -> Settings {
        Settings {
            config: self.value("prometheus.config", "a file", None, |text| {
                Some(Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()))
            }),
            hosts: self.value(
                "prometheus.add_host",
                "hosts and their addresses, as in `shop:10.0.0.7,cart:[::1]`",
                Vec::new(),
                |text| text.split(',').filter(|part| !part.trim().is_empty()).map(host).collect(),
            ),
            dns_server: self.value(
                "prometheus.dns_server",
                "an address, as in `10.0.0.2` or `10.0.0.2:5353`",
                None,
                |text| if text.is_empty() { Some(None) } else { server(text).map(Some) },
            ),
        }
    }
}

/// `HOST:IP`, with or without brackets around the address.
fn host(text: &str) -> Option<(String, IpAddr)> {
    let (name, address) = text.trim().split_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    (!name.is_empty()).then(|| (name.to_owned(), address))
}

fn server(text: &str) -> Option<(IpAddr, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), address.port()));
    }
    text.parse().ok().map(|address| (address, DNS_PORT))
}
