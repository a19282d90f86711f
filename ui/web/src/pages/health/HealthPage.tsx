// What the analysis found in the last hour, and what the mesh did about it.
import { SegmentedControl } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useFindings, useHints } from "../../api/queries.ts";
import { plural } from "../../format.ts";
import { Failure } from "../../parts/Failure.tsx";
import { FindingCard } from "../../parts/FindingCard.tsx";
import { HealthMark } from "../../parts/HealthMark.tsx";
import { HintCard } from "../../parts/HintCard.tsx";
import { SqlButton } from "../../parts/SqlButton.tsx";
import styles from "./HealthPage.module.css";

const SINCE = "-1h";

export function HealthPage() {
  const { show } = useSearch({ from: "/health" });
  const navigate = useNavigate();
  const active = show === "active";
  const findings = useFindings(SINCE, active);
  const hints = useHints(SINCE, active);
  const found = byActivity(
    findings.data?.findings ?? [],
    (it) => it.state !== "resolved",
    (it) => it.opened_at,
  );
  const given = byActivity(
    hints.data?.hints ?? [],
    (it) => it.active,
    (it) => it.issued_at,
  );
  const unresolved = found.filter((finding) => finding.state !== "resolved");
  const open = unresolved.length;
  const critical = unresolved.some((finding) => finding.severity === "critical");
  const worst = critical ? "critical" : open > 0 ? "warning" : "ok";
  return (
    <div className="page">
      <div className="page-head">
        <h1>Health</h1>
        {findings.data && !findings.error && (
          <>
            <HealthMark health={worst} />
            <span className="dim">{open > 0 ? plural(open, "active finding") : "nothing is wrong now"}</span>
          </>
        )}
        <span className="grow" />
        <SegmentedControl
          size="xs"
          aria-label="Show"
          value={active ? "active" : "recent"}
          data={[
            { value: "recent", label: "last hour" },
            { value: "active", label: "active" },
          ]}
          onChange={(value) =>
            navigate({
              to: "/health",
              search: (before) => ({ ...before, show: value === "active" ? value : undefined }),
              replace: true,
            })
          }
        />
      </div>
      <div className={styles.columns}>
        <section aria-labelledby="findings" data-testid="findings">
          <div className={styles.head}>
            <h2 id="findings">Findings</h2>
            <span className="dim">what is not as usual, and since when</span>
            <span className="grow" />
            <SqlButton about="findings" sql={findings.data?.sql ?? ""} />
          </div>
          {findings.error && <Failure what="No findings" error={findings.error} />}
          {findings.data && found.length === 0 && (
            <p className="dim">None. A finding opens when an edge or a replica differs from its own past.</p>
          )}
          {found.map((finding) => (
            <FindingCard key={finding.id} finding={finding} />
          ))}
        </section>
        <section aria-labelledby="hints" data-testid="hints">
          <div className={styles.head}>
            <h2 id="hints">Hints to the proxies</h2>
            <span className="dim">what they were asked, and answered</span>
            <span className="grow" />
            <SqlButton about="hints" sql={hints.data?.sql ?? ""} />
          </div>
          {hints.error && <Failure what="No hints" error={hints.error} />}
          {hints.data && given.length === 0 && (
            <p className="dim">None. A hint follows a finding that the proxies can do something about.</p>
          )}
          {given.map((hint) => (
            <HintCard key={hint.id} hint={hint} />
          ))}
        </section>
      </div>
    </div>
  );
}

/** Active ones first, then the latest. */
function byActivity<T>(items: T[], active: (item: T) => boolean, at: (item: T) => string | null): T[] {
  return items.toSorted(
    (a, b) => Number(active(b)) - Number(active(a)) || (at(b) ?? "").localeCompare(at(a) ?? ""),
  );
}
