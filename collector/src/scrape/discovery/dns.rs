//! Targets that are records of the DNS.

use std::collections::BTreeMap;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use weir_model::prometheus::discovery::{ADDRESS, DnsDiscovery, Record};
use weir_model::prometheus::{Group, Labels};

use super::{Gone, Names, Publish, pause};

pub(super) async fn run(discovery: DnsDiscovery, names: &Names, publish: Publish) -> Result<(), Gone> {
    let mut resolver = None;
    let mut known: BTreeMap<String, Vec<Labels>> = BTreeMap::new();
    loop {
        if resolver.is_none() {
            match make(names) {
                Ok(made) => resolver = Some(made),
                Err(error) => tracing::error!(%error, "the system's DNS cannot be used"),
            }
        }
        if let Some(resolver) = &resolver {
            for name in &discovery.names {
                match look_up(resolver, name, &discovery).await {
                    Ok(targets) => {
                        known.insert(name.clone(), targets);
                    }
                    Err(error) => tracing::error!(name, %error, "targets of the DNS stay as they were"),
                }
            }
            let groups =
                known.values().map(|targets| Group { targets: targets.clone(), labels: Labels::new() });
            publish.groups(groups.collect()).await?;
        }
        pause(discovery.refresh_interval, &publish).await?;
    }
}

fn make(names: &Names) -> Result<TokioResolver, NetError> {
    let mut builder = match names.dns_server {
        None => TokioResolver::builder_tokio()?,
        Some((address, port)) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = port;
                connection
            });
            let server = NameServerConfig::new(address, true, connections.into());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    // An old answer is no news; how often to ask is configured.
    builder.options_mut().cache_size = 0;
    builder.build()
}

async fn look_up(
    resolver: &TokioResolver,
    name: &str,
    discovery: &DnsDiscovery,
) -> Result<Vec<Labels>, NetError> {
    let record_type = match discovery.record {
        Record::A => RecordType::A,
        Record::Aaaa => RecordType::AAAA,
        Record::Srv => RecordType::SRV,
        Record::Mx => RecordType::MX,
        Record::Ns => RecordType::NS,
    };
    // With its dot at the end, so that no search list applies; relative names go through it.
    let lookup = match resolver.lookup(name, record_type).await {
        Ok(lookup) => lookup,
        Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let port = discovery.port;
    let targets = lookup.answers().iter().filter_map(|record| {
        let mut labels = Labels::from([("__meta_dns_name".to_owned(), name.to_owned())]);
        let mut meta = |key: &str, value: String| labels.insert(format!("__meta_dns_{key}"), value);
        let plain =
            |name: &hickory_resolver::proto::rr::Name| name.to_string().trim_end_matches('.').to_owned();
        let address = match &record.data {
            RData::A(address) => format!("{}:{port}", address.0),
            RData::AAAA(address) => format!("[{}]:{port}", address.0),
            RData::SRV(server) => {
                meta("srv_record_target", server.target.to_string());
                meta("srv_record_port", server.port.to_string());
                format!("{}:{}", plain(&server.target), server.port)
            }
            RData::MX(server) => {
                meta("mx_record_target", server.exchange.to_string());
                format!("{}:{port}", plain(&server.exchange))
            }
            RData::NS(server) => {
                meta("ns_record_target", server.0.to_string());
                format!("{}:{port}", plain(&server.0))
            }
            _ => return None,
        };
        labels.insert(ADDRESS.to_owned(), address);
        Some(labels)
    });
    Ok(targets.collect())
}
