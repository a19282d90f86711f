// One service on the map: a button with its name, health and numbers.
import { Handle, type Node, type NodeProps, Position } from "@xyflow/react";
import { memo } from "react";
import type { GraphNode } from "../../api/types.ts";
import { millis, percent, rate } from "../../format.ts";
import { HEALTH_WORDS, HealthMark } from "../../parts/HealthMark.tsx";
import type { Figures } from "./figures.ts";
import styles from "./ServiceMap.module.css";

export type ServiceNodeType = Node<
  { service: GraphNode; figures: Figures; selected: boolean; dimmed: boolean; onOpen: (id: string) => void },
  "service"
>;

/** The id of the element, so that focus can return to it. */
export function nodeElementId(id: string): string {
  return `node ${id}`;
}

function ServiceNodeView({
  data: { service, figures, selected, dimmed, onOpen },
}: NodeProps<ServiceNodeType>) {
  const calls = rate(figures.calls_per_s);
  const errors = percent(figures.error_rate);
  const p99 = millis(figures.p99_ms);
  return (
    <>
      <Handle type="target" position={Position.Left} isConnectable={false} className={styles.handle} />
      <button
        type="button"
        id={nodeElementId(service.id)}
        className={`${styles.node} nopan`}
        data-testid="node"
        data-service={service.id}
        data-health={service.health}
        data-selected={selected}
        data-dimmed={dimmed}
        aria-pressed={selected}
        onClick={() => onOpen(service.id)}
      >
        <span className={styles.nodeHead}>
          <HealthMark health={service.health} />
          <span className={styles.nodeName} title={service.id}>
            {service.id}
          </span>
          <span className="unseen">{HEALTH_WORDS[service.health]}</span>
          {service.kind !== "service" && <span className={styles.nodeKind}>{service.kind}</span>}
        </span>
        <span className={styles.nodeNumbers}>
          <Figure value={calls} unit={figures.outgoing ? "calls made" : "calls"} />
          <Figure value={errors} unit="errors" />
          <Figure value={p99} unit="p99" />
        </span>
      </button>
      <Handle type="source" position={Position.Right} isConnectable={false} className={styles.handle} />
    </>
  );
}

function Figure({ value, unit }: { value: string; unit: string }) {
  return (
    <span className={styles.figure}>
      <b>{value}</b>
      <i>{unit}</i>
    </span>
  );
}

export const ServiceNode = memo(ServiceNodeView);
