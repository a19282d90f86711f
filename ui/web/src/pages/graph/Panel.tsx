// The side panel's frame: a title, a way to close it, and what every subject has in common.
import { type ReactNode, useEffect, useRef } from "react";
import type { Finding, Hint, Signals } from "../../api/types.ts";
import { millis, percent, plural, rate } from "../../format.ts";
import { FindingCard } from "../../parts/FindingCard.tsx";
import { HintCard } from "../../parts/HintCard.tsx";
import { Icon } from "../../parts/Icon.tsx";
import { Section } from "../../parts/Section.tsx";
import { SqlButton } from "../../parts/SqlButton.tsx";
import styles from "./Panel.module.css";

interface Props {
  label: string;
  head: ReactNode;
  onClose: () => void;
  children: ReactNode;
}

/** Takes the focus when it opens, so that the keyboard goes on from there. */
export function Panel({ label, head, onClose, children }: Props) {
  const panel = useRef<HTMLElement>(null);
  useEffect(() => panel.current?.focus({ preventScroll: true }), []);
  return (
    <aside ref={panel} tabIndex={-1} className={styles.panel} aria-label={label} data-testid="panel">
      <div className={styles.head}>
        <div className="grow">{head}</div>
        <button type="button" className={styles.close} aria-label="Close panel" onClick={onClose}>
          <Icon name="close" size={16} />
        </button>
      </div>
      {children}
    </aside>
  );
}

/** The five numbers of a window, each with the SQL that makes it. */
export function Numbers({ signals, sql, window }: { signals: Signals; sql: string; window: string }) {
  const numbers = [
    ["calls", rate(signals.calls_per_s)],
    ["errors", percent(signals.error_rate)],
    ["p50", millis(signals.p50_ms)],
    ["p90", millis(signals.p90_ms)],
    ["p99", millis(signals.p99_ms)],
  ];
  return (
    <div className={styles.numbers}>
      <dl>
        {numbers.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <div className={styles.window}>
        last {window}
        <SqlButton about={`the numbers of the last ${window}`} sql={sql} />
      </div>
    </div>
  );
}

/** What the analysis says about the subject now, and what the mesh does about it. */
export function Verdicts({ findings, hints }: { findings: Finding[]; hints: Hint[] }) {
  if (findings.length + hints.length === 0) return null;
  return (
    <Section
      title="Now"
      note={`${plural(findings.length, "finding")}, ${plural(hints.length, "hint")} active`}
    >
      <div className={styles.cards}>
        {findings.map((finding) => (
          <FindingCard key={finding.id} finding={finding} />
        ))}
        {hints.map((hint) => (
          <HintCard key={hint.id} hint={hint} />
        ))}
      </div>
    </Section>
  );
}
