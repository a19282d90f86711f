// One service in full: the calls it gets, its replicas, whom it calls.
import { useFindings, useHints } from "../../api/queries.ts";
import type { Graph, GraphEdge, GraphNode } from "../../api/types.ts";
import { millis, percent, rate } from "../../format.ts";
import { HealthMark } from "../../parts/HealthMark.tsx";
import { Section } from "../../parts/Section.tsx";
import { SqlButton } from "../../parts/SqlButton.tsx";
import { Tag } from "../../parts/Tag.tsx";
import { TraceList } from "../../parts/TraceList.tsx";
import { Charts } from "./Charts.tsx";
import { findingConcernsService, hintConcernsService } from "./concerns.ts";
import styles from "./Panel.module.css";
import { Numbers, Panel, Verdicts } from "./Panel.tsx";
import { Replicas } from "./Replicas.tsx";

interface Props {
  graph: Graph;
  node: GraphNode;
  window: string;
  onClose: () => void;
  onEdge: (id: string) => void;
}

export function NodePanel({ graph, node, window, onClose, onEdge }: Props) {
  const findings =
    useFindings("-1h", true).data?.findings.filter((it) => findingConcernsService(it, node.id)) ?? [];
  const hints = useHints("-1h", true).data?.hints.filter((it) => hintConcernsService(it, node.id)) ?? [];
  const callers = graph.edges.filter((edge) => edge.server === node.id);
  const subject = { service: node.id, callers };
  const callees = graph.edges.filter((edge) => edge.client === node.id);
  return (
    <Panel
      label={node.id}
      onClose={onClose}
      head={
        <>
          <h2 className={styles.title}>{node.id}</h2>
          <div className={styles.sub}>
            <HealthMark health={node.health} word />
            <Tag>{node.kind}</Tag>
          </div>
        </>
      }
    >
      {callers.length > 0 && <Numbers signals={node} window={window} sql={node.sql} />}
      <Verdicts findings={findings} hints={hints} />
      {callers.length > 0 && <Charts subject={subject} window={window} />}
      {callers.length > 0 && <Replicas subject={subject} window={window} hints={hints} />}
      <Calls title="Called by" edges={callers} name={(edge) => edge.client} onEdge={onEdge} />
      <Calls title="Calls" edges={callees} name={(edge) => edge.server} onEdge={onEdge} />
      <TraceList title="Slow traces" filter={{ service: node.id, sort: "slow" }} />
      <TraceList title="Failed traces" filter={{ service: node.id, status: "error", sort: "recent" }} />
    </Panel>
  );
}

interface CallsProps {
  title: string;
  edges: GraphEdge[];
  name: (edge: GraphEdge) => string;
  onEdge: (id: string) => void;
}

function Calls({ title, edges, name, onEdge }: CallsProps) {
  if (edges.length === 0) return null;
  return (
    <Section title={title}>
      <ul className={styles.calls}>
        {edges.map((edge) => (
          <li key={edge.id}>
            <button type="button" className="plain link" onClick={() => onEdge(edge.id)}>
              {name(edge)}
            </button>
            <span className={styles.num}>{rate(edge.calls_per_s)}</span>
            <span className={styles.num}>{percent(edge.error_rate)} errors</span>
            <span className={styles.num}>p99 {millis(edge.p99_ms)}</span>
            <SqlButton about={`${edge.client} to ${edge.server}`} sql={edge.sql} />
          </li>
        ))}
      </ul>
    </Section>
  );
}
