// The spans of a trace as a tree, in the order a waterfall shows them.
import type { Span, Trace } from "../../api/types.ts";
import { nanosBetween } from "../../format.ts";

/** A line of the waterfall. */
export interface Line {
  span: Span;
  depth: number;
  /** Nanoseconds from the start of the trace. */
  offset_ns: number;
  /** Spans below it, however deep. */
  below: number;
}

export interface Waterfall {
  lines: Line[];
  duration_ns: number;
  start_time: string;
}

/**
 * Parents before children, children by start. A span whose parent is missing counts as a root; spans that
 * form a ring hang at its earliest one.
 */
export function waterfall(trace: Trace): Waterfall {
  const first = trace.spans[0];
  if (!first) return { lines: [], duration_ns: 0, start_time: "" };
  const sorted = [...trace.spans].sort((a, b) => nanosBetween(b.start_time, a.start_time));
  const start_time = sorted[0]?.start_time ?? first.start_time;
  const ids = new Set(sorted.map((span) => span.span_id));
  const children = new Map<string, Span[]>();
  const roots: Span[] = [];
  for (const span of sorted) {
    const parent = span.parent_span_id;
    if (parent === null || parent === span.span_id || !ids.has(parent)) roots.push(span);
    else children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const lines: Line[] = [];
  const seen = new Set<Span>();
  const walk = (root: Span) => {
    // An own stack: a trace may be deeper than JavaScript's.
    const stack: { span: Span; depth: number }[] = [{ span: root, depth: 0 }];
    for (let next = stack.pop(); next; next = stack.pop()) {
      const { span, depth } = next;
      if (seen.has(span)) continue;
      seen.add(span);
      lines.push({ span, depth, offset_ns: nanosBetween(start_time, span.start_time), below: 0 });
      for (const child of (children.get(span.span_id) ?? []).toReversed())
        stack.push({ span: child, depth: depth + 1 });
    }
  };
  for (const root of roots) walk(root);
  for (const span of sorted) if (!seen.has(span)) walk(span);
  countBelow(lines);
  const duration_ns = Math.max(...lines.map((line) => line.offset_ns + line.span.duration_ns), 1);
  return { lines, duration_ns, start_time };
}

function countBelow(lines: Line[]) {
  const open: Line[] = [];
  for (const line of lines) {
    while (open.length > 0 && (open.at(-1) as Line).depth >= line.depth) open.pop();
    for (const ancestor of open) ancestor.below += 1;
    open.push(line);
  }
}

/** The lines to show when the spans in `closed` hide what is below them. */
export function visible(lines: readonly Line[], closed: ReadonlySet<string>): Line[] {
  const shown: Line[] = [];
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] as Line;
    shown.push(line);
    if (closed.has(line.span.span_id)) i += line.below;
  }
  return shown;
}
