//! From records to endpoints: one for each address, with the priority and the weight of its SRV record.

use std::net::{IpAddr, SocketAddr};

use weir_model::limits;

use crate::config::{Endpoint, Protocol};

/// An SRV record whose host is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
}

/// The endpoints of a host; sorted, as servers turn their answers around.
pub(super) fn of_host(addresses: &[IpAddr], port: u16, protocol: Protocol) -> Vec<Endpoint> {
    let server = Server { priority: 0, weight: 1, port, addresses: addresses.to_vec() };
    of_servers(&[server], protocol)
}

/// The endpoints of SRV records, those of the most preferred priority first. An address that several records lead
/// to is one endpoint, as the first of them says.
pub(super) fn of_servers(servers: &[Server], protocol: Protocol) -> Vec<Endpoint> {
    let mut all: Vec<Endpoint> = Vec::new();
    for (server, weight) in servers.iter().zip(weights(servers)) {
        all.extend(server.addresses.iter().map(|ip| {
            let address = SocketAddr::new(*ip, server.port).to_string();
            let priority = server.priority.into();
            let instance = address.clone();
            Endpoint { instance, address, protocol, weight, priority, ..Endpoint::default() }
        }));
    }
    all.sort_by(|a, b| {
        (a.priority, &a.instance).cmp(&(b.priority, &b.instance)).then(b.weight.cmp(&a.weight))
    });
    let mut named = std::collections::HashSet::new();
    all.retain(|endpoint| named.insert(endpoint.instance.clone()));
    all.truncate(limits::PROXY_ENDPOINTS);
    all
}

/// What each address of a record weighs, 1 to [`limits::ENDPOINT_WEIGHT`]. A record's weight is that of its host, so
/// addresses share it. Weight 0 is a hundredth of 1, as RFC 2782 wants a very small chance for it; where all are 0,
/// all are alike.
fn weights(servers: &[Server]) -> Vec<u32> {
    let usual = servers.iter().all(|server| server.weight > 0 && server.addresses.len() <= 1);
    if usual {
        return servers.iter().map(|server| server.weight.into()).collect();
    }
    let any = servers.iter().any(|server| server.weight > 0);
    let share = |server: &Server| {
        let weight = if server.weight == 0 && any { 0.01 } else { f64::from(server.weight.max(1)) };
        weight / server.addresses.len().max(1) as f64
    };
    let shares = || servers.iter().map(share);
    let least = shares().fold(f64::INFINITY, f64::min);
    let most = shares().fold(0.0, f64::max);
    // The smallest share becomes 100, so that rounding costs a per cent at most, unless the largest needs the room.
    let scale = if least == most {
        1.0 / most
    } else {
        (100.0 / least).min(f64::from(limits::ENDPOINT_WEIGHT) / most)
    };
    shares().map(|share| ((share * scale).round() as u32).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(priority: u16, weight: u16, last: &[u8]) -> Server {
        let addresses = last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
        Server { priority, weight, port: 80, addresses }
    }

    #[test]
    fn weights_are_as_written_where_each_host_has_one_address() {
        let servers = [server(0, 10, &[1]), server(0, 65_535, &[2]), server(1, 1, &[3])];
        assert_eq!(weights(&servers), [10, 65_535, 1]);
        assert_eq!(weights(&[server(0, 0, &[1]), server(0, 0, &[2])]), [1, 1]);
    }

    #[test]
    fn addresses_of_one_host_share_its_weight() {
        // 30 for three addresses is as much for each as 10 for one, and half of 20.
        assert_eq!(weights(&[server(0, 30, &[1, 2, 3]), server(0, 10, &[4])]), [1, 1]);
        assert_eq!(weights(&[server(0, 30, &[1, 2, 3]), server(0, 20, &[4])]), [100, 200]);
    }

    #[test]
    fn weight_zero_is_a_very_small_chance() {
        assert_eq!(
            weights(&[server(0, 0, &[1]), server(0, 1, &[2]), server(0, 3, &[3])]),
            [100, 10_000, 30_000]
        );
        assert_eq!(weights(&[server(0, 0, &[1]), server(0, 65_535, &[2])]), [1, 65_535]);
    }

    #[test]
    fn endpoints_are_sorted_and_named_once() {
        let servers = [server(20, 1, &[1, 9]), server(10, 5, &[3]), server(10, 7, &[3]), server(10, 1, &[2])];
        let endpoints = of_servers(&servers, Protocol::Grpc);
        let shown: Vec<_> = endpoints.iter().map(|e| (e.priority, e.instance.as_str())).collect();
        assert_eq!(
            shown,
            [(10, "10.0.0.2:80"), (10, "10.0.0.3:80"), (20, "10.0.0.1:80"), (20, "10.0.0.9:80")]
        );
        assert!(endpoints.iter().all(|e| e.protocol == Protocol::Grpc && e.address == e.instance));
        assert_eq!(endpoints[1].weight, endpoints[0].weight * 7);
        let turned: Vec<_> = servers.iter().rev().cloned().collect();
        assert_eq!(of_servers(&turned, Protocol::Grpc), endpoints, "the order of an answer means nothing");
    }

    #[test]
    fn an_address_of_version_six_is_in_brackets() {
        let endpoints = of_host(&["::1".parse().unwrap()], 80, Protocol::Http);
        assert_eq!(endpoints[0].address, "[::1]:80");
        assert_eq!((endpoints[0].weight, endpoints[0].priority), (1, 0));
    }
}
