// What the server really answers: the snapshots of its own tests.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { cellText, isNumeric } from "../pages/sql/cells.ts";
import { exact } from "./client.ts";
import * as decode from "./decode.ts";

const API = new URL("../../../../query/src/api/", import.meta.url);

/** The JSON of an insta snapshot, read as the app reads an answer. */
function answer(folder: string, name: string): unknown {
  const file = new URL(`${folder}/weir_query__api__tests__${name}.snap`, API);
  const [, , json] = readFileSync(file, "utf8").split(/^---$/m);
  return JSON.parse(exact(json ?? ""));
}

describe("the service graph", () => {
  const graph = decode.graph(answer("tests/snapshots", "graph__service"));

  test("has its nodes and edges with numbers, health and SQL", () => {
    expect(graph.nodes.map((node) => [node.id, node.kind, node.health])).toEqual([
      ["frontend", "service", "ok"],
      ["payments", "service", "critical"],
      ["unknown", "unknown", "idle"],
    ]);
    expect(graph.edges.map((edge) => edge.id)).toEqual(["frontend>payments:http", "unknown>frontend:http"]);
    const [edge] = graph.edges;
    expect(edge).toMatchObject({
      client: "frontend",
      server: "payments",
      protocol: "http",
      reporter: "source",
      breaker: "ejected",
      health: "critical",
      mtls: false,
      calls_per_s: 1.6666666666666667,
      error_rate: 0.25,
      p50_ms: 98.49880281924293,
      p90_ms: 98.49880281924293,
      p99_ms: 98.49880281924293,
    });
    for (const { sql } of [...graph.nodes, ...graph.edges]) expect(sql).toMatch(/^SELECT /);
    expect(Date.parse(graph.to) - Date.parse(graph.from)).toBe(120_000);
  });

  test("has null, not zero, where no latency was measured", () => {
    expect(graph.nodes.at(-1)).toMatchObject({ calls_per_s: 0, p50_ms: null, p90_ms: null, p99_ms: null });
  });

  test("gives every edge an id of its own, by workload too", () => {
    const { edges } = decode.graph(answer("tests/snapshots", "graph__workload"));
    expect(edges).toHaveLength(3);
    expect(new Set(edges.map((edge) => edge.id)).size).toBe(3);
  });
});

test("a list of traces keeps the server's order and counts", () => {
  const { traces, sql } = decode.traces(answer("snapshots", "traces_are_found_by_what_one_span_did"));
  expect(traces.map((trace) => trace.trace_id.slice(-2))).toEqual(["b2", "a1"]);
  expect(traces[1]).toEqual({
    trace_id: "000000000000000000000000000000a1",
    root_service: "frontend",
    root_name: "GET /cart",
    start_time: "2026-11-24T12:00:00.000000007Z",
    duration_ns: 30_000_000,
    spans: 2,
    errors: 2,
    services: ["frontend", "payments"],
  });
  expect(sql).toContain("FROM spans");
});

test("a trace has spans with attributes, events, and empty values for what is null", () => {
  const { trace_id, spans, sql } = decode.trace(answer("snapshots", "a_trace_has_its_spans_once"));
  expect(trace_id).toBe("000000000000000000000000000000a1");
  expect(sql).toContain(trace_id);
  const [root, child] = spans;
  expect(root).toMatchObject({
    parent_span_id: null,
    kind: "server",
    status: "error",
    status_message: "upstream failed",
    events: [{ name: "retry", time: "2026-11-24T12:00:00.000001005Z", attributes: { why: "UF" } }],
  });
  expect(root?.attributes).toMatchObject({ "http.route": "/cart", n: "9007199254740993", vip: "true" });
  expect(root?.resource_attributes["service.name"]).toBe("frontend");
  expect(child).toMatchObject({ parent_span_id: root?.span_id, status_message: "", events: [] });
});

test("a finding says what, where, how sure and since when", () => {
  const { findings, sql } = decode.findings(
    answer("snapshots", "findings_hints_and_services_read_as_documented"),
  );
  expect(sql).toContain("FROM findings");
  expect(findings).toEqual([
    {
      id: "f-1",
      state: "updated",
      kind: "errors",
      level: "endpoint",
      severity: "critical",
      client: "",
      service: "payments",
      endpoint: "payments-2",
      detector: "errors",
      metric: "error_rate",
      window_ms: 10_000,
      observed: 0.5,
      baseline: 0.01,
      score: 9,
      samples: 100,
      message: "payments-2 fails",
      query: "select 1",
      trace_ids: ["000000000000000000000000000000a1", "000000000000000000000000000000b2"],
      causal_path: ["frontend", "payments"],
      opened_at: "2026-11-24T12:00:00.000000000Z",
      updated_at: "2026-11-24T12:00:01.000000000Z",
      resolved_at: null,
    },
  ]);
});

