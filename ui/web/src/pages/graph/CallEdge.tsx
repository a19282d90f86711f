// The calls from one service to another: a line, and a button on it with one number and its badges.
import { type Edge, type EdgeProps, ViewportPortal } from "@xyflow/react";
import { memo } from "react";
import type { GraphEdge } from "../../api/types.ts";
import { millis, percent, rate } from "../../format.ts";
import { HEALTH_WORDS } from "../../parts/HealthMark.tsx";
import { Icon } from "../../parts/Icon.tsx";
import type { EdgeLabel } from "../../router.tsx";
import { curve, type Point } from "./layout.ts";
import styles from "./ServiceMap.module.css";

export type CallEdgeType = Edge<
  {
    edge: GraphEdge;
    label: EdgeLabel;
    /** What the breaker does, in a word or two; empty where it does nothing. */
    badge: string;
    course: { points: Point[]; label: Point };
    selected: boolean;
    dimmed: boolean;
    onOpen: (id: string) => void;
  },
  "call"
>;

/** The id of the element, so that focus can return to it. */
export function edgeElementId(id: string): string {
  return `edge ${id}`;
}

/** The number that an edge shows. */
export function labelText(edge: GraphEdge, label: EdgeLabel): string {
  if (label === "rate") return rate(edge.calls_per_s);
  if (label === "errors") return percent(edge.error_rate);
  return millis(edge[`${label}_ms`]);
}

/** What the label does not show, for those who cannot see the line either. */
function unseen(edge: GraphEdge, label: EdgeLabel): string {
  const numbers = [
    label === "rate" ? "" : rate(edge.calls_per_s),
    label === "errors" ? "errors" : `${percent(edge.error_rate)} errors`,
    label === "p99" ? "p99" : `p99 ${millis(edge.p99_ms)}`,
  ];
  return [...numbers, edge.protocol, edge.mtls ? "mutual TLS" : ""].filter((part) => part !== "").join(", ");
}

function CallEdgeView({ data, markerEnd }: EdgeProps<CallEdgeType>) {
  if (!data) return null;
  const { edge, label, badge, course, selected, dimmed, onOpen } = data;
  const path = curve(course.points);
  const width = 1.2 + Math.min(Math.log10(1 + edge.calls_per_s), 3) * 0.9;
  const state = { "data-health": edge.health, "data-selected": selected, "data-dimmed": dimmed };
  return (
    <>
      <path
        d={path}
        className={styles.line}
        strokeWidth={selected ? width + 1 : width}
        {...(markerEnd === undefined ? {} : { markerEnd })}
        {...state}
      />
      {edge.calls_per_s > 0 && !dimmed && (
        <path
          d={path}
          className={styles.flow}
          data-health={edge.health}
          strokeWidth={width + 0.6}
          style={{ animationDuration: `${flowSeconds(edge)}s` }}
        />
      )}
      <ViewportPortal>
        <button
          type="button"
          id={edgeElementId(edge.id)}
          className={`${styles.label} nopan`}
          data-testid="edge"
          data-client={edge.client}
          data-server={edge.server}
          aria-pressed={selected}
          style={{ transform: `translate(-50%, -50%) translate(${course.label.x}px, ${course.label.y}px)` }}
          onClick={() => onOpen(edge.id)}
          {...state}
        >
          <span className="unseen">
            {edge.client} to {edge.server}: {HEALTH_WORDS[edge.health]},{" "}
          </span>
          {edge.mtls && <Icon name="lock" size={11} />}
          {(edge.health === "critical" || edge.health === "warning") && <Icon name={edge.health} size={10} />}
          <span>{labelText(edge, label)}</span>
          {badge !== "" && (
            <span className={styles.breaker} data-testid="breaker">
              <Icon name="breaker" size={11} />
              <span className="unseen">breaker: </span>
              {badge}
            </span>
          )}
          <span className="unseen">, {unseen(edge, label)}</span>
        </button>
      </ViewportPortal>
    </>
  );
}

/** Faster calls make faster dashes: 1 s for quick answers up to 4 s for slow ones. */
function flowSeconds(edge: GraphEdge): number {
  const ms = edge.p50_ms ?? 100;
  return Math.round(Math.min(4, Math.max(1, Math.log10(1 + ms) * 1.2)) * 10) / 10;
}

export const CallEdge = memo(CallEdgeView);
