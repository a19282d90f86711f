// The service graph as a map that can be moved, zoomed, and walked with Tab.
import { Background, BackgroundVariant, Controls, MarkerType, ReactFlow } from "@xyflow/react";
import { useMemo, useRef } from "react";
import type { Graph, Health, Hint } from "../../api/types.ts";
import type { EdgeLabel } from "../../router.tsx";
import { CallEdge, type CallEdgeType } from "./CallEdge.tsx";
import { badge } from "./concerns.ts";
import { figures } from "./figures.ts";
import { NODE_HEIGHT, NODE_WIDTH, place } from "./layout.ts";
import { matching } from "./matching.ts";
import { FIT, Refit, surroundings } from "./Refit.tsx";
import styles from "./ServiceMap.module.css";
import { ServiceNode, type ServiceNodeType } from "./ServiceNode.tsx";

const NODE_TYPES = { service: ServiceNode };
const EDGE_TYPES = { call: CallEdge };
const LINE_COLOURS: Record<Health, string> = {
  ok: "var(--line-strong)",
  warning: "var(--warning)",
  critical: "var(--critical)",
  idle: "var(--line-strong)",
};

interface Props {
  graph: Graph;
  hints: readonly Hint[];
  label: EdgeLabel;
  find: string;
  node: string | undefined;
  edge: string | undefined;
  onNode: (id: string) => void;
  onEdge: (id: string) => void;
}

export function ServiceMap({ graph, hints, label, find, node, edge, onNode, onEdge }: Props) {
  const shape = [...graph.nodes.map((n) => n.id), ...graph.edges.map((e) => e.id)].sort().join("\n");
  // biome-ignore lint/correctness/useExhaustiveDependencies: places depend on the names alone
  const placement = useMemo(() => place(graph.nodes, graph.edges), [shape]);
  const moved = useRef(false);
  const shown = useMemo(() => matching(graph, find), [graph, find]);

  const nodes = graph.nodes.map(
    (service): ServiceNodeType => ({
      id: service.id,
      type: "service",
      position: placement.nodes.get(service.id) ?? { x: 0, y: 0 },
      width: NODE_WIDTH,
      height: NODE_HEIGHT,
      data: {
        service,
        figures: figures(service, graph.edges),
        selected: service.id === node,
        dimmed: !shown.nodes.has(service.id),
        onOpen: onNode,
      },
    }),
  );
  const edges = graph.edges.flatMap((call): CallEdgeType[] => {
    const course = placement.edges.get(call.id);
    if (!course) return [];
    const data = {
      edge: call,
      label,
      badge: badge(call, hints),
      course,
      selected: call.id === edge,
      dimmed: !shown.edges.has(call.id),
      onOpen: onEdge,
    };
    const markerEnd = {
      type: MarkerType.ArrowClosed,
      width: 14,
      height: 14,
      color: LINE_COLOURS[call.health],
    };
    return [{ id: call.id, type: "call", source: call.client, target: call.server, data, markerEnd }];
  });

  return (
    <ReactFlow
      className={styles.map ?? ""}
      nodes={nodes}
      edges={edges}
      nodeTypes={NODE_TYPES}
      edgeTypes={EDGE_TYPES}
      fitView
      fitViewOptions={FIT}
      minZoom={0.15}
      maxZoom={2}
      nodesDraggable={false}
      nodesConnectable={false}
      nodesFocusable={false}
      edgesFocusable={false}
      elementsSelectable={false}
      disableKeyboardA11y
      onMoveStart={(event) => {
        if (event) moved.current = true;
      }}
      proOptions={{ hideAttribution: true }}
    >
      <Background variant={BackgroundVariant.Dots} gap={20} size={1} color="var(--line)" />
      <Controls showInteractive={false} fitViewOptions={FIT} position="bottom-left" />
      <Refit shape={shape} focus={surroundings(graph, node, edge)} moved={moved} />
    </ReactFlow>
  );
}
