// Which findings and hints belong to which part of the graph.
import type { Finding, GraphEdge, Hint } from "../../api/types.ts";

export function findingConcernsEdge(finding: Finding, edge: GraphEdge): boolean {
  return finding.service === edge.server && (finding.client === "" || finding.client === edge.client);
}

export function findingConcernsService(finding: Finding, service: string): boolean {
  return finding.service === service;
}

export function hintConcernsEdge(hint: Hint, edge: GraphEdge): boolean {
  return hint.service === edge.server && (hint.callers.length === 0 || hint.callers.includes(edge.client));
}

export function hintConcernsService(hint: Hint, service: string): boolean {
  return hint.service === service;
}

/** What the badge of an edge says: `2 ejected`, the state of its breaker, or nothing. */
export function badge(edge: GraphEdge, hints: readonly Hint[]): string {
  const acting = hints.filter(
    (hint) => hint.active && hint.mode === "enforce" && hintConcernsEdge(hint, edge),
  );
  const ejected = acting.filter((hint) => hint.action === "eject" && hint.target_kind === "endpoint").length;
  if (ejected > 0) return `${ejected} ejected`;
  if (edge.breaker !== "closed") return edge.breaker;
  return acting[0]?.action.replaceAll("_", " ") ?? "";
}