test("a hint has its callers, its evidence and what the proxies answered", () => {
  const { hints } = decode.hints(answer("snapshots", "findings_hints_and_services_read_as_documented-2"));
  expect(hints).toHaveLength(1);
  expect(hints[0]).toMatchObject({
    action: "eject",
    active: true,
    callers: ["frontend", "cart"],
    evidence: { observed: 0.5 },
    mode: "enforce",
    target: "payments-2",
    target_kind: "endpoint",
    ttl_ms: 15_000,
    withdrawn_at: null,
    acks: [
      {
        proxy: "frontend-1",
        verdict: "applied",
        success_rate_before: 0.5,
        success_rate_after: 1,
        state: "open",
      },
    ],
  });
});

describe("a SQL answer", () => {
  const result = decode.sqlResult(answer("snapshots", "sql_answers_in_json_with_every_type"));
  const shown = Object.fromEntries(
    result.columns.map(({ name }) => [name, cellText(result.rows[0]?.[name])]),
  );

  test("shows every type as it was sent, long integers to the last digit", () => {
    expect(shown).toMatchObject({
      small: "1",
      long: "9223372036854775807",
      real: "1.5",
      nan: "NaN",
      inf: "+Inf",
      minus: "-Inf",
      big: "1e+300",
      yes: "true",
      text: 'a "quoted"\ntext',
      bytes: "AP8=",
      at: "2026-11-24T12:00:00.000000001Z",
      day: "2026-11-24",
      gap: "1 days",
      list: "[1,2]",
      money: "1.25",
      map: '{"k":1}',
      st: '{"a":1,"b":"b"}',
      dup: "1",
      dup_2: "2",
    });
  });

  test("stands its numbers at the right and nothing else", () => {
    const numeric = result.columns.filter(isNumeric).map((column) => column.name);
    expect(numeric).toEqual(["small", "long", "real", "nan", "inf", "minus", "big", "money", "dup", "dup_2"]);
  });

  test("has its counts", () => {
    expect(result.stats).toEqual({ elapsed_ms: 0, rows: 1, files: 0, bytes: 0 });
    expect(result.warnings).toEqual([]);
  });
});

test("the demo has its faults and services", () => {
  const json = {
    faults: [{ kind: "errors", target: "payments/2" }],
    services: [{ name: "payments", replicas: ["payments-1", "payments-2"] }],
  };
  expect(decode.demo(json)).toEqual(json);
});

test("the status has what storage and the analysis say", () => {
  const json = {
    flush_lag_ms: 1200,
    analysis_lag_ms: null,
    wal_bytes: 4096,
    hot_rows: 7,
    hot_bytes: 900,
    series: 3,
    last_flush: "2026-11-24T12:00:00.000000000Z",
    last_compaction: null,
    disk_full: false,
    stopped: null,
    tables: [{ table: "spans", files: 2, rows: 10, bytes: 480, hot_rows: 7 }],
    quarantine: [
      { tenant: "default", table: "spans", day: "2026-11-24", file: "wal-1.parquet", rows: 5, reason: "why" },
    ],
  };
  expect(decode.status(json)).toEqual(json);
});

test("anything else becomes empty values, never an exception", () => {
  for (const odd of [null, undefined, 7, "text", [], {}, { nodes: {}, edges: [null, 1, "x"], rows: 3 }]) {
    expect(decode.graph(odd).nodes).toEqual([]);
    expect(decode.traces(odd).traces).toEqual([]);
    expect(decode.status(odd).tables).toEqual([]);
    expect(decode.trace(odd).spans).toEqual([]);
    expect(decode.findings(odd).findings).toEqual([]);
    expect(decode.hints(odd).hints).toEqual([]);
    expect(decode.sqlResult(odd).rows).toEqual([]);
    expect(decode.demo(odd).services).toEqual([]);
  }
  expect(decode.graph({ edges: [null] }).edges[0]).toMatchObject({
    id: ">:",
    health: "idle",
    calls_per_s: 0,
  });
});
