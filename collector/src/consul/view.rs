//! What there is, in the JSON of Consul's API: instances that were registered through it beside those that proxies
//! registered themselves.
//!
//! All of them are on one node, whose name is `weir`. Indexes are those of the service: Consul's are of the single
//! instance or check, and clients compare them only to see that something is new.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Map, Value, json};
use weir_model::mesh::Endpoint;

use super::agent::{Agent, Check, Service};
use super::definition::{ServiceDefinition, Status};
use super::duration;
use super::question::{DATACENTER, Question};
use crate::mesh::Registry;

/// What the one node is called.
const NODE: &str = "weir";
/// `weir` in hexadecimal: Consul's nodes have a UUID.
const NODE_ID: &str = "77656972-0000-4000-8000-000000000000";

/// Agent and mesh at one moment.
pub(super) struct View<'a> {
    pub(super) agent: &'a Agent,
    pub(super) registry: &'a Registry,
    /// Where the HTTP API is.
    pub(super) http: SocketAddr,
}

/// An instance of a service.
struct Instance {
    id: String,
    /// As `/v1/agent/services` has it.
    service: Value,
    checks: Vec<Value>,
    status: Status,
    /// In lower case.
    tags: Vec<String>,
}

impl Instance {
    fn is_asked_for(&self, question: &Question) -> bool {
        let tagged = question.tags.iter().all(|tag| self.tags.contains(tag));
        tagged && !question.node_meta && (!question.passing || self.status == Status::Passing)
    }
}

