// One edge in full: the calls of one service to another.
import { useFindings, useHints } from "../../api/queries.ts";
import type { GraphEdge } from "../../api/types.ts";
import { HealthMark } from "../../parts/HealthMark.tsx";
import { Tag } from "../../parts/Tag.tsx";
import { TraceList } from "../../parts/TraceList.tsx";
import { Charts } from "./Charts.tsx";
import { findingConcernsEdge, hintConcernsEdge } from "./concerns.ts";
import styles from "./Panel.module.css";
import { Numbers, Panel, Verdicts } from "./Panel.tsx";
import { Replicas } from "./Replicas.tsx";

interface Props {
  edge: GraphEdge;
  window: string;
  onClose: () => void;
  onNode: (id: string) => void;
}

export function EdgePanel({ edge, window, onClose, onNode }: Props) {
  const subject = { edge };
  const findings =
    useFindings("-1h", true).data?.findings.filter((it) => findingConcernsEdge(it, edge)) ?? [];
  const hints = useHints("-1h", true).data?.hints.filter((it) => hintConcernsEdge(it, edge)) ?? [];
  const scope = { client: edge.client, server: edge.server };
  return (
    <Panel
      label={`${edge.client} to ${edge.server}`}
      onClose={onClose}
      head={
        <>
          <h2 className={styles.title}>
            <button type="button" className="plain link" onClick={() => onNode(edge.client)}>
              {edge.client}
            </button>
            <span aria-hidden="true">→</span>
            <button type="button" className="plain link" onClick={() => onNode(edge.server)}>
              {edge.server}
            </button>
          </h2>
          <div className={styles.sub}>
            <HealthMark health={edge.health} word />
            <Tag>{edge.protocol}</Tag>
            {edge.mtls ? (
              <Tag tone="ok" icon="lock">
                mutual TLS
              </Tag>
            ) : (
              <Tag>plain text</Tag>
            )}
            <Tag tone={edge.breaker === "closed" ? "idle" : "critical"} icon="breaker">
              breaker {edge.breaker}
            </Tag>
          </div>
        </>
      }
    >
      <Numbers signals={edge} window={window} sql={edge.sql} />
      <Verdicts findings={findings} hints={hints} />
      <Charts subject={subject} window={window} />
      <Replicas subject={subject} window={window} hints={hints} />
      <TraceList title="Slow traces" filter={{ ...scope, sort: "slow" }} />
      <TraceList title="Failed traces" filter={{ ...scope, status: "error", sort: "recent" }} />
    </Panel>
  );
}
