//! A service whose endpoints are records of the DNS, as it is typed.

use std::fmt;
use std::net::IpAddr;

use hickory_resolver::proto::rr::Name;
use weir_model::policy::Resolve;

use crate::config::Protocol;

/// A name of the DNS that stands for endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) name: Name,
    pub(super) records: Records,
    /// What the endpoints speak.
    pub protocol: Protocol,
}

/// Where the endpoints of a name are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Records {
    /// At its addresses, on this port.
    Addresses(u16),
    /// Where its SRV records say.
    Services,
}

impl Target {
    /// What [`Target::parse`] takes, for whoever typed something else.
    pub const EXPECTED: &str = "dns://host:port or srv://_name._tcp.host, with ?protocol=grpc \
        where that is spoken; an IP address needs no DNS and goes into the file of --endpoints";

    /// Reads `dns://host:port` or `srv://_name._tcp.host`. A name without a dot at its end goes through the
    /// system's search list. The protocol is gRPC where `?protocol=grpc` says so, or the SRV name is `_grpc`.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, protocol) = match text.split_once("?protocol=") {
            Some((place, name)) => (place, Some(Protocol::from_name(name)?)),
            None => (text, None),
        };
        if let Some(place) = place.strip_prefix("dns://") {
            let (host, port) = place.rsplit_once(':')?;
            let port = port.parse().ok().filter(|port| *port > 0)?;
            let records = Records::Addresses(port);
            return Some(Self { name: name(host)?, records, protocol: protocol.unwrap_or_default() });
        }
        let place = place.strip_prefix("srv://")?;
        let mut labels = place.splitn(3, '.');
        let (service, transport, host) = (labels.next()?.strip_prefix('_')?, labels.next()?, labels.next()?);
        if service.is_empty() || transport != "_tcp" || host.is_empty() {
            return None;
        }
        let usual = if service == "grpc" { Protocol::Grpc } else { Protocol::Http };
        Some(Self { name: name(place)?, records: Records::Services, protocol: protocol.unwrap_or(usual) })
    }
}

impl Target {
    /// What a policy says of a service; `None` where that is no name of the DNS.
    pub(crate) fn of(told: &Resolve) -> Option<Self> {
        match told {
            Resolve::Dns(name) => Self::parse(&format!("dns://{name}")),
            Resolve::Srv(name) => Self::parse(&format!("srv://{name}")),
            Resolve::Registry | Resolve::Static => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.records {
            Records::Addresses(port) => write!(f, "dns://{}:{port}", self.name),
            Records::Services => write!(f, "srv://{}", self.name),
        }
    }
}

/// A host name (RFC 1123, section 2.1), underscores allowed as many networks use them.
fn name(text: &str) -> Option<Name> {
    let plain = text.strip_suffix('.').unwrap_or(text);
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits);
    let is_name = plain.len() <= 253 && plain.split('.').all(is_label) && plain.parse::<IpAddr>().is_err();
    is_name.then(|| Name::from_ascii(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_meant() {
        let plain = Target::parse("dns://cart.shop.test:8080").unwrap();
        assert_eq!((plain.records, plain.protocol), (Records::Addresses(8080), Protocol::Http));
        assert_eq!(plain.to_string(), "dns://cart.shop.test:8080");
        assert!(!plain.name.is_fqdn(), "it goes through the search list");
        assert!(Target::parse("dns://cart.shop.test.:8080").unwrap().name.is_fqdn());
        let grpc = Target::parse("dns://cart:1?protocol=grpc").unwrap();
        assert_eq!(grpc.protocol, Protocol::Grpc);
        let srv = Target::parse("srv://_http._tcp.shop.test").unwrap();
        assert_eq!((srv.records, srv.protocol), (Records::Services, Protocol::Http));
        assert_eq!(srv.to_string(), "srv://_http._tcp.shop.test");
        assert_eq!(Target::parse("srv://_grpc._tcp.shop.test").unwrap().protocol, Protocol::Grpc);
        assert_eq!(Target::parse("srv://_grpc._tcp.a?protocol=http").unwrap().protocol, Protocol::Http);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("dns://{}:1", "a".repeat(64));
        for text in [
            "cart:8080",
            "dns://cart",
            "dns://cart:0",
            "dns://cart:65536",
            "dns://:80",
            "dns://a..b:80",
            "dns://a b:80",
            "dns://10.0.0.1:80",
            "dns://[::1]:80",
            "dns://cart:80?protocol=ftp",
            "srv://cart",
            "srv://_http._udp.cart",
            "srv://http._tcp.cart",
            "srv://_._tcp.cart",
            "srv://_http._tcp",
            "srv://_http._tcp.",
            &long,
        ] {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }
}
