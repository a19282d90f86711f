//! Edges and nodes as the graph shows them, each number with the SQL that gives it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weir_model::Sketch;

use super::super::findings::Active;
use super::super::hints::Story;
use super::super::text;
use super::health::{self, Subject};
use super::{Level, Window};

/// Parts of a name that databases are called by.
const DATABASES: &[&str] = &[
    "db",
    "database",
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "redis",
    "valkey",
    "mongo",
    "mongodb",
    "cassandra",
    "sqlite",
];

/// One edge over the window, as one reporter saw it.
pub(super) struct Edge {
    pub(super) client: String,
    pub(super) server: String,
    pub(super) endpoint: String,
    pub(super) protocol: String,
    pub(super) reporter: String,
    pub(super) calls: i64,
    pub(super) errors: i64,
    pub(super) refused: i64,
    pub(super) sketch: Sketch,
    pub(super) mtls: bool,
    /// Whether any proxy of the server reported calls.
    pub(super) answered: bool,
    /// How long calls were counted.
    pub(super) seconds: f64,
}

/// Everything the graph is drawn from.
pub(super) struct Graph {
    /// Which view its numbers are from.
    pub(super) view: &'static str,
    pub(super) window: Window,
    pub(super) level: Level,
    pub(super) edges: Vec<Edge>,
    pub(super) findings: Vec<Active>,
    pub(super) hints: Vec<Story>,
}

/// Calls of one or more edges.
#[derive(Default)]
struct Sums {
    calls: i64,
    errors: i64,
    sketch: Sketch,
    seconds: f64,
}

impl Sums {
    fn add(&mut self, edge: &Edge) {
        self.calls += edge.calls;
        self.errors += edge.errors;
        self.sketch.merge(&edge.sketch);
        self.seconds = edge.seconds;
    }

    fn error_rate(&self) -> f64 {
        if self.calls > 0 { self.errors as f64 / self.calls as f64 } else { 0.0 }
    }

    fn put(&self, shown: &mut Value) {
        let ms = |q| self.sketch.quantile(q).map(|seconds| 1e3 * seconds);
        shown["calls"] = json!(self.calls);
        shown["calls_per_s"] = json!(if self.calls > 0 { self.calls as f64 / self.seconds } else { 0.0 });
        shown["error_rate"] = json!(self.error_rate());
        shown["p50_ms"] = json!(ms(0.5));
        shown["p90_ms"] = json!(ms(0.9));
        shown["p99_ms"] = json!(ms(0.99));
    }
}

impl Graph {
    /// Nodes and edges in JSON.
    pub(super) fn shown(&self) -> (Vec<Value>, Vec<Value>) {
        let edges = self.edges.iter().map(|edge| self.edge(edge)).collect();
        let mut incoming: BTreeMap<String, Vec<&Edge>> = BTreeMap::new();
        for edge in &self.edges {
            incoming.entry(edge.client.clone()).or_default();
            incoming.entry(self.target(edge).to_owned()).or_default().push(edge);
        }
        let clients: BTreeSet<&str> = self.edges.iter().map(|edge| edge.client.as_str()).collect();
        let nodes = incoming.iter().map(|(id, edges)| self.node(id, edges, &clients)).collect();
        (nodes, edges)
    }

    /// The node that an edge leads to.
    fn target<'a>(&self, edge: &'a Edge) -> &'a str {
        let by_endpoint = self.level == Level::Workload && !edge.endpoint.is_empty();
        if by_endpoint { &edge.endpoint } else { &edge.server }
    }

    fn edge(&self, edge: &Edge) -> Value {
        let mut sums = Sums::default();
        sums.add(edge);
        let subject = Subject { client: &edge.client, service: &edge.server, endpoint: &edge.endpoint };
        let mut shown = json!({
            "client": edge.client,
            "server": self.target(edge),
            "service": edge.server,
            "endpoint": edge.endpoint,
            "protocol": edge.protocol,
            "reporter": edge.reporter,
            "refused": edge.refused,
            "mtls": edge.mtls,
            "breaker": health::breaker(subject, &self.hints, self.window.to),
            "health": health::health(subject, sums.error_rate(), &self.findings),
            "sql": self.numbers(&self.condition(edge), edge.seconds),
        });
        sums.put(&mut shown);
        shown
    }

    fn node(&self, id: &str, incoming: &[&Edge], clients: &BTreeSet<&str>) -> Value {
        let mut sums = Sums::default();
        incoming.iter().for_each(|edge| sums.add(edge));
        let service = incoming.first().map_or(id, |edge| edge.server.as_str());
        let endpoint = incoming.first().map_or("", |edge| edge.endpoint.as_str());
        let answered = clients.contains(id) || incoming.iter().any(|edge| edge.answered);
        let conditions: Vec<String> =
            incoming.iter().map(|edge| format!("({})", self.condition(edge))).collect();
        let seconds = incoming.first().map_or(1.0, |edge| edge.seconds);
        let condition = if conditions.is_empty() {
            "false".to_owned() // nobody calls it
        } else {
            format!("({})", conditions.join("\n    OR "))
        };
        let subject = Subject { client: "", service, endpoint };
        let mut shown = json!({
            "id": id,
            "service": service,
            "kind": kind(id, service, answered),
            "health": health::health(subject, sums.error_rate(), &self.findings),
            "sql": self.numbers(&condition, seconds),
        });
        sums.put(&mut shown);
        shown
    }

    /// Which rows an edge is made of.
    fn condition(&self, edge: &Edge) -> String {
        let mut condition = format!(
            "client = {} AND server = {} AND protocol = {} AND reporter = {}",
            text::quoted(&edge.client),
            text::quoted(&edge.server),
            text::quoted(&edge.protocol),
            text::quoted(&edge.reporter)
        );
        if self.level == Level::Workload {
            condition += &format!(" AND endpoint = {}", text::quoted(&edge.endpoint));
        }
        condition
    }

    /// The numbers of the rows that satisfy `condition`.
    fn numbers(&self, condition: &str, seconds: f64) -> String {
        let (from, to) = (text::moment(self.window.from), text::moment(self.window.to));
        format!(
            "\
SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(calls), 0) / {seconds:?} AS calls_per_s,
       CASE WHEN sum(calls) > 0 THEN 1.0 * sum(errors) / sum(calls) ELSE 0.0 END AS error_rate,
       1000 * sketch_quantile(sketch_merge(sketch), 0.5) AS p50_ms,
       1000 * sketch_quantile(sketch_merge(sketch), 0.9) AS p90_ms,
       1000 * sketch_quantile(sketch_merge(sketch), 0.99) AS p99_ms
FROM {view}
WHERE time >= {from} AND time < {to}
  AND {condition}",
            view = self.view
        )
    }
}

/// What a node is, as far as its name and its proxies tell.
fn kind(id: &str, service: &str, answered: bool) -> &'static str {
    let database = |part: &str| DATABASES.contains(&part);
    if id == "unknown" {
        "unknown"
    } else if service.to_lowercase().split(['-', '_', '.', ':']).any(database) {
        "database"
    } else if answered {
        "service"
    } else {
        "external"
    }
}
