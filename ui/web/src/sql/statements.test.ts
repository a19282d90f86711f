// The statements ask for views and columns that the server documents.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { byReplica, EXAMPLES, interval, literal, overTime } from "./statements.ts";

const VIEWS = new URL("../../../../query/src/engine/views/", import.meta.url);
const comments = readFileSync(new URL("comments.rs", VIEWS), "utf8");

/** The first texts of the tuples of a constant in `comments.rs`. */
function documented(name: string, take: number): string[][] {
  const list = comments.slice(comments.indexOf(`const ${name}:`));
  const tuples = list.slice(0, list.indexOf("\n];")).matchAll(/\("(\w+)", "(\w+|[^"]*)"/g);
  return [...tuples].map((tuple) => tuple.slice(1, 1 + take));
}

const views = [...comments.matchAll(/^ {8}"(\w+)" => "/gm)].map((match) => match[1] ?? "");
const columns = new Set([
  ...documented("ANYWHERE", 1).map(([column]) => column),
  ...documented("IN_VIEW", 2).map(([, column]) => column),
]);

const FUNCTIONS = new Set(["now", "sum", "avg", "count", "nullif", "sketch_quantile", "sketch_merge"]);
const WORDS = new Set(
  `and as asc by case cast desc double else end filter from group in interval is limit not null or order
   select then when where`.split(/\s+/),
);

/** What a statement names: views after FROM, and columns that are no alias of its own. */
function named(sql: string) {
  const code = sql.replaceAll(/'(?:[^']|'')*'/g, "");
  const aliases = new Set([...code.matchAll(/ AS (\w+)/g)].map((match) => match[1]));
  const from = [...code.matchAll(/FROM (\w+)/g)].map((match) => match[1] ?? "");
  const words = [...code.matchAll(/\b[a-z_]\w*/gi)].map((match) => match[0]);
  const used = words.filter(
    (word) =>
      !WORDS.has(word.toLowerCase()) && !FUNCTIONS.has(word) && !aliases.has(word) && !from.includes(word),
  );
  return { from, used };
}

const edge = { client: "cart", server: "payments", protocol: "http", reporter: "source" };
const service = { service: "payments", callers: [edge] };

describe("every statement", () => {
  const all = [
    ...EXAMPLES.map(({ title, query }) => [title, query] as const),
    ["an edge over time", overTime({ edge }, "15m")] as const,
    ["a service over time", overTime(service, "15m")] as const,
    ["an edge by replica", byReplica({ edge }, "1h")] as const,
    ["a service by replica", byReplica(service, "1h")] as const,
  ];

  test("can be compared with what the server documents", () => {
    expect(views).toContain("edges");
    expect(views.length).toBeGreaterThan(8);
    expect(columns.size).toBeGreaterThan(80);
  });

  test.each(all)("%s names views and columns that there are", (_title, sql) => {
    const { from, used } = named(sql);
    expect(from.length).toBeGreaterThan(0);
    expect(from.filter((view) => !views.includes(view))).toEqual([]);
    expect(used.length).toBeGreaterThan(0);
    expect(used.filter((column) => !columns.has(column))).toEqual([]);
  });

  test.each(all)("%s reads a bounded stretch of time", (_title, sql) => {
    expect(sql).toMatch(/time >= now\(\) - interval '\d+ \w+'/);
  });
});

describe("an edge and a service", () => {
  test("are asked for by the side that the graph believes", () => {
    expect(overTime({ edge: { ...edge, reporter: "destination" } }, "5m")).toContain(
      "client = 'cart' AND server = 'payments'\n  AND protocol = 'http' AND reporter = 'destination'",
    );
  });

  test("count a call once, whoever reported it", () => {
    const callers = [
      edge,
      { ...edge, client: "unknown", reporter: "destination" },
      { ...edge, client: "batch", reporter: "destination" },
      { ...edge, client: "legacy", reporter: "span" },
    ];
    expect(byReplica({ service: "payments", callers }, "5m")).toContain(
      "server = 'payments'\n  AND (reporter = 'source' OR reporter = 'destination' AND client IN ('batch', 'unknown')" +
        " OR reporter = 'span' AND client IN ('legacy'))",
    );
    expect(overTime({ service: "payments", callers: [edge] }, "5m")).toContain("AND (reporter = 'source')");
  });

  test("may have any name", () => {
    const odd = { ...edge, client: "o'brien' OR '1'='1", server: 'a"b' };
    const sql = overTime({ edge: odd }, "5m");
    expect(sql).toContain("client = 'o''brien'' OR ''1''=''1' AND server = 'a\"b'");
  });
});

test("windows are intervals in words", () => {
  expect(interval("1m")).toBe("interval '1 minute'");
  expect(interval("15m")).toBe("interval '15 minutes'");
  expect(interval("1h")).toBe("interval '1 hour'");
});

test("a quote in a text is doubled", () => {
  expect(literal("it's")).toBe("'it''s'");
});
