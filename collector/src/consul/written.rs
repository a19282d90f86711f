//! Registrations as clients write them, and what they mean.
//!
//! Consul takes the names of fields in any case and with or without underscores, `null` for what is left out, and
//! durations as text or nanoseconds (developer.hashicorp.com, "Agent HTTP API", services and checks). What it could
//! do with a registration and Weir cannot is refused rather than passed over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use weir_model::limits;

use super::definition::{Address, CheckDefinition, HttpProbe, Kind, ServiceDefinition, Status, Weights};
use super::duration;
use super::refused::Refused;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenService {
    id: String,
    name: String,
    tags: Vec<String>,
    address: String,
    port: u16,
    meta: BTreeMap<String, String>,
    taggedaddresses: BTreeMap<String, Address>,
    weights: Weights,
    enabletagoverride: bool,
    locality: Locality,
    check: Option<WrittenCheck>,
    checks: Vec<WrittenCheck>,
    kind: String,
    connect: Map<String, Value>,
    proxy: Map<String, Value>,
    socketpath: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Locality {
    region: String,
    zone: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct WrittenCheck {
    id: String,
    checkid: String,
    name: String,
    notes: String,
    serviceid: String,
    status: String,
    #[serde(deserialize_with = "duration::written")]
    ttl: Option<Duration>,
    http: String,
    method: String,
    header: BTreeMap<String, Vec<String>>,
    body: String,
    tcp: String,
    #[serde(deserialize_with = "duration::written")]
    interval: Option<Duration>,
    #[serde(deserialize_with = "duration::written")]
    timeout: Option<Duration>,
    #[serde(deserialize_with = "duration::written")]
    deregistercriticalserviceafter: Option<Duration>,
    tlsskipverify: bool,
    tlsservername: String,
    disableredirects: bool,
    successbeforepassing: u32,
    failuresbeforewarning: u32,
    failuresbeforecritical: u32,
    grpc: String,
    h2ping: String,
    udp: String,
    osservice: String,
    script: String,
    args: Vec<String>,
    scriptargs: Vec<String>,
    dockercontainerid: String,
    aliasnode: String,
    aliasservice: String,
}

/// What a TTL check is told in a body.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenUpdate {
    status: String,
    output: String,
}

/// A check, and how it is until it is first run or reported.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NewCheck {
    pub(super) definition: CheckDefinition,
    pub(super) status: Status,
}

/// An instance and its checks; it is at `peer` where it does not say where it is.
pub(super) fn service(body: &[u8], peer: IpAddr) -> Result<(ServiceDefinition, Vec<NewCheck>), Refused> {
    let written: WrittenService = read(body)?;
    let unsupported = [
        (
            !written.kind.is_empty(),
            "`Kind`: proxies and gateways of Consul's own mesh are not registered here",
        ),
        (!written.connect.is_empty(), "`Connect`: services of Consul's own mesh are not registered here"),
        (!written.proxy.is_empty(), "`Proxy`: proxies of Consul's own mesh are not registered here"),
        (!written.socketpath.is_empty(), "`SocketPath`: a service is reached by address and port"),
    ];
    if let Some((_, why)) = unsupported.iter().find(|(asked, _)| *asked) {
        return Err(Refused::Invalid((*why).to_owned()));
    }
    if written.name.is_empty() {
        return Err(Refused::Invalid("Missing service name".to_owned()));
    }
    let id = if written.id.is_empty() { written.name.clone() } else { written.id };
    let address = if written.address.is_empty() { peer.to_string() } else { written.address };
    if address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(Refused::Invalid("Invalid service address".to_owned()));
    }
    let place = &written.locality;
    let texts = [
        ("ID", &id),
        ("Name", &written.name),
        ("Address", &address),
        ("Region", &place.region),
        ("Zone", &place.zone),
    ];
    for (field, text) in texts.into_iter().chain(written.tags.iter().map(|tag| ("Tags", tag))) {
        if text.len() > limits::REGISTRATION_TEXT_BYTES {
            let most = limits::REGISTRATION_TEXT_BYTES;
            return Err(Refused::Invalid(format!("`{field}` is longer than {most} bytes")));
        }
    }
    if written.tags.len() > limits::AGENT_TAGS {
        return Err(Refused::Invalid(format!("there are more than {} tags", limits::AGENT_TAGS)));
    }
    meta(&written.meta)?;
    if written.weights.passing == 0 {
        return Err(Refused::Invalid("Invalid Weight definition: `Passing` must be above 0".to_owned()));
    }
    let definition = ServiceDefinition {
        id,
        name: written.name,
        tags: written.tags,
        address,
        port: written.port,
        meta: written.meta,
        tagged_addresses: written.taggedaddresses,
        weights: written.weights,
        enable_tag_override: written.enabletagoverride,
        region: written.locality.region,
        zone: written.locality.zone,
    };
    let written: Vec<_> = written.check.into_iter().chain(written.checks).filter(is_filled_in).collect();
    if written.len() > limits::AGENT_SERVICE_CHECKS {
        let most = limits::AGENT_SERVICE_CHECKS;
        return Err(Refused::InvalidCheck(format!("a service has at most {most} of them")));
    }
    let single = written.len() == 1;
    let checks = written.into_iter().enumerate().map(|(number, mut written)| {
        written.serviceid.clone_from(&definition.id);
        let fallback = match single {
            true => format!("service:{}", definition.id),
            false => format!("service:{}:{}", definition.id, number + 1),
        };
        meant(written, fallback, &format!("Service '{}' check", definition.name))
    });
    let checks = checks.collect::<Result<_, _>>()?;
    Ok((definition, checks))
}