impl View<'_> {
    /// `/v1/agent/services`: what was registered through the API, by id.
    pub(super) fn agent_services(&self) -> Value {
        let services = self.agent.services();
        services.map(|service| (service.definition.id.clone(), self.service(&service.definition))).collect()
    }

    /// `/v1/agent/service/{id}`.
    pub(super) fn agent_service(&self, id: &str) -> Option<Value> {
        Some(self.service(&self.agent.service(id)?.definition))
    }

    /// `/v1/agent/checks`: the checks of these and those of no service, by id.
    pub(super) fn agent_checks(&self) -> Value {
        self.agent.checks().map(|check| (check.definition.id.clone(), self.check(check))).collect()
    }

    /// `/v1/health/service/{name}`.
    pub(super) fn health(&self, service: &str, question: &Question) -> Value {
        let wanted = self.instances(service).into_iter().filter(|instance| instance.is_asked_for(question));
        wanted
            .map(|instance| json!({ "Node": self.node(), "Service": instance.service, "Checks": instance.checks }))
            .collect()
    }

    /// `/v1/health/checks/{name}`.
    pub(super) fn health_checks(&self, service: &str) -> Value {
        self.instances(service).into_iter().flat_map(|instance| instance.checks).collect()
    }

    /// `/v1/health/state/{state}`; nothing stands for any.
    pub(super) fn health_state(&self, state: Option<Status>) -> Value {
        let of_services = self.names().into_iter().flat_map(|name| self.instances(&name));
        let of_none = self.agent.checks().filter(|check| check.definition.service_id.is_empty());
        let all =
            of_services.flat_map(|instance| instance.checks).chain(of_none.map(|check| self.check(check)));
        all.filter(|check| state.is_none_or(|state| check["Status"] == state.name())).collect()
    }

    /// `/v1/catalog/services`: each service with all tags of its instances.
    pub(super) fn catalog_services(&self, question: &Question) -> Value {
        if question.node_meta {
            return json!({});
        }
        let tags = |name: &String| -> BTreeSet<String> {
            self.agent.instances(name).flat_map(|service| service.definition.tags.iter().cloned()).collect()
        };
        self.names().into_iter().map(|name| (name.clone(), json!(tags(&name)))).collect()
    }

    /// `/v1/catalog/service/{name}`: instances whatever their health.
    pub(super) fn catalog_service(&self, service: &str, question: &Question) -> Value {
        let wanted = self.instances(service).into_iter().filter(|instance| instance.is_asked_for(question));
        wanted.map(|instance| self.catalog_entry(instance)).collect()
    }

    /// `/v1/catalog/nodes`.
    pub(super) fn catalog_nodes(&self, question: &Question) -> Value {
        if question.node_meta { json!([]) } else { json!([self.node()]) }
    }

    /// `/v1/agent/self`.
    pub(super) fn agent_self(&self) -> Value {
        let version = env!("CARGO_PKG_VERSION");
        let address = self.http.ip().to_string();
        json!({
            "Config": {
                "Datacenter": DATACENTER,
                "PrimaryDatacenter": DATACENTER,
                "NodeName": NODE,
                "NodeID": NODE_ID,
                "Server": true,
                "Revision": "weir",
                "Version": version,
            },
            "DebugConfig": { "Datacenter": DATACENTER, "NodeName": NODE, "ServerMode": true, "Version": version },
            "Member": {
                "Name": NODE,
                "Addr": address,
                "Port": self.http.port(),
                "Tags": { "dc": DATACENTER, "id": NODE_ID, "role": "consul" },
                "Status": 1,
                "ProtocolMin": 1, "ProtocolMax": 2, "ProtocolCur": 2,
                "DelegateMin": 2, "DelegateMax": 5, "DelegateCur": 4,
            },
            "Stats": {},
            "Meta": {},
        })
    }

    /// All services, sorted.
    fn names(&self) -> BTreeSet<String> {
        let registered = self.agent.services().map(|service| &service.definition.name);
        registered.chain(self.registry.own_services()).cloned().collect()
    }

    /// The instances of a service, sorted. Who registered itself hides who was registered under its name.
    fn instances(&self, service: &str) -> Vec<Instance> {
        let registered = self.agent.instances(service).map(|one| self.registered(one));
        let own = self.registry.own_endpoints(service).map(|endpoint| self.own(service, endpoint));
        let by_id: BTreeMap<String, Instance> =
            registered.chain(own).map(|instance| (instance.id.clone(), instance)).collect();
        by_id.into_values().collect()
    }

    fn registered(&self, service: &Service) -> Instance {
        let definition = &service.definition;
        Instance {
            id: definition.id.clone(),
            service: self.service(definition),
            checks: self.agent.checks_of(service).map(|check| self.check(check)).collect(),
            status: self.agent.status(service),
            tags: definition.tags.iter().map(|tag| tag.to_lowercase()).collect(),
        }
    }

    /// A proxy that registered itself: it is there for as long as it renews that.
    fn own(&self, service: &str, endpoint: &Endpoint) -> Instance {
        let (host, port) = endpoint.address.rsplit_once(':').unwrap_or((&endpoint.address, "0"));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut meta: Map<String, Value> =
            endpoint.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let known = [
            ("version", &endpoint.version),
            ("region", &endpoint.region),
            ("zone", &endpoint.zone),
            ("namespace", &endpoint.namespace),
            ("protocol", &endpoint.protocol),
        ];
        let weight = endpoint.weight.unwrap_or(1);
        meta.extend(known.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), json!(v))));
        let index = self.registry.index(service);
        let check = json!({
            "Node": NODE,
            "CheckID": format!("service:{}", endpoint.instance),
            "Name": "Registration of the proxy",
            "Status": Status::Passing.name(),
            "Notes": "",
            "Output": "The proxy renews its registration.",
            "ServiceID": endpoint.instance,
            "ServiceName": service,
            "ServiceTags": [],
            "Type": "ttl",
            "Interval": "",
            "Timeout": "",
            "ExposedPort": 0,
            "Definition": {},
            "CreateIndex": index,
            "ModifyIndex": index,
        });
        Instance {
            id: endpoint.instance.clone(),
            service: json!({
                "ID": endpoint.instance,
                "Service": service,
                "Tags": [],
                "Meta": meta,
                "Port": port.parse::<u16>().unwrap_or_default(),
                "Address": host,
                "TaggedAddresses": {},
                "Weights": { "Passing": weight, "Warning": weight },
                "EnableTagOverride": false,
                "Datacenter": DATACENTER,
                "CreateIndex": index,
                "ModifyIndex": index,
            }),
            checks: vec![check],
            status: Status::Passing,
            tags: Vec::new(),
        }
    }

    fn service(&self, definition: &ServiceDefinition) -> Value {
        let index = self.registry.index(&definition.name);
        let tagged: Map<String, Value> = definition
            .tagged_addresses
            .iter()
            .map(|(name, at)| (name.clone(), json!({ "Address": at.address, "Port": at.port })))
            .collect();
        json!({
            "ID": definition.id,
            "Service": definition.name,
            "Tags": definition.tags,
            "Meta": definition.meta,
            "Port": definition.port,
            "Address": definition.address,
            "TaggedAddresses": tagged,
            "Weights": { "Passing": definition.weights.passing, "Warning": definition.weights.warning },
            "EnableTagOverride": definition.enable_tag_override,
            "Datacenter": DATACENTER,
            "CreateIndex": index,
            "ModifyIndex": index,
        })
    }

    fn check(&self, check: &Check) -> Value {
        let definition = &check.definition;
        let of = self.agent.service(&definition.service_id).map(|service| &service.definition);
        let index = of.map_or(self.registry.last_index(), |of| self.registry.index(&of.name));
        let (interval, timeout) = check.timing();
        let text = |time| if interval.is_zero() { String::new() } else { duration::format(time) };
        json!({
            "Node": NODE,
            "CheckID": definition.id,
            "Name": definition.name,
            "Status": check.status.name(),
            "Notes": definition.notes,
            "Output": check.output,
            "ServiceID": definition.service_id,
            "ServiceName": of.map_or("", |of| &of.name),
            "ServiceTags": of.map_or(&[][..], |of| &of.tags),
            "Type": definition.kind.name(),
            "Interval": text(interval),
            "Timeout": text(timeout),
            "ExposedPort": 0,
            "Definition": {},
            "CreateIndex": index,
            "ModifyIndex": index,
        })
    }

    fn catalog_entry(&self, mut instance: Instance) -> Value {
        let mut take = |name: &str| instance.service[name].take();
        json!({
            "ID": NODE_ID,
            "Node": NODE,
            "Address": self.http.ip().to_string(),
            "Datacenter": DATACENTER,
            "TaggedAddresses": {},
            "NodeMeta": {},
            "ServiceKind": "",
            "ServiceID": take("ID"),
            "ServiceName": take("Service"),
            "ServiceTags": take("Tags"),
            "ServiceAddress": take("Address"),
            "ServiceTaggedAddresses": take("TaggedAddresses"),
            "ServiceWeights": take("Weights"),
            "ServiceMeta": take("Meta"),
            "ServicePort": take("Port"),
            "ServiceEnableTagOverride": take("EnableTagOverride"),
            "CreateIndex": take("CreateIndex"),
            "ModifyIndex": take("ModifyIndex"),
        })
    }

    fn node(&self) -> Value {
        json!({
            "ID": NODE_ID,
            "Node": NODE,
            "Address": self.http.ip().to_string(),
            "Datacenter": DATACENTER,
            "TaggedAddresses": {},
            "Meta": {},
            "CreateIndex": 1,
            "ModifyIndex": 1,
        })
    }
}
