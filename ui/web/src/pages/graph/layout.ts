// Where the services stand and how the calls between them run, left to right. Depends on the names in the
// graph alone, so that nothing moves while the numbers do.
import { Graph as Digraph, layout } from "@dagrejs/dagre";
import type { GraphEdge, GraphNode } from "../../api/types.ts";

export const NODE_WIDTH = 196;
export const NODE_HEIGHT = 74;
/** Room kept for the label of an edge. */
const LABEL_WIDTH = 92;
const LABEL_HEIGHT = 44;

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
  graph.setGraph({ rankdir: "LR", nodesep: 30, edgesep: 10, ranksep: 34, ranker: "network-simplex" });
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
    if (edge.name === undefined) continue;
    const own = edge.v === edge.w;
    const [from, to] = [graph.node(edge.v) as Point, graph.node(edge.w) as Point];
    const way = own ? points : course(from, to, points.slice(1, -1));
    placement.edges.set(edge.name, { points: way, label: { x, y } });
  }
  return placement;
}

/**
 * A smooth SVG path through all the points, level at both ends. Between neighbours it neither overshoots
 * nor turns back: Fritsch and Carlson's monotone cubic interpolation, with x as the parameter.
 */
export function curve(points: readonly Point[]): string {
  const first = points[0];
  if (!first || points.length < 2) return "";
  const slopes = points.map((_, i) => slope(points, i));
  let path = `M${at(first)}`;
  for (let i = 1; i < points.length; i++) {
    const [from, to] = [points[i - 1] as Point, points[i] as Point];
    const third = (to.x - from.x) / 3;
    const leave = { x: from.x + third, y: from.y + third * (slopes[i - 1] ?? 0) };
    const arrive = { x: to.x - third, y: to.y - third * (slopes[i] ?? 0) };
    path += `C${at(leave)} ${at(arrive)} ${at(to)}`;
  }
  return path;
}

function slope(points: readonly Point[], i: number): number {
  const [before, here, after] = [points[i - 1], points[i], points[i + 1]];
  if (!before || !here || !after) return 0;
  const left = secant(before, here);
  const right = secant(here, after);
  if (left * right <= 0) return 0;
  const mean = secant(before, after);
  return Math.sign(mean) * Math.min(Math.abs(mean), 3 * Math.abs(left), 3 * Math.abs(right));
}

function secant(from: Point, to: Point): number {
  const run = to.x - from.x;
  return run === 0 ? 0 : (to.y - from.y) / run;
}

/** The course from the side of one node to the side of the other, whichever way they face. */
function course(from: Point, to: Point, inner: readonly Point[]): Point[] {
  const half = NODE_WIDTH / 2;
  const forward = from.x <= to.x ? 1 : -1;
  return [{ x: from.x + forward * half, y: from.y }, ...inner, { x: to.x - forward * half, y: to.y }];
}

function at(point: Point): string {
  return `${point.x.toFixed(1)},${point.y.toFixed(1)}`;
}
