//! The file of static endpoints: `{"payments": [{"instance", "address", "version", "zone", "protocol"}]}`.

use std::collections::BTreeMap;

use serde::Deserialize;
use weir_model::limits;

use super::Protocol;

pub(super) const A_NAME: &str = "1 to 128 printable ASCII characters without spaces, `;`, `,` and `=`";

/// An endpoint that is configured, not discovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticEndpoint {
    /// Names it; its address where none is given.
    pub instance: String,
    /// `host:port`.
    pub address: String,
    /// Version label; may be empty.
    pub version: String,
    /// Zone label; may be empty.
    pub zone: String,
    /// What it speaks.
    pub protocol: Protocol,
}

/// One thing wrong with the file, and where.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) path: String,
    pub(super) expected: String,
    pub(super) got: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    instance: String,
    address: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    protocol: String,
}

/// Whether `text` may stand in a header and a label.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b';' | b'=' | b',');
    (1..=128).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether `text` is a host and a port above zero, and could stand in a URI.
pub(crate) fn is_authority(text: &str) -> bool {
    let parsed = text.parse::<http::uri::Authority>();
    parsed.is_ok_and(|a| {
        a.port_u16().is_some_and(|port| port > 0) && !a.host().is_empty() && !text.contains('@')
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Vec<StaticEndpoint>>, Vec<Problem>> {
    let written: BTreeMap<String, Vec<Written>> = serde_json::from_slice(bytes).map_err(|error| {
        let expected =
            format!("JSON of the form {{\"service\": [{{\"address\": \"host:port\"}}]}} ({error})");
        vec![Problem { path: String::new(), expected, got: String::new() }]
    })?;
    let mut problems = Vec::new();
    let mut all = BTreeMap::new();
    for (service, list) in written {
        let mut problem = |at: &str, expected: &str, got: &str| {
            let path = format!("#{service}{at}");
            problems.push(Problem { path, expected: expected.to_owned(), got: got.to_owned() });
        };
        if !is_name(&service) {
            problem("", A_NAME, &service);
        }
        if list.len() > limits::PROXY_ENDPOINTS {
            problem("", "at most 1024 endpoints", &list.len().to_string());
        }
        let mut endpoints: Vec<StaticEndpoint> = Vec::new();
        for (i, written) in list.into_iter().enumerate() {
            if !is_authority(&written.address) {
                problem(&format!("[{i}].address"), "host:port", &written.address);
            }
            for (field, text) in
                [("instance", &written.instance), ("version", &written.version), ("zone", &written.zone)]
            {
                if !text.is_empty() && !is_name(text) {
                    problem(&format!("[{i}].{field}"), A_NAME, text);
                }
            }
            let protocol = match written.protocol.as_str() {
                "" => Some(Protocol::Http),
                name => Protocol::from_name(name),
            };
            if protocol.is_none() {
                problem(&format!("[{i}].protocol"), "http or grpc", &written.protocol);
            }
            let instance = Some(written.instance).filter(|name| !name.is_empty());
            let instance = instance.unwrap_or_else(|| written.address.clone());
            if endpoints.iter().any(|other| other.instance == instance) {
                problem(&format!("[{i}].instance"), "each endpoint once", &instance);
            }
            endpoints.push(StaticEndpoint {
                instance,
                address: written.address,
                version: written.version,
                zone: written.zone,
                protocol: protocol.unwrap_or(Protocol::Http),
            });
        }
        all.insert(service, endpoints);
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}
