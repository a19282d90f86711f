//! Asks the DNS for all endpoints of a target: through the search list, and for each host of an SRV answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;
use hickory_resolver::Resolver as Hickory;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::time::{Instant, timeout};
use weir_model::limits;

use super::answer::{Server, of_host, of_servers};
use super::kept::Heard;
use super::marked::Marked;
use super::{Resolver, Target};
use crate::discovery::target::Records;
use weir_model::policy::Endpoint;

/// IPv6 is asked for where there is no IPv4.
const ADDRESSES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// Records of the first kind and the first name that have some; none, where the DNS says that there are none.
#[derive(Debug)]
struct Answer {
    records: Vec<RData>,
    ttl: Duration,
}

impl Answer {
    fn addresses(&self) -> Vec<IpAddr> {
        self.records.iter().filter_map(RData::ip_addr).collect()
    }
}

/// Asks for one target, again and again.
pub(super) struct Asker {
    target: Target,
    resolver: Resolver,
    /// Made when it is needed; anew every few minutes and after a failure, as the system's configuration may change.
    client: Option<Client>,
    /// Addresses of the hosts of the last SRV answer, and when they were given: one that cannot be found at the
    /// moment must not hold back the news of the others.
    hosts: BTreeMap<Name, (Instant, Vec<IpAddr>)>,
}

impl Asker {
    pub(super) fn new(target: Target, resolver: Resolver) -> Self {
        Self { target, resolver, client: None, hosts: BTreeMap::new() }
    }

    pub(super) async fn ask(&mut self) -> Heard {
        let heard = self.try_ask().await.unwrap_or_else(|error| Heard::Failed(error.to_string()));
        if let Heard::Failed(_) | Heard::Found { partial: true, .. } = heard {
            self.client = None;
        }
        heard
    }

    async fn try_ask(&mut self) -> Result<Heard, NetError> {
        let most = self.resolver.bounds.ttl_most;
        let client = match self.client.take() {
            Some(client) if client.made.elapsed() < most => client,
            _ => Client::make(&self.resolver).await?,
        };
        let client = self.client.insert(client);
        match self.target.records {
            Records::Addresses(port) => {
                let answer = client.find(&self.target.name, &ADDRESSES).await?;
                let endpoints = of_host(&answer.addresses(), port, self.target.protocol);
                Ok(heard(endpoints, answer.ttl, false))
            }
            Records::Services => self.servers().await,
        }
    }

    async fn servers(&mut self) -> Result<Heard, NetError> {
        let Some(client) = &self.client else { return Err(NetError::NoConnections) };
        let Answer { records, mut ttl } = client.find(&self.target.name, &[RecordType::SRV]).await?;
        let is_offered = |record: &SRV| !record.target.is_root();
        let records = records.into_iter().filter_map(|record| match record {
            RData::SRV(record) => Some(record),
            _ => None,
        });
        let mut records: Vec<SRV> = records.filter(is_offered).collect();
        // Servers turn their answers around; what is left out must not change each time.
        records.sort_by(|a, b| (a.priority, &a.target, a.port).cmp(&(b.priority, &b.target, b.port)));
        records.truncate(limits::PROXY_ENDPOINTS);
        let names: BTreeSet<Name> = records.iter().map(|record| record.target.clone()).collect();
        let asked = futures::stream::iter(names).map(async |name| {
            let found = client.find(&name, &ADDRESSES).await;
            (name, found)
        });
        let found: Vec<_> = asked.buffer_unordered(limits::DNS_TARGETS_AT_ONCE).collect().await;
        let (now, mut fresh, mut failed) = (Instant::now(), false, None);
        let mut before = std::mem::take(&mut self.hosts);
        for (name, found) in found {
            match found {
                Ok(answer) => {
                    ttl = ttl.min(answer.ttl);
                    fresh = true;
                    self.hosts.insert(name, (now, answer.addresses()));
                }
                Err(error) => {
                    failed = Some(error);
                    let stale = self.resolver.bounds.stale;
                    let kept = before.remove(&name).filter(|(at, _)| now.duration_since(*at) < stale);
                    self.hosts.extend(kept.map(|kept| (name, kept)));
                }
            }
        }
        let partial = failed.is_some();
        // With no host found the whole answer is as old as the last one, whose age is bounded.
        if let Some(error) = failed.filter(|_| !fresh) {
            return Err(error);
        }
        let servers = records.iter().map(|record| Server {
            priority: record.priority,
            weight: record.weight,
            port: record.port,
            addresses: self.hosts.get(&record.target).map(|(_, found)| found.clone()).unwrap_or_default(),
        });
        let servers: Vec<Server> = servers.collect();
        Ok(heard(of_servers(&servers, self.target.protocol), ttl, partial))
    }
}