/// A check that is registered by itself.
pub(super) fn check(body: &[u8]) -> Result<NewCheck, Refused> {
    let written: WrittenCheck = read(body)?;
    if written.name.is_empty() {
        return Err(Refused::Invalid("Missing check name".to_owned()));
    }
    let name = written.name.clone();
    meant(written, name.clone(), &name)
}

/// The status and the output of a TTL check.
pub(super) fn update(body: &[u8]) -> Result<(Status, String), Refused> {
    let written: WrittenUpdate = read(body)?;
    match Status::from_name(&written.status) {
        Some(status) => Ok((status, written.output)),
        None => Err(Refused::Invalid(format!("Invalid check status: '{}'", written.status))),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let undecodable = |error: serde_json::Error| Refused::Undecodable(error.to_string());
    let mut all = folded(serde_json::from_slice(body).map_err(undecodable)?);
    if let Value::Object(fields) = &mut all {
        for (name, value) in fields {
            match (name.as_str(), &mut *value) {
                ("check" | "weights" | "locality", inner) => *inner = folded(inner.take()),
                ("checks", Value::Array(inner)) => inner.iter_mut().for_each(|one| *one = folded(one.take())),
                ("taggedaddresses", Value::Object(inner)) => {
                    inner.iter_mut().for_each(|(_, one)| *one = folded(one.take()));
                }
                _ => {}
            }
        }
    }
    if !all.is_object() {
        return Err(Refused::Undecodable("a JSON object is expected".to_owned()));
    }
    T::deserialize(all).map_err(undecodable)
}

/// An object whose names are in lower case without underscores, and without those members that are null.
fn folded(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let present = fields.into_iter().filter(|(_, value)| !value.is_null());
    present.map(|(name, value)| (name.to_lowercase().replace('_', ""), value)).collect()
}

/// Consul passes over checks of which nothing is said.
fn is_filled_in(check: &WrittenCheck) -> bool {
    *check != WrittenCheck::default()
}

/// Consul's own bounds of metadata.
fn meta(meta: &BTreeMap<String, String>) -> Result<(), Refused> {
    let invalid = |why: String| Err(Refused::Invalid(format!("Invalid Service Meta: {why}")));
    if meta.len() > limits::AGENT_META {
        return invalid(format!("there are more than {} pairs", limits::AGENT_META));
    }
    for (key, value) in meta {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if key.is_empty() || key.len() > limits::AGENT_META_KEY_BYTES || !key.bytes().all(fits) {
            let most = limits::AGENT_META_KEY_BYTES;
            return invalid(format!("key {key:?} is not 1 to {most} letters, digits, `-` and `_`"));
        }
        if value.len() > limits::AGENT_META_VALUE_BYTES {
            return invalid(format!("the value of `{key}` is over {} bytes", limits::AGENT_META_VALUE_BYTES));
        }
    }
    Ok(())
}

fn meant(written: WrittenCheck, id: String, name: &str) -> Result<NewCheck, Refused> {
    let kind = kind(&written).map_err(Refused::InvalidCheck)?;
    let status = match written.status.as_str() {
        "" => Status::Critical,
        status => Status::from_name(status).ok_or_else(|| {
            Refused::InvalidCheck(format!("status `{status}` is none of passing, warning, critical"))
        })?,
    };
    let named = [written.id, written.checkid].into_iter().find(|id| !id.is_empty());
    let id = named.unwrap_or(id);
    let name = if written.name.is_empty() { name.to_owned() } else { written.name };
    if [&id, &name, &written.serviceid].iter().any(|text| text.len() > 2 * limits::REGISTRATION_TEXT_BYTES) {
        let most = 2 * limits::REGISTRATION_TEXT_BYTES;
        return Err(Refused::InvalidCheck(format!("its id, name or service is longer than {most} bytes")));
    }
    let failures_warning = match written.failuresbeforewarning {
        0 => written.failuresbeforecritical,
        count => count,
    };
    let definition = CheckDefinition {
        id,
        name,
        notes: written.notes,
        service_id: written.serviceid,
        kind,
        deregister_after: written
            .deregistercriticalserviceafter
            .map(|after| after.max(limits::AGENT_DEREGISTER)),
        successes: written.successbeforepassing,
        failures_warning,
        failures_critical: written.failuresbeforecritical,
    };
    Ok(NewCheck { definition, status })
}

fn kind(written: &WrittenCheck) -> Result<Kind, String> {
    let elsewhere = [
        (!written.grpc.is_empty(), "gRPC"),
        (!written.h2ping.is_empty(), "HTTP/2 ping"),
        (!written.udp.is_empty(), "UDP"),
        (!written.osservice.is_empty(), "operating system"),
        (!written.dockercontainerid.is_empty(), "Docker"),
        (!written.script.is_empty() || !written.args.is_empty() || !written.scriptargs.is_empty(), "script"),
        (!written.aliasnode.is_empty() || !written.aliasservice.is_empty(), "alias"),
    ];
    if let Some((_, what)) = elsewhere.iter().find(|(asked, _)| *asked) {
        return Err(format!("{what} checks are not run here; TTL, HTTP and TCP checks are"));
    }
    let timing = || {
        let interval = written.interval.ok_or("Interval must be > 0 for HTTP and TCP checks")?;
        let interval = interval.max(limits::AGENT_INTERVAL);
        let timeout = written.timeout.unwrap_or(limits::AGENT_TIMEOUT);
        Ok::<_, String>((interval, timeout.min(limits::AGENT_TIMEOUT_MOST)))
    };
    match (written.ttl, written.http.as_str(), written.tcp.as_str()) {
        (Some(_), ..) if written.interval.is_some() => {
            Err("Interval and TTL cannot both be specified".to_owned())
        }
        (Some(ttl), "", "") => Ok(Kind::Ttl(ttl)),
        (None, "", "") => Err("TTL must be > 0 for TTL checks".to_owned()),
        (None, url, "") => {
            let (interval, timeout) = timing()?;
            http(written, url, interval, timeout).map(Kind::Http)
        }
        (None, "", address) => {
            let (interval, timeout) = timing()?;
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                return Err(format!("`{address}` is not of the form `host:port`"));
            }
            Ok(Kind::Tcp { address: address.to_owned(), interval, timeout })
        }
        _ => Err("only one of TTL, HTTP and TCP can be specified".to_owned()),
    }
}

fn http(
    written: &WrittenCheck,
    url: &str,
    interval: Duration,
    timeout: Duration,
) -> Result<HttpProbe, String> {
    let parsed = url::Url::parse(url).map_err(|error| format!("`{url}` is no URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("`{url}` begins with neither `http://` nor `https://`"));
    }
    if !written.tlsservername.is_empty() {
        return Err("`TLSServerName` is not supported; the name in the URL is used".to_owned());
    }
    let method = if written.method.is_empty() { "GET".to_owned() } else { written.method.clone() };
    method.parse::<Method>().map_err(|_| format!("`{method}` is no method"))?;
    let mut headers = Vec::new();
    for (name, value) in written.header.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)))
    {
        if name.parse::<HeaderName>().is_err() || value.parse::<HeaderValue>().is_err() {
            return Err(format!("`{name}` is no header, or its value cannot be sent"));
        }
        headers.push((name.clone(), value.clone()));
    }
    Ok(HttpProbe {
        url: url.to_owned(),
        method,
        headers,
        body: written.body.clone(),
        interval,
        timeout,
        tls_skip_verify: written.tlsskipverify,
        follow_redirects: !written.disableredirects,
    })
}

#[cfg(test)]
mod tests;
