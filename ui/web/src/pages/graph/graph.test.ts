// The small rules of the graph page: what a search finds, what an edge's badge says, where a chart has holes.
import { describe, expect, test } from "vitest";
import * as decode from "../../api/decode.ts";
import type { GraphEdge, Hint } from "../../api/types.ts";
import { badge, findingConcernsEdge, hintConcernsEdge } from "./concerns.ts";
import { figures } from "./figures.ts";
import { gapless } from "./gapless.ts";
import { matching } from "./matching.ts";

const GRAPH = decode.graph({
  nodes: ["storefront", "cart", "cart-db", "payments"].map((id) => ({ id })),
  edges: [
    { client: "storefront", server: "cart", protocol: "http" },
    { client: "cart", server: "cart-db", protocol: "http" },
    { client: "storefront", server: "payments", protocol: "http" },
  ],
});

const [toCart, , toPayments] = GRAPH.edges as [GraphEdge, GraphEdge, GraphEdge];

describe("a search", () => {
  test("finds services by a part of their name, with what they call and who calls them", () => {
    const { nodes, edges } = matching(GRAPH, " Cart-D ");
    expect([...nodes].sort()).toEqual(["cart", "cart-db"]);
    expect([...edges]).toEqual(["cart>cart-db:http"]);
  });

  test("for nothing finds everything", () => {
    expect(matching(GRAPH, "").nodes.size).toBe(4);
    expect(matching(GRAPH, "").edges.size).toBe(3);
  });

  test("for what is not there finds nothing", () => {
    expect(matching(GRAPH, "nope")).toEqual({ nodes: new Set(), edges: new Set() });
  });
});

function hint(part: object) {
  const whole = { service: "payments", mode: "enforce", active: true, target_kind: "endpoint", ...part };
  return decode.hints({ hints: [whole] }).hints[0] as Hint;
}

describe("the badge of an edge", () => {
  test("counts the replicas that are ejected for its caller", () => {
    const two = [
      hint({ action: "eject", target: "payments-1" }),
      hint({ action: "eject", target: "payments-2" }),
    ];
    expect(badge(toPayments, two)).toBe("2 ejected");
    expect(badge(toCart, two)).toBe("");
    expect(badge(toPayments, [hint({ action: "eject", callers: ["batch"] })])).toBe("");
  });

  test("says nothing of hints that are over or change nothing", () => {
    expect(badge(toPayments, [hint({ action: "eject", active: false })])).toBe("");
    expect(badge(toPayments, [hint({ action: "eject", mode: "dry_run" })])).toBe("");
  });

  test("is otherwise the state of the breaker, then the action", () => {
    expect(badge({ ...toPayments, breaker: "half-open" }, [])).toBe("half-open");
    expect(badge(toPayments, [hint({ action: "limit_concurrency", target_kind: "service" })])).toBe(
      "limit concurrency",
    );
    expect(badge(toPayments, [])).toBe("");
  });
});

test("a finding without a caller concerns every edge to its service", () => {
  const [every, one] = decode.findings({
    findings: [
      { service: "payments", client: null },
      { service: "payments", client: "batch" },
    ],
  }).findings;
  expect(every && findingConcernsEdge(every, toPayments)).toBe(true);
  expect(every && findingConcernsEdge(every, toCart)).toBe(false);
  expect(one && findingConcernsEdge(one, toPayments)).toBe(false);
  expect(hintConcernsEdge(hint({ callers: ["storefront"] }), toPayments)).toBe(true);
});

describe("points of a chart", () => {
  const time = (row: Record<string, unknown>) => Number(row.at);

  test("have a hole for each bucket without rows", () => {
    expect(gapless([{ at: 100 }, { at: 130 }], time)).toEqual([
      { time: 100, row: { at: 100 } },
      { time: 110, row: null },
      { time: 120, row: null },
      { time: 130, row: { at: 130 } },
    ]);
  });

  test("are none without rows, and bounded whatever the rows say", () => {
    expect(gapless([], time)).toEqual([]);
    expect(gapless([{ at: "x" }], time)).toEqual([]);
    expect(gapless([{ at: 0 }, { at: 1e9 }], time)).toHaveLength(1081);
  });
});

describe("the numbers on a service", () => {
  const signals = { calls_per_s: 2, error_rate: 0.5, p99_ms: 30 };
  const graph = decode.graph({
    nodes: [
      { id: "visitor", calls_per_s: 0 },
      { id: "cart", ...signals },
      { id: "alone", calls_per_s: 0 },
    ],
    edges: [
      { client: "visitor", server: "cart", protocol: "http", ...signals },
      { client: "visitor", server: "catalog", protocol: "http", calls_per_s: 6, error_rate: 0, p99_ms: 9 },
    ],
  });
  const of = (id: string, edges = graph.edges) => {
    const node = graph.nodes.find((candidate) => candidate.id === id);
    return node && figures(node, edges);
  };

  test("are those of the calls it gets", () => {
    expect(of("cart")).toEqual({ outgoing: false, ...signals });
    expect(of("alone")).toEqual({ outgoing: false, calls_per_s: 0, error_rate: 0, p99_ms: null });
  });

  test("are those of the calls it makes where nobody calls it", () => {
    expect(of("visitor")).toEqual({ outgoing: true, calls_per_s: 8, error_rate: 0.125, p99_ms: null });
    expect(of("visitor", graph.edges.slice(0, 1))).toEqual({ outgoing: true, ...signals });
  });
});
