// From JSON to the types of the pages. Total: a missing or odd field becomes an empty value, never an
// exception, so that a page stays up while one answer is unexpected.
import type {
  Ack,
  Attributes,
  Demo,
  Finding,
  Findings,
  Graph,
  GraphEdge,
  GraphNode,
  Health,
  Hint,
  Hints,
  Signals,
  Span,
  SqlResult,
  Status,
  Trace,
  TraceSummary,
  Traces,
} from "./types.ts";

type Json = Record<string, unknown>;

/** The server's words. */
const HEALTH: Record<string, Health> = { ok: "ok", degraded: "warning", failing: "critical" };

export function graph(value: unknown): Graph {
  const json = object(value);
  return {
    from: text(json.from),
    to: text(json.to),
    nodes: list(json.nodes).map(graphNode),
    edges: list(json.edges).map(graphEdge),
  };
}

function graphNode(json: Json): GraphNode {
  return {
    id: text(json.id),
    kind: text(json.kind) || "service",
    health: health(json),
    sql: text(json.sql),
    ...signals(json),
  };
}

function graphEdge(json: Json): GraphEdge {
  const client = text(json.client);
  const server = text(json.server);
  const protocol = text(json.protocol);
  return {
    id: edgeId({ client, server, protocol }),
    client,
    server,
    protocol,
    reporter: text(json.reporter),
    mtls: json.mtls === true,
    breaker: text(json.breaker) || "closed",
    health: health(json),
    sql: text(json.sql),
    ...signals(json),
  };
}

/** What tells one edge from another, in the URL too. */
export function edgeId(edge: { client: string; server: string; protocol: string }): string {
  return `${edge.client}>${edge.server}:${edge.protocol}`;
}

function signals(json: Json): Signals {
  return {
    calls_per_s: number(json.calls_per_s) ?? 0,
    error_rate: number(json.error_rate) ?? 0,
    p50_ms: number(json.p50_ms),
    p90_ms: number(json.p90_ms),
    p99_ms: number(json.p99_ms),
  };
}

export function traces(value: unknown): Traces {
  const json = object(value);
  return {
    traces: list(json.traces).map(traceSummary),
    warnings: texts(json.warnings),
    sql: text(json.sql),
  };
}

function traceSummary(json: Json): TraceSummary {
  return {
    trace_id: text(json.trace_id),
    root_service: text(json.root_service),
    root_name: text(json.root_name),
    start_time: text(json.start_time),
    duration_ns: number(json.duration_ns) ?? 0,
    spans: number(json.spans) ?? 0,
    errors: number(json.errors) ?? 0,
    services: texts(json.services),
  };
}

export function trace(value: unknown): Trace {
  const json = object(value);
  return {
    trace_id: text(json.trace_id),
    spans: list(json.spans).map(span),
    warnings: texts(json.warnings),
    sql: text(json.sql),
  };
}

function span(json: Json): Span {
  return {
    span_id: text(json.span_id),
    parent_span_id: text(json.parent_span_id) || null,
    service: text(json.service),
    name: text(json.name),
    kind: text(json.kind),
    status: text(json.status),
    status_message: text(json.status_message),
    start_time: text(json.start_time),
    duration_ns: number(json.duration_ns) ?? 0,
    attributes: object(json.attributes),
    resource_attributes: object(json.resource_attributes),
    events: list(json.events).map((event) => ({
      time: text(event.time),
      name: text(event.name),
      attributes: object(event.attributes),
    })),
  };
}

export function findings(value: unknown): Findings {
  const json = object(value);
  return { findings: list(json.findings).map(finding), sql: text(json.sql) };
}

function finding(json: Json): Finding {
  return {
    id: text(json.id),
    state: text(json.state),
    kind: text(json.kind),
    level: text(json.level),
    severity: text(json.severity),
    client: text(json.client),
    service: text(json.service),
    endpoint: text(json.endpoint),
    detector: text(json.detector),
    metric: text(json.metric),
    window_ms: number(json.window_ms),
    observed: number(json.observed),
    baseline: number(json.baseline),
    score: number(json.score),
    samples: number(json.samples),
    message: text(json.message),
    query: text(json.query),
    trace_ids: texts(json.trace_ids),
    causal_path: texts(json.causal_path),
    opened_at: text(json.opened_at) || null,
    updated_at: text(json.updated_at) || null,
    resolved_at: text(json.resolved_at) || null,
  };
}

