import { describe, expect, test } from "vitest";
import { graph } from "../../api/decode.ts";
import { curve, NODE_HEIGHT, NODE_WIDTH, type Placement, type Point, place } from "./layout.ts";

/** A graph from lines like `cart>payments`. */
function placed(calls: string[], alone: string[] = []): Placement {
  const edges = calls.map((call) => {
    const [client, server] = call.split(">");
    return { client, server, protocol: "http" };
  });
  const names = new Set([...edges.flatMap(({ client, server }) => [client, server]), ...alone]);
  const decoded = graph({ nodes: [...names].map((id) => ({ id })), edges });
  return place(decoded.nodes, decoded.edges);
}

const SHOP = [
  "visitor>storefront",
  "storefront>cart",
  "storefront>catalog",
  "storefront>checkout",
  "cart>cart-db",
  "catalog>recommendations",
  "checkout>email",
  "checkout>payments",
  "checkout>shipping",
  "payments>bank-api",
];

function at(placement: Placement, id: string): Point {
  return placement.nodes.get(id) ?? { x: Number.NaN, y: Number.NaN };
}

describe("the shop", () => {
  const shop = placed(SHOP);

  test("runs from callers on the left to the called on the right", () => {
    for (const call of SHOP) {
      const [client = "", server = ""] = call.split(">");
      expect(at(shop, server).x).toBeGreaterThan(at(shop, client).x + NODE_WIDTH);
    }
  });

  test("has no services on top of one another", () => {
    const places = [...shop.nodes.values()];
    expect(places).toHaveLength(11);
    for (const [i, a] of places.entries()) {
      for (const b of places.slice(i + 1)) {
        const apart = Math.abs(a.x - b.x) >= NODE_WIDTH || Math.abs(a.y - b.y) >= NODE_HEIGHT;
        expect(apart).toBe(true);
      }
    }
  });

  test("has no label on a service", () => {
    for (const { label } of shop.edges.values()) {
      for (const { x, y } of shop.nodes.values()) {
        const inside = label.x > x && label.x < x + NODE_WIDTH && label.y > y && label.y < y + NODE_HEIGHT;
        expect(inside).toBe(false);
      }
    }
  });

  test("is laid out the same each time", () => {
    expect(placed(SHOP)).toEqual(shop);
  });
});

test("an edge runs from the side of its caller to the side of the called", () => {
  const { nodes, edges } = placed(["a>b"]);
  const points = edges.get("a>b:http")?.points ?? [];
  const [a, b] = [nodes.get("a"), nodes.get("b")] as [Point, Point];
  expect(points[0]).toEqual({ x: a.x + NODE_WIDTH, y: a.y + NODE_HEIGHT / 2 });
  expect(points.at(-1)).toEqual({ x: b.x, y: b.y + NODE_HEIGHT / 2 });
});

test("services that call each other, themselves, or nobody all have a place", () => {
  const { nodes, edges } = placed(["a>b", "b>a", "a>a"], ["alone"]);
  expect([...nodes.keys()].sort()).toEqual(["a", "alone", "b"]);
  expect([...edges.keys()].sort()).toEqual(["a>a:http", "a>b:http", "b>a:http"]);
  for (const point of [...nodes.values(), ...[...edges.values()].flatMap((edge) => edge.points)]) {
    expect(Number.isFinite(point.x) && Number.isFinite(point.y)).toBe(true);
  }
});

test("two protocols between the same services are two edges", () => {
  const call = { client: "a", server: "b" };
  const decoded = graph({
    nodes: [{ id: "a" }, { id: "b" }],
    edges: [
      { ...call, protocol: "http" },
      { ...call, protocol: "grpc" },
      { ...call, server: "gone", protocol: "http" },
    ],
  });
  const { edges } = place(decoded.nodes, decoded.edges);
  expect([...edges.keys()]).toEqual(["a>b:http", "a>b:grpc"]);
  expect(edges.get("a>b:http")?.label.y).not.toBe(edges.get("a>b:grpc")?.label.y);
});

describe("a curve", () => {
  /** The values of y that a path passes, control points included. */
  const heights = (path: string) => [...path.matchAll(/,(-?[\d.]+)/g)].map((match) => Number(match[1]));

  test("starts and ends where its points do", () => {
    const points = [
      { x: 0, y: 0 },
      { x: 30, y: 0 },
      { x: 60, y: 40 },
    ];
    expect(curve(points)).toMatch(/^M0\.0,0\.0C.* 60\.0,40\.0$/);
  });

  test("does not overshoot its points", () => {
    const points = [0, 0, 50, 50, 10].map((y, i) => ({ x: i * 30, y }));
    for (const y of heights(curve(points))) expect(y >= 0 && y <= 50).toBe(true);
  });

  test("of less than two points is nothing", () => {
    expect(curve([])).toBe("");
    expect(curve([{ x: 1, y: 1 }])).toBe("");
  });
});