fn heard(endpoints: Vec<Endpoint>, ttl: Duration, partial: bool) -> Heard {
    match endpoints.is_empty() {
        // Some hosts do not exist and of the others nobody knows: that is no answer.
        true if partial => Heard::Failed("no host of the SRV records was found".to_owned()),
        true => Heard::Absent { ttl },
        false => Heard::Found { endpoints, ttl, partial },
    }
}

/// A resolver and how it completes names.
struct Client {
    made: Instant,
    resolver: Hickory<Marked>,
    search: Vec<Name>,
    /// A name with fewer dots is looked for in the search list first.
    ndots: usize,
    patience: Duration,
}

impl Client {
    /// Reads the system's configuration, off the runtime's threads.
    async fn make(whom: &Resolver) -> Result<Self, NetError> {
        let whom = whom.clone();
        let made = tokio::task::spawn_blocking(move || Self::make_blocking(&whom)).await;
        made.unwrap_or(Err(NetError::Message("the resolver could not be made")))
    }

    fn make_blocking(whom: &Resolver) -> Result<Self, NetError> {
        let (config, mut options) = match whom.server {
            None => read_system_conf()?,
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                (ResolverConfig::from_parts(None, Vec::new(), vec![server]), ResolverOpts::default())
            }
        };
        // Whoever asks here asks because the TTL has ended.
        options.cache_size = 0;
        let mut search = config.search().to_vec();
        if search.is_empty() {
            search.extend(config.domain().cloned());
        }
        let ndots = options.ndots;
        let mut builder = Hickory::builder_with_config(config, Marked::new(whom.mark));
        *builder.options_mut() = options;
        let patience = whom.bounds.patience;
        Ok(Self { made: Instant::now(), resolver: builder.build()?, search, ndots, patience })
    }

    /// Records of the first name and the first kind that has some. The search list is walked here and not by the
    /// resolver, which goes on after a failure and would take the next name's absence for an answer.
    async fn find(&self, name: &Name, kinds: &[RecordType]) -> Result<Answer, NetError> {
        let mut absent_ttl = limits::DNS_TTL_MOST;
        for name in self.candidates(name) {
            for kind in kinds {
                let answer = self.look_up(&name, *kind).await?;
                if !answer.records.is_empty() {
                    return Ok(answer);
                }
                absent_ttl = absent_ttl.min(answer.ttl);
            }
        }
        Ok(Answer { records: Vec::new(), ttl: absent_ttl })
    }

    async fn look_up(&self, name: &Name, kind: RecordType) -> Result<Answer, NetError> {
        let looked_up = timeout(self.patience, self.resolver.lookup(name.clone(), kind)).await;
        match looked_up.unwrap_or(Err(NetError::Timeout)) {
            Ok(found) => {
                // A chain of aliases holds for as long as its shortest link.
                let ttl = found.answers().iter().map(|record| record.ttl).min();
                let ttl = ttl.map_or(limits::DNS_ABSENT_TTL, |ttl| Duration::from_secs(ttl.into()));
                let records = found.answers().iter().filter(|record| record.record_type() == kind);
                Ok(Answer { records: records.map(|record| record.data.clone()).collect(), ttl })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { negative_ttl, .. }))) => {
                let ttl = negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
                Ok(Answer { records: Vec::new(), ttl: ttl.unwrap_or(limits::DNS_ABSENT_TTL) })
            }
            Err(error) => Err(error),
        }
    }

    /// The names that `name` may mean, all with their dot at the end, as resolv.conf(5) orders them.
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut plain = name.clone();
        plain.set_fqdn(true);
        if name.is_fqdn() {
            return vec![plain];
        }
        let searched = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let dots = usize::from(name.num_labels().saturating_sub(1));
        if dots >= self.ndots {
            std::iter::once(plain).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(plain)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(name: &str, ndots: usize) -> Vec<String> {
        let search = ["shop.test.", "test."].map(|domain| Name::from_ascii(domain).unwrap());
        let server = Some("127.0.0.1:53".parse().unwrap());
        let mut client = Client::make_blocking(&Resolver { server, ..Resolver::default() }).unwrap();
        (client.search, client.ndots) = (search.into(), ndots);
        client.candidates(&Name::from_ascii(name).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_short_name_goes_through_the_search_list_first() {
        assert_eq!(candidates("cart", 1), ["cart.shop.test.", "cart.test.", "cart."]);
        assert_eq!(candidates("cart.shop", 1), ["cart.shop.", "cart.shop.shop.test.", "cart.shop.test."]);
        assert_eq!(candidates("cart.shop", 5), ["cart.shop.shop.test.", "cart.shop.test.", "cart.shop."]);
        assert_eq!(candidates("cart.", 5), ["cart."]);
    }
}