export function hints(value: unknown): Hints {
  const json = object(value);
  return { hints: list(json.hints).map(hint), sql: text(json.sql) };
}

function hint(json: Json): Hint {
  return {
    id: text(json.id),
    revision: number(json.revision) ?? 0,
    action: text(json.action),
    mode: text(json.mode),
    service: text(json.service),
    target_kind: text(json.target_kind),
    target: text(json.target),
    callers: texts(json.callers),
    ttl_ms: number(json.ttl_ms),
    finding: text(json.finding),
    evidence: object(json.evidence),
    issued_at: text(json.issued_at) || null,
    renewed_at: text(json.renewed_at) || null,
    withdrawn_at: text(json.withdrawn_at) || null,
    active: json.active === true,
    acks: list(json.acks).map(ack),
  };
}

function ack(json: Json): Ack {
  return {
    time: text(json.time),
    proxy: text(json.proxy),
    proxy_service: text(json.proxy_service),
    verdict: text(json.verdict),
    state: text(json.state),
    reason: text(json.reason),
    success_rate_before: number(json.success_rate_before),
    success_rate_after: number(json.success_rate_after),
  };
}

export function sqlResult(value: unknown): SqlResult {
  const json = object(value);
  const stats = object(json.stats);
  return {
    columns: list(json.columns).map((column) => ({
      name: text(column.name),
      type: text(column.type),
    })),
    rows: list(json.rows),
    warnings: texts(json.warnings),
    stats: {
      elapsed_ms: number(stats.elapsed_ms),
      rows: number(stats.rows),
      files: number(stats.files),
      bytes: number(stats.bytes),
    },
  };
}

export function status(value: unknown): Status {
  const json = object(value);
  return {
    flush_lag_ms: number(json.flush_lag_ms),
    analysis_lag_ms: number(json.analysis_lag_ms),
    wal_bytes: number(json.wal_bytes),
    hot_rows: number(json.hot_rows),
    hot_bytes: number(json.hot_bytes),
    series: number(json.series),
    last_flush: text(json.last_flush) || null,
    last_compaction: text(json.last_compaction) || null,
    disk_full: json.disk_full === true,
    stopped: text(json.stopped) || null,
    tables: list(json.tables).map((table) => ({
      table: text(table.table),
      files: number(table.files) ?? 0,
      rows: number(table.rows) ?? 0,
      bytes: number(table.bytes) ?? 0,
      hot_rows: number(table.hot_rows) ?? 0,
    })),
    quarantine: list(json.quarantine).map((damaged) => ({
      tenant: text(damaged.tenant),
      table: text(damaged.table),
      day: text(damaged.day),
      file: text(damaged.file),
      rows: number(damaged.rows) ?? 0,
      reason: text(damaged.reason),
    })),
  };
}

export function demo(value: unknown): Demo {
  const json = object(value);
  return {
    faults: list(json.faults).map((fault) => ({ kind: text(fault.kind), target: text(fault.target) })),
    services: list(json.services).map((service) => ({
      name: text(service.name),
      replicas: texts(service.replicas),
    })),
  };
}

/** The number in a cell of a SQL result; the strings of NaN and infinities count as none. */
export function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Any scalar as text; anything else as nothing. */
export function text(value: unknown): string {
  if (typeof value === "string") return value;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : "";
}

/** What the server says, except that nothing is healthy by silence. */
function health(json: Json): Health {
  const said = HEALTH[text(json.health)] ?? "idle";
  return said === "ok" && !number(json.calls_per_s) ? "idle" : said;
}

export function object(value: unknown): Attributes {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Attributes) : {};
}

function list(value: unknown): Json[] {
  return Array.isArray(value) ? value.map(object) : [];
}

function texts(value: unknown): string[] {
  if (typeof value === "string") return value === "" ? [] : value.split(",").map((part) => part.trim());
  return Array.isArray(value) ? value.map(text) : [];
}
