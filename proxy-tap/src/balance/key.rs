//! What of a request decides where it goes when balancing is by a hash.

use std::net::IpAddr;

use http::header::{COOKIE, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};
use weir_model::policy::destination::HashKey;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::chance::Chance;

/// A [`HashKey`] that is ready to be asked for.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// `None` where the policy's name is none that a header can have.
    Header(Option<HeaderName>),
    Cookie {
        name: String,
        /// What follows the value when the cookie is set; `None` where it never is.
        attributes: Option<String>,
    },
    SourceIp,
    Query(String),
}

impl Keyed {
    pub(crate) fn new(key: &HashKey) -> Self {
        let what = match key {
            HashKey::Header(name) => What::Header(HeaderName::from_bytes(name.as_bytes()).ok()),
            HashKey::Cookie { name, path, ttl } => {
                let attributes = ttl.map(|ttl| {
                    let age = match ttl.0.as_secs() {
                        0 => String::new(),
                        seconds => format!("; Max-Age={seconds}"),
                    };
                    let path = if path.is_empty() { String::new() } else { format!("; Path={path}") };
                    format!("{age}{path}; HttpOnly")
                });
                What::Cookie { name: name.clone(), attributes }
            }
            HashKey::SourceIp => What::SourceIp,
            HashKey::Query(name) => What::Query(name.clone()),
        };
        Self { what }
    }

    /// The hash of a request; `None` where it does not have what is hashed, or has it empty.
    pub(crate) fn key(&self, headers: &HeaderMap, uri: &Uri, source: IpAddr) -> Option<u64> {
        match &self.what {
            What::Header(name) => {
                let mut values = headers.get_all(name.as_ref()?).iter().filter(|value| !value.is_empty());
                let first = values.next()?;
                let Some(second) = values.next() else { return Some(xxh3_64(first.as_bytes())) };
                let mut hash = Xxh3::new();
                for value in [first, second].into_iter().chain(values) {
                    hash.update(value.as_bytes());
                    hash.update(b",");
                }
                Some(hash.digest())
            }
            What::Cookie { name, .. } => {
                let pairs =
                    headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
                value(pairs.map(<[u8]>::trim_ascii), name).map(xxh3_64)
            }
            What::SourceIp => Some(match source.to_canonical() {
                IpAddr::V4(ip) => xxh3_64(&ip.octets()),
                IpAddr::V6(ip) => xxh3_64(&ip.octets()),
            }),
            What::Query(name) => value(uri.query()?.as_bytes().split(|b| *b == b'&'), name).map(xxh3_64),
        }
    }

    /// For a request without a key: a new one and the `Set-Cookie` of the response (RFC 6265, section 4.1)
    /// that brings the caller back to where it leads. `None` where the policy sets no cookie.
    pub(crate) fn cookie(&self, chance: &Chance) -> Option<(u64, HeaderValue)> {
        let What::Cookie { name, attributes: Some(attributes) } = &self.what else { return None };
        let value = format!("{:016x}", chance.u64());
        let text = format!("{name}={value}{attributes}");
        Some((xxh3_64(value.as_bytes()), HeaderValue::try_from(text).ok()?))
    }
}

/// The first value that is not empty of `name` among `name=value` pairs.
fn value<'a>(mut pairs: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    pairs.find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use weir_model::policy::Length;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn key(of: HashKey, headers: &[(&'static str, &str)], uri: &str) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::try_from(*value).unwrap());
        }
        Keyed::new(&of).key(&map, &uri.parse().unwrap(), HERE)
    }

    #[test]
    fn a_header_is_hashed_with_all_its_values() {
        let of = || HashKey::Header("X-User".into());
        assert_eq!(key(of(), &[], "/"), None);
        assert_eq!(key(of(), &[("x-user", "")], "/"), None);
        let (ann, bob) = (key(of(), &[("x-user", "ann")], "/"), key(of(), &[("x-user", "bob")], "/"));
        assert!(ann.is_some() && ann != bob);
        let both = key(of(), &[("x-user", "ann"), ("x-user", "bob")], "/");
        assert!(both.is_some() && both != ann && both != bob);
        assert_eq!(key(HashKey::Header("no name".into()), &[("x-user", "ann")], "/"), None);
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let of = || HashKey::Cookie { name: "sid".into(), path: String::new(), ttl: None };
        let plain = key(of(), &[("cookie", "sid=7")], "/");
        assert!(plain.is_some());
        assert_eq!(key(of(), &[("cookie", "xsid=1; sid=7 ;b=2")], "/"), plain);
        assert_eq!(key(of(), &[("cookie", "a=1"), ("cookie", "sid=7")], "/"), plain);
        assert_eq!(key(of(), &[("cookie", "sid=")], "/"), None);
        assert_eq!(key(of(), &[("cookie", "side=7")], "/"), None);
    }

    #[test]
    fn a_cookie_that_is_set_leads_back() {
        let make = |path: &str, ttl| HashKey::Cookie { name: "sid".into(), path: path.into(), ttl };
        let chance = Chance::new(1, "");
        let of = make("/shop", Some(Length::secs(60)));
        let (made, text) = Keyed::new(&of).cookie(&chance).unwrap();
        let text = text.to_str().unwrap();
        let (pair, attributes) = text.split_once(';').unwrap();
        assert_eq!(attributes, " Max-Age=60; Path=/shop; HttpOnly");
        assert_eq!(key(of, &[("cookie", pair)], "/"), Some(made));
        let session = Keyed::new(&make("", Some(Length::secs(0)))).cookie(&chance).unwrap().1;
        assert!(
            session.to_str().unwrap().ends_with("; HttpOnly") && !session.to_str().unwrap().contains("Age")
        );
        assert!(Keyed::new(&make("", None)).cookie(&chance).is_none());
        assert!(Keyed::new(&HashKey::SourceIp).cookie(&chance).is_none());
    }

    #[test]
    fn a_parameter_and_an_address_are_keys() {
        let of = || HashKey::Query("user".into());
        assert_eq!(key(of(), &[], "/a"), None);
        assert_eq!(key(of(), &[], "/a?users=ann&user="), None);
        assert_eq!(key(of(), &[], "/a?x=1&user=ann"), key(of(), &[], "/b?user=ann&x=2"));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let by_ip = Keyed::new(&HashKey::SourceIp);
        let uri = Uri::from_static("/");
        assert_eq!(by_ip.key(&HeaderMap::new(), &uri, mapped), by_ip.key(&HeaderMap::new(), &uri, HERE));
    }
}
