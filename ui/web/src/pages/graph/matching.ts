// Which part of the graph a search is about.
import type { Graph } from "../../api/types.ts";

/** The services whose name holds `find`, the edges at them, and the services at the edges' other ends. */
export function matching(graph: Graph, find: string): { nodes: Set<string>; edges: Set<string> } {
  const wanted = find.trim().toLowerCase();
  const nodes = new Set<string>();
  const edges = new Set<string>();
  for (const node of graph.nodes) if (node.id.toLowerCase().includes(wanted)) nodes.add(node.id);
  const hits = new Set(nodes);
  for (const edge of graph.edges) {
    if (!hits.has(edge.client) && !hits.has(edge.server)) continue;
    edges.add(edge.id);
    nodes.add(edge.client);
    nodes.add(edge.server);
  }
  return { nodes, edges };
}
