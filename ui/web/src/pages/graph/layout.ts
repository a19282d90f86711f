// Where the services stand and how the calls between them run, left to right. Depends on the names in the
// graph alone, so that nothing moves while the numbers do.
import { Graph as Digraph, layout } from "@dagrejs/dagre";
import type { GraphEdge, GraphNode } from "../../api/types.ts";

export const NODE_WIDTH = 196;
export const NODE_HEIGHT = 74;
/** Room kept for the label of an edge. */
const LABEL_WIDTH = 104;
const LABEL_HEIGHT = 26;

export interface Point {
  x: number;
  y: number;
}

/** Top left corners of nodes, and the course of edges with the middle of their labels. */
export interface Placement {
  nodes: Map<string, Point>;
  edges: Map<string, { points: Point[]; label: Point }>;
}

/** Places nodes and edges; edges to nodes that are not there are left out. */
export function place(nodes: readonly GraphNode[], edges: readonly GraphEdge[]): Placement {
  const graph = new Digraph({ directed: true, multigraph: true });
  graph.setGraph({ rankdir: "LR", nodesep: 34, edgesep: 18, ranksep: 36, ranker: "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) graph.setNode(node.id, { width: NODE_WIDTH, height: NODE_HEIGHT });
  for (const edge of edges) {
    if (!graph.hasNode(edge.client) || !graph.hasNode(edge.server)) continue;
    const room = { width: LABEL_WIDTH, height: LABEL_HEIGHT, labelpos: "c" };
    graph.setEdge(edge.client, edge.server, room, edge.id);
  }
  layout(graph);
  const placement: Placement = { nodes: new Map(), edges: new Map() };
  for (const id of graph.nodes()) {
    const { x = 0, y = 0 } = graph.node(id) as Partial<Point>;
    placement.nodes.set(id, { x: x - NODE_WIDTH / 2, y: y - NODE_HEIGHT / 2 });
  }
  for (const edge of graph.edges()) {
    const { points = [], x = 0, y = 0 } = graph.edge(edge) as { points?: Point[] } & Partial<Point>;
    if (edge.name !== undefined) placement.edges.set(edge.name, { points, label: { x, y } });
  }
  return placement;
}

/** A smooth SVG path through the points: quadratic curves between the middles of its legs. */
export function curve(points: readonly Point[]): string {
  const [first, ...rest] = points;
  const last = rest.at(-1);
  if (!first || !last) return "";
  let path = `M${at(first)}`;
  for (let i = 0; i < rest.length - 1; i++) {
    const here = rest[i] as Point;
    const next = rest[i + 1] as Point;
    const end = i === rest.length - 2 ? next : { x: (here.x + next.x) / 2, y: (here.y + next.y) / 2 };
    path += `Q${at(here)} ${at(end)}`;
  }
  return rest.length === 1 ? `${path}L${at(last)}` : path;
}

function at(point: Point): string {
  return `${point.x.toFixed(1)},${point.y.toFixed(1)}`;
}
