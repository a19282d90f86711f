// The SQL behind the numbers. A page runs these texts and shows them as they are, so that whoever doubts
// a chart can run the same query.

const PARTIAL_BUCKET = "interval '12 seconds'";

/** An edge of the service graph, and the side whose counts are believed. */
export interface EdgeKey {
  client: string;
  server: string;
  protocol: string;
  /** `source`, `destination` or `span`. */
  reporter: string;
}

/** What a panel is about: an edge, or a service with the edges that lead to it. */
export type Subject = { edge: EdgeKey } | { service: string; callers: readonly EdgeKey[] };

/** `window` as SQL: `5m` is `interval '5 minutes'`. */
export function interval(window: string): string {
  const amount = Number.parseInt(window, 10);
  const unit = { s: "second", m: "minute", h: "hour", d: "day" }[window.slice(-1)] ?? "minute";
  return `interval '${amount} ${unit}${amount === 1 ? "" : "s"}'`;
}

/** A text literal. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function of(subject: Subject): string {
  return "edge" in subject ? ofEdge(subject.edge) : intoService(subject.service, subject.callers);
}

function ofEdge(edge: EdgeKey): string {
  return [
    `client = ${literal(edge.client)} AND server = ${literal(edge.server)}`,
    `protocol = ${literal(edge.protocol)} AND reporter = ${literal(edge.reporter)}`,
  ].join("\n  AND ");
}

// Both ends of a call report it, so each call must count once: by its caller's proxy, except for the
// callers that the server believes another side about.
function intoService(service: string, callers: readonly EdgeKey[]): string {
  const sides = ["reporter = 'source'"];
  for (const side of ["destination", "span"]) {
    const clients = new Set(callers.filter((edge) => edge.reporter === side).map((edge) => edge.client));
    if (clients.size > 0) {
      const names = [...clients].sort().map(literal).join(", ");
      sides.push(`reporter = ${literal(side)} AND client IN (${names})`);
    }
  }
  return `server = ${literal(service)}\n  AND (${sides.join(" OR ")})`;
}

/** Rate, errors and latency of each ten seconds. */
export function overTime(subject: Subject, window: string): string {
  return `SELECT time,
  sum(calls) / 10.0 AS calls_per_s,
  sum(errors) / 10.0 AS errors_per_s,
  sum(refused) / 10.0 AS refused_per_s,
  sketch_quantile(sketch_merge(sketch), 0.5) * 1000 AS p50_ms,
  sketch_quantile(sketch_merge(sketch), 0.9) * 1000 AS p90_ms,
  sketch_quantile(sketch_merge(sketch), 0.99) * 1000 AS p99_ms
FROM edges
WHERE ${of(subject)}
  AND time >= now() - ${interval(window)}
  AND time < now() - ${PARTIAL_BUCKET}
GROUP BY time
ORDER BY time`;
}

/** Calls, errors and latency of a window by replica. */
export function byReplica(subject: Subject, window: string): string {
  return `SELECT endpoint,
  sum(calls) AS calls,
  CAST(sum(errors) AS double) / nullif(sum(calls), 0) AS error_rate,
  sum(probes) AS probes,
  sketch_quantile(sketch_merge(sketch), 0.5) * 1000 AS p50_ms,
  sketch_quantile(sketch_merge(sketch), 0.99) * 1000 AS p99_ms
FROM edges
WHERE ${of(subject)}
  AND endpoint <> ''
  AND time >= now() - ${interval(window)}
GROUP BY endpoint
ORDER BY endpoint`;
}

/** Queries that the SQL page offers to start from. */
export const EXAMPLES: readonly { title: string; query: string }[] = [
  {
    title: "Slowest edges",
    query: `SELECT client, server, sum(calls) AS calls,
  sketch_quantile(sketch_merge(sketch), 0.99) * 1000 AS p99_ms
FROM edges
WHERE reporter = 'source' AND time >= now() - interval '15 minutes'
GROUP BY client, server
ORDER BY p99_ms DESC`,
  },
  {
    title: "Failed spans",
    query: `SELECT start_time, service, name, status_message, duration_ns / 1e6 AS duration_ms, trace_id
FROM spans
WHERE status = 'error' AND start_time >= now() - interval '15 minutes'
ORDER BY start_time DESC
LIMIT 100`,
  },
  {
    title: "Busiest operations",
    query: `SELECT service, name, kind, count(*) AS spans, avg(duration_ns) / 1e6 AS mean_ms
FROM spans
WHERE start_time >= now() - interval '5 minutes'
GROUP BY service, name, kind
ORDER BY spans DESC
LIMIT 50`,
  },
  {
    title: "Access logs",
    query: `SELECT time, service, severity_text, body, trace_id
FROM logs
WHERE time >= now() - interval '5 minutes'
ORDER BY time DESC
LIMIT 100`,
  },
  {
    title: "What the mesh did",
    query: `SELECT time, event, action, target, proxy, verdict, state, reason
FROM hints
WHERE time >= now() - interval '1 hour'
ORDER BY time DESC
LIMIT 200`,
  },
];
