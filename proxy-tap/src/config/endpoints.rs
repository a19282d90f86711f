//! The file of static endpoints, by service: JSON, of which only `address` must be given.
//!
//! ```json
//! {"payments": [{
//!   "address": "10.0.0.7:8080", "instance": "payments-7", "protocol": "grpc",
//!   "version": "v2", "region": "eu", "zone": "eu-1", "namespace": "shop",
//!   "labels": {"track": "canary"}, "weight": 3, "priority": 1
//! }]}
//! ```

use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use weir_model::limits;

use super::{ConfigMistake, Endpoint, Protocol};
use crate::worker;

/// Endpoints by service.
pub(crate) type Services = BTreeMap<String, Vec<Endpoint>>;

pub(super) const A_NAME: &str = "1 to 128 printable ASCII characters without spaces, `;`, `,` and `=`";

/// One thing wrong with the file, and where.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) path: String,
    pub(super) expected: String,
    pub(super) got: Option<String>,
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
    region: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    protocol: String,
    weight: Option<i64>,
    priority: Option<i64>,
}

/// The endpoints of one service. There may be thousands, and they are read while requests are served.
struct List(Vec<Written>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Vec<Written>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of endpoints")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<Written>, A::Error> {
                worker::giving_way(std::iter::from_fn(|| elements.next_element().transpose())).collect()
            }
        }
        deserializer.deserialize_seq(Elements).map(List)
    }
}

/// The content of the file, or what keeps it from being read.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Vec<ConfigMistake>> {
    let mistake = |expected: String| {
        let (flag, got) = ("--endpoints".to_owned(), Some(file.display().to_string()));
        vec![ConfigMistake { flag, expected, got }]
    };
    let most = limits::CONFIG_FILE_BYTES;
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .map_err(|error| mistake(format!("a readable file ({error})")))?;
    if bytes.len() as u64 > most {
        return Err(mistake(format!("a file of at most {} MiB", most >> 20)));
    }
    Ok(bytes)
}

/// What the content of `file` says, or everything that is wrong with it.
pub(crate) fn services(file: &Path, content: &[u8]) -> Result<Services, Vec<ConfigMistake>> {
    let mistake = |problem: Problem| ConfigMistake {
        flag: format!("--endpoints {}{}", file.display(), problem.path),
        expected: problem.expected,
        got: problem.got,
    };
    parse(content).map_err(|problems| problems.into_iter().map(mistake).collect())
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

/// Whether these may be labels of an endpoint.
pub(crate) fn is_label((name, value): (&String, &String)) -> bool {
    is_name(name) && (value.is_empty() || is_name(value))
}

pub(super) fn parse(bytes: &[u8]) -> Result<Services, Vec<Problem>> {
    let written: BTreeMap<String, List> = serde_json::from_slice(bytes).map_err(|error| {
        let expected =
            format!("JSON of the form {{\"service\": [{{\"address\": \"host:port\"}}]}} ({error})");
        vec![Problem { path: String::new(), expected, got: None }]
    })?;
    let mut problems = Vec::new();
    let mut all = BTreeMap::new();
    for (service, List(list)) in written {
        let mut problem = |at: &str, expected: &str, got: &str| {
            let path = format!("#{service}{at}");
            problems.push(Problem { path, expected: expected.to_owned(), got: Some(got.to_owned()) });
        };
        if !is_name(&service) {
            problem("", A_NAME, &service);
        }
        if list.len() > limits::PROXY_ENDPOINTS {
            problem("", "at most 10000 endpoints", &list.len().to_string());
        }
        let mut endpoints: Vec<Endpoint> = Vec::with_capacity(list.len());
        let mut names = HashSet::with_capacity(list.len());
        for (i, written) in worker::giving_way(list).enumerate() {
            if !is_authority(&written.address) {
                problem(&format!("[{i}].address"), "host:port", &written.address);
            }
            for (field, text) in [
                ("instance", &written.instance),
                ("version", &written.version),
                ("region", &written.region),
                ("zone", &written.zone),
                ("namespace", &written.namespace),
            ] {
                if !text.is_empty() && !is_name(text) {
                    problem(&format!("[{i}].{field}"), A_NAME, text);
                }
            }
            if written.labels.len() > limits::ENDPOINT_LABELS {
                problem(&format!("[{i}].labels"), "at most 64 labels", &written.labels.len().to_string());
            }
            for (name, value) in written.labels.iter().filter(|label| !is_label(*label)) {
                problem(&format!("[{i}].labels"), A_NAME, &format!("{name}: {value}"));
            }
            let mut number = |field: &str, number: Option<i64>, default: u32, most: u32| {
                let Some(number) = number else { return default };
                let fits = u32::try_from(number).ok().filter(|number| *number <= most);
                fits.unwrap_or_else(|| {
                    let expected = format!("a whole number from 0 to {most}");
                    problem(&format!("[{i}].{field}"), &expected, &number.to_string());
                    default
                })
            };
            let weight = number("weight", written.weight, 1, limits::ENDPOINT_WEIGHT);
            let priority = number("priority", written.priority, 0, limits::ENDPOINT_PRIORITY);
            let protocol = match written.protocol.as_str() {
                "" => Some(Protocol::default()),
                name => Protocol::from_name(name),
            };
            if protocol.is_none() {
                problem(&format!("[{i}].protocol"), "http, http2, grpc or tcp", &written.protocol);
            }
            let instance = Some(written.instance).filter(|name| !name.is_empty());
            let instance = instance.unwrap_or_else(|| written.address.clone());
            if !names.insert(instance.clone()) {
                problem(&format!("[{i}].instance"), "each endpoint once", &instance);
            }
            endpoints.push(Endpoint {
                instance,
                address: written.address,
                version: written.version,
                region: written.region,
                zone: written.zone,
                namespace: written.namespace,
                labels: written.labels,
                protocol: protocol.unwrap_or_default(),
                weight,
                priority,
            });
        }
        all.insert(service, endpoints);
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}
