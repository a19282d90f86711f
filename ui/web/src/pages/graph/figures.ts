// Which numbers stand on a service: those of the calls it gets or, where nobody calls it, of those it makes.
import type { GraphEdge, GraphNode } from "../../api/types.ts";

export interface Figures {
  /** Whether they are about the calls that the service makes. */
  outgoing: boolean;
  calls_per_s: number;
  error_rate: number;
  p99_ms: number | null;
}

export function figures(node: GraphNode, edges: readonly GraphEdge[]): Figures {
  const made = edges.filter((edge) => edge.client === node.id);
  if (made.length === 0 || edges.some((edge) => edge.server === node.id)) {
    const { calls_per_s, error_rate, p99_ms } = node;
    return { outgoing: false, calls_per_s, error_rate, p99_ms };
  }
  const calls_per_s = sum(made, (edge) => edge.calls_per_s);
  const errors_per_s = sum(made, (edge) => edge.calls_per_s * edge.error_rate);
  return {
    outgoing: true,
    calls_per_s,
    error_rate: calls_per_s > 0 ? errors_per_s / calls_per_s : 0,
    // Quantiles of several edges do not add up.
    p99_ms: made.length === 1 ? (made[0]?.p99_ms ?? null) : null,
  };
}

function sum(edges: readonly GraphEdge[], value: (edge: GraphEdge) => number): number {
  return edges.reduce((total, edge) => total + value(edge), 0);
}
