//! Both ends of a call as telemetry needs them: their attributes, encoded once; the peer header, read once.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock};

use weir_model::limits;
use weir_model::semconv::attr;

use super::lock;
use super::wire::Fields;
use crate::call::Party;

/// The field that the encoded attributes are of: those of a span.
pub(super) const ENCODED_FIELD: u32 = 9;

/// The attributes of a [`Party`], made when they are first needed. It is no part of the party's value: a
/// clone has none yet, and all are equal. A party is not changed once it is shared.
#[derive(Default)]
pub(crate) struct Encoded(OnceLock<Blocks>);

struct Blocks {
    as_client: Box<[u8]>,
    as_server: Box<[u8]>,
}

impl Clone for Encoded {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Encoded {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Encoded {}

impl Hash for Encoded {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoded")
    }
}

/// The attributes of the calling end, in [`ENCODED_FIELD`].
pub(super) fn client(party: &Party) -> &[u8] {
    &blocks(party).as_client
}

/// The attributes of the called end, in [`ENCODED_FIELD`].
pub(super) fn server(party: &Party) -> &[u8] {
    &blocks(party).as_server
}

fn blocks(party: &Party) -> &Blocks {
    party.encoded.0.get_or_init(|| {
        let block = |pairs: &[(&str, &str)]| {
            let mut out = Vec::new();
            pairs.iter().for_each(|(key, value)| out.text_attribute(ENCODED_FIELD, key, value));
            out.into_boxed_slice()
        };
        Blocks {
            as_client: block(&[
                (attr::CLIENT, &party.service),
                (attr::CLIENT_NAMESPACE, &party.namespace),
                (attr::CLIENT_ZONE, &party.zone),
            ]),
            as_server: block(&[
                (attr::SERVER, &party.service),
                (attr::ENDPOINT, &party.instance),
                (attr::SERVER_NAMESPACE, &party.namespace),
                (attr::SERVER_ZONE, &party.zone),
            ]),
        }
    })
}

/// Those who sent the same header, each with an identity of its own.
type OfHeader = Vec<Arc<Party>>;

/// Callers by what their peer header says, so that a header is read once and a caller is always the same
/// [`Party`]. Holds [`limits::PEERS`] of them.
#[derive(Debug)]
pub(crate) struct Peers {
    known: Mutex<HashMap<Box<[u8]>, OfHeader>>,
    unknown: Arc<Party>,
}

impl Default for Peers {
    fn default() -> Self {
        let unknown = Party { service: "unknown".into(), ..Party::default() };
        Self { known: Mutex::default(), unknown: Arc::new(unknown) }
    }
}

impl Peers {
    /// Who a header comes from, and whose identity the connection's certificate proves, empty where none
    /// does. `unknown` where the header is absent or says nothing usable.
    pub(crate) fn get(&self, header: Option<&[u8]>, principal: &str) -> Arc<Party> {
        let header = header.unwrap_or_default();
        if header.is_empty() && principal.is_empty() || header.len() > limits::PEER_HEADER_BYTES {
            return Arc::clone(&self.unknown);
        }
        let mut known = lock(&self.known);
        if let Some(same) = known.get(header).and_then(|p| p.iter().find(|p| *p.principal == *principal)) {
            return Arc::clone(same);
        }
        let party = Arc::new(Party { principal: principal.into(), ..read(header) });
        if known.len() >= limits::PEERS {
            known.clear();
        }
        let of_header = known.entry(header.into()).or_default();
        // A header under many names is somebody's game.
        if of_header.len() >= 4 {
            of_header.clear();
        }
        of_header.push(Arc::clone(&party));
        party
    }
}

/// Reads a peer header: fields as [`weir_model::semconv::PEER_HEADER`] lists them; more are ignored.
fn read(header: &[u8]) -> Party {
    let text = std::str::from_utf8(header).unwrap_or_default();
    let mut fields = text.split(';').map(str::trim);
    let service = fields.next().filter(|name| !name.is_empty()).unwrap_or("unknown").into();
    let mut next = || fields.next().unwrap_or_default().into();
    Party {
        service,
        instance: next(),
        version: next(),
        namespace: next(),
        cluster: next(),
        workload: next(),
        app: next(),
        canonical_service: next(),
        canonical_revision: next(),
        region: next(),
        zone: next(),
        ..Party::default()
    }
}

/// The text of a peer header for `party`, of at most [`limits::PEER_HEADER_BYTES`]: what there is no room
/// for is left out, from the end. What would end a field or is not printable becomes an underscore.
pub(crate) fn written(party: &Party) -> String {
    let fields = [
        &party.service,
        &party.instance,
        &party.version,
        &party.namespace,
        &party.cluster,
        &party.workload,
        &party.app,
        &party.canonical_service,
        &party.canonical_revision,
        &party.region,
        &party.zone,
    ];
    let mut text = String::new();
    for field in fields {
        if text.len() + field.len() >= limits::PEER_HEADER_BYTES {
            break;
        }
        text.extend(field.chars().map(|c| if c.is_ascii_graphic() && c != ';' { c } else { '_' }));
        text.push(';');
    }
    text.truncate(text.trim_end_matches(';').len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_once_for_each_identity() {
        let peers = Peers::default();
        let first = peers.get(Some(b"web;web-1;v2;shop"), "");
        assert!(Arc::ptr_eq(&first, &peers.get(Some(b"web;web-1;v2;shop"), "")));
        let proven = peers.get(Some(b"web;web-1;v2;shop"), "spiffe://a/web");
        assert_eq!((&*proven.principal, &*proven.service, &*first.principal), ("spiffe://a/web", "web", ""));
        assert_eq!(&*peers.get(None, "spiffe://a/web").principal, "spiffe://a/web");
        for i in 0..3 * limits::PEERS {
            peers.get(Some(format!("s{i}").as_bytes()), "");
            peers.get(Some(b"many"), &i.to_string());
        }
        assert!(lock(&peers.known).len() <= limits::PEERS);
        assert!(lock(&peers.known).values().all(|of_header| of_header.len() <= 4));
    }

    #[test]
    fn what_is_written_is_read_and_less_and_more_are_borne() {
        let all = read(b"s;i;v;n;c;w;a;cs;cr;r;z;of a later version");
        assert_eq!(written(&all), "s;i;v;n;c;w;a;cs;cr;r;z");
        assert_eq!((&*all.app, &*all.zone), ("a", "z"));
        assert_eq!(written(&read(b"s;i")), "s;i");
        assert_eq!((&*read(b";;").service, &*read(b"\xff").service), ("unknown", "unknown"));
        let odd =
            Party { service: "a;b\u{e4} c".into(), instance: "x".repeat(600).into(), ..Party::default() };
        assert_eq!(written(&odd), "a_b__c");
    }

    #[test]
    fn an_encoding_is_no_part_of_the_value() {
        let party = read(b"s;i;v");
        client(&party);
        let other = Party { service: "t".into(), ..party.clone() };
        assert!(party == read(b"s;i;v") && party != other);
        assert!(client(&other).ends_with(b"\n\x01t") && client(&party).ends_with(b"\n\x01s"));
    }
}
