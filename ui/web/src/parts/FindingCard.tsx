// One finding: what is wrong, where, how sure, and the query that shows it.
import { Link } from "@tanstack/react-router";
import type { Finding } from "../api/types.ts";
import { ago, between, clock, count, figure, millis, percent } from "../format.ts";
import styles from "./Card.module.css";
import { Prose } from "./Prose.tsx";
import { SqlButton } from "./SqlButton.tsx";
import { Tag } from "./Tag.tsx";

/** A share or a time, as the metric's name tells. */
export function measured(metric: string, value: number | null): string {
  if (/_(rate|ratio)$/.test(metric)) return percent(value);
  if (metric.endsWith("_ms")) return millis(value);
  if (metric.endsWith("_seconds")) return millis(value === null ? null : value * 1000);
  return figure(value);
}

export function FindingCard({ finding }: { finding: Finding }) {
  const active = finding.state !== "resolved";
  const tone = !active ? "idle" : finding.severity === "critical" ? "critical" : "warning";
  return (
    <article className={styles.card} data-tone={tone} data-testid="finding" data-state={finding.state}>
      <div className={styles.head}>
        <Tag tone={tone} icon={active ? (tone === "critical" ? "critical" : "warning") : "ok"}>
          {active ? finding.severity || "finding" : "resolved"}
        </Tag>
        <h3>
          {finding.kind}: {finding.endpoint || finding.service}
        </h3>
        <span className={styles.aside} title={finding.opened_at ?? ""}>
          {active
            ? `since ${clock(finding.opened_at)}`
            : `lasted ${between(finding.opened_at, finding.resolved_at)}`}
          <SqlButton
            about={`the finding ${finding.kind} of ${finding.endpoint || finding.service}`}
            sql={finding.query}
          />
        </span>
      </div>
      <p className={styles.message}>
        <Prose text={finding.message} />
      </p>
      <dl className={styles.facts}>
        <Fact name="seen" value={measured(finding.metric, finding.observed)} />
        <Fact name="usual" value={measured(finding.metric, finding.baseline)} />
        <Fact name="score" value={figure(finding.score)} />
        <Fact name="calls" value={count(finding.samples)} />
        <Fact name="window" value={millis(finding.window_ms)} />
        <Fact name="detector" value={finding.detector} />
        {finding.client && <Fact name="caller" value={finding.client} />}
        {active && <Fact name="updated" value={ago(finding.updated_at)} />}
      </dl>
      {finding.causal_path.length > 1 && (
        <p className={styles.line}>
          <span className="dim">path</span> {finding.causal_path.join(" → ")}
        </p>
      )}
      {finding.trace_ids.length > 0 && (
        <p className={styles.line}>
          <span className="dim">traces</span>{" "}
          {finding.trace_ids.slice(0, 5).map((id) => (
            <Link key={id} to="/traces/$traceId" params={{ traceId: id }} className="link mono">
              {id.slice(0, 8)}
            </Link>
          ))}
        </p>
      )}
    </article>
  );
}

export function Fact({ name, value }: { name: string; value: string }) {
  if (value === "") return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
