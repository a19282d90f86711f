import { describe, expect, test } from "vitest";
import type { Span } from "../../api/types.ts";
import { visible, waterfall } from "./tree.ts";

/** A span that starts `at` milliseconds after the first and takes `took` of them. */
function span(id: string, parent: string | null, at = 0, took = 10): Span {
  return {
    span_id: id,
    parent_span_id: parent,
    service: "cart",
    name: id,
    kind: "server",
    status: "ok",
    status_message: "",
    start_time: new Date(Date.UTC(2026, 10, 24, 12) + at).toISOString(),
    duration_ns: took * 1e6,
    attributes: {},
    resource_attributes: {},
    events: [],
  };
}

function shown(...spans: Span[]) {
  return waterfall({ trace_id: "a1", spans, warnings: [], sql: "" });
}

function outline(...spans: Span[]): string[] {
  return shown(...spans).lines.map((line) => `${"-".repeat(line.depth)}${line.span.span_id} ${line.below}`);
}

describe("a waterfall", () => {
  test("has parents before children, and children by their start", () => {
    const spans = [span("b", "root", 5), span("b1", "b", 6), span("a", "root", 2), span("root", null)];
    expect(outline(...spans)).toEqual(["root 3", "-a 0", "-b 1", "--b1 0"]);
  });

  test("begins with its earliest span and ends with its last, to the nanosecond", () => {
    const late = { ...span("late", "root"), start_time: "2026-11-24T12:00:00.100000009Z" };
    const { lines, duration_ns, start_time } = shown(span("root", null, 0, 50), late);
    expect(start_time).toBe("2026-11-24T12:00:00.000Z");
    expect(lines.map((line) => line.offset_ns)).toEqual([0, 100_000_009]);
    expect(duration_ns).toBe(110_000_009);
  });

  test("takes a span whose parent is not there for a root", () => {
    expect(outline(span("a", "lost", 1), span("root", null))).toEqual(["root 0", "a 0"]);
  });

  test("shows each span of a ring once", () => {
    const ring = outline(span("a", "c", 1), span("b", "a", 2), span("c", "b", 3), span("self", "self"));
    expect(ring).toEqual(["self 0", "a 2", "-b 1", "--c 0"]);
  });

  test("survives a trace that is deeper than the stack", () => {
    const deep = Array.from({ length: 20_000 }, (_, i) => span(`s${i}`, i === 0 ? null : `s${i - 1}`, 0));
    const { lines } = shown(...deep);
    expect(lines).toHaveLength(20_000);
    expect(lines.at(-1)?.depth).toBe(19_999);
    expect(lines[0]?.below).toBe(19_999);
  });

  test("of no spans is empty", () => {
    expect(shown()).toEqual({ lines: [], duration_ns: 0, start_time: "" });
  });

  test("of a span without length still has a width to divide by", () => {
    expect(shown(span("root", null, 0, 0)).duration_ns).toBe(1);
  });
});

test("a closed span hides everything below it and nothing else", () => {
  const { lines } = shown(span("root", null), span("a", "root", 1), span("a1", "a", 2), span("b", "root", 3));
  const ids = (...closed: string[]) => visible(lines, new Set(closed)).map((line) => line.span.span_id);
  expect(ids()).toEqual(["root", "a", "a1", "b"]);
  expect(ids("a")).toEqual(["root", "a", "b"]);
  expect(ids("root", "a")).toEqual(["root"]);
  expect(ids("a1")).toEqual(["root", "a", "a1", "b"]);
});
