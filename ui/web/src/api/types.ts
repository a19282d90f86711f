// What the server answers, as the pages use it. `decode.ts` turns its JSON into these.

/** How a node or an edge is doing. */
export type Health = "ok" | "warning" | "critical" | "idle";

/** Rate, errors and latency of a node or an edge over the window asked for. */
export interface Signals {
  calls_per_s: number;
  error_rate: number;
  p50_ms: number | null;
  p90_ms: number | null;
  p99_ms: number | null;
}

/** A service, or something that services call. */
export interface GraphNode extends Signals {
  id: string;
  kind: string;
  health: Health;
  sql: string;
}

/** The calls from one service to another. */
export interface GraphEdge extends Signals {
  id: string;
  client: string;
  server: string;
  protocol: string;
  /** The side whose counts these are: `source`, `destination` or `span`. */
  reporter: string;
  mtls: boolean;
  /** `closed`, `soft`, `ejected`, `open`, `half-open` or `ramp`. */
  breaker: string;
  health: Health;
  sql: string;
}

/** The service graph of a window. */
export interface Graph {
  from: string;
  to: string;
  nodes: GraphNode[];
  edges: GraphEdge[];
}

/** One trace of a list. */
export interface TraceSummary {
  trace_id: string;
  root_service: string;
  root_name: string;
  start_time: string;
  duration_ns: number;
  spans: number;
  errors: number;
  services: string[];
}

/** A list, and the SQL that makes it. */
export interface Traces {
  traces: TraceSummary[];
  warnings: string[];
  sql: string;
}

/** Attributes of anything: values as JSON. */
export type Attributes = Record<string, unknown>;

/** Something that happened during a span. */
export interface SpanEvent {
  time: string;
  name: string;
  attributes: Attributes;
}

/** One span of a trace. */
export interface Span {
  span_id: string;
  parent_span_id: string | null;
  service: string;
  name: string;
  kind: string;
  status: string;
  status_message: string;
  start_time: string;
  duration_ns: number;
  attributes: Attributes;
  resource_attributes: Attributes;
  events: SpanEvent[];
}

/** A whole trace. */
export interface Trace {
  trace_id: string;
  spans: Span[];
  warnings: string[];
  sql: string;
}

/** What the analysis concluded. */
export interface Finding {
  id: string;
  state: string;
  kind: string;
  level: string;
  severity: string;
  client: string;
  service: string;
  endpoint: string;
  detector: string;
  metric: string;
  window_ms: number | null;
  observed: number | null;
  baseline: number | null;
  score: number | null;
  samples: number | null;
  message: string;
  query: string;
  trace_ids: string[];
  causal_path: string[];
  opened_at: string | null;
  updated_at: string | null;
  resolved_at: string | null;
}

/** Findings, and the SQL that lists them. */
export interface Findings {
  findings: Finding[];
  sql: string;
}

/** What a proxy answered to a hint. */
export interface Ack {
  time: string;
  proxy: string;
  proxy_service: string;
  verdict: string;
  state: string;
  reason: string;
  success_rate_before: number | null;
  success_rate_after: number | null;
}

/** What was asked of the proxies. */
export interface Hint {
  id: string;
  revision: number;
  action: string;
  mode: string;
  service: string;
  target_kind: string;
  target: string;
  callers: string[];
  ttl_ms: number | null;
  finding: string;
  evidence: Attributes;
  issued_at: string | null;
  renewed_at: string | null;
  withdrawn_at: string | null;
  active: boolean;
  acks: Ack[];
}

/** Hints, and the SQL that lists them. */
export interface Hints {
  hints: Hint[];
  sql: string;
}

/** A column of a SQL result. */
export interface Column {
  name: string;
  type: string;
}

/** A row of a SQL result, by column name. */
export type Row = Record<string, unknown>;

/** What a SQL query answered. */
export interface SqlResult {
  columns: Column[];
  rows: Row[];
  warnings: string[];
  stats: { elapsed_ms: number | null; rows: number | null; files: number | null; bytes: number | null };
}

/** How the server itself is doing. */
export interface Status {
  flush_lag_ms: number | null;
  analysis_lag_ms: number | null;
  wal_bytes: number | null;
  hot_rows: number | null;
  hot_bytes: number | null;
  series: number | null;
  last_flush: string | null;
  last_compaction: string | null;
  disk_full: boolean;
  stopped: string | null;
  tables: { table: string; files: number; rows: number; bytes: number; hot_rows: number }[];
  quarantine: { tenant: string; table: string; day: string; file: string; rows: number; reason: string }[];
}

/** A fault that the demo can plant. */
export type FaultKind = "latency" | "errors" | "outage";

/** The demo's switches. */
export interface Demo {
  faults: { kind: string; target: string }[];
  services: { name: string; replicas: string[] }[];
}
