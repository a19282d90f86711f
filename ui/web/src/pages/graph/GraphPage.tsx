// The first page: who calls whom, how fast, how often in vain, and what a click on it tells.
import { SegmentedControl, TextInput } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useEffect } from "react";
import { useGraph, useHints } from "../../api/queries.ts";
import type { Graph } from "../../api/types.ts";
import { rate } from "../../format.ts";
import { Empty, Failure, HowToSend } from "../../parts/Failure.tsx";
import { HealthMark } from "../../parts/HealthMark.tsx";
import { Icon } from "../../parts/Icon.tsx";
import { EDGE_LABELS, type GraphSearch, WINDOWS } from "../../router.tsx";
import { edgeElementId } from "./CallEdge.tsx";
import { EdgePanel } from "./EdgePanel.tsx";
import styles from "./GraphPage.module.css";
import { NodePanel } from "./NodePanel.tsx";
import { ServiceMap } from "./ServiceMap.tsx";
import { nodeElementId } from "./ServiceNode.tsx";

export function GraphPage() {
  const search = useSearch({ from: "/" });
  const navigate = useNavigate();
  const { window = "1m", label = "rate", find = "", node, edge } = search;
  const { data: graph, error, isPlaceholderData } = useGraph(window);
  const hints = useHints("-1h", true).data?.hints ?? [];

  const change = useCallback(
    (part: GraphSearch, replace = false) =>
      navigate({ to: "/", search: (before) => ({ ...before, ...part }), replace }),
    [navigate],
  );
  const onNode = useCallback((id: string) => change({ node: id, edge: undefined }), [change]);
  const onEdge = useCallback((id: string) => change({ edge: id, node: undefined }), [change]);
  const close = useCallback(() => {
    const opener = node !== undefined ? nodeElementId(node) : edge !== undefined ? edgeElementId(edge) : "";
    change({ node: undefined, edge: undefined });
    document.getElementById(opener)?.focus();
  }, [change, node, edge]);
  useEscape(node !== undefined || edge !== undefined, close);

  const openNode = graph?.nodes.find((candidate) => candidate.id === node);
  const openEdge = graph?.edges.find((candidate) => candidate.id === edge);
  return (
    <div className={styles.page}>
      <div className={styles.left}>
        <div className={styles.bar}>
          <h1 className={styles.title}>Service graph</h1>
          <TextInput
            size="xs"
            className={styles.find ?? ""}
            placeholder="Find a service"
            aria-label="Find a service"
            leftSection={<Icon name="search" />}
            value={find}
            onChange={(event) => change({ find: event.currentTarget.value || undefined }, true)}
          />
          <SegmentedControl
            size="xs"
            aria-label="Numbers on the edges"
            value={label}
            data={EDGE_LABELS.map((value) => ({ value, label: value }))}
            onChange={(value) => change({ label: value as GraphSearch["label"] }, true)}
          />
          <SegmentedControl
            size="xs"
            aria-label="Window"
            value={window}
            data={[...WINDOWS]}
            onChange={(value) => change({ window: value as GraphSearch["window"] }, true)}
          />
          <span className="grow" />
          {graph && !error && <Summary graph={graph} stale={isPlaceholderData} />}
        </div>
        {error && (
          <div className={styles.failure}>
            <Failure what="The graph is not up to date" error={error} />
          </div>
        )}
        {graph && graph.nodes.length === 0 && (
          <Empty title="No calls seen in this window">
            <HowToSend />
          </Empty>
        )}
        {graph && graph.nodes.length > 0 && (
          <section className={styles.map} aria-label="Service graph">
            <ServiceMap
              graph={graph}
              hints={hints}
              label={label}
              find={find}
              node={node}
              edge={edge}
              onNode={onNode}
              onEdge={onEdge}
            />
          </section>
        )}
      </div>
      {graph && openNode && (
        <NodePanel
          key={openNode.id}
          graph={graph}
          node={openNode}
          window={window}
          onClose={close}
          onEdge={onEdge}
        />
      )}
      {openEdge && (
        <EdgePanel key={openEdge.id} edge={openEdge} window={window} onClose={close} onNode={onNode} />
      )}
    </div>
  );
}

/** The whole mesh in a line, and the sign that the numbers are fresh. */
function Summary({ graph, stale }: { graph: Graph; stale: boolean }) {
  const calls = graph.edges.reduce((sum, edge) => sum + edge.calls_per_s, 0);
  const failing = graph.edges.filter((edge) => edge.health === "critical").length;
  const degraded = graph.edges.filter((edge) => edge.health === "warning").length;
  const worst = failing > 0 ? "critical" : degraded > 0 ? "warning" : calls > 0 ? "ok" : "idle";
  const problems = [failing > 0 ? `${failing} failing` : "", degraded > 0 ? `${degraded} degraded` : ""];
  return (
    <span className={styles.summary} data-testid="summary" data-stale={stale}>
      <HealthMark health={worst} />
      {graph.nodes.length} services · {graph.edges.length} edges · {rate(calls)}
      {problems.filter((problem) => problem !== "").map((problem) => ` · ${problem}`)}
    </span>
  );
}

/** Calls `action` on Escape, unless a popover is open and takes it. */
function useEscape(active: boolean, action: () => void) {
  useEffect(() => {
    if (!active) return;
    const listen = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      if (document.querySelector('[data-layer="popover"]')) return;
      action();
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, [active, action]);
}
